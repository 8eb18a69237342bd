"""The settings in a model folder's configuration files: each is applied, decides no vector, or is refused.

A setting that is read past gives vectors that are not the model's, and nothing tells. So each file has its table here:
``APPLIED`` stands for a key whose value the reader of the file uses, ``IDLE`` for one that decides no vector, and a
tuple lists the only values with which the vectors are the model's. Every other key is refused, unless it is null.

Not in these tables, since others apply all of them: ``config.json`` of a transformers model (transformers; an export is
compared with it), ``tokenizer.json`` (the tokenizers package; truncation and padding are left out, since long texts
become passages), and ``spladelite.json``, whose reader names its keys.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spladelite.errors import ModelError

APPLIED, IDLE = "applied", "idle"
Rule = str | tuple[object, ...]
Rules = Mapping[str, Rule]

_PROMPTS: Rules = {"prompts": APPLIED, "default_prompt_name": APPLIED, "__version__": IDLE}

SPARSE_MODEL: Rules = {
    **_PROMPTS,
    "model_type": ("SparseEncoder",),
    "max_active_dims": APPLIED,
    "similarity_fn_name": ("dot",),  # a score is an inner product
}
DENSE_MODEL: Rules = {
    **_PROMPTS,
    "model_type": ("SentenceTransformer",),
    "truncate_dim": APPLIED,
    "similarity_fn_name": ("dot", "dot_score", "cosine", "cos_sim"),
}
"""``config_sentence_transformers.json``."""

MODULE: Rules = {"idx": IDLE, "name": IDLE, "path": APPLIED, "type": APPLIED, "kwargs": ([], ["task"])}
"""An entry of ``modules.json``."""

SPLADE_POOLING: Rules = {
    "pooling_strategy": ("max", "sum"),
    "activation_function": ("relu", "log1p_relu"),
    "embedding_dimension": IDLE,  # the weights say it
    "word_embedding_dimension": IDLE,
    "chunk_size": IDLE,  # memory against speed
}
STATIC_EMBEDDING: Rules = {"path": APPLIED, "frozen": IDLE}
POOLING: Rules = {
    "embedding_dimension": IDLE,
    "word_embedding_dimension": IDLE,
    "pooling_mode": APPLIED,
    "pooling_mode_cls_token": APPLIED,
    "pooling_mode_mean_tokens": APPLIED,
    "pooling_mode_max_tokens": (False,),
    "pooling_mode_mean_sqrt_len_tokens": (False,),
    "pooling_mode_weightedmean_tokens": (False,),
    "pooling_mode_lasttoken": (False,),
    "include_prompt": APPLIED,
}
"""``config.json`` of a module's folder."""

ROUTER: Rules = {"types": APPLIED, "structure": APPLIED, "parameters": APPLIED}
ROUTER_PARAMETERS: Rules = {"default_route": IDLE, "allow_empty_key": IDLE, "route_mappings": ({},)}

_TRANSFORMER: Rules = {
    "max_seq_length": APPLIED,
    "do_lower_case": APPLIED,
    "processing_kwargs": ({},),
    "model_args": ({},),
    "model_kwargs": ({},),
    "tokenizer_args": ({},),
    "processor_kwargs": ({},),
    "config_args": ({},),
    "config_kwargs": ({},),
    "unpad_inputs": IDLE,
    "query_length": (),
    "document_length": (),
    "query_expansion": (),
    "tokenizer_name_or_path": (),
}
MLM_TRANSFORMER: Rules = {
    **_TRANSFORMER,
    "transformer_task": ("fill-mask",),
    "modality_config": ({"text": {"method": "forward", "method_output_name": "logits"}},),
    "module_output_name": ("token_embeddings",),
}
DENSE_TRANSFORMER: Rules = {
    **_TRANSFORMER,
    "transformer_task": ("feature-extraction",),
    "modality_config": ({"text": {"method": "forward", "method_output_name": "last_hidden_state"}},),
    "module_output_name": ("token_embeddings",),
}
TRANSFORMER_FILES = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)
"""Names that sentence-transformers gave one file over the years; it reads the first that is there."""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a small file.

    Raises:
        ModelError: missing, not JSON, or another kind of value.
    """
    data = parse(path)
    if not isinstance(data, dict):
        raise ModelError(f"{path}: a JSON object was expected, found {type(data).__name__}")
    return data


def parse(path: Path, missing: str = "") -> Any:
    """Any JSON value from a small file; ``missing`` says what to do where there is none.

    Raises:
        ModelError: missing, or not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ModelError(f"{path}: missing{'; ' if missing else ''}{missing}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not readable as JSON: {error}") from error


def read_settings(path: Path, rules: Rules) -> dict[str, Any]:
    """The settings of a file, none of which would be ignored; ``{}`` if there is no such file.

    Raises:
        ModelError: not a JSON object, or it has a setting that cannot be applied.
    """
    return check_settings(path, read_json(path), rules) if path.exists() else {}


def check_settings(path: Path, settings: dict[str, Any], rules: Rules) -> dict[str, Any]:
    """The settings themselves, if ``rules`` allow each of them.

    Raises:
        ModelError: one of them cannot be applied; names it.
    """
    for key, value in settings.items():
        rule = rules.get(key, ())
        if value is None or isinstance(rule, str) or value in rule:
            continue
        expected = f"{' or '.join(json.dumps(allowed) for allowed in rule)} was expected" if rule else "it is not known"
        raise ModelError(
            f"{path}: the setting {key!r} is {json.dumps(value):.80}, but {expected}; ignoring it would give other "
            "vectors than the model's"
        )
    return settings


def find_prompts(path: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    """What ``config_sentence_transformers.json`` puts before each document and each query.

    A prompt that is given as "" is none: only where a side has no prompt of its own the default one is used.

    Raises:
        ModelError: prompts of a wrong type, or the default one is missing.
    """
    prompts, default = settings.get("prompts"), settings.get("default_prompt_name")
    prompts = {} if prompts is None else prompts
    if not isinstance(prompts, dict) or not all(isinstance(text, str | None) for text in prompts.values()):
        raise ModelError(f"{path}: prompts must be texts by name, not {json.dumps(prompts):.80}")
    given = {name: text for name, text in prompts.items() if text is not None}
    if default is not None and default not in given:
        raise ModelError(f"{path}: default_prompt_name is {default!r:.80}, which is not among the prompts")
    names = {"document": ("document", "passage", "corpus", default), "query": ("query", default)}
    return {side: next((given[name] for name in order if name in given), "") for side, order in names.items()}


def read_transformer(path: Path, rules: Rules, definition: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a Transformer module in ``path``, whose ``tokenizer.json`` is ``definition``.

    Raises:
        ModelError: one of them cannot be applied.
    """
    file = next((path / name for name in TRANSFORMER_FILES if (path / name).exists()), path / TRANSFORMER_FILES[0])
    settings = read_settings(file, rules)
    if settings.get("do_lower_case") and not lowercases(definition):
        raise ModelError(
            f"{file}: do_lower_case is true, but tokenizer.json does not lowercase; put the normalizer "
            '{"type": "Lowercase"} first in it'
        )
    return settings


def check_tokenizer_settings(path: Path, definition: Mapping[str, Any]) -> None:
    """Hold what ``tokenizer_config.json`` says of the BERT normalizer against ``tokenizer.json``, which is applied.

    Raises:
        ModelError: they differ, as where one file was edited: texts would be split in a way the model was not made for.
    """
    file = path / "tokenizer_config.json"
    settings = read_json(file) if file.exists() else {}
    for part in _normalizers(definition.get("normalizer")):
        if part.get("type") != "BertNormalizer":
            continue
        for key, name in (
            ("do_lower_case", "lowercase"),
            ("strip_accents", "strip_accents"),
            ("tokenize_chinese_chars", "handle_chinese_chars"),
        ):
            if key in settings and name in part and settings[key] != part[name]:
                raise ModelError(
                    f"{file}: {key} is {json.dumps(settings[key]):.80}, but tokenizer.json has {name} "
                    f"{json.dumps(part[name]):.80}; save the tokenizer again, so that both say what the model expects"
                )


def lowercases(definition: Mapping[str, Any]) -> bool:
    """Whether a ``tokenizer.json`` lowercases all text itself."""
    return any(
        part.get("type") == "Lowercase" or (part.get("type") == "BertNormalizer" and part.get("lowercase"))
        for part in _normalizers(definition.get("normalizer"))
    )


def _normalizers(normalizer: Any) -> list[dict[str, Any]]:
    if not isinstance(normalizer, dict):
        return []
    inner = normalizer.get("normalizers")
    return [part for part in inner if isinstance(part, dict)] if isinstance(inner, list) else [normalizer]

"""What kind of model a folder holds, from the folder's own files. Nothing here needs torch.

Known layouts:

* transformers: ``config.json`` of a ``*ForMaskedLM``, safetensors, ``tokenizer.json``; SPLADE v2 pooling is assumed.
* the same with ``idf.json`` or ``query_token_weights.txt``: queries are inference-free (OpenSearch doc-only models).
* sentence-transformers: ``modules.json`` with ``Transformer``/``MLMTransformer``, ``SpladePooling``,
  ``SparseStaticEmbedding``, and ``Router`` for different sides.
* exported: ``spladelite.json``, see :mod:`spladelite.encoders.folder`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spladelite.encoders.folder import POOLINGS
from spladelite.encoders.settings import (
    MLM_TRANSFORMER,
    MODULE,
    ROUTER,
    ROUTER_PARAMETERS,
    SPARSE_MODEL,
    SPLADE_POOLING,
    STATIC_EMBEDDING,
    check_settings,
    check_tokenizer_settings,
    find_prompts,
    parse,
    read_json,
    read_settings,
    read_transformer,
)
from spladelite.encoders.tensors import Tensor, read_header, read_static
from spladelite.encoders.tokenizer import TextTokenizer
from spladelite.errors import InvalidInput, ModelError

WINDOW_LIMIT = 510  # passages longer than what BERT reads serve retrieval badly, also where a model could
_STATIC_FILES = ("idf.json", "query_token_weights.txt")
_BOOKKEEPING = ("_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache")  # decide no vector
_ACTIVATIONS = {"relu": "log1p", "log1p_relu": "log1p_log1p"}


@dataclass(frozen=True, slots=True)
class MlmRoute:
    """A masked language model in ``path``, its logits pooled over the tokens."""

    path: Path
    pooling: str = "max"
    activation: str = "log1p"
    prompt: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class StaticRoute:
    """A fixed weight a token, float32 ``(V,)``."""

    weights: NDArray[np.float32]
    prompt: str = ""


Source = MlmRoute | StaticRoute


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A recognised folder.

    Attributes:
        name, fingerprint, window: see :class:`~spladelite.encoders.base.Encoder`.
        tokenizer: checked against the weights.
        document, query: where each side's vectors come from.
        max_active_terms: the strongest so many terms are kept, where the folder says so; None for all.
    """

    path: Path
    name: str
    fingerprint: str
    tokenizer: TextTokenizer
    window: int
    document: Source
    query: Source
    max_active_terms: int | None = None


def read_checkpoint(path: Path, query_path: Path | None = None, pooling: str | None = None) -> Checkpoint:
    """Recognise and check a transformers, OpenSearch or sentence-transformers folder.

    Args:
        path: the folder.
        query_path: another one for queries (Efficient-SPLADE, Lassance and Clinchant 2022).
        pooling: "max" or "sum" (SPLADE v1) where the folder does not say it, as transformers' own do not.

    Raises:
        ModelError: the folder is not such a model, or its files are missing, damaged or disagree; names the file.
    """
    document, query = _recognise(path, pooling)
    most = _max_active_terms(path)
    if query_path is not None:
        query = _recognise(query_path, pooling)[1]
        if _max_active_terms(query_path) != most:
            raise ModelError(f"{query_path}: another max_active_dims than {path}; both sides must keep as many terms")
    owner = next((route.path for route in (document, query) if isinstance(route, MlmRoute)), None)
    if owner is None:
        raise ModelError(f"{path}: no masked language model in it; both sides are static")
    terms = {_terms(route) for route in (document, query)}
    if len(terms) > 1:
        raise ModelError(f"{path}: documents and queries have vocabularies of different lengths {sorted(terms)}")
    tokenizer = TextTokenizer(owner / "tokenizer.json", terms.pop())
    for route in (document, query):
        if isinstance(route, MlmRoute):
            check_model(route.path, tokenizer)
            check_tokenizer_settings(route.path, tokenizer.definition)
            read_transformer(route.path, MLM_TRANSFORMER, tokenizer.definition)
            if (
                TextTokenizer(route.path / "tokenizer.json", len(tokenizer.vocabulary)).vocabulary
                != tokenizer.vocabulary
            ):
                raise ModelError(f"{route.path / 'tokenizer.json'}: another vocabulary than {tokenizer.path}")
    return Checkpoint(
        path,
        path.resolve().name,
        _fingerprint(document, query, tokenizer, most),
        tokenizer,
        _window(owner, tokenizer),
        document,
        query,
        most,
    )


def _recognise(path: Path, pooling: str | None) -> tuple[Source, Source]:
    """Where the vectors of documents and of queries come from."""
    if not path.is_dir():
        raise ModelError(f"{path}: not a folder; a model is a folder, the name of a model on the hub, or an object")
    if (path / "modules.json").exists():
        if pooling is not None:
            raise InvalidInput(f"{path} says its pooling itself, in modules.json; leave pooling= out")
        return _sentence_transformers(path)
    if (path / "config.json").exists():
        return _transformers(path, pooling or "max")
    raise ModelError(
        f"{path}: not a model folder; expected spladelite.json, modules.json (sentence-transformers) "
        "or config.json (transformers)"
    )


def weight_files(path: Path) -> list[Path]:
    """The safetensors files of a model folder.

    Raises:
        ModelError: there are none (pickles are named and refused), or the index names something else.
    """
    single, index = path / "model.safetensors", path / "model.safetensors.index.json"
    if single.exists():
        return [single]
    if index.exists():
        names = set(read_json(index).get("weight_map", {}).values())
        if not names or any(not isinstance(name, str) or Path(name).name != name for name in names):
            raise ModelError(f"{index}: weight_map must name files of the same folder")
        return [path / name for name in sorted(names)]
    pickles = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for file in path.glob(pattern))
    if pickles:
        raise ModelError(
            f"{path / pickles[0]}: a pickle, which can run any code when it is opened; refused. Ask its publisher for "
            "model.safetensors, or convert it where you trust it: "
            "AutoModelForMaskedLM.from_pretrained(folder).save_pretrained(new_folder)"
        )
    raise ModelError(f"{single}: missing; the model's weights were expected there")


def check_model(path: Path, tokenizer: TextTokenizer) -> None:
    """Check one masked language model's config, weights and tokenizer against each other.

    Raises:
        ModelError: they disagree.
    """
    config = read_json(path / "config.json")
    architectures = config.get("architectures") or []
    if not any(isinstance(name, str) and name.endswith("ForMaskedLM") for name in architectures):
        raise ModelError(
            f"{path / 'config.json'}: architectures {architectures!r:.200}; a masked language model (...ForMaskedLM) "
            "was expected: SPLADE needs its output layer"
        )
    if "auto_map" in config and not config.get("model_type"):
        raise ModelError(f"{path / 'config.json'}: the model brings its own code, which is never run")
    terms = config["vocab_size"]
    tensors: dict[str, Tensor] = {}
    for file in weight_files(path):
        tensors |= read_header(file)
    rows = [t.shape[0] for name, t in tensors.items() if len(t.shape) == 2 and _is_embedding(name)]
    if rows and terms not in rows:
        raise ModelError(
            f"{path}: config.json says vocab_size {terms}, the weights have {rows} embedding rows; "
            "the files are of different models"
        )
    pad, entry = config.get("pad_token_id"), _pad_token(path)
    if isinstance(pad, int) and entry is not None and 0 <= pad < terms and tokenizer.vocabulary[pad] != entry:
        raise ModelError(
            f"{tokenizer.path}: entry {pad} is {tokenizer.vocabulary[pad]!r}, but the model pads with {entry!r} there; "
            "this is another model's tokenizer"
        )


def _is_embedding(name: str) -> bool:
    return name.endswith(("word_embeddings.weight", "tok_embeddings.weight", "embed_tokens.weight"))


def _pad_token(path: Path) -> str | None:
    if not (path / "tokenizer_config.json").exists():
        return None
    token = read_json(path / "tokenizer_config.json").get("pad_token")
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None


def _transformers(path: Path, pooling: str) -> tuple[Source, Source]:
    if pooling not in POOLINGS:
        raise InvalidInput(f"pooling must be one of {POOLINGS}, got {pooling!r}")
    document = MlmRoute(path, pooling)
    for name in _STATIC_FILES:
        if (path / name).exists():
            return document, StaticRoute(_token_weights(path / name, path))
    return document, document


def _sentence_transformers(path: Path) -> tuple[Source, Source]:
    modules = parse(path / "modules.json")
    if not isinstance(modules, list) or not all(isinstance(m, dict) and {"type", "path"} <= m.keys() for m in modules):
        raise ModelError(f"{path / 'modules.json'}: a list of modules with type and path was expected")
    for module in modules:
        check_settings(path / "modules.json", module, MODULE)
    file = path / "config_sentence_transformers.json"
    prompts = find_prompts(file, read_settings(file, SPARSE_MODEL))
    chain = [(_kind(module["type"]), _inside(path, module["path"])) for module in modules]
    if len(chain) == 1 and chain[0][0] in ("Router", "Asym"):
        file = chain[0][1] / "router_config.json"
        router = check_settings(file, read_json(file), ROUTER)
        check_settings(file, router.get("parameters") or {}, ROUTER_PARAMETERS)
        try:
            routes = {
                side: [(_kind(router["types"][step]), _inside(chain[0][1], step)) for step in router["structure"][side]]
                for side in ("document", "query")
            }
        except (KeyError, TypeError):
            raise ModelError(f"{file}: types and structure with a document and a query route were expected") from None
        document = _route(routes["document"], path, prompts["document"])
        query = _route(routes["query"], path, prompts["query"])
        return document, query
    return _route(chain, path, prompts["document"]), _route(chain, path, prompts["query"])


def _route(chain: list[tuple[str, Path]], path: Path, prompt: str) -> Source:
    kinds = [kind for kind, _ in chain]
    if kinds == ["SparseStaticEmbedding"]:
        return StaticRoute(_static_embedding(chain[0][1]), prompt)
    if kinds in (["MLMTransformer", "SpladePooling"], ["Transformer", "SpladePooling"]):
        config_path = chain[1][1] / "config.json"
        config = check_settings(config_path, read_json(config_path), SPLADE_POOLING)
        pooling, activation = config.get("pooling_strategy") or "max", config.get("activation_function") or "relu"
        return MlmRoute(chain[0][1], pooling, _ACTIVATIONS[activation], prompt)
    raise ModelError(
        f"{path / 'modules.json'}: modules {kinds}; expected a Transformer with SpladePooling, "
        "a SparseStaticEmbedding, or a Router of them"
    )


def _static_embedding(path: Path) -> NDArray[np.float32]:
    listed = read_settings(path / "config.json", STATIC_EMBEDDING).get("path")
    if isinstance(listed, str) and listed.endswith(".json"):
        return _token_weights(_inside(path, listed), path)
    shapes = read_header(path / "model.safetensors")
    if "weight" not in shapes or len(shapes["weight"].shape) != 1:
        raise ModelError(f"{path / 'model.safetensors'}: one tensor 'weight' of shape (V,) was expected")
    return read_static(path / "model.safetensors", shapes["weight"].shape[0])


def _token_weights(path: Path, tokenizer_folder: Path) -> NDArray[np.float32]:
    """``idf.json`` (``{token: weight}``) or ``query_token_weights.txt`` (token, tab, weight) as a vector over terms."""
    if path.suffix == ".json":
        pairs: list[tuple[str, ...]] = list(read_json(path).items())
    else:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise ModelError(f"{path}: cannot be read: {error}") from error
        pairs = [tuple(line.rsplit(None, 1)) for line in lines if line.strip()]
    tokenizer = TextTokenizer(tokenizer_folder / "tokenizer.json")
    ids = {term: i for i, term in enumerate(tokenizer.vocabulary)}
    terms = read_json(tokenizer_folder / "config.json").get("vocab_size", len(ids))
    weights = np.zeros(terms, np.float32)
    try:
        for token, weight in pairs:
            if token in ids:
                weights[ids[token]] = float(weight)
    except (TypeError, ValueError, IndexError):
        raise ModelError(f"{path}: a number for each token was expected") from None
    if not np.isfinite(weights).all() or not (weights > 0).any():
        raise ModelError(f"{path}: no token of {tokenizer.path} has a positive weight, or some are NaN or infinite")
    return weights


def _max_active_terms(path: Path) -> int | None:
    """``max_active_dims`` of a sentence-transformers folder."""
    file = path / "config_sentence_transformers.json"
    most = read_settings(file, SPARSE_MODEL).get("max_active_dims") if (path / "modules.json").exists() else None
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
        raise ModelError(f"{file}: max_active_dims is {most!r:.80}; a positive integer was expected")
    return most


def _terms(route: Source) -> int:
    if isinstance(route, StaticRoute):
        return len(route.weights)
    terms = read_json(route.path / "config.json").get("vocab_size")
    if not isinstance(terms, int) or terms < 1:
        raise ModelError(f"{route.path / 'config.json'}: vocab_size {terms!r:.80}; a positive integer was expected")
    return terms


def _window(path: Path, tokenizer: TextTokenizer) -> int:
    """Text tokens that the model reads at once: the least that its files allow, special tokens taken off.

    Its table of positions may allow fewer, which only the loaded model tells: see ``read_positions`` in
    :mod:`spladelite.encoders.torch`.
    """
    special = len(tokenizer.frame.before) + len(tokenizer.frame.after)
    config, settings = path / "config.json", path / "tokenizer_config.json"
    values = (
        read_json(config).get("max_position_embeddings"),
        read_json(settings).get("model_max_length") if settings.exists() else None,
        read_transformer(path, MLM_TRANSFORMER, tokenizer.definition).get("max_seq_length"),
    )
    limits = [WINDOW_LIMIT + special, *(value for value in values if isinstance(value, int) and value > 0)]
    window = min(limits) - special
    if window < 1:
        raise ModelError(f"{path}: room for {min(limits)} tokens only; at least 3 were expected")
    return window


def _fingerprint(document: Source, query: Source, tokenizer: TextTokenizer, most: int | None) -> str:
    """SHA-256 over weights, tokenizer, pooling, activation and prompts of both sides, and how many terms they keep."""
    digest = hashlib.sha256(_file_hash(tokenizer.path).encode())
    hashes: dict[Path, str] = {}
    parts: list[Any]
    for route in (document, query):
        if isinstance(route, StaticRoute):
            parts = [hashlib.sha256(route.weights.tobytes()).hexdigest(), route.prompt]
        else:
            files = weight_files(route.path)
            hashes |= {file: _file_hash(file) for file in files if file not in hashes}
            config = {k: v for k, v in read_json(route.path / "config.json").items() if k not in _BOOKKEEPING}
            parts = [*(hashes[file] for file in files), config, route.pooling, route.activation, route.prompt]
        digest.update(json.dumps(parts, sort_keys=True).encode())
    if most is not None:
        digest.update(f"max_active_terms {most}".encode())
    return digest.hexdigest()


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _kind(name: object) -> str:
    package, _, kind = str(name).rpartition(".")
    if package.partition(".")[0] != "sentence_transformers":
        raise ModelError(f"modules.json: {name!r:.80} is code outside sentence-transformers, which is never run")
    return kind


def _inside(path: Path, name: object) -> Path:
    inner = (path / str(name)).resolve()
    if not inner.is_relative_to(path.resolve()):
        raise ModelError(f"{path}: {name!r:.80} leads out of the model's folder")
    return inner

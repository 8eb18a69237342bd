"""Small models in the layouts that real ones come in: real files, random weights, a vocabulary of 120 entries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_PLAIN = """
the a of and to in is was for on with as by at from it an be this that which or car auto ##mobile accident
injury crash fire wood fish river bank money tree leaf house ##s ##ing ##ed un ##able big small red blue run
running water rain sun day night city road file data search term weight model text word sparse vector .
"""
WORDS = list(dict.fromkeys(_PLAIN.split()))
SPECIAL = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXTS = [
    "the car crash was an accident",
    "water",
    "a big red house by the river and the bank with money and a tree that is small " * 3,
    "running rains unable automobile .",
    "search the text for a sparse vector of the model",
]


def vocabulary() -> list[str]:
    entries = SPECIAL + WORDS
    return entries + [f"filler{i}" for i in range(120 - len(entries))]


def write_wordpiece(folder: Path) -> None:
    from transformers import BertTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(vocabulary())})
    tokenizer.model_max_length = 64
    tokenizer.save_pretrained(folder)


def write_bytelevel(folder: Path) -> None:
    """A byte-level BPE tokenizer with RoBERTa's special tokens; no merges, so every byte is a token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    folder.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"cls": "<s>", "sep": "</s>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>", "bos": "<s>", "eos": "</s>"}
    config: dict[str, Any] = {f"{key}_token": value for key, value in names.items()}
    config |= {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 64}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def write_mlm(folder: Path, kind: str = "bert", seed: int = 0, **changes: Any) -> Path:
    """A masked language model of a kind with its tokenizer, weights large enough for lively logits."""
    import torch
    import transformers

    bytelevel = kind in ("roberta", "xlm-roberta")
    write_bytelevel(folder) if bytelevel else write_wordpiece(folder)
    common = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
    size = 261 if bytelevel else 120
    if kind == "distilbert":
        config = transformers.DistilBertConfig(
            vocab_size=size, dim=32, n_layers=2, n_heads=2, hidden_dim=48, max_position_embeddings=64, **changes
        )
    elif kind == "roberta":
        config = transformers.RobertaConfig(vocab_size=size, max_position_embeddings=66, **common, **changes)
    elif kind == "xlm-roberta":
        config = transformers.XLMRobertaConfig(vocab_size=size, max_position_embeddings=66, **common, **changes)
    elif kind == "modernbert":
        ids = {"pad_token_id": 0, "cls_token_id": 3, "sep_token_id": 4, "bos_token_id": 3, "eos_token_id": 4}
        config = transformers.ModernBertConfig(
            vocab_size=size, max_position_embeddings=64, local_attention=8, **ids, **common, **changes
        )
    else:
        config = transformers.BertConfig(vocab_size=size, max_position_embeddings=64, **{**common, **changes})
    torch.manual_seed(seed)
    model = transformers.AutoModelForMaskedLM.from_config(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2:
                weight.mul_(8)
            elif "norm" in name.lower() and name.endswith("weight"):
                weight.add_(0.3 * torch.rand_like(weight))
            elif name.endswith("bias"):
                weight.add_(0.1 * torch.randn_like(weight))
    model.save_pretrained(folder)
    return folder


def write_sentence_transformers(folder: Path, modules: Any) -> Path:
    from sentence_transformers import SparseEncoder

    SparseEncoder(modules=modules, device="cpu").save_pretrained(str(folder), create_model_card=False)
    return folder

"""A model's tokenizer: ``tokenizer.json`` read without transformers, nothing truncated, nothing padded.

The vocabulary is read from the JSON itself, so showing terms needs no native library; the ``tokenizers`` package is
imported when the first text is tokenized.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spladelite.encoders.settings import parse
from spladelite.errors import InvalidText, ModelError, WrongType
from spladelite.records import Tokens

_UNUSED = re.compile(r"\[unused\d+\]|<unused\d+>|madeupword\d+|\[?<?extra_id_\d+>?\]?|\|\|\|[A-Z_]+\|\|\|")
_MAX_BYTES = 64 << 20  # the largest real tokenizer.json files (250,000 entries with merges) have about 20 MB
_MAX_VOCABULARY = 4_000_000
_MAX_PADDING = 1023  # output layers are padded to a multiple of at most 1,024 rows


@dataclass(frozen=True, slots=True)
class Frame:
    """The special tokens around a text."""

    before: list[int]
    after: list[int]


class TextTokenizer:
    """``tokenizer.json`` of one model.

    Args:
        path: the file.
        terms: the length of the model's output, V; None if it is that of the vocabulary.

    Attributes:
        definition: what the file holds.
        vocabulary: ``vocabulary[term_id]`` is the term as the tokenizer writes it; "" for an id that is not used.
        excluded: int32, ids that never become terms: special, unused and empty entries; ascending.
        definition: the JSON object.

    Raises:
        ModelError: the file is missing, not JSON, not a tokenizer with a vocabulary, or of another size than ``terms``.
    """

    def __init__(self, path: Path, terms: int | None = None) -> None:
        self.path = path
        self._lock = threading.Lock()
        self.definition = _read_definition(path)
        vocabulary = _vocabulary(self.definition, path)
        missing = (terms or len(vocabulary)) - len(vocabulary)
        if not 0 <= missing <= _MAX_PADDING:
            raise ModelError(
                f"{path}: {len(vocabulary)} vocabulary entries, but the model gives weights for {terms}; "
                "this is another model's tokenizer"
            )
        self.vocabulary: Sequence[str] = vocabulary + [""] * missing
        special = {token["id"] for token in self.definition.get("added_tokens") or () if token.get("special")}
        never = (i for i, term in enumerate(self.vocabulary) if i in special or not term or _UNUSED.fullmatch(term))
        self.excluded: NDArray[np.int32] = np.fromiter(never, np.int32)

    def load(self) -> None:
        """Load the native tokenizer now; safe to call from several threads."""
        with self._lock:
            self._native  # noqa: B018

    @cached_property
    def _native(self) -> Any:
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(self.path))
        except Exception as error:  # tokenizers raises bare Exception
            raise ModelError(f"{self.path}: tokenizers cannot read it: {error}") from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True  # "[SEP]" inside a user's text is text
        return tokenizer

    @cached_property
    def frame(self) -> Frame:
        """The special tokens that the model expects around a text."""
        own = self._native.encode("a", add_special_tokens=False).ids
        ids = self._native.encode("a").ids
        for start in range(len(ids) - len(own) + 1):
            if ids[start : start + len(own)] == own:
                return Frame(ids[:start], ids[start + len(own) :])
        raise ModelError(f"{self.path}: its post-processor changes the text's own tokens")

    @cached_property
    def unknown_id(self) -> int | None:
        """The id that stands for text outside the vocabulary, or None for byte-level tokenizers."""
        token = self.definition["model"].get("unk_token")
        if token is None:
            number = self.definition["model"].get("unk_id")
            return number if isinstance(number, int) else None
        found: int | None = self._native.token_to_id(token)
        return found

    def _encode(self, text: str) -> Any:
        if not isinstance(text, str):
            raise WrongType(f"a text must be a str, got {type(text).__name__}")
        self.load()
        try:
            # One text at a time: `encode_batch` would start a thread pool and make a later fork print warnings.
            return self._native.encode(text, add_special_tokens=False)
        except (TypeError, UnicodeEncodeError):  # what tokenizers makes of a str that has no UTF-8 form
            place = next((i for i, character in enumerate(text) if "\ud800" <= character <= "\udfff"), None)
            if place is None:
                raise
            raise InvalidText(
                f"text is not valid Unicode: lone surrogate at character {place}; decode it with errors='replace'"
            ) from None

    def ids(self, text: str) -> list[int]:
        """The ids of the text's own tokens, without special tokens."""
        ids: list[int] = self._encode(text).ids
        return ids

    def tokenize(self, text: str) -> Tokens:
        """The text's own tokens with character offsets."""
        encoding = self._encode(text)
        offsets = np.array(encoding.offsets, np.int64).reshape(-1, 2)
        return Tokens(np.array(encoding.ids, np.int32), offsets[:, 0], offsets[:, 1])


def _read_definition(path: Path) -> dict[str, Any]:
    if path.exists() and path.stat().st_size > _MAX_BYTES:
        raise ModelError(f"{path}: {path.stat().st_size} bytes, more than any tokenizer has ({_MAX_BYTES})")
    definition = parse(path, "AutoTokenizer.from_pretrained(folder).save_pretrained(folder) of transformers writes it")
    if not isinstance(definition, dict) or not isinstance(definition.get("model"), dict):
        raise ModelError(f'{path}: not a tokenizer: a JSON object with a "model" object was expected')
    return definition


def _vocabulary(definition: dict[str, Any], path: Path) -> list[str]:
    """All entries by id: WordPiece and BPE store a mapping, Unigram a list of (piece, score)."""
    entries = definition["model"].get("vocab")
    try:
        if isinstance(entries, dict):
            pairs = {int(i): str(term) for term, i in entries.items()}
        elif isinstance(entries, list):
            pairs = {i: str(entry[0]) for i, entry in enumerate(entries)}
        else:
            raise TypeError
        for token in definition.get("added_tokens") or ():
            pairs.setdefault(int(token["id"]), str(token["content"]))
    except (TypeError, ValueError, KeyError, IndexError):
        raise ModelError(f'{path}: not a tokenizer: "model.vocab" and "added_tokens" must map terms to ids') from None
    if not pairs or min(pairs) < 0 or max(pairs) >= _MAX_VOCABULARY:
        raise ModelError(f"{path}: term ids must lie in 0..{_MAX_VOCABULARY - 1}")
    return [pairs.get(i, "") for i in range(max(pairs) + 1)]

"""Teachers: what scores pairs of a query and a text, for a model to learn from.

A teacher's scores are compared within a query only: MarginMSE learns their differences (Hofstätter et al. 2020,
"Improving Efficient Neural Ranking Models with Cross-Architecture Knowledge Distillation"), the KL divergence their
softmax.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spladelite.encoders.base import Encoder
from spladelite.encoders.dense import DenseEncoder, _digest, load_dense
from spladelite.encoders.registry import find_folder
from spladelite.errors import InvalidInput, ModelError
from spladelite.progress import Progress, ticking
from spladelite.training.data import Example

if TYPE_CHECKING:
    import apsw

Pairs = Sequence[tuple[str, str]]
Scores = NDArray[np.float32]

COSINE_SCALE = 20.0
"""The factor on cosines, which lie too close together for a softmax: sentence-transformers' own in training."""

_SLAB = 1024  # pairs that are scored together, and kept together by a cache
_BATCH_TOKENS = {"cpu": 4096, "cuda": 65536, "mps": 16384}
_LENGTH = 512
_REMEMBERED = 50_000  # vectors, some 80 MB


class Teacher(Protocol):
    """Scores pairs; the higher, the better the text answers the query."""

    @property
    def name(self) -> str:
        """What a person calls it."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hex digest over all that decides the scores, or "" where that cannot be known."""
        ...

    def score(self, pairs: Pairs) -> Scores:
        """One score a pair ``(query, text)``, float32 ``(N,)``."""
        ...


def with_scores(examples: Iterable[Example], teacher: Teacher, *, progress: Progress = None) -> tuple[Example, ...]:
    """The examples, each with the teacher's score of its positive and of its negatives; scores that are given stay.

    Raises:
        ModelError: the teacher gave NaN, infinity, or not one score a pair; names the pair.
    """
    result = list(examples)
    of_query: dict[str, list[int]] = {}
    for i, example in enumerate(result):
        if example.scores is None:
            of_query.setdefault(example.query, []).append(i)
    with ticking(progress, of_query, f"Scoring with {teacher.name}") as advance:
        for queries in _slabs(result, of_query):
            chosen = [i for query in queries for i in of_query[query]]
            pairs = [(result[i].query, text) for i in chosen for text in (result[i].positive, *result[i].negatives)]
            # Each pair once, and all pairs of a query in one call: an ensemble looks at a query as a whole.
            distinct = list(dict.fromkeys(pairs))
            found = dict(zip(distinct, _checked(teacher, distinct).tolist(), strict=True))
            for i in chosen:
                example = result[i]
                scores = tuple(found[example.query, text] for text in (example.positive, *example.negatives))
                result[i] = replace(example, scores=scores)
            advance(len(queries))
    return tuple(result)


def _slabs(examples: Sequence[Example], of_query: dict[str, list[int]]) -> Iterator[list[str]]:
    slab: list[str] = []
    size = 0
    for query, places in of_query.items():
        slab.append(query)
        size += sum(1 + len(examples[i].negatives) for i in places)
        if size >= _SLAB:
            yield slab
            slab, size = [], 0
    if slab:
        yield slab


def _checked(teacher: Teacher, pairs: Pairs) -> Scores:
    scores = np.asarray(teacher.score(pairs), np.float32)
    if scores.shape != (len(pairs),):
        raise ModelError(
            f"{teacher.name} gave scores of shape {scores.shape} for {len(pairs)} pairs; expected one each"
        )
    wrong = np.flatnonzero(~np.isfinite(scores))
    if len(wrong):
        query, text = pairs[wrong[0]]
        raise ModelError(f"{teacher.name} scored query {query[:60]!r} and text {text[:60]!r} as {scores[wrong[0]]}")
    return scores


# --- cross-encoders --------------------------------------------------------------------------------------------------


def cross_encoder(model: str | os.PathLike[str], device: str | None = None) -> Teacher:
    """A cross-encoder: a transformers folder, or a hub name, of a sequence classifier with one or two labels.

    Its score is the logit; with two labels ("not relevant", "relevant") the second one's less the first one's.

    Args:
        model: the folder or name.
        device: a torch device; by default CUDA if there is one, else the processor.

    Raises:
        ModelError: no such model, or something else than a complete classifier with one or two labels.
    """
    return _CrossEncoder(find_folder(model), device)


class _CrossEncoder:
    def __init__(self, folder: Path, device: str | None) -> None:
        try:
            import torch
            from transformers import AutoModelForSequenceClassification, AutoTokenizer
        except ImportError as error:
            raise ModelError(f"{folder}: a cross-encoder needs the extra: pip install 'spladelite[torch]'") from error
        from spladelite.encoders.torch import find_device, quiet

        self.name = folder.resolve().name
        files = sorted(path for kind in ("*.safetensors", "*.json", "*.txt") for path in folder.glob(kind))
        try:
            with quiet():
                loaded, report = AutoModelForSequenceClassification.from_pretrained(
                    folder, local_files_only=True, use_safetensors=True, output_loading_info=True
                )
                self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{folder}: transformers cannot load it as a sequence classifier: {error}") from error
        missing = sorted(map(str, report["missing_keys"]))[:4]
        if missing:
            raise ModelError(f"{folder}: the weights lack {missing}; a complete sequence classifier was expected")
        self._labels = int(loaded.config.num_labels)
        if self._labels not in (1, 2):
            raise ModelError(f"{folder}: has {self._labels} labels; a cross-encoder with 1 or 2 was expected")
        self._device = torch.device(find_device(device))
        self._model = loaded.eval().requires_grad_(False).to(self._device)
        positions = getattr(loaded.config, "max_position_embeddings", None) or _LENGTH
        self._length = int(min(_LENGTH, self._tokenizer.model_max_length, positions))
        self.fingerprint = _digest(files, f"{self._labels} {self._length}")

    def score(self, pairs: Pairs) -> Scores:
        import torch

        from spladelite.encoders.torch import by_length

        scores = np.empty(len(pairs), np.float32)
        for start in range(0, len(pairs), _SLAB):
            slab = pairs[start : start + _SLAB]
            # The longer of the two is cut, so that a query that fills the length by itself leaves room for the text.
            encoded = self._tokenizer(
                [query for query, _ in slab], [text for _, text in slab], truncation=True, max_length=self._length
            )
            lengths = [len(ids) for ids in encoded["input_ids"]]
            for batch in by_length(lengths, _BATCH_TOKENS.get(self._device.type, 4096)) if slab else ():
                rows = {key: [encoded[key][i] for i in batch] for key in encoded}
                padded = self._tokenizer.pad(rows, return_tensors="pt").to(self._device)
                with torch.inference_mode():
                    logits = self._model(**padded).logits.float().cpu().numpy()  # (B, 1) or (B, 2)
                scores[[start + i for i in batch]] = logits[:, 0] if self._labels == 1 else logits[:, 1] - logits[:, 0]
        return scores


# --- bi-encoders -----------------------------------------------------------------------------------------------------


def bi_encoder(dense: object) -> Teacher:
    """A dense bi-encoder: 20 times the cosine of the vectors of query and text.

    Args:
        dense: a folder, a function or an encoder, as for ``SpladeLite(dense=...)``.

    Raises:
        ModelError, WrongType: it cannot be loaded.
    """
    return _BiEncoder(load_dense(dense))


class _BiEncoder:
    def __init__(self, encoder: DenseEncoder) -> None:
        self.encoder = encoder
        self.name = encoder.name
        self._documents: dict[str, NDArray[np.float32]] = {}  # mined negatives come up for many queries

    @property
    def fingerprint(self) -> str:
        return self.encoder.fingerprint  # a digest of large files: only where it is asked for

    def score(self, pairs: Pairs) -> Scores:
        if not pairs:
            return np.empty(0, np.float32)
        (queries, q), (texts, t) = _distinct(pair[0] for pair in pairs), _distinct(pair[1] for pair in pairs)
        if len(self._documents) > _REMEMBERED:
            self._documents.clear()
        new = [text for text in texts if text not in self._documents]
        if new:
            self._documents.update(zip(new, _unit(self.encoder.encode_documents(new)), strict=True))
        a = _unit(self.encoder.encode_queries(queries))  # (Q, D)
        b = np.stack([self._documents[text] for text in texts])
        return np.asarray(COSINE_SCALE * np.einsum("nd,nd->n", a[q], b[t]), np.float32)


def _unit(vectors: Any) -> NDArray[np.float32]:
    array = np.asarray(vectors, np.float32)
    return np.asarray(array / np.maximum(np.linalg.norm(array, axis=1, keepdims=True), 1e-12), np.float32)


def sparse(encoder: Encoder) -> Teacher:
    """A SPLADE model, such as a larger one: the inner product of the vectors of query and text."""
    return _Sparse(encoder)


@dataclass(frozen=True, slots=True)
class _Sparse:
    encoder: Encoder

    @property
    def name(self) -> str:
        return self.encoder.name

    @property
    def fingerprint(self) -> str:
        return self.encoder.fingerprint

    def score(self, pairs: Pairs) -> Scores:
        (queries, q), (texts, t) = _distinct(pair[0] for pair in pairs), _distinct(pair[1] for pair in pairs)
        if not pairs:
            return np.empty(0, np.float32)
        a, b = self.encoder.encode_queries(queries), self.encoder.encode_documents(texts)
        scores = np.empty(len(pairs), np.float32)
        full = np.zeros(len(self.encoder.vocabulary), np.float32)
        for query in range(len(queries)):
            terms, weights = a.row(query)
            full[terms] = weights
            for i in np.flatnonzero(q == query).tolist():
                there, document = b.row(int(t[i]))
                scores[i] = full[there] @ document
            full[terms] = 0.0
        return scores


def _distinct(texts: Iterable[str]) -> tuple[list[str], NDArray[np.int64]]:
    """The distinct texts, and which of them each one is."""
    places: dict[str, int] = {}
    index = [places.setdefault(text, len(places)) for text in texts]
    return list(places), np.array(index, np.int64)


# --- several, and kept ones ------------------------------------------------------------------------------------------


def ensemble(teachers: Sequence[Teacher]) -> Teacher:
    """The mean of several teachers, on the first one's scale.

    Scores are taken as differences from the mean over a query's texts, and multiplied so that they spread as far as the
    first teacher's do, over all queries of a call: a query about which a teacher is sure keeps a wide spread. So scores
    are comparable within a call only, in which all texts of a query must be. As in SPLADE++ (Formal et al. 2022), the
    first is best a SPLADE model: a student that is asked for less spread than it has loses terms, not only errors.

    Raises:
        InvalidInput: no teachers.
    """
    if not teachers:
        raise InvalidInput("an ensemble needs at least one teacher")
    return _Ensemble(tuple(teachers))


@dataclass(frozen=True, slots=True)
class _Ensemble:
    teachers: tuple[Teacher, ...]

    @property
    def name(self) -> str:
        return " + ".join(teacher.name for teacher in self.teachers)

    @property
    def fingerprint(self) -> str:
        return ""  # a pair's score depends on the others of its query: only the members' scores can be kept

    def score(self, pairs: Pairs) -> Scores:
        queries, group = _distinct(query for query, _ in pairs)
        size = np.maximum(np.bincount(group, minlength=len(queries)), 1)
        total = np.zeros(len(pairs))
        scale = 0.0
        for teacher in self.teachers:
            scores = _checked(teacher, pairs).astype(np.float64)
            centred = scores - (np.bincount(group, scores, len(queries)) / size)[group]
            spread = float(np.sqrt(np.mean(centred**2))) if pairs else 0.0
            if spread > 1e-6:
                scale = scale or spread
                total += centred * (scale / spread)
        return np.asarray(total / len(self.teachers), np.float32)


@contextmanager
def cached(teacher: Teacher, path: str | os.PathLike[str]) -> Iterator[Teacher]:
    """The teacher with its scores kept in a file: what was scored once, by a model with this fingerprint, stays scored.

    The file is written every thousand pairs, so that an interrupted run goes on where it was. Of an ensemble the
    members' scores are kept; of a teacher without a fingerprint, none.

    Raises:
        InvalidInput: the file is something else, or cannot be written.
    """
    import apsw

    from spladelite.file.sqlite import open_file

    try:
        connection = open_file(os.fspath(path))
        try:
            connection.set_busy_timeout(30_000)
            connection.execute(
                "CREATE TABLE IF NOT EXISTS score"
                " (teacher TEXT, pair BLOB, score REAL NOT NULL, PRIMARY KEY (teacher, pair)) WITHOUT ROWID"
            )
            yield _cached(teacher, connection)
        finally:
            connection.close()
    except apsw.Error as error:
        raise InvalidInput(f"{os.fspath(path)}: cannot be used to keep scores: {error}; delete it") from error


def _cached(teacher: Teacher, connection: apsw.Connection) -> Teacher:
    if isinstance(teacher, _Ensemble):
        return _Ensemble(tuple(_cached(member, connection) for member in teacher.teachers))
    return _Cached(teacher, connection) if teacher.fingerprint else teacher


@dataclass(frozen=True, slots=True)
class _Cached:
    teacher: Teacher
    connection: apsw.Connection

    @property
    def name(self) -> str:
        return self.teacher.name

    @property
    def fingerprint(self) -> str:
        return self.teacher.fingerprint

    def score(self, pairs: Pairs) -> Scores:
        who = self.fingerprint
        keys = [_key(pair) for pair in pairs]
        known: dict[bytes, float] = {}
        for key in keys:
            known.update(
                self.connection.execute("SELECT pair, score FROM score WHERE (teacher, pair) = (?, ?)", (who, key))
            )
        missing = list({key: pair for key, pair in zip(keys, pairs, strict=True) if key not in known}.items())
        for start in range(0, len(missing), _SLAB):
            slab = missing[start : start + _SLAB]
            found = _checked(self.teacher, [pair for _, pair in slab]).tolist()
            rows = [(who, key, score) for (key, _), score in zip(slab, found, strict=True)]
            with self.connection:
                self.connection.executemany("INSERT OR REPLACE INTO score VALUES (?, ?, ?)", rows)
            known.update((key, score) for _, key, score in rows)
        return np.array([known[key] for key in keys], np.float32)


def _key(pair: tuple[str, str]) -> bytes:
    query, text = (part.encode() for part in pair)
    return sha256(len(query).to_bytes(8, "big") + query + text).digest()

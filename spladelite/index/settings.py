"""What a file knows about itself: model, vocabulary, quantisation, metadata indexes. Written once, at creation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import EllipsisType
from zlib import crc32

import apsw

from spladelite.encoders.base import Encoder
from spladelite.errors import CorruptIndex, InvalidInput
from spladelite.index.passages import TAIL_SIZE, Layout
from spladelite.index.postings import MAX_SEGMENT
from spladelite.index.quantize import LARGEST_WEIGHT
from spladelite.index.words import DEFAULT_LANGUAGE, check_language, languages

# Smaller weights of encoded documents are dropped: a third of the postings, 0.003 nDCG@10 at most
# (benchmarks/README.md).
DEFAULT_MIN_WEIGHT = 0.3
MAX_VOCABULARY = 1 << 24
MAX_DIMENSION = (1 << 20) - 1


@dataclass(frozen=True, slots=True)
class DenseRecord:
    """What a file with dense vectors knows of their encoder.

    Attributes:
        name: for people.
        fingerprint: what decides whether another encoder may be used; empty for a caller's function.
        source: the folder where it is found again; empty if it was an object.
        dimension: of its vectors.
    """

    name: str
    fingerprint: str
    source: str
    dimension: int


@dataclass(frozen=True, slots=True)
class Meta:
    """The file's record of itself.

    Attributes:
        model: name of the model, for people.
        fingerprint: what decides whether another model may be used.
        source: where the model is found again: ``"bundled"``, a path or hub name; empty if it was an object.
        window: text tokens a passage.
        min_weight: smaller weights of encoded documents were dropped.
        layout: vocabulary size and segment sizes, and which other indexes the file has.
        slim: the stored vectors were left out; the file can be searched, not changed.
        dense: the encoder of its dense vectors, if it has any.
    """

    model: str
    fingerprint: str
    source: str
    window: int
    min_weight: float
    layout: Layout
    slim: bool
    dense: DenseRecord | None


@dataclass(frozen=True, slots=True)
class Settings:
    """What a caller asks of a file; None leaves the choice to the file, or to the default for a new one.

    For ``language``, where None means no stems, it is ``...`` that leaves the choice.
    """

    min_weight: float | None
    tail_size: int | None
    segment_size: int | None
    bm25: bool | None
    language: str | EllipsisType | None = ...

    @staticmethod
    def given(
        min_weight: object, tail_size: object, segment_size: object, bm25: object, language: object = ...
    ) -> Settings:
        """Check the arguments."""
        if min_weight is not None and (
            isinstance(min_weight, bool)
            or not isinstance(min_weight, int | float)
            or not 0 <= min_weight < LARGEST_WEIGHT
        ):
            raise InvalidInput(f"min_weight is {min_weight!r}; give a number of at least 0")
        for name, size in (("tail_size", tail_size), ("segment_size", segment_size)):
            if size is not None and (
                isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= MAX_SEGMENT
            ):
                raise InvalidInput(f"{name} is {size!r}; give an int from 1 to {MAX_SEGMENT}")
        if bm25 is not None and not isinstance(bm25, bool):
            raise InvalidInput(f"bm25 is {bm25!r}; give True, False or None")
        return Settings(
            None if min_weight is None else float(min_weight),
            tail_size if isinstance(tail_size, int) else None,
            segment_size if isinstance(segment_size, int) else None,
            bm25,
            language if isinstance(language, EllipsisType) else check_language(language),
        )

    def compare(self, meta: Meta, path: str) -> None:
        """:class:`InvalidInput` if the file was made with other settings."""
        for name, wanted, found in (
            ("min_weight", self.min_weight, meta.min_weight),
            ("tail_size", self.tail_size, meta.layout.tail_size),
            ("segment_size", self.segment_size, meta.layout.segment_size),
            ("bm25", self.bm25, meta.layout.bm25),
        ):
            if wanted is not None and wanted != found:
                raise InvalidInput(
                    f"{path} was created with {name}={found}, not {wanted}; leave {name} out, or use a new file"
                )
        if not isinstance(self.language, EllipsisType) and self.language != meta.layout.language:
            raise InvalidInput(
                f"{path} has language={meta.layout.language!r}, not {self.language!r}; leave language out, or change it"
                f" with reencode(language={self.language!r})"
            )


def create_meta(
    connection: apsw.Connection, encoder: Encoder, source: str, settings: Settings, dense: DenseRecord | None
) -> None:
    """Fill ``meta`` and ``term`` of a new file."""
    vocabulary = encoder.vocabulary
    if not 1 <= len(vocabulary) <= MAX_VOCABULARY:
        raise InvalidInput(f"{encoder.name} has a vocabulary of {len(vocabulary)}; 1 to {MAX_VOCABULARY} are possible")
    connection.executemany(
        "INSERT INTO meta VALUES (?, ?)",
        {
            "model": encoder.name,
            "fingerprint": encoder.fingerprint,
            "source": source,
            "vocabulary_size": str(len(vocabulary)),
            "window": str(encoder.window),
            "min_weight": repr(DEFAULT_MIN_WEIGHT if settings.min_weight is None else settings.min_weight),
            "quantisation": "weight = impact (uint8) * scale (float32, one a passage)",
            "tail_size": str(settings.tail_size or TAIL_SIZE),
            "segment_size": str(settings.segment_size or MAX_SEGMENT),
            "bm25": "0" if settings.bm25 is False else "1",
            "language": (DEFAULT_LANGUAGE if isinstance(settings.language, EllipsisType) else settings.language) or "",
            "dense_model": dense.name if dense else "",
            "dense_fingerprint": dense.fingerprint if dense else "",
            "dense_source": dense.source if dense else "",
            "dense_dimension": str(dense.dimension) if dense else "0",
            "metadata_indexes": "[]",
            "slim": "0",
            "size": "0 0 0",
            "unread": "0 0",
            "checksum": "",
        }.items(),
    )
    sign(connection)
    connection.executemany("INSERT INTO term VALUES (?, ?)", enumerate(vocabulary))


def read_meta(connection: apsw.Connection, otherwise: Mapping[str, str] | None = None) -> Meta:
    """The file's record; :class:`CorruptIndex` if something is missing or makes no sense.

    ``otherwise`` has what a file of an older format lacks.
    """
    values = dict(connection.execute("SELECT key, value FROM meta"))
    try:
        if values["checksum"] != _checksum(values):
            raise CorruptIndex("table meta: its checksum does not match; restore a backup")
        values = {**(otherwise or {}), **values}
        dense = DenseRecord(
            values["dense_model"],
            values["dense_fingerprint"],
            values["dense_source"],
            int(values["dense_dimension"]),
        )
        meta = Meta(
            values["model"],
            values["fingerprint"],
            values["source"],
            int(values["window"]),
            float(values["min_weight"]),
            Layout(
                int(values["vocabulary_size"]),
                int(values["tail_size"]),
                int(values["segment_size"]),
                values["bm25"] == "1",
                values["language"] or None,
                dense.dimension,
            ),
            values["slim"] == "1",
            dense if dense.dimension else None,
        )
        sound = (
            0 < meta.layout.vocabulary_size <= MAX_VOCABULARY
            and 0 < meta.layout.segment_size <= MAX_SEGMENT
            and 0 < meta.layout.tail_size <= MAX_SEGMENT
            and 0 <= meta.layout.dimension <= MAX_DIMENSION
            and 0 < meta.window < 1 << 24
            and 0 <= meta.min_weight < LARGEST_WEIGHT
            and (meta.layout.language is None or meta.layout.language in languages())
        )
    except (KeyError, ValueError, TypeError) as error:
        raise CorruptIndex(f"table meta: {error!r} is missing or not a number; restore a backup") from None
    if not sound:
        raise CorruptIndex(f"table meta holds sizes that make no sense: {meta}; restore a backup")
    return meta


def _checksum(values: dict[str, str]) -> str:
    """CRC-32 of everything but itself, and what writes count."""
    settings = {key: value for key, value in values.items() if key not in ("checksum", "size", "unread")}
    return str(crc32(json.dumps(settings, sort_keys=True).encode()))


def sign(connection: apsw.Connection) -> None:
    """Renew the checksum after a change."""
    values = dict(connection.execute("SELECT key, value FROM meta"))
    connection.execute("UPDATE meta SET value = ? WHERE key = 'checksum'", (_checksum(values),))


def set_language(connection: apsw.Connection, language: str | None) -> None:
    """Record the language of the words."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('language', ?)", (language or "",))
    sign(connection)


def mark_slim(connection: apsw.Connection) -> None:
    """Record that the stored vectors are gone."""
    connection.execute("UPDATE meta SET value = '1' WHERE key = 'slim'")
    sign(connection)

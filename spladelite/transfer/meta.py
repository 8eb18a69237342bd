"""What a collection in another engine records of itself: its format, its state, and the model of its vectors."""

from __future__ import annotations

from collections.abc import Mapping
from types import EllipsisType

from spladelite.encoders.base import Encoder
from spladelite.errors import CorruptIndex, ModelMismatch, UnsupportedFormat
from spladelite.index.passages import Layout
from spladelite.index.settings import DEFAULT_MIN_WEIGHT, Meta, Settings
from spladelite.index.words import DEFAULT_LANGUAGE, languages

FORMAT = 2  # of what the engines store; meta has it under "format"


def new_meta(encoder: Encoder, source: str, settings: Settings) -> dict[str, str]:
    """What a new collection knows of itself."""
    language = DEFAULT_LANGUAGE if isinstance(settings.language, EllipsisType) else settings.language
    return {
        "format": str(FORMAT),
        "state": "complete",
        "model": encoder.name,
        "fingerprint": encoder.fingerprint,
        "source": source,
        "vocabulary_size": str(len(encoder.vocabulary)),
        "window": str(encoder.window),
        "min_weight": repr(DEFAULT_MIN_WEIGHT),
        "bm25": str(int(settings.bm25 is not False)),
        "language": language or "",
    }


def meta_of(meta: Meta) -> dict[str, str]:
    """The same for a collection that gets the contents of another."""
    return {
        "format": str(FORMAT),
        "state": "incomplete",
        "model": meta.model,
        "fingerprint": meta.fingerprint,
        "source": meta.source,
        "vocabulary_size": str(meta.layout.vocabulary_size),
        "window": str(meta.window),
        "min_weight": repr(meta.min_weight),
        "bm25": str(int(meta.layout.bm25)),
        "language": meta.layout.language or "",
    }


def check_meta(found: Mapping[str, str], server: str, words: bool = True) -> Meta:
    """A collection's record of itself.

    An engine that cannot have BM25 (``words`` is False) keeps for the next move whether the collection is to have it.

    Raises:
        UnsupportedFormat: another release wrote it.
        CorruptIndex: it makes no sense.
    """
    try:
        if int(found["format"]) > FORMAT:
            raise UnsupportedFormat(f"{server} was written by a newer SpladeLite (format {found['format']}); update it")
        if int(found["format"]) < FORMAT:
            raise UnsupportedFormat(
                f"{server} was written by an older SpladeLite (format {found['format']}, without words); "
                f"move the file to a new collection"
            )
        language = found["language"] or None
        if language is not None and language not in languages():
            raise CorruptIndex(f"{server}: its words have the language {language!r}, which is none")
        return Meta(
            found["model"],
            found["fingerprint"],
            found["source"],
            int(found["window"]),
            float(found["min_weight"]),
            Layout(int(found["vocabulary_size"]), bm25=words and found["bm25"] == "1", language=language),
            False,
            None,
        )
    except (KeyError, ValueError) as error:
        raise CorruptIndex(f"{server}: its record of itself lacks something ({error!r})") from None


def same_model(one: Meta, other: Meta, server: str) -> None:
    """:class:`ModelMismatch` if two collections have different models."""
    if one.fingerprint != other.fingerprint or one.layout.vocabulary_size != other.layout.vocabulary_size:
        raise ModelMismatch(
            f"{server} was built with the model {other.model} (fingerprint {other.fingerprint[:12]}), not with "
            f"{one.model} ({one.fingerprint[:12]}); vectors of two models cannot be mixed: give an empty collection"
        )

"""What a collection in another engine records of itself: its format, its state, and the model of its vectors."""

from __future__ import annotations

from collections.abc import Mapping

from spladelite.encoders.base import Encoder
from spladelite.errors import CorruptIndex, ModelMismatch, UnsupportedFormat
from spladelite.index.passages import Layout
from spladelite.index.settings import Meta

FORMAT = 1  # of what the engines store; meta has it under "format"


def new_meta(encoder: Encoder, source: str, min_weight: float) -> dict[str, str]:
    """What a new collection knows of itself."""
    return {
        "format": str(FORMAT),
        "state": "complete",
        "model": encoder.name,
        "fingerprint": encoder.fingerprint,
        "source": source,
        "vocabulary_size": str(len(encoder.vocabulary)),
        "window": str(encoder.window),
        "min_weight": repr(min_weight),
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
    }


def check_meta(found: Mapping[str, str], server: str) -> Meta:
    """A collection's record of itself.

    Raises:
        UnsupportedFormat: a newer release wrote it.
        CorruptIndex: it makes no sense.
    """
    try:
        if int(found["format"]) > FORMAT:
            raise UnsupportedFormat(f"{server} was written by a newer SpladeLite (format {found['format']}); update it")
        return Meta(
            found["model"],
            found["fingerprint"],
            found["source"],
            int(found["window"]),
            float(found["min_weight"]),
            Layout(int(found["vocabulary_size"])),
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

"""What a caller asks of a search, checked once and handed down as one frozen value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spladelite.arguments import check_count, check_min_score, check_timeout
from spladelite.documents.filters import Filter, compile_filter
from spladelite.documents.listing import check_from_zero
from spladelite.errors import InvalidInput
from spladelite.index.passages import Layout
from spladelite.search.diversity import check_diversity
from spladelite.search.fusion import check_fusion, check_weights

MODES = ("splade", "bm25", "dense", "hybrid")

Rerank = Callable[[str, list[str]], Sequence[float]]
Where = Mapping[str, Any] | str | None
WhereArgs = Sequence[Any] | Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """The checked arguments of a search.

    Attributes:
        mode: one of ``MODES``; None for all that the file has.
        k: how many documents are found, those that ``offset`` passes over included.
        min_score: documents that score less are left out; None means any score.
        matching: only documents that match it may be found; None allows all.
        encoder: ``"idf"``, or None for the model.
        weights: of a hybrid's parts; None means the default for each query.
        fusion: ``"convex"`` or ``"rrf"``.
        timeout: seconds for SQLite's part of the search; None for no limit.
        offset: how many of the best are passed over.
        text: whether hits have their texts.
        diversity: how much hits are to differ, 0 to 1; see :mod:`spladelite.search.diversity`.
        dense: the queries' dense vectors, as the caller gave them; None for the encoder's.
    """

    mode: str | None = None
    k: int = 10
    min_score: float | None = None
    matching: Filter | None = None
    encoder: str | None = None
    weights: Mapping[str, float] | None = None
    fusion: str = "convex"
    timeout: float | None = None
    offset: int = 0
    text: bool = True
    diversity: float = 0.0
    dense: object = None

    def parts(self, layout: Layout, encodes: bool, vectors: bool = False) -> tuple[str, ...]:
        """The indexes of a file that are asked, one or more of ``splade``, ``bm25`` and ``dense``.

        ``encodes`` says that the file has an encoder for dense vectors: where callers give them, a query without one
        asks the other indexes. ``vectors`` says that the queries are sparse vectors: without a mode, SPLADE alone is
        asked then.

        Raises:
            InvalidInput: the file has no index for the mode, or for a part that ``weights`` names; ``encoder`` or
                ``dense`` is given and no part uses it.
        """
        if vectors and self.mode is None and self.weights is None and self.dense is None:
            parts: tuple[str, ...] = ("splade",)
        else:
            parts = self._parts(layout, encodes or self.dense is not None)
        if self.dense is not None and "dense" not in parts:
            raise InvalidInput(
                "dense= is for the dense part, and this search has none"
                if layout.dimension
                else "this file has no dense vectors; leave dense out"
            )
        if self.encoder is not None and "splade" not in parts:
            raise InvalidInput(f"encoder={self.encoder!r} is for the SPLADE part, and this search has none")
        return parts

    def _parts(self, layout: Layout, dense: bool) -> tuple[str, ...]:
        if self.mode == "bm25" and not layout.bm25:
            raise InvalidInput("this file was created with bm25=False; create a new one to search it with mode='bm25'")
        if self.mode == "dense" and not layout.dimension:
            raise InvalidInput(
                "this file has no dense vectors; create a new one with dense= to search it with mode='dense'"
            )
        if self.mode not in (None, "hybrid"):
            return (self.mode,)
        named = self.weights is not None and "dense" in self.weights
        asks_dense = layout.dimension and (dense or named)
        available = ["splade", *(["bm25"] if layout.bm25 else []), *(["dense"] if asks_dense else [])]
        if len(available) == 1 and self.mode == "hybrid":
            raise InvalidInput(
                "mode='hybrid' needs a second index, and this file was created with bm25=False and without dense="
            )
        return tuple(available if self.weights is None else check_weights(self.weights, available))


def check_request(
    *,
    k: object = 10,
    where: Where = None,
    where_args: object = None,
    min_score: object = None,
    encoder: object = None,
    mode: object = None,
    weights: object = None,
    fusion: object = "convex",
    timeout: object = None,
    where_sql: str | None = None,
    offset: object = 0,
    text: object = True,
    diversity: object = 0.0,
    dense: object = None,
) -> Request:
    """The arguments of a search as a :class:`Request`.

    Raises:
        InvalidInput, InvalidFilter, WrongType: which argument is wrong, and what is expected.
    """
    if mode is not None and mode not in MODES:
        raise InvalidInput(f"mode is {mode!r}; give one of {', '.join(MODES)}, or None for all that the file has")
    if mode not in (None, "hybrid") and weights is not None:
        raise InvalidInput(f"weights are for mode='hybrid', and mode is {mode!r}")
    if encoder not in (None, "idf"):
        raise InvalidInput(f"encoder is {encoder!r}; give 'idf', or None for the model")
    passed_over = check_from_zero(offset, "offset")
    return Request(
        mode=None if mode is None else str(mode),
        k=check_count(k) + passed_over,
        min_score=None if min_score is None else check_min_score(min_score),
        matching=compile_filter(where, where_args, where_sql),
        encoder=None if encoder is None else str(encoder),
        weights=None if weights is None else check_weights(weights, MODES[:3]),
        fusion=check_fusion(fusion),
        timeout=check_timeout(timeout),
        offset=passed_over,
        text=bool(text),
        diversity=check_diversity(diversity),
        dense=dense,
    )

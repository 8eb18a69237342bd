"""How records look in a notebook: HTML of plain values, in which whatever documents hold is escaped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from html import escape

_CELL = "text-align:left;padding:0 1em 0 0;white-space:nowrap"
_BAR = "display:inline-block;height:.7em;background:#4c78a8"
_WIDTH = 12  # em, of the longest bar
MOST = 2000  # characters of a passage


def bars(rows: Iterable[tuple[str, float, str]]) -> str:
    """A table of names with their values as bars, and a note after each."""
    found = [(name, value if math.isfinite(value) else 0.0, note) for name, value, note in rows]
    longest = max((abs(value) for _, value, _ in found), default=0.0) or 1.0
    lines = (
        f"<tr><td style='{_CELL}'>{escape(name)}</td><td style='{_CELL}'>{_bar(value / longest)} {value:.3f}</td>"
        f"<td style='{_CELL};opacity:.7'>{escape(note)}</td></tr>"
        for name, value, note in found
    )
    return f"<table>{''.join(lines)}</table>"


def fields(values: Mapping[str, object]) -> str:
    """A table of names with their values."""
    lines = (
        f"<tr><td style='{_CELL}'>{escape(name)}</td><td style='{_CELL}'>{escape(_written(value))}</td></tr>"
        for name, value in values.items()
    )
    return f"<table>{''.join(lines)}</table>"


def card(title: str, share: float, notes: Iterable[str], text: str) -> str:
    """A title with a bar from 0 to 1, notes beside it, and a text below."""
    cut = text if len(text) <= MOST else text[:MOST] + "…"
    beside = " · ".join(escape(note) for note in notes if note)
    return (
        f"<div style='margin:.5em 0'><b>{escape(title)}</b> {_bar(share)} <span style='opacity:.7'>{beside}</span>"
        f"<div style='white-space:pre-wrap;max-width:60em'>{escape(cut)}</div></div>"
    )


def heading(text: str) -> str:
    """A line in bold."""
    return f"<div><b>{escape(text)}</b></div>"


def _bar(share: float) -> str:
    return f"<span style='{_BAR};width:{min(1.0, max(0.0, share)) * _WIDTH:.2f}em'></span>"


def _written(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"

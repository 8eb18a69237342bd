"""Attempts to lose or falsify data, in any amount: small ones run with the tests, large ones by ``make torture``.

Each module has a ``run`` that tries something so many times and returns a :class:`Tally`.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Tally:
    """How often something was tried, and each time that it went wrong, in words that let one try it again."""

    tried: int = 0
    failures: list[str] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)

    def note(self, what: str) -> None:
        """Count an outcome that is worth knowing."""
        self.notes[what] = self.notes.get(what, 0) + 1

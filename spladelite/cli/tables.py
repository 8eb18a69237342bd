"""Plain-text tables for the command line."""

from __future__ import annotations

import re
import shutil
import unicodedata
from collections.abc import Container, Iterator, Mapping, Sequence

import click

# What a document holds must not move the cursor or recolour the terminal.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_MARK = re.compile("\ue000(.*?)\ue001", re.DOTALL)
_LEAD = 40  # characters that a snippet shows before its first match


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Container[int] = ()) -> None:
    """Print rows under a header; the last column is cut at the edge of the terminal.

    A stretch between U+E000 and U+E001 is printed bold and red, as grep does. Columns in ``right`` are aligned to
    the right.
    """
    if not rows:
        return
    table = [[_line(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(_plain(cell)) for cell in column) for column in zip(*table, strict=True)]
    room = max(20, shutil.get_terminal_size((120, 24)).columns - sum(widths[:-1]) - 2 * (len(widths) - 1))
    for number, row in enumerate(table):
        cells = []
        for column, cell in enumerate(row):
            if column == len(row) - 1:
                cells.append(_cut(cell, room))
            else:
                space = " " * (widths[column] - len(_plain(cell)))
                cells.append(space + cell if column in right else cell + space)
        line = _bold("  ".join(cells)).rstrip()
        click.echo(click.style(line, bold=True) if number == 0 else line)


def excerpt(marked: str, lines: int = 4) -> str:
    """A highlighted passage from shortly before its first match, in lines of the terminal, indented by three."""
    room = max(20, min(100, shutil.get_terminal_size((80, 24)).columns - 5))
    wrapped = [""]
    for word in _line(snippet(marked)).split(" "):
        for piece in _pieces(word, room):
            if wrapped[-1] and _width(wrapped[-1]) + 1 + _width(piece) > room:
                wrapped.append("")
            wrapped[-1] += (" " if wrapped[-1] else "") + piece
    if len(wrapped) > lines:
        wrapped[lines - 1] += "…"
    return "\n".join(f"   {line}" for line in wrapped[:lines])


def _pieces(word: str, room: int) -> Iterator[str]:
    """A word, divided where it is wider than a line: scripts without spaces, long addresses."""
    piece = ""
    for character in word:
        if _width(piece) + _width(character) > room:
            yield piece
            piece = ""
        piece += character
    yield piece


def _width(cell: str) -> int:
    """Columns of a terminal; marks of highlighting take none."""
    plain = _plain(cell)
    if plain.isascii():
        return len(plain)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in plain)


def print_card(head: Sequence[str], text: str) -> None:
    """Print a line in bold, under it the text with its marked stretches in bold and red, and a blank line."""
    click.echo(click.style("  ".join(map(_line, head)), bold=True))
    click.echo(_bold(_CONTROL.sub(lambda found: "\n" if found[0] in "\r\f" else "\ufffd", text)).strip("\n") + "\n")


def print_fields(fields: Mapping[str, object]) -> None:
    """Print names with their values, one a line."""
    width = max(map(len, fields))
    for name, value in fields.items():
        text = f"{value:,}" if isinstance(value, int) else f"{value:.3f}" if isinstance(value, float) else str(value)
        click.echo(f"{name:<{width}}  {_CONTROL.sub(chr(0xFFFD), text)}")


def shown(text: str) -> str:
    """One line without control characters."""
    return _line(text)


def beginning(text: str, width: int) -> str:
    """One line of at most so many characters."""
    return _cut(" ".join(text[: 4 * width].split()), width)


def snippet(marked: str) -> str:
    """The part of a highlighted passage that begins shortly before its first match."""
    text = " ".join(marked.split())
    first = text.find("\ue000")
    if first <= _LEAD:
        return text
    start = text.rfind(" ", 0, first - _LEAD)
    return text if start < 0 else "… " + text[start + 1 :]


def _bold(marked: str) -> str:
    return _plain(_MARK.sub(lambda match: click.style(match[1], bold=True, fg="red"), marked))


def _line(cell: str) -> str:
    return _CONTROL.sub("\ufffd", " ".join(cell.split()))


def _plain(cell: str) -> str:
    return cell.replace("\ue000", "").replace("\ue001", "")


def _cut(cell: str, width: int) -> str:
    if len(_plain(cell)) <= width:
        return cell
    seen = 0
    for position, character in enumerate(cell):
        seen += character not in "\ue000\ue001"
        if seen == width:
            cut = cell[:position]
            return cut + "…" + ("\ue001" if cut.count("\ue000") > cut.count("\ue001") else "")
    return cell

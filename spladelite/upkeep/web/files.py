"""The data files of a web export: named by their content, split where they are long, removed when they are old."""

from __future__ import annotations

import gzip
import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spladelite.renaming import rename

PART_BYTES = 20_000_000
"""Where a file is split: GitHub refuses files from 100 MB, Cloudflare Pages from 25 MB, jsDelivr from 20 MB."""

Parts = list[list[Any]]  # name and size of each part


@dataclass(slots=True)
class DataFile:
    """One logical file, written as parts of at most ``PART_BYTES``.

    Attributes:
        size: bytes so far.
        parts: those that are written.
    """

    folder: Path
    name: str
    size: int = 0
    parts: Parts = field(default_factory=list)
    _pending: bytearray = field(default_factory=bytearray)

    def append(self, content: bytes) -> int:
        """Add bytes; returns where they begin."""
        start = self.size
        self.size += len(content)
        self._pending += content
        while len(self._pending) > PART_BYTES:
            self._write(PART_BYTES)
        return start

    def close(self) -> Parts:
        """Write the rest."""
        if self._pending or not self.parts:
            self._write(len(self._pending))
        return self.parts

    def _write(self, count: int) -> None:
        content = bytes(self._pending[:count])
        del self._pending[:count]
        name = f"{self.name}-{hashlib.sha256(content).hexdigest()[:16]}.bin"
        write(self.folder / name, content)
        self.parts.append([name, len(content)])


class DataFiles(dict[str, DataFile]):
    """Logical files by name; one that is asked for is made."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def __missing__(self, name: str) -> DataFile:
        self[name] = DataFile(self._folder, name)
        return self[name]

    def written(self) -> set[str]:
        """The names of all parts."""
        return {name for file in self.values() for name, _ in file.parts}


def zipped(content: bytes, level: int = 9) -> bytes:
    """gzip, without a time: the same content has the same name."""
    return gzip.compress(content, level, mtime=0)


def write(path: Path, content: bytes) -> None:
    """Write a file so that it is complete or not there."""
    temporary = path.with_name(path.name + ".part")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        rename(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def remove(folder: Path, names: set[str]) -> None:
    """Remove files, as far as possible."""
    for name in names:
        with suppress(OSError):
            (folder / name).unlink()

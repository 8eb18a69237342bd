"""Which files there are to read, and in which format each is."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from spladelite.errors import InvalidInput

_CODE = """
    .bash .c .cc .cfg .clj .cpp .cs .dart .el .ex .exs .go .h .hh .hpp .hs .ini .java .jl .js .jsx .kt .kts .lua .m
    .ml .mjs .php .pl .pm .proto .ps1 .py .pyi .r .rb .rs .scala .sh .sql .swift .tex .toml .ts .tsx .yaml .yml .zig
"""
FORMAT_OF_SUFFIX = {
    **dict.fromkeys([".txt", ".md", ".markdown", ".rst", ".text", *_CODE.split()], "text"),
    **dict.fromkeys([".html", ".htm", ".xhtml"], "html"),
    **dict.fromkeys([".jsonl", ".ndjson"], "jsonl"),
    ".json": "json",
    ".csv": "csv",
    ".pdf": "pdf",
    ".docx": "docx",
    ".pptx": "pptx",
    ".epub": "epub",
    ".eml": "eml",
    ".ipynb": "ipynb",
}
ROWS = frozenset(["lines", "jsonl", "json", "csv"])  # one document a row; of the other formats a file is one
FORMATS = ("text", "lines", "jsonl", "json", "csv", "html", "pdf", "docx", "pptx", "epub", "eml", "ipynb")


@dataclass(frozen=True, slots=True)
class File:
    """A file to read.

    Attributes:
        path: to open it.
        folder: absolute path of the folder that was given, or of the one in which a file lies that was named itself.
        name: its path inside of ``folder``, with ``/``. Both :func:`readable`: they become metadata, and ids.
        format: one of ``FORMATS``.
        packed: whether it is compressed with gzip.
        size: in bytes.
        modified: nanoseconds since 1970.
    """

    path: str
    folder: str
    name: str
    format: str
    packed: bool
    size: int
    modified: int


@dataclass(frozen=True, slots=True)
class Choice:
    """Which files of a folder are read: shell patterns for the name or the path inside of the folder."""

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()

    def allows(self, name: str) -> bool:
        """Whether a path inside of a folder is among the chosen."""
        last = PurePosixPath(name).name

        def among(patterns: Sequence[str]) -> bool:
            return any(fnmatchcase(name, pattern) or fnmatchcase(last, pattern) for pattern in patterns)

        return (not self.include or among(self.include)) and not among(self.exclude)


def find_files(
    paths: Iterable[str], format: str | None = None, choice: Choice = Choice()
) -> tuple[list[File], Counter[str]]:
    """The files of folders, and files that are named one by one; and how many were passed over, by their suffix.

    Folders are read recursively, in the order of names; hidden names and symbolic links to folders are passed over.

    Args:
        paths: files and folders.
        format: of the files that are named one by one; None goes by their names.
        choice: which files of the folders.

    Raises:
        InvalidInput: a file that is named has a suffix that is not read.
        OSError: a path does not exist.
    """
    files: list[File] = []
    unread: Counter[str] = Counter()
    for path in paths:
        if os.path.isdir(path):
            _find_in_folder(path, choice, files, unread)
            continue
        chosen, packed = format_of(path)
        if format is None and chosen is None:
            raise InvalidInput(
                f"{path}: a file of this kind is not read; say --format if it is one of {', '.join(FORMATS)}"
            )
        folder, name = os.path.split(os.path.abspath(path))
        files.append(_file(path, folder, name, format or str(chosen), packed))
    return files, unread


def _find_in_folder(folder: str, choice: Choice, files: list[File], unread: Counter[str]) -> None:
    root = os.path.abspath(folder)
    for parent, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for last in sorted(names):
            path = os.path.join(parent, last)
            name = Path(path).relative_to(folder).as_posix()
            if last.startswith(".") or not os.path.isfile(path) or not choice.allows(name):
                continue
            format, packed = format_of(last)
            if format is None:
                unread[Path(last).suffix.lower() or "no suffix"] += 1
            else:
                files.append(_file(path, root, name, format, packed))


def _file(path: str, folder: str, name: str, format: str, packed: bool) -> File:
    facts = os.stat(path)
    return File(path, readable(folder), readable(name), format, packed, facts.st_size, facts.st_mtime_ns)


def readable(name: str) -> str:
    """A file's name as text: bytes that are no UTF-8 become escapes such as ``\\xff``."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _raise(error: OSError) -> None:
    raise error


def format_of(path: str) -> tuple[str | None, bool]:
    """The format that a file's name says, None if it is not read; and whether it is packed: ``notes.txt.gz``."""
    name = Path(path).name.lower()
    packed = name.endswith(".gz")
    return FORMAT_OF_SUFFIX.get(Path(name.removesuffix(".gz")).suffix), packed

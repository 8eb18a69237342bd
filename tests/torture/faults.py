"""One I/O error, or a full disk, at every single file operation: our exception, nothing stored, and it works again."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

from spladelite import SpladeLite
from spladelite.errors import SpladeLiteError
from torture import Tally
from torture.words import WordModel

MODEL = WordModel()


class Fault:
    """Counts operations, and fails one of them."""

    def __init__(self) -> None:
        self.at = 0  # the operation that fails; 0: none
        self.count = 0
        self.error: type[Exception] = apsw.IOError
        self.failed = ""

    def arm(self, at: int, error: type[Exception]) -> None:
        self.at, self.error, self.count, self.failed = at, error, 0, ""

    def step(self, what: str) -> None:
        if not self.at:
            return
        self.count += 1
        if self.count == self.at:
            self.failed = what
            raise self.error(f"injected into {what}")


class FaultyFile(apsw.VFSFile):
    """A file on a disk that fails when it is told to."""

    def __init__(self, fault: Fault, name: Any, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._fault = fault

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        self._fault.step("read")
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._fault.step("write")
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._fault.step("truncate")
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._fault.step("sync")
        super().xSync(flags)


class FaultyVFS(apsw.VFS):
    """A file system that fails when it is told to."""

    def __init__(self, fault: Fault) -> None:
        super().__init__("faulty", "unix", makedefault=True)
        self._fault = fault

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        self._fault.step("open")
        return FaultyFile(self._fault, name, flags)

    def xDelete(self, name: str, sync: bool) -> None:  # noqa: N802
        self._fault.step("delete")
        super().xDelete(name, sync)


Contents = dict[str, str]
Call = Callable[[SpladeLite, Path], object]

CALLS: dict[str, Call] = {
    "add": lambda db, _: db.add([f"new {i} w{i}" for i in range(9)], ids=[f"n{i}" for i in range(9)]),
    "upsert": lambda db, _: db.upsert(["changed w9", "fresh w8"], ids=["d3", "n0"]),
    "delete": lambda db, _: db.delete([f"d{i}" for i in range(0, 30, 2)]),
    "optimize": lambda db, _: db.optimize(),
    "export": lambda db, path: db.export(path.with_name("export.db"), overwrite=True),
    "backup": lambda db, path: db.backup(path.with_name("backup.db"), overwrite=True),
    "check": lambda db, _: db.check(),
    "search": lambda db, _: db.search("w1 w2 w3"),
    "close": lambda db, _: db.close(),
}


def build(path: Path) -> None:
    with SpladeLite(path, MODEL, tail_size=4, segment_size=16) as db:
        db.add([f"document {i} w{i % 20} w{i % 7}" for i in range(30)], ids=[f"d{i}" for i in range(30)])


def contents(db: SpladeLite) -> Contents:
    found = {}
    for id in db:
        document = db.get(id)
        assert document is not None
        found[id] = document.text
    return found


def try_point(folder: Path, base: Path, name: str, at: int, error: type[Exception], fault: Fault) -> str | None:
    """Fail operation ``at`` of a call. Returns what went wrong, "" for nothing, None if it has fewer operations."""
    for leftover in folder.iterdir():
        leftover.unlink()
    path = folder / "kb.db"
    shutil.copy(base, path)
    call = CALLS[name]
    db = SpladeLite(path, MODEL)
    before = contents(db)
    fault.arm(at, error)
    raised: BaseException | None = None
    try:
        call(db, path)
    except SpladeLiteError as exception:
        raised = exception
    except Exception as exception:  # noqa: BLE001 - whatever it is, it is a failure
        return f"foreign exception {exception!r}"
    failed = fault.failed
    fault.arm(0, error)
    if not failed:
        db.close()
        return None
    if name != "close":
        after = contents(db)
        if raised is not None and after != before:
            return f"{raised!r} in {failed}, but something was stored"
        call(db, path)  # the disk works again, and so does the handle
    db.close()
    with SpladeLite(path, MODEL) as again:
        if findings := again.check():
            return f"after an error in {failed}: {findings[:2]}"
        if name not in ("add", "upsert", "delete") and contents(again) != before:
            return "the contents changed"
    for copy in ("export.db", "backup.db"):
        if (folder / copy).exists():
            with SpladeLite(folder / copy, MODEL, read_only=True) as opened:
                if opened.check() or contents(opened) != before:
                    return f"{copy} is incomplete"
    left = [entry.name for entry in folder.iterdir() if entry.name not in ("kb.db", "export.db", "backup.db")]
    return f"left behind: {left}" if left else ""


def run(folder: Path, most: int, seed: int) -> Tally:
    """Each operation of each call fails once with each error, unless ``most`` (a step between points) is smaller."""
    del seed
    tally = Tally()
    sys.unraisablehook = lambda _: None  # apsw shows what a VFS raises; it is what we raised
    base = folder / "base.db"
    build(base)
    work = folder / "work"
    work.mkdir()
    fault = Fault()
    vfs = FaultyVFS(fault)
    points = [(name, error) for name in CALLS for error in (apsw.IOError, apsw.FullError)]
    try:
        for name, error in points:
            at = 1
            while tally.tried < most:
                try:
                    wrong = try_point(work, base, name, at, error, fault)
                except Exception as exception:  # noqa: BLE001 - whatever it is, it is a failure
                    wrong = f"afterwards: {exception!r}"
                fault.arm(0, error)
                if wrong is None:
                    break
                tally.tried += 1
                tally.note(f"{name} {fault.failed or ''}".strip())
                if wrong:
                    tally.failures.append(f"{name}, operation {at}, {error.__name__}: {wrong}")
                at += 1
    finally:
        vfs.unregister()
    return tally

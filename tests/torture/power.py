"""Power cuts: whatever a disk has kept of the writes since the last sync, what was acknowledged is there.

A VFS between SQLite and the file system records every operation. Afterwards, for any moment, disks are built that kept
all that was synced and any selection of the 512-byte sectors, truncations, new names and deletions that were not. Each
is opened and compared with what had been acknowledged. As a control, the same is done with syncs that do nothing: that
must lose data and damage files, or the simulator would prove nothing.
"""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import apsw

from spladelite import SpladeLite
from spladelite.errors import SpladeLiteError
from torture import Tally, kill

SECTOR = 512
STEPS = 60
IMAGES_A_RECORDING = 1000


@dataclass
class Disk:
    """What is on the disk for certain, and what may be."""

    certain: bytearray = field(default_factory=bytearray)
    waiting: list[tuple[int, bytes | None]] = field(default_factory=list)  # (offset, data), or (size, None): truncate

    def sync(self) -> None:
        for offset, data in self.waiting:
            apply(self.certain, offset, data)
        self.waiting.clear()

    def image(self, source: random.Random) -> bytes:
        """The contents after a cut: each unsynced sector is there or not, in any combination."""
        content = bytearray(self.certain)
        likely = source.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        for offset, data in self.waiting:
            if data is None:
                if source.random() < likely:
                    apply(content, offset, None)
                continue
            at = 0
            while at < len(data):
                end = min(len(data), at + SECTOR - (offset + at) % SECTOR)
                if source.random() < likely:
                    apply(content, offset + at, data[at:end])
                at = end
        return bytes(content)


def apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
        return
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


class RecordingFile(apsw.VFSFile):
    """A file whose writes are recorded."""

    def __init__(self, log: list[tuple[Any, ...]], base: str, name: Any, flags: list[int], new: bool) -> None:
        super().__init__(base, name, flags)
        self._log = log
        self._name = Path(name.filename() if isinstance(name, apsw.URIFilename) else name).name
        self._names_too = new and not flags[0] & apsw.SQLITE_OPEN_MAIN_DB  # SQLite syncs the folder of a new log
        if new:
            log.append(("create", self._name))

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        super().xWrite(data, offset)
        self._log.append(("write", self._name, offset, bytes(data)))

    def xTruncate(self, size: int) -> None:  # noqa: N802
        super().xTruncate(size)
        self._log.append(("write", self._name, size, None))

    def xSync(self, flags: int) -> None:  # noqa: N802
        super().xSync(flags)
        self._log.append(("sync", self._name, self._names_too))
        self._names_too = False


class RecordingVFS(apsw.VFS):
    """The file system, recorded."""

    def __init__(self, log: list[tuple[Any, ...]]) -> None:
        super().__init__("recording", "unix", makedefault=True)
        self._log = log

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        kept = apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL
        if name is None or not flags[0] & kept:
            return apsw.VFSFile("unix", name, flags)
        path = Path(name.filename() if isinstance(name, apsw.URIFilename) else name)
        return RecordingFile(self._log, "unix", name, flags, not path.exists())

    def xDelete(self, name: str, sync: bool) -> None:  # noqa: N802
        super().xDelete(name, sync)
        self._log.append(("delete", Path(name).name, sync))


def record(path: Path, seed: int, durability: str, network: bool) -> list[tuple[Any, ...]]:
    """Work on a database for a while; returns every file operation, and between them what the worker said."""
    log: list[tuple[Any, ...]] = []
    vfs = RecordingVFS(log)
    source = random.Random(seed)
    try:
        with patch("spladelite.file.connection.on_network", lambda _: network):
            worker = kill.Worker(path, {}, lambda line: log.append(("say", line)), seed)
            db = open_database(path, durability)
            log.append(("say", "!"))
            for _ in range(STEPS):
                operation = source.choice(("add", "add", "upsert", "delete", "optimize", "close"))
                if operation == "close":
                    db.close()
                    db = open_database(path, durability)
                else:
                    getattr(worker, operation)(db)
            db.close()
    finally:
        vfs.unregister()
    return log


def open_database(path: Path, durability: str) -> SpladeLite:
    return SpladeLite(path, kill.MODEL, tail_size=4, segment_size=16, durability=durability)  # type: ignore[arg-type]


class Machine:
    """The disks at one moment of a recording."""

    def __init__(self, lying: bool) -> None:
        self.lying = lying
        self.names: dict[str, Disk] = {}  # as programs see them
        self.certain_names: dict[str, Disk] = {}
        self.waiting_names: list[tuple[str, Disk | None]] = []
        self.states: list[dict[str, int]] = [{}]  # acknowledged, the latest last
        self.under_way: dict[str, int] | None = None

    def step(self, operation: tuple[Any, ...]) -> None:
        kind, name, *rest = operation
        if kind == "create":
            self.names[name] = Disk()
            self.waiting_names.append((name, self.names[name]))
        elif kind == "write":
            self.names[name].waiting.append((rest[0], rest[1]))
        elif kind == "sync" and not self.lying:
            self.names[name].sync()
            if rest[0]:
                self.sync_names()
        elif kind == "delete":
            self.names.pop(name, None)
            self.waiting_names.append((name, None))
            if rest[0] and not self.lying:
                self.sync_names()
        elif kind == "say":
            found = list(kill.possible(self.states[-1], [name]))
            if name == "!" and self.under_way is not None:
                self.states.append(self.under_way)
                self.under_way = None
            elif len(found) > 1:
                self.under_way = found[1]

    def sync_names(self) -> None:
        for name, disk in self.waiting_names:
            self.rename(self.certain_names, name, disk)
        self.waiting_names.clear()

    @staticmethod
    def rename(names: dict[str, Disk], name: str, disk: Disk | None) -> None:
        if disk is None:
            names.pop(name, None)
        else:
            names[name] = disk

    def write_image(self, folder: Path, source: random.Random) -> None:
        names = dict(self.certain_names)
        for name, disk in self.waiting_names[: source.randint(0, len(self.waiting_names))]:
            self.rename(names, name, disk)
        for name, disk in names.items():
            (folder / name).write_bytes(disk.image(source))

    def allowed(self, all_states: bool) -> list[dict[str, int]]:
        states = self.states if all_states else self.states[-1:]
        return states + ([self.under_way] if self.under_way is not None else [])


def outcome(folder: Path, allowed: list[dict[str, int]]) -> str:
    """``"right"``, ``"lost"`` or ``"corrupt"``, and why."""
    try:
        kill.verify(folder / "kb.db", allowed)
    except AssertionError as error:
        return f"lost: {error}" if "are stored" in str(error) else f"corrupt: {error}"
    except SpladeLiteError as error:
        return f"corrupt: {error!r}"
    return "right"


def images(folder: Path, count: int, seed: int, durability: str, network: bool, lying: bool) -> Tally:
    """So many power cuts of one kind."""
    tally = Tally()
    source = random.Random(seed)
    place = Path("/dev/shm") if Path("/dev/shm").is_dir() else folder
    image = place / f"spladelite-power-{seed}-{folder.name}"
    while tally.tried < count:
        work = folder / f"{durability}-{network}-{lying}-{tally.tried}"
        work.mkdir()
        log = record(work / "kb.db", seed + tally.tried, durability, network)
        machine = Machine(lying)
        moments = [i for i, operation in enumerate(log) if operation[0] != "say"]
        wanted = min(count - tally.tried, IMAGES_A_RECORDING)
        cuts = [source.choice(moments) for _ in range(wanted)]
        for i, operation in enumerate(log):
            machine.step(operation)
            for _ in range(cuts.count(i)):
                shutil.rmtree(image, ignore_errors=True)
                image.mkdir()
                machine.write_image(image, source)
                found = outcome(image, machine.allowed(durability == "fast"))
                tally.tried += 1
                tally.note(found.split(":")[0])
                if found != "right":
                    tally.failures.append(f"seed {seed}, {durability}, operation {i} {operation[:3]!r:.60}: {found}")
        shutil.rmtree(work)
    shutil.rmtree(image, ignore_errors=True)
    return tally


def run(folder: Path, count: int, seed: int) -> Tally:
    """Power cuts with a write-ahead log (half of them), a rollback journal, durability="fast"; then the control."""
    total = Tally()
    for durability, network, share in (("full", False, 0.5), ("full", True, 0.3), ("fast", False, 0.2)):
        tally = images(folder, int(count * share), seed, durability, network, lying=False)
        total.tried += tally.tried
        total.failures += tally.failures
        name = "journal" if network else durability
        total.notes |= {f"{name} {what}": number for what, number in tally.notes.items()}
    control = images(folder, max(count // 20, 40), seed, "full", False, lying=True)
    total.notes |= {f"control {what}": number for what, number in control.notes.items()}
    if len(control.failures) <= control.tried // 2:
        total.failures.append(f"the control lost or damaged only {len(control.failures)} of {control.tried}")
    return total

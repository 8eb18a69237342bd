"""kill -9 in the middle of everything: what was acknowledged is there, the rest is there whole or not at all."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from raw_sql import connections_of

from spladelite import SpladeLite
from spladelite.file import schema
from spladelite.file.migrations import migrations
from torture import Tally
from torture.words import WordModel

MODEL = WordModel()
PATIENCE = 20.0  # seconds that a child may take before its first acknowledgement

# What a child says on its pipe: what it is about to do, then that it is done.
Say = Callable[[str], None]


def text_of(id: str, version: int) -> str:
    """A text of several passages for some ids, so that half a document would show."""
    number = int(id) * 31 + version
    words = 4 + 12 * (number % 3 == 0)
    return f"{id} {version}: " + " ".join(f"w{(number * 7 + i * i) % 64}" for i in range(words))


def open_database(path: Path) -> SpladeLite:
    return SpladeLite(path, MODEL, tail_size=4, segment_size=16)


class Worker:
    """What a child does until it is killed. ``state`` is what it found: {id: version}."""

    def __init__(self, path: Path, state: dict[str, int], say: Say, seed: int) -> None:
        self.path, self.state, self.say = path, state, say
        self.random = random.Random(seed)
        self.next_id = max([int(id) for id in state], default=0) + 1

    def announced(self, change: dict[str, int | None], do: Callable[[], object]) -> None:
        self.say("? " + " ".join(f"{id}={'' if version is None else version}" for id, version in change.items()))
        do()
        self.say("!")
        for id, version in change.items():
            if version is None:
                self.state.pop(id, None)
            else:
                self.state[id] = version

    def new(self, count: int) -> dict[str, int | None]:
        self.next_id += count
        return {str(self.next_id - count + i): 0 for i in range(count)}

    def put(self, db: SpladeLite, change: dict[str, int | None]) -> None:
        texts = [text_of(id, version or 0) for id, version in change.items()]
        self.announced(change, lambda: db.upsert(texts, ids=list(change)))

    def add(self, db: SpladeLite) -> None:
        self.put(db, self.new(self.random.choice((1, 1, 1, 9))))

    def upsert(self, db: SpladeLite) -> None:
        ids = self.random.sample(sorted(self.state), min(3, len(self.state)))
        self.put(db, {**{id: self.state[id] + 1 for id in ids}, **self.new(1)})

    def delete(self, db: SpladeLite) -> None:
        ids = self.random.sample(sorted(self.state), min(2, len(self.state)))
        if ids:
            self.announced(dict.fromkeys(ids), lambda: db.delete(ids))
        else:
            self.add(db)

    def optimize(self, db: SpladeLite) -> None:
        self.add(db)
        db.optimize()

    def export(self, db: SpladeLite) -> None:
        self.add(db)
        db.export(self.path.with_name("export.db"), overwrite=True)
        db.backup(self.path.with_name("backup.db"), overwrite=True)

    def close(self, db: SpladeLite) -> None:
        db.close()
        with open_database(self.path) as again:
            self.add(again)

    def repair(self, db: SpladeLite) -> None:
        self.add(db)
        with connections_of(db).write() as connection:
            connection.execute("DELETE FROM posting WHERE segment_id = (SELECT max(segment_id) FROM segment)")
        db.check(repair=True)

    def migrate(self, db: SpladeLite) -> None:
        self.add(db)


OPERATIONS = ("add", "upsert", "delete", "optimize", "export", "close", "migrate", "repair")


def work(path: Path, operation: str, state: dict[str, int], pipe: int, seed: int) -> None:
    """In the child, for ever."""

    def say(line: str) -> None:
        os.write(pipe, f"{line}\n".encode())

    worker = Worker(path, state, say, seed)
    while True:
        if operation == "migrate":
            use_formats([*migrations(), *MORE_FORMATS])
            worker.say("!")
        db = open_database(path)
        worker.say("!")
        while not connections_of(db).closed:
            getattr(worker, operation)(db)


MORE_FORMATS = [f"CREATE TABLE extra{n} (a); INSERT INTO extra{n} SELECT text FROM document" for n in range(2)]


def use_formats(steps: Sequence[str]) -> None:
    """Pretend that this release has other formats."""
    vars(schema)["migrations"] = lambda: tuple(steps)
    schema._expected_schema.cache_clear()


def killed(path: Path, operation: str, state: dict[str, int], source: random.Random) -> list[dict[str, int]]:
    """Start a child, kill it, and return the states that the file may now have: before and after what was under way."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            work(path, operation, dict(state), writing, source.randrange(1 << 30))
        except BaseException as error:  # noqa: BLE001 - a child never returns
            os.write(writing, f"error {error!r}\n".encode())
        finally:
            os._exit(1)
    os.close(writing)
    with open(reading, "rb") as pipe:
        lines = [pipe.readline()]  # it works
        time.sleep(source.random() * source.choice((0.005, 0.03, 0.1)))
        os.kill(child, signal.SIGKILL)
        lines += pipe.readlines()
    os.waitpid(child, 0)
    return list(possible(state, [line.decode().strip() for line in lines]))


def possible(state: dict[str, int], lines: list[str]) -> Iterator[dict[str, int]]:
    under_way: dict[str, int] | None = None
    for line in lines:
        if line.startswith("error"):
            raise AssertionError(line)
        if line.startswith("?"):
            under_way = dict(state)
            for item in line.split()[1:]:
                id, version = item.split("=")
                if version:
                    under_way[id] = int(version)
                else:
                    under_way.pop(id, None)
        elif line == "!" and under_way is not None:
            state, under_way = under_way, None
    yield state
    if under_way is not None:
        yield under_way


def verify(path: Path, allowed: list[dict[str, int]], damaged: bool = False) -> dict[str, int]:
    """The state that the file is in; AssertionError if it is none of the allowed ones, or damaged without reason."""
    with open_database(path) as db:
        if damaged:
            db.check(repair=True)
        findings = db.check()
        assert not findings, findings[:3]
        stored = {}
        for id in db:
            document = db.get(id)
            assert document is not None, f"document {id} is listed but not there"
            version = int(document.text.split()[1].rstrip(":"))
            assert document.text == text_of(id, version), f"document {id} is half there: {document.text!r}"
            stored[id] = version
        assert stored in allowed, f"{len(stored)} documents are stored, {[len(state) for state in allowed]} expected"
    for name in ("export.db", "backup.db"):
        if path.with_name(name).exists():
            with SpladeLite(path.with_name(name), MODEL, read_only=True) as copy:
                assert copy.check() == [], f"{name} is damaged"
    return stored


def run(folder: Path, kills: int, seed: int) -> Tally:
    """So many kills, in turn during each operation; a new database every 80."""
    tally = Tally()
    source = random.Random(seed)
    path, state = folder / "kb.db", dict[str, int]()
    for number in range(kills):
        operation = OPERATIONS[number % len(OPERATIONS)]
        if number % 80 == 0 or len(state) > 300:
            path = folder / str(number) / "kb.db"
            path.parent.mkdir()
            state = {}
        if operation == "migrate":  # in a copy: the format stays newer
            place = path.parent / f"migrate{number}"
            place.mkdir()
            with open_database(path) as db:
                db.export(place / "kb.db")
        else:
            place = path.parent
        try:
            allowed = killed(place / "kb.db", operation, state, source)
            if operation == "migrate":
                use_formats([*migrations(), *MORE_FORMATS])
            found = verify(place / "kb.db", allowed, operation == "repair")
            state = state if operation == "migrate" else found
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a failure
            tally.failures.append(f"seed {seed}, kill {number} during {operation}: {error!r}")
            state = {}
            path = folder / f"after-failure-{number}" / "kb.db"
            path.parent.mkdir()
        finally:
            use_formats(migrations())
        tally.tried += 1
        tally.note(operation)
    return tally

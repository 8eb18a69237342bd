"""Shared by all tests: the bundled model, databases that need no model, and the test collections."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import five_texts
import hypothesis
import pytest
import remotes
import small_file

from spladelite import SpladeLite
from spladelite.transfer.remote import Remote

# How long an example takes is a property of the machine and of what else it does.
hypothesis.settings.register_profile("any-machine", deadline=None)
hypothesis.settings.load_profile("any-machine")

# A shell starts `make test &` with SIGINT ignored, and so would be what the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "kb.db")


@pytest.fixture
def db(path: str) -> Iterator[SpladeLite]:
    with SpladeLite(path) as database:
        yield database


@pytest.fixture
def filled(db: SpladeLite) -> SpladeLite:
    db.add(five_texts.TEXTS, ids=five_texts.IDS, metadata=five_texts.METADATA)
    return db


@pytest.fixture
def small(path: str) -> Iterator[SpladeLite]:
    """A database whose segments are so small that 20 passages are sealed, merged and skipped."""
    with SpladeLite(path, tail_size=4, segment_size=16) as database:
        yield database


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A closed database of two documents."""
    path = tmp_path / "kb.db"
    with small_file.open_database(path) as database:
        database.add(["w1 w2", "w2 w3"], ids=["a", "b"])
    return path


@pytest.fixture
def unclosed(tmp_path: Path, file: Path) -> Path:
    """What a killed process leaves: a file in WAL format, and its log."""
    folder = tmp_path / "unclosed"
    folder.mkdir()
    with small_file.open_database(file) as database:
        database.add("w3 w4", ids="c")
        for name in ("kb.db", "kb.db-wal"):
            small_file.copy_outside(file.parent / name, folder / name)
    return folder / "kb.db"


@pytest.fixture(scope="session")
def collections() -> Path:
    """The folder of test collections in BEIR layout; tests that need it are skipped where it is not."""
    folder = Path(os.environ.get("SPLADELITE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(
            "needs test collections, which are other people's texts and so no part of the repository; there are none in"
            f" {folder}: set SPLADELITE_DATA to a folder of BEIR folders to run this"
        )
    return folder


@pytest.fixture(scope="session")
def running() -> Iterator[remotes.Servers]:
    started = remotes.Servers()
    yield started
    started.close()


@pytest.fixture(params=remotes.ENGINES)
def remote(request: pytest.FixtureRequest, running: remotes.Servers) -> Iterator[Remote]:
    """An empty collection in each engine."""
    with remotes.open_remote(request.param, running) as collection:
        yield collection

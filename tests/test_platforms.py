"""What other systems do, simulated here: files that are in use, network drives, narrow terminals, ignored signals."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from spladelite import SpladeLite
from spladelite.errors import InvalidInput
from spladelite.file import network
from spladelite.renaming import rename

posix = pytest.mark.skipif(sys.platform == "win32", reason="paths and signals of POSIX")


# --- files that others have open -------------------------------------------------------------------------------------


def test_what_a_virus_scanner_looks_at_is_waited_for(tmp_path: Path) -> None:
    real, refusals = os.replace, [PermissionError(13, "Access is denied")] * 3

    def replace(source: str, target: str) -> None:
        if refusals:
            raise refusals.pop()
        real(source, target)

    (tmp_path / "new").write_text("text")
    with patch("spladelite.renaming._PATIENCE", 5.0), patch("os.replace", replace):
        rename(tmp_path / "new", tmp_path / "kb.db")
    assert (tmp_path / "kb.db").read_text() == "text"


def test_what_stays_open_is_named(tmp_path: Path) -> None:
    with (
        patch("spladelite.renaming._PATIENCE", 0.1),
        patch("os.replace", side_effect=PermissionError(13, "Access is denied")),
        pytest.raises(InvalidInput, match=r"kb\.db cannot be replaced .* open in another program"),
    ):
        rename(tmp_path / "new", tmp_path / "kb.db")


def test_one_module_renames() -> None:
    package = Path(__file__).parents[1] / "spladelite"
    renaming = ("os.replace(", "os.rename(", "path.rename(", "shutil.move(")
    found = {path.name for path in package.rglob("*.py") if any(name in path.read_text("utf-8") for name in renaming)}
    assert found == {"renaming.py"}


# --- network drives --------------------------------------------------------------------------------------------------


class Statfs:
    """macOS's function: fills its struct."""

    def __init__(self, flags: int, status: int = 0) -> None:
        self.flags, self.status = flags, status

    def __call__(self, _: bytes, buffer: Any) -> int:
        buffer[64:68] = self.flags.to_bytes(4, sys.byteorder)
        return self.status


@pytest.mark.parametrize("name", ["statfs", "statfs$INODE64"])
def test_macos_says_what_is_local(name: str) -> None:
    for flags, status, expected in ((0x04009000, 0, False), (0x04008018, 0, True), (0, -1, False)):
        library = SimpleNamespace(**{name: Statfs(flags, status)})
        with patch("sys.platform", "darwin"), patch("ctypes.CDLL", lambda _, library=library: library):
            assert network.on_network("/Volumes/share/kb.db") == expected


@pytest.mark.parametrize(
    ("folder", "kind", "expected"),
    [("C:\\data", 3, False), ("Z:\\data", 4, True), ("\\\\server\\share\\data", 1, True)],
)
def test_windows_says_which_drives_are_remote(
    folder: str, kind: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ntpath

    roots = []

    def drive_type(root: str) -> int:
        roots.append(root)
        return kind

    windll = SimpleNamespace(kernel32=SimpleNamespace(GetDriveTypeW=drive_type))
    monkeypatch.setattr(ctypes, "windll", windll, raising=False)
    monkeypatch.setattr("spladelite.file.network.os.path", ntpath)
    assert network._windows(folder) == expected
    assert set(roots) <= {"C:\\", "Z:\\"}


def test_where_the_system_does_not_tell_it_is_no_network(tmp_path: Path) -> None:
    nothing = SimpleNamespace()
    for system in ("win32", "darwin", "freebsd14", "linux"):
        with (
            patch("sys.platform", system),
            patch("ctypes.CDLL", lambda _: nothing),
            patch("builtins.open", side_effect=FileNotFoundError),
        ):
            assert not network.on_network(str(tmp_path / "kb.db"))


@posix
def test_a_path_that_begins_with_two_slashes_opens_in_every_mode(path: str) -> None:
    with SpladeLite(f"/{path}") as db:
        db.add("a cat sleeps on the windowsill", ids="a")
    for read_only, immutable in ((False, False), (True, False), (True, True)):
        with SpladeLite(f"/{path}", read_only=read_only, immutable=immutable) as db:
            assert [hit.id for hit in db.search("cat")] == ["a"]


# --- what cannot work is said at once ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("platform", "message"),
    [
        ("import sys; sys.maxsize = 2**31 - 1", "SpladeLite needs a 64-bit Python"),
        ("import apsw; del apsw.carray", "a SQLite without carray .* pip install --force-reinstall apsw"),
    ],
)
def test_a_python_or_sqlite_that_cannot_do_it_is_named(platform: str, message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{platform}; from spladelite import SpladeLite"], capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert re.search(f"^ImportError: .*{message}", last), done.stderr


# --- signals ---------------------------------------------------------------------------------------------------------


@posix
def test_tests_that_interrupt_also_do_where_interrupts_are_ignored() -> None:
    """``make test &``"""
    tests = Path(__file__).parent
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "ctrl_c",
    ]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        child = subprocess.Popen(
            [*command, "test_interruption.py"],
            cwd=tests,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with child:
        try:
            printed, _ = child.communicate(timeout=300)
        finally:
            child.kill()
    assert child.returncode == 0, printed


# --- nothing but the file --------------------------------------------------------------------------------------------

# Ends the process at its first socket, also one of native code: a filter of system calls (seccomp, BPF).
ALONE = """
import ctypes, os, platform, struct, sys

def no_sockets():
    number = {"x86_64": 41, "aarch64": 198}[platform.machine()]
    steps = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x80000000), (0x06, 0, 0, 0x7FFF0000)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, ctypes.create_string_buffer(program), 0, 0) == 0, os.strerror(ctypes.get_errno())

no_sockets()
if sys.argv[1] == "control":
    import socket
    socket.socket()
from spladelite import SpladeLite
with SpladeLite("kb.db") as db:
    db.add(["a cat sleeps on the windowsill", "bread cools for an hour"], ids=["a", "b"])
    assert db.search("kitten", k=1)[0].id == "a"
    db.optimize()
    assert db.check() == []
with SpladeLite("kb.db", read_only=True) as db:
    assert db.search("loaf", k=1)[0].id == "b"
"""


@pytest.mark.skipif(sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"), reason="seccomp")
def test_import_add_and_search_open_no_socket_and_write_nothing_elsewhere(tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("work", "home", "temporary")}
    for folder in folders.values():
        folder.mkdir()
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    environment = {
        **kept, "HOME": str(folders["home"]), "TMPDIR": str(folders["temporary"]), "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip

    def run(what: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", ALONE, what], cwd=folders["work"], env=environment, capture_output=True, text=True,
            timeout=120,
        )  # fmt: skip

    assert run("control").returncode == -signal.SIGSYS
    done = run("everything")
    assert done.returncode == 0, done.stderr
    assert {name: os.listdir(folder) for name, folder in folders.items()} == {
        "work": ["kb.db"], "home": [], "temporary": [],
    }  # fmt: skip

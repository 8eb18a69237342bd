"""The desktop example in a real window, on a virtual screen."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

tk = pytest.importorskip("tkinter", reason="needs a Python with Tk")
XVFB = shutil.which("Xvfb")
EXAMPLES = Path(__file__).parents[1] / "examples"

NOTES = {
    "travel/lisbon.md": "# Lisbon\nTake the tram up the hill. The custard tarts are best when they are warm.",
    "bread.md": "Let the loaf cool for an hour before you cut it.",
    "accident.txt": "A car crashed into a tree. The insurance wants photographs.",
    "blank.md": " \n",
}


@pytest.fixture(scope="module")
def screen() -> Iterator[str]:
    if XVFB is None:
        pytest.skip("needs a virtual screen: Debian's package xvfb")
    reading, writing = os.pipe()
    server = subprocess.Popen(
        [XVFB, "-displayfd", str(writing), "-screen", "0", "900x700x24", "-nolisten", "tcp"],
        pass_fds=[writing],
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    with os.fdopen(reading) as display:
        number = display.readline().strip()
    yield f":{number}"
    server.terminate()
    server.wait(10)


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("desktop_notes")


def test_notes_are_searched_as_you_type(screen: str, example: ModuleType, tmp_path: Path) -> None:
    for name, text in NOTES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    root = tk.Tk(screenName=screen)
    window = example.Window(root, tmp_path)

    def until(holds: Callable[[], bool]) -> None:
        end = time.monotonic() + 30
        while not holds():
            assert time.monotonic() < end, (window.status.get(), window.page.get("1.0", "end"))
            root.update()
            time.sleep(0.01)

    until(lambda: window.status.get().startswith("3 notes in"))
    for end in range(1, 1 + len(question := "automobile accident")):
        window.question.set(question[:end])
        root.update()
    until(lambda: window.page.get("1.0", "2.0") == "accident\n")
    shown = window.page.get("1.0", "end")
    assert "A car crashed into a tree." in shown
    assert "crash" in shown.split("found by")[1].splitlines()[0]
    marked = window.page.tag_nextrange("marked", "1.0")
    assert window.page.get(*marked) == "car"
    window.question.set("")
    until(lambda: window.page.get("1.0", "end").strip() == "")
    window.close()

    # The next start finds what has changed.
    (tmp_path / "accident.txt").unlink()
    root = tk.Tk(screenName=screen)
    window = example.Window(root, tmp_path)
    until(lambda: window.status.get().startswith("2 notes in"))
    window.close()

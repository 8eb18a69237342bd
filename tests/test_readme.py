"""The README's Python is run, and what it prints is compared with what the README says it prints."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def assert_alike(printed: str, written: str) -> None:
    """Equal, but for the last digits of a score: processors round floats differently."""
    number = re.compile(r" *\d+\.\d+")
    assert number.sub("#", printed) == number.sub("#", written)
    assert [float(x) for x in number.findall(printed)] == pytest.approx(
        [float(x) for x in number.findall(written)], abs=0.05
    )


def test_the_readme_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    compared = 0
    for (language, code), following in zip(BLOCKS, [*BLOCKS[1:], ("", "")], strict=True):
        if language != "python":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "README.md", "exec"), names)
        if following[0] == "text":
            assert_alike(printed.getvalue(), following[1])
            compared += 1
    assert compared >= 5
    names["db"].close()  # type: ignore[attr-defined]


def test_the_readme_links_to_files_that_exist() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (Path(__file__).parents[1] / target).exists(), target

"""The Python of the README and of docs/ is run, and what it prints is compared with what the pages say it prints."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
ELSEWHERE = {"scale"}  # needs a server, which tests/test_move.py has
NEEDS = {  # the framework that a page's code imports
    "langchain": "langchain_core",
    "haystack": "haystack",
    "llamaindex": "llama_index",
    "mcp": "mcp",
    "datasette": "datasette",
}


def assert_alike(printed: str, written: str) -> None:
    """Equal, but for the last digits of a score: processors round floats differently."""
    number = re.compile(r" *\d+\.\d+")
    assert number.sub("#", printed) == number.sub("#", written)
    assert [float(x) for x in number.findall(printed)] == pytest.approx(
        [float(x) for x in number.findall(written)], abs=0.05
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_does_what_it_says(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page.stem in ELSEWHERE:
        pytest.skip("tests/test_move.py runs this page")
    if page.stem in NEEDS:
        pytest.importorskip(NEEDS[page.stem])
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {"__name__": page.stem}
    compared = 0
    for (language, code), following in zip(blocks, [*blocks, ("", "")][1:], strict=True):
        if language != "python":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, page.name, "exec"), names)
        if following[0] == "text":
            assert_alike(printed.getvalue(), following[1])
            compared += 1
    if page.name == "README.md":
        assert compared >= 4
        names["db"].close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_links_to_files_that_exist(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target

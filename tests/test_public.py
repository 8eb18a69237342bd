"""The public surface: which names there are, and that each of them says what it is."""

from __future__ import annotations

import inspect
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import spladelite
from spladelite import errors

CLASSES = {
    "Added", "Document", "Encoder", "DenseEncoder", "Explanation", "Feedback", "FileProblem", "FilesReport", "Finding",
    "Hit", "PartMatch", "Passage", "Row", "SparseVectors", "SpladeLite", "Stats", "Term", "TermMatch", "Tokens",
    "WebExport",
}  # fmt: skip
ALIASES = {"Durability", "OnConflict", "Progress", "QueryInput", "Rerank", "Where", "WhereArgs"}


def exceptions() -> set[str]:
    return {
        name for name, value in vars(errors).items() if isinstance(value, type) and value.__module__ == errors.__name__
    }


def test_the_public_names_are_these() -> None:
    assert set(spladelite.__all__) == {*CLASSES, *ALIASES, *exceptions(), "connect", "load_encoder", "__version__"}
    assert set(spladelite.__all__) <= set(dir(spladelite))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = spladelite.nothing


def test_every_exception_is_in_the_drawn_tree() -> None:
    assert errors.__doc__ is not None
    drawn = {word for line in errors.__doc__.splitlines() for word in line.split() if word[:1].isupper()}
    assert exceptions() <= drawn


@pytest.mark.parametrize("name", sorted(set(spladelite.__all__) - ALIASES - {"__version__"}))
def test_every_public_name_is_documented(name: str) -> None:
    public = getattr(spladelite, name)
    assert inspect.getdoc(public), name
    if inspect.isclass(public):
        for attribute, value in inspect.getmembers(public):
            ours = str(getattr(value, "__module__", "")).startswith("spladelite") and callable(value)
            if not attribute.startswith("_") and (ours or isinstance(value, property)):
                assert inspect.getdoc(value), f"{name}.{attribute}"


def test_the_version_is_said_once() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))
    assert "version" in project["project"]["dynamic"]
    assert version("spladelite") == spladelite.__version__

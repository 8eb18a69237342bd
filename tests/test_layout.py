"""The floor plan: folders import downwards only, modules make no circle, one module opens database files."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "spladelite"

# From the roof down. A module imports from its own floor's folder, or from floors below.
FLOORS = [
    ["__main__"],
    ["cli"],
    ["training", "serve", "integrations", "transfer"],
    ["evaluation"],
    ["database"],
    ["upkeep"],
    ["session"],
    ["search"],
    ["documents"],
    ["arguments", "file_models"],
    ["index"],
    ["file", "encoders"],
    ["records", "renaming", "json_values", "progress", "processors", "models"],
    ["errors", "notebook"],
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def modules() -> dict[str, Path]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path) -> Iterator[str]:
    """Every module of the package that a file imports, also inside functions; not for types alone."""
    tree = ast.parse(path.read_text("utf-8"))
    for_types = {
        id(node)
        for guard in ast.walk(tree)
        if isinstance(guard, ast.If) and isinstance(guard.test, ast.Name) and guard.test.id == "TYPE_CHECKING"
        for node in ast.walk(guard)
    }
    known = modules()
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "spladelite":
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in known else str(node.module)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("spladelite."))


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_every_room_has_a_floor() -> None:
    assert {room(module) for module in modules()} - {""} <= FLOOR.keys()


def test_imports_go_down_only() -> None:
    upwards = []
    for module, path in modules().items():
        if not room(module):
            continue
        for imported in imports(path):
            above = room(imported) and FLOOR[room(imported)] < FLOOR[room(module)]
            beside = room(imported) != room(module) and FLOOR.get(room(imported)) == FLOOR[room(module)]
            facade = not room(imported) and FLOOR[room(module)] > FLOOR["database"]
            if above or facade or beside:
                upwards.append(f"{module} imports {imported}")
    assert upwards == []


def test_no_circle() -> None:
    graph = {
        module: {i for i in imports(path) if i != "spladelite"} for module, path in modules().items() if room(module)
    }
    while leaves := [module for module, needs in graph.items() if not needs & graph.keys()]:
        for leaf in leaves:
            del graph[leaf]
    assert graph == {}


def test_one_module_opens_database_files() -> None:
    opening = [module for module, path in modules().items() if "apsw.Connection(" in path.read_text("utf-8")]
    assert opening == ["spladelite.file.sqlite"]


@pytest.mark.parametrize("package", sorted(path.parent.name for path in PACKAGE.rglob("*/__init__.py")))
def test_a_folder_says_what_lives_there(package: str) -> None:
    (path,) = [path for path in PACKAGE.rglob("*/__init__.py") if path.parent.name == package]
    text = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    assert text
    assert len(text.splitlines()) <= 10


def test_torch_is_imported_when_it_is_used() -> None:
    for module, path in modules().items():
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
                heavy = {name.split(".")[0] for name in names} & {"torch", "transformers"}
                assert not heavy or module.startswith(("spladelite.encoders.torch", "spladelite.training")), module

"""Search the Python standard library by meaning.

Indexes the docstrings of the Python that runs this, thousands of real texts, into one SQLite file, and asks questions
whose words do not occur in the answers. Everything happens offline, without torch.

    python examples/stdlib_search.py ["your question" ...]
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import sysconfig
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from spladelite import SpladeLite

QUESTIONS = [
    "run something later",
    "measure how long my code takes",
    "average of a list of values",
    "send electronic mail",
    "run an external program",
    "shrink a file to save space",
]

# Tests and tools of the library's own development, and modules that act when they are imported.
SKIPPED = {
    "test",
    "tests",
    "idlelib",
    "lib2to3",
    "turtledemo",
    "ensurepip",
    "pydoc_data",
    "antigravity",
    "this",
    "site-packages",
}


def docstrings() -> Iterator[tuple[str, str]]:
    """(dotted name, docstring) of every public module, class and function of the standard library."""
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(library.rglob("*.py")):
        parts = path.relative_to(library).with_suffix("").parts
        if parts[0] in sys.stdlib_module_names and not SKIPPED & set(parts):
            module = ".".join(part for part in parts if part != "__init__")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # old escapes in old sources
                yield from of_node(module, ast.parse(path.read_bytes()))
    for module in sorted(sys.stdlib_module_names - SKIPPED):
        if not (library / f"{module}.py").exists() and not (library / module).exists() and not module.startswith("_"):
            try:
                yield from of_object(module, importlib.import_module(module))
            except ImportError:
                continue  # made for another operating system


def of_node(name: str, node: ast.AST) -> Iterator[tuple[str, str]]:
    """The docstrings in a source file, without running it."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        if text := ast.get_docstring(node):
            yield name, text
        for child in getattr(node, "body", []):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and child.name[0] != "_":
                yield from of_node(f"{name}.{child.name}", child)


def of_object(name: str, module: object) -> Iterator[tuple[str, str]]:
    """The docstrings of a module that is written in C."""
    if text := inspect.getdoc(module):
        yield name, text
    for attribute, value in vars(module).items():
        if attribute[0] != "_" and callable(value) and (text := inspect.getdoc(value)):
            yield f"{name}.{attribute}", text


class Clock:
    """Prints how long each step took."""

    def __init__(self) -> None:
        self.start = self.last = time.perf_counter()

    def step(self, what: str) -> None:
        now = time.perf_counter()
        took = now - self.last
        print(f"    [{f'{took:.1f} s' if took >= 1 else f'{took * 1000:.1f} ms'}] {what}\n")
        self.last = now


def first_line(text: str) -> str:
    """A text's first line, at most 80 characters of it."""
    line = text.strip().splitlines()[0]
    return line if len(line) <= 80 else line[:77] + "..."


def main() -> None:
    clock = Clock()
    found = {name: text for name, text in docstrings() if len(text.split()) >= 4}
    clock.step(f"read {len(found):,} docstrings of Python {sys.version.split()[0]}")

    with tempfile.TemporaryDirectory() as folder, SpladeLite(Path(folder) / "stdlib.db") as db:
        texts = [f"{name.rpartition('.')[2].replace('_', ' ')}: {text}" for name, text in found.items()]
        db.add(texts, ids=list(found), metadata=[{"module": name.split(".")[0]} for name in found])
        stats = db.stats()
        clock.step(
            f"indexed {stats.documents:,} documents as {stats.passages:,} passages into one file of "
            f"{stats.file_size / 1e6:.0f} MB ({stats.active_terms:.0f} terms a passage, {stats.kernel} kernel)"
        )

        questions = sys.argv[1:] or QUESTIONS
        for question in questions:
            hits = db.search(question, k=3)
            print(f"? {question}")
            for hit in hits:
                print(f"  {hit.score:6.2f}  {hit.id:<32} {first_line(found[hit.id])}")
            clock.step("searched")

        question = questions[0]
        print(f"What the model reads into the query {question!r} (+ marks terms that it added):")
        print(
            "  "
            + ", ".join(f"{'+' * t.expansion}{t.term} {t.weight:.2f}" for t in db.expand(question, side="query")[:16])
        )
        best = db.search(question, k=1)[0]
        print(f"\nThe strongest terms of {best.id}, + added by the model:")
        print(
            "  " + ", ".join(f"{'+' * t.expansion}{t.term} {t.weight:.2f}" for t in db.expand(best.passage.text)[:16])
        )
        clock.step("expanded")

        print("Why it is the first hit:")
        explanation = db.explain(question, best.id)
        print("\n".join(str(explanation).splitlines()[:11]))
        print(f"  ... {len(explanation.terms)} terms in all; their contributions sum to the score")
        clock.step("explained")

        print("Only in module threading, matching words marked:")
        for hit in db.search(question, k=2, where={"module": "threading"}):
            print(f"  {hit.score:6.2f}  {hit.id:<24} {first_line(db.highlight(hit))}")
        clock.step("filtered")
    print(f"Total: {time.perf_counter() - clock.start:.1f} s")


if __name__ == "__main__":
    main()

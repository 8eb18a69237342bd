"""General questions that come with the package: what a model must not forget while it is tuned to a collection.

They are searched together: pairs written for this purpose (``probe.tsv``: questions, claims and keywords about everyday
subjects, with a passage each that says it in other words), and first sentences of docstrings in Python's standard
library with what follows them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from spladelite.training.data import Validation

# Modules whose docstrings say much in words, from different fields. What an installation lacks is left out.
MODULES = (
    "argparse", "ast", "asyncio.queues", "base64", "bisect", "calendar", "codecs", "collections", "configparser", "csv",
    "datetime", "decimal", "difflib", "doctest", "email.message", "fnmatch", "fractions", "ftplib", "functools",
    "gettext", "glob", "gzip", "heapq", "html.parser", "http.client", "http.cookiejar", "imaplib", "inspect",
    "ipaddress", "json", "locale", "logging", "mailbox", "mimetypes", "multiprocessing.pool", "os", "pathlib", "pdb",
    "pickle", "platform", "plistlib", "pprint", "queue", "random", "sched", "shelve", "shlex", "shutil", "smtplib",
    "socket", "sqlite3.dump", "ssl", "statistics", "string", "subprocess", "tarfile", "tempfile", "textwrap",
    "threading", "timeit", "tokenize", "traceback", "turtle", "unittest.case", "unittest.mock", "urllib.parse",
    "urllib.request", "uuid", "warnings", "weakref", "webbrowser", "zipfile",
)  # fmt: skip
LEAST_WORDS = 12  # of an answer
MOST_DOCSTRINGS = 4  # of a module that ask


@cache
def general_questions() -> Validation:
    """About two hundred questions, each with the one text that answers it. The same every time on one Python."""
    lines = (files("spladelite.training") / "probe.tsv").read_text("utf-8").splitlines()
    pairs = [(query, answer) for query, _, answer in (line.partition("\t") for line in lines)]
    for module in MODULES:
        pairs += _docstring_pairs(module)
    pairs = list({answer: (query, answer) for query, answer in reversed(pairs)}.values())[::-1]  # each text once
    queries = {str(i): query for i, (query, _) in enumerate(pairs)}
    corpus = {str(i): answer for i, (_, answer) in enumerate(pairs)}
    return Validation(queries, corpus, {id: {id: 1} for id in queries})


def _docstring_pairs(module: str) -> list[tuple[str, str]]:
    pairs: dict[str, str] = {}
    for docstring in _docstrings(module):
        first, _, rest = docstring.partition("\n\n")
        if 4 <= len(first.split()) <= 20 and len(rest.split()) >= LEAST_WORDS:
            pairs.setdefault(" ".join(first.split()), rest)
    return list(pairs.items())[:MOST_DOCSTRINGS]


def _docstrings(module: str) -> Iterator[str]:
    """Of a module, its public classes and functions; none where there is no source file."""
    try:
        spec = find_spec(module)
    except ImportError:  # the parent package is missing
        return
    if spec is None or not spec.origin or not spec.origin.endswith(".py") or not Path(spec.origin).is_file():
        return
    for node in ast.walk(ast.parse(Path(spec.origin).read_bytes())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            public = isinstance(node, ast.Module) or not node.name.startswith("_")
            if public and (text := ast.get_docstring(node)):
                yield text

"""MkDocs hooks: pages that live beside the code are part of the site, and links between them lead to where they are.

The README is the first page. A link to a file that is no page of the site leads to the repository.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "project/architecture.md",
    "RELIABILITY.md": "project/reliability.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "benchmarks/README.md": "project/benchmarks.md",
    "benchmarks/LOG.md": "project/benchmarks-log.md",
    "benchmarks/training/README.md": "project/benchmarks-training.md",
    "migrations/README.md": "project/migrations.md",
    "spladelite/models/MODEL_CARD.md": "project/model-card.md",
}
PICTURES = (".png", ".svg")
LINK = re.compile(r"(\]\()(?!https?:|#|mailto:)([^)\s#]+)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the repository, and the pictures that they show, to those of docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text("utf-8")))
        for target in LINK.findall((ROOT / source).read_text("utf-8")):
            path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target[1]))
            if path.endswith(PICTURES) and not path.startswith("docs/") and files.get_file_from_path(path) is None:
                files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links between files of the repository into links between pages of the site."""
    shown_as = {page_path: source for source, page_path in PAGES.items()}
    source = shown_as.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def moved(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[2]))
        target = PAGES.get(path) or (
            path[5:] if path.startswith("docs/") else path if path.endswith(PICTURES) else None
        )
        if target is None or files.get_file_from_path(target) is None:
            kind = "tree" if (ROOT / path).is_dir() else "blob"
            return f"{match[1]}{config['repo_url']}/{kind}/main/{path}"
        return match[1] + posixpath.relpath(target, posixpath.dirname(page.file.src_uri) or ".")

    return LINK.sub(moved, markdown)

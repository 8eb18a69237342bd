"""The page and the reader's modules of a web export, copied from the package ``spladelite.web``."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path
from typing import Any

from spladelite.upkeep.web.files import write

PAGE = ("index.html", "page.js", "page.css", "worker.js")


def write_page(folder: Path, contents: dict[str, Any], earlier: dict[str, Any]) -> list[str]:
    """Copy them. What the user has changed since the last export stays.

    Args:
        folder: of the export.
        contents, earlier: of ``database.json``, the new one and that of the export that it replaces; the new one is
            told what was written.

    Returns:
        Notes of what was left as it is.
    """
    notes = []
    contents["page"] = {}
    known: dict[str, str] = earlier.get("page", {})
    package = resources.files("spladelite.web")
    sources = {f"spladelite/{entry.name}": entry for entry in package.joinpath("src").iterdir()}
    sources = {name: entry for name, entry in sources.items() if name.endswith(".js")}
    sources |= {name: package.joinpath("page").joinpath(name) for name in PAGE}
    for name, source in sorted(sources.items()):
        content = source.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        found = hashlib.sha256(path.read_bytes()).hexdigest() if name in PAGE and path.exists() else digest
        if found not in (digest, known.get(name)):
            notes.append(f"{name} was changed since it was exported and stays as it is")
            contents["page"][name] = known.get(name, digest)
            continue
        write(path, content)
        contents["page"][name] = digest
    return notes

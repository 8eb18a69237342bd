"""``spladelite.json``, the table of contents of an exported model folder.

::

    {"format": 1, "name": "splade-tiny", "precision": "int8", "terms": 30522, "window": 254,
     "document": {"file": "model.onnx", "pooling": "max", "activation": "log1p", "prompt": ""},
     "query":    {"file": "model.onnx", "pooling": "max", "activation": "log1p", "prompt": ""},
     "source": null, "max_active_terms": null,
     "files": {"model.onnx": {"bytes": ..., "sha256": ...}, "tokenizer.json": {...}}}

``source`` is the fingerprint of the checkpoint that a float32 export was made of. Its vectors are the checkpoint's
(the export checks that), so the export goes by that fingerprint and opens the databases that the checkpoint built.
``max_active_terms`` may be left out: a row keeps only its strongest so many terms.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from spladelite.encoders.settings import parse
from spladelite.errors import ModelError

FORMAT = 1
NAME = "spladelite.json"
POOLINGS = ("max", "sum")
ACTIVATIONS = ("log1p", "log1p_log1p", "none")


@dataclass(frozen=True, slots=True)
class Route:
    """How one side (documents or queries) is encoded.

    Attributes:
        file: an ONNX graph, or a safetensors file with one static ``weight`` a term.
        pooling: over the tokens, ``max`` (SPLADE v2 on) or ``sum`` (v1).
        activation: what is left to do to the graph's output, see :func:`spladelite.encoders.rows.activate`.
        prompt: what is put before each text.
    """

    file: str
    pooling: str = "max"
    activation: str = "log1p"
    prompt: str = ""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Size and hash of one file of the folder."""

    bytes: int
    sha256: str

    @staticmethod
    def of(path: Path) -> FileEntry:
        """Measure a file."""
        with path.open("rb") as file:
            return FileEntry(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A checked ``spladelite.json`` and where it lies."""

    path: Path
    name: str
    precision: str
    terms: int
    window: int
    document: Route
    query: Route
    files: dict[str, FileEntry]
    source: str | None = None
    max_active_terms: int | None = None

    @property
    def fingerprint(self) -> str:
        """``source``, or SHA-256 over all that decides the vectors: files, window and routes, not the name."""
        if self.source is not None:
            return self.source
        content = self._content()
        del content["name"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def write(self) -> None:
        """Write ``spladelite.json``."""
        content = json.dumps({"format": FORMAT, **self._content()}, indent=1)
        (self.path / NAME).write_text(content + "\n", encoding="utf-8")

    def _content(self) -> dict[str, Any]:
        content = asdict(self)
        del content["path"]
        if self.max_active_terms is None:
            del content["max_active_terms"]
        return content

    @staticmethod
    def read(path: Path) -> ModelFolder:
        """Read and check a folder: every named file is there and has its size.

        Raises:
            ModelError: ``spladelite.json`` or a file it names is missing or wrong.
        """
        contents = path / NAME
        data = parse(contents, f"{path} is not an exported model folder")
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            found = data.get("format") if isinstance(data, dict) else data
            raise ModelError(f"{contents}: format {found!r:.80}; this version reads format {FORMAT}")
        unknown = sorted(
            data.keys() - {"format", *(field.name for field in fields(ModelFolder))} | data.keys() & {"path"}
        )
        if unknown:
            raise ModelError(
                f"{contents}: the settings {', '.join(unknown)!s:.200} are not known; a newer version wrote it"
            )
        try:
            files = {str(k): FileEntry(int(v["bytes"]), str(v["sha256"])) for k, v in data["files"].items()}
            folder = ModelFolder(
                path,
                str(data["name"]),
                str(data["precision"]),
                _positive(data["terms"]),
                _positive(data["window"]),
                _route(data["document"], files),
                _route(data["query"], files),
                files,
                None if data["source"] is None else str(data["source"]),
                None if data.get("max_active_terms") is None else _positive(data["max_active_terms"]),
            )
            if "tokenizer.json" not in files:
                raise ValueError("files must list tokenizer.json")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"{contents}: {type(error).__name__}: {error}") from error
        for name, entry in files.items():
            if Path(name).name != name:
                raise ModelError(f"{contents}: {name!r} is not a plain file name")
            try:
                size = (path / name).stat().st_size
            except OSError:
                raise ModelError(f"{path / name}: missing, but listed in {NAME}") from None
            if size != entry.bytes:
                raise ModelError(f"{path / name}: {size} bytes, {entry.bytes} expected; copy the folder again")
        return folder


def _positive(value: Any) -> int:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"a positive integer was expected, got {value!r}")
    return value


def _route(data: dict[str, Any], files: dict[str, FileEntry]) -> Route:
    route = Route(**data)
    if route.file not in files or route.pooling not in POOLINGS or route.activation not in ACTIVATIONS:
        raise ValueError(f"unknown file, pooling or activation in {data}")
    return route

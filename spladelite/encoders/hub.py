"""Models by their name on the Hugging Face hub: used from the cache, fetched only when the user names one."""

from __future__ import annotations

import os
import re
from pathlib import Path

from spladelite.errors import ModelError

# Never a pickle, never code.
PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.onnx"]
IGNORED = ["onnx/*", "openvino/*"]  # other programs' copies of the same weights
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def looks_like_name(model: str) -> bool:
    """Whether the text has the form ``owner/name`` of a hub model."""
    return _NAME.fullmatch(model) is not None


def fetch(name: str) -> Path:
    """The folder of a hub model: the cached one without any network call, else a download.

    ``HF_HUB_OFFLINE=1`` forbids the download, ``HF_HOME`` says where the cache is, ``HF_TOKEN`` opens gated models.

    Raises:
        ModelError: not cached and the network is forbidden or fails, or there is no such model.
    """
    try:
        from huggingface_hub import constants, snapshot_download
    except ImportError as error:
        raise ModelError(
            f"{name!r} is not a folder here, and hub models need the extra: pip install 'spladelite[torch]'"
        ) from error
    cached = _cached(name)
    if cached is not None:
        return cached
    if constants.is_offline_mode() or os.environ.get("HF_HUB_OFFLINE", "") in ("1", "true", "True", "yes", "on"):
        raise ModelError(f"{name!r} is neither a folder nor in the hub cache, and HF_HUB_OFFLINE forbids to fetch it")
    try:
        folder = Path(snapshot_download(name, allow_patterns=PATTERNS, ignore_patterns=IGNORED))
    except Exception as error:  # httpx, OSError and hub errors alike
        raise ModelError(f"{name!r} is not a folder, and the hub did not give it: {error}") from error
    if not _complete(folder):
        raise ModelError(f"the hub has neither safetensors nor ONNX of {name!r}; a pickle is never loaded")
    return folder


def cached_names() -> list[str]:
    """Names of the models in the hub's cache."""
    try:
        from huggingface_hub import constants
    except ImportError:
        return []
    folders = sorted(Path(constants.HF_HUB_CACHE).glob("models--*--*"))
    return [folder.name.removeprefix("models--").replace("--", "/", 1) for folder in folders]


def _cached(name: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, allow_patterns=PATTERNS, ignore_patterns=IGNORED, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    return folder if _complete(folder) else None


def _complete(folder: Path) -> bool:
    return any(folder.rglob("*.safetensors")) or any(folder.rglob("*.onnx"))

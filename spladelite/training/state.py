"""A run on disk: what it was asked to do, and where it stands, so that it can go on to the same result.

``FOLDER/run/`` holds ``run.json`` (settings and fingerprints), ``latest/`` (weights, optimiser, random state) and
``best/`` (a model folder). Each of the two is replaced as a whole; nothing is pickled.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spladelite.errors import InvalidInput, ModelError
from spladelite.training.config import TrainConfig
from spladelite.training.data import Example
from spladelite.training.measure import Measures

RUN = "run"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a run stands.

    Attributes:
        step: optimiser steps that are done.
        best_epoch: the best epoch so far, 0 if none counts yet; ``best`` its measures, ``start`` the start's.
        waited: epochs since.
    """

    step: int = 0
    best_epoch: int = 0
    best: Measures | None = None
    start: Measures | None = None
    waited: int = 0


def identify(examples: Sequence[Example], model: str, config: TrainConfig) -> dict[str, Any]:
    """What makes two runs the same run: the settings, the starting model and the training data."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(repr(dataclasses.astuple(example)).encode("utf-8", "surrogatepass"))
    return {"config": dataclasses.asdict(config), "model": model, "data": digest.hexdigest()}


def claim(folder: Path, run: dict[str, Any]) -> bool:
    """Prepare ``folder`` for a run; True if the same run was begun there and is not finished.

    Raises:
        InvalidInput: the folder holds something else.
    """
    contents = folder / RUN / "run.json"
    if contents.exists():
        known = json.loads(contents.read_text(encoding="utf-8"))
        if known == run:
            return (folder / RUN / "latest").exists()
        differing = [key for key in run if known.get(key) != run[key]]
        if "config" in differing:
            config = known.get("config") or {}
            differing = [
                f"{name}={config.get(name)}" for name in run["config"] if config.get(name) != run["config"][name]
            ]
        raise InvalidInput(
            f"{folder} holds an unfinished run that differs ({', '.join(differing)} there); repeat it as it was "
            "to go on with it, or name another folder"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidInput(f"{folder} exists and is not an empty folder; name a new one")
    contents.parent.mkdir(parents=True)
    contents.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    return False


def replace_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Have ``write`` fill a folder beside ``target``, then put it in its place."""
    fresh, old = target.with_name(target.name + ".new"), target.with_name(target.name + ".old")
    for left in (fresh, old):
        shutil.rmtree(left, ignore_errors=True)
    fresh.mkdir()
    write(fresh)
    if target.exists():
        os.replace(target, old)
    os.replace(fresh, target)
    shutil.rmtree(old, ignore_errors=True)


def save_state(folder: Path, trainee: Any, optimizer: Any, standing: Standing) -> None:
    """Write ``latest/``: weights, AdamW's moments, torch's random state, and the standing."""
    import torch
    from safetensors.torch import save_file

    tensors = {f"weight.{name}": tensor.detach() for name, tensor in _parameters(trainee)}
    for name, tensor in _parameters(trainee):
        for key, value in optimizer.state.get(tensor, {}).items():
            tensors[f"{key}.{name}"] = value.detach()
    tensors["random"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()

    def write(target: Path) -> None:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, target / "state.safetensors")
        (target / "standing.json").write_text(json.dumps(dataclasses.asdict(standing)), encoding="utf-8")

    replace_folder(folder / RUN / "latest", write)


def load_state(folder: Path, trainee: Any, optimizer: Any) -> Standing:
    """Undo :func:`save_state`.

    Raises:
        ModelError: the files are damaged or belong to another model.
    """
    import torch
    from safetensors.torch import load_file

    latest = folder / RUN / "latest"
    try:
        tensors = load_file(latest / "state.safetensors")
        saved = json.loads((latest / "standing.json").read_text(encoding="utf-8"))
        for name, tensor in _parameters(trainee):
            with torch.no_grad():
                tensor.copy_(tensors[f"weight.{name}"])
            moments = {key: tensors[f"{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")}
            optimizer.state[tensor] = {k: v if k == "step" else v.to(tensor.device) for k, v in moments.items()}
        torch.set_rng_state(tensors["random"])
        if "random.cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["random.cuda"])
        measured = {key: saved[key] and Measures(**saved[key]) for key in ("best", "start")}
        return Standing(**{**saved, **measured})
    except Exception as error:  # safetensors raises its own kinds; whatever it is, the run cannot go on from here
        raise ModelError(
            f"{latest}: not a state of this run: {type(error).__name__}: {error}; remove {folder}"
        ) from error


def _parameters(trainee: Any) -> list[tuple[str, Any]]:
    return list(trainee.named_parameters())

"""A run on disk: what it was asked to do, and where it stands, so that it can go on to the same result.

``FOLDER/run/`` holds ``run.json`` (settings and fingerprints), ``latest/`` (weights, optimiser, random state) and
``best/`` (a model folder). Each of the two is replaced as a whole; nothing is pickled. ``FOLDER/training.json`` is
written last: a folder that has it is finished.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spladelite.errors import InvalidInput, ModelError
from spladelite.renaming import rename
from spladelite.training.config import TrainConfig
from spladelite.training.data import TrainingData
from spladelite.training.measure import Measures

RUN = "run"
TRAINING = "training.json"


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


def identify(data: TrainingData, model: str, config: TrainConfig, origin: Mapping[str, Any]) -> dict[str, Any]:
    """What makes two runs the same run: the settings, the starting model, the data, and how the data came about."""
    held = data.validation
    return {
        "config": dataclasses.asdict(config),
        "model": model,
        "data": _digest(data.examples),
        "corpus": _digest(data.corpus),
        "validation": "" if held is None else _digest([held.queries, held.corpus, held.qrels]),
        "origin": dict(origin),
    }


def _digest(rows: Iterable[object]) -> str:
    """A hex digest of texts, examples, or whatever else says in its ``repr`` all that it is."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(repr(row).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def finished(folder: Path, run: Mapping[str, Any]) -> dict[str, Any] | None:
    """The facts of a finished run, of whose identity ``run`` may be a part; None if there is no finished run.

    Raises:
        InvalidInput: it holds that of another.
    """
    facts = _read(folder / TRAINING)
    if facts is None:
        return None
    differing = _differences(facts.get("run", {}), run)
    if differing:
        raise InvalidInput(
            f"{folder} holds a model that was trained otherwise ({', '.join(differing)} there); remove it, or name "
            "another folder"
        )
    return facts


def check_folder(folder: Path, run: Mapping[str, Any]) -> None:
    """Check that a run, of whose identity ``run`` may be a part, can begin or go on in ``folder``.

    Raises:
        InvalidInput: the folder holds something else.
    """
    known = _read(folder / RUN / "run.json")
    if known is None or (folder / TRAINING).exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InvalidInput(f"{folder} exists and is not an empty folder; name a new one")
        return
    if not _has_state(folder):  # it failed before there was anything to go on from, so nothing is lost
        return
    differing = _differences(known, run)
    if differing:
        raise InvalidInput(
            f"{folder} holds an unfinished run that differs ({', '.join(differing)} there); repeat it as it was "
            "to go on with it, or name another folder"
        )


def claim(folder: Path, run: Mapping[str, Any]) -> bool:
    """Prepare ``folder`` for a run; True if the same run was begun there and is not finished.

    Raises:
        InvalidInput: the folder holds something else.
    """
    check_folder(folder, run)
    for kept in (folder / RUN / "latest", folder / RUN / "best"):
        old = kept.with_name(kept.name + ".old")
        if old.exists() and not kept.exists():  # killed between the two renames of replace_folder
            rename(old, kept)
    if _has_state(folder):
        return True
    (folder / RUN).mkdir(parents=True, exist_ok=True)
    write_json(folder / RUN / "run.json", run)
    return False


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file, or leave it as it was."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    rename(fresh, path)


def _has_state(folder: Path) -> bool:
    return any((folder / RUN / name).exists() for name in ("latest", "latest.old"))


def _read(path: Path) -> dict[str, Any] | None:
    """The object in a file, None if there is no file."""
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidInput(f"{path}: damaged: {error}; remove its folder and begin again") from error
    if not isinstance(found, dict):
        raise InvalidInput(f"{path}: damaged: expected an object; remove its folder and begin again")
    return found


def _differences(known: Mapping[str, Any], run: Mapping[str, Any]) -> list[str]:
    """What differs, with the known values as far as they say anything to a person."""
    names: list[str] = []
    for key, value in run.items():
        there = known.get(key)
        if isinstance(value, dict) and isinstance(there, dict):
            of = [name for name in value if there.get(name) != value[name]]
            names += [name if len(str(there.get(name))) > 60 else f"{name}={there.get(name)}" for name in of]
        elif there != value:
            names.append(key)
    return names


def replace_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Have ``write`` fill a folder beside ``target``, then put it in its place."""
    fresh, old = target.with_name(target.name + ".new"), target.with_name(target.name + ".old")
    for left in (fresh, old):
        shutil.rmtree(left, ignore_errors=True)
    fresh.mkdir()
    write(fresh)
    if target.exists():
        rename(target, old)
    rename(fresh, target)
    shutil.rmtree(old, ignore_errors=True)


def random_state() -> dict[str, Any]:
    """torch's random state, by the names that :func:`save_state` gives it."""
    import torch

    states = {"random": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["random.cuda"] = torch.cuda.get_rng_state()
    return states


def save_state(folder: Path, trainee: Any, optimizer: Any, standing: Standing, random: dict[str, Any]) -> None:
    """Write ``latest/``: weights, AdamW's moments, torch's random state, and the standing."""
    from safetensors.torch import save_file

    tensors = {f"weight.{name}": tensor.detach() for name, tensor in _parameters(trainee)}
    for name, tensor in _parameters(trainee):
        for key, value in optimizer.state.get(tensor, {}).items():
            tensors[f"{key}.{name}"] = value.detach()
    tensors |= random

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
    from safetensors.torch import load

    latest = folder / RUN / "latest"
    try:
        # Not a file that stays mapped into memory: Windows could not rename its folder at the next save.
        tensors = load((latest / "state.safetensors").read_bytes())
        saved = json.loads((latest / "standing.json").read_text(encoding="utf-8"))
        for name, tensor in _parameters(trainee):
            with torch.no_grad():
                tensor.copy_(tensors[f"weight.{name}"])
            if f"step.{name}" in tensors:  # there are no moments before a parameter's first step
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

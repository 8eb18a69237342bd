"""What a run leaves behind: log, plots, model card, and the finished model folder."""

from __future__ import annotations

import csv
import dataclasses
import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from spladelite.encoders.export.export import export_model
from spladelite.encoders.torch import find_device
from spladelite.errors import ModelError
from spladelite.renaming import rename
from spladelite.training.config import TrainConfig
from spladelite.training.data import TrainingData
from spladelite.training.measure import Measures
from spladelite.training.start import Start
from spladelite.training.state import RUN, TRAINING, Standing, write_json

STEPS, EPOCHS = "log.csv", "validation.csv"


def needs(device: str | None) -> str:
    """The device to train on, once everything that a run needs at its end is known to be there.

    Raises:
        ModelError: a package of the extra is missing.
        InvalidInput: no such device.
    """
    for package in ("torch", "transformers", "safetensors", "onnx", "matplotlib", "ir_measures"):
        if find_spec(package) is None:
            raise ModelError(f"training needs the package {package}: pip install 'spladelite[torch]'")
    return find_device(device)


class Log:
    """``log.csv``, a line a step. A run that goes on drops the lines after the step that it goes on from."""

    def __init__(self, folder: Path, step: int) -> None:
        self._path = folder / STEPS
        self._known = _read(self._path)[:step]
        _write(self._path, self._known)

    def add(self, epoch: int, step: int, steps: int, row: Mapping[str, float]) -> str:
        """Append a step's figures; gives the line to show."""
        whole = {"epoch": epoch, "step": step, **{name: f"{value:.6g}" for name, value in row.items()}}
        _append(self._path, whole)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in row.items() if name not in _QUIET)
        return f"epoch {epoch} step {step}/{steps}  {shown}"

    @staticmethod
    def add_epoch(folder: Path, epoch: int, measures: Measures) -> None:
        """Add an epoch's measures to ``validation.csv``."""
        known = [row for row in _read(folder / EPOCHS) if int(row["epoch"]) < epoch]
        _write(folder / EPOCHS, [*known, {"epoch": epoch, **dataclasses.asdict(measures)}])


_QUIET = ("gradient", "lambda_share", "learning_rate")


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    fresh.touch()
    for row in rows:
        _append(fresh, row)
    rename(fresh, path)


def _append(path: Path, row: Mapping[str, Any]) -> None:
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        if file.tell() == 0:
            writer.writeheader()
        writer.writerow(row)


def plot(folder: Path) -> None:
    """Draw ``training.png`` from the two logs: losses, FLOPS, active terms, and the validation measure."""
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    steps, epochs = _read(folder / STEPS), _read(folder / EPOCHS)
    figure = Figure(figsize=(11, 7), layout="constrained")
    axes = figure.subplots(2, 2)
    losses = [name for name in ("contrastive", "margin_mse", "kl") if name in steps[0]]
    panels = (
        (axes[0, 0], losses, "loss"),
        (axes[0, 1], ["flops"], "expected FLOPS of a pair"),
        (axes[1, 0], ["terms_d", "terms_q"], "active terms"),
    )
    for axis, names, title in panels:
        for name in names:
            axis.plot([int(row["step"]) for row in steps], [float(row[name]) for row in steps], label=name, lw=0.8)
        axis.set(title=title, xlabel="step", ylim=(0, None))
        axis.legend()
    if epochs:
        axes[1, 1].plot([float(row["flops"]) for row in epochs], [float(row["ndcg"]) for row in epochs], "o-")
        for row in epochs:
            axes[1, 1].annotate(row["epoch"], (float(row["flops"]), float(row["ndcg"])))
    axes[1, 1].set_visible(bool(epochs))
    axes[1, 1].set(title="validation, a point an epoch", xlabel="expected FLOPS of a pair", ylabel="nDCG@10")
    figure.savefig(folder / "training.png", dpi=110)


def finish(target: Path, card: str, facts: Mapping[str, Any], precision: str) -> None:
    """Turn the best weights of a run into the model folder, with ``card`` as its MODEL_CARD.md.

    ``facts`` are written last, as training.json: until then the run can go on, and does all of this again.
    """
    best = target / RUN / "best"
    shutil.copytree(best, target, dirs_exist_ok=True)
    exported = target / RUN / "onnx" / target.resolve().name
    shutil.rmtree(exported, ignore_errors=True)
    export_model(target, exported, precision)
    for file in exported.iterdir():
        rename(file, target / file.name)
    plot(target)
    (target / "MODEL_CARD.md").write_text(card, "utf-8")
    write_json(target / TRAINING, facts)
    shutil.rmtree(target / RUN)


def training_facts(
    run: Mapping[str, Any], start: Start, data: TrainingData, standing: Standing, precision: str, source: str
) -> dict[str, Any]:
    """What the model is made of and measures, for programs; ``run`` tells it from other runs."""
    held = data.validation
    return {
        "run": dict(run),
        "start": start.name,
        "source": source,
        "examples": len(data.examples),
        "validation": None if held is None else {"queries": len(held.queries), "documents": len(held.corpus)},
        "before": standing.start and dataclasses.asdict(standing.start),
        "after": standing.best and dataclasses.asdict(standing.best),
        "epoch": standing.best_epoch,
        "steps": standing.step,
        "precision": precision,
    }


def _origin(origin: Mapping[str, Any]) -> list[str]:
    lines = []
    if origin.get("mine"):
        lines.append(f"{origin['mine']} negatives a query were mined with {origin['mine_with']}.")
    if origin.get("teacher"):
        lines.append(f"Teacher: {origin['teacher']}.")
    return lines


def model_card(
    target: Path,
    start: Start,
    config: TrainConfig,
    data: TrainingData,
    standing: Standing,
    precision: str,
    source: str,
    origin: Mapping[str, Any],
) -> str:
    """What the model is, was trained on and measures, in Markdown."""
    lines = [
        f"# {target.resolve().name}",
        "",
        f"Fine-tuned by SpladeLite from `{start.name}` (fingerprint `{start.fingerprint[:16]}`), whose licence goes on",
        "applying to these weights; so may that of the data.",
        "",
        f'Use: `SpladeLite("kb.db", model="{target.name}")`; `db.reencode("{target.name}")` moves a database to it.',
        f"The ONNX export ({precision}) needs no torch.",
        "",
        "## Data",
        "",
        f"{source or 'Given in memory'}: {len(data.examples):,} examples, "
        f"{len({example.query for example in data.examples}):,} queries, "
        f"{sum(len(example.negatives) for example in data.examples):,} negatives.",
        *(f"{note[0].upper()}{note[1:]}." for note in data.notes),
        *_origin(origin),
        "",
        "## Results",
        "",
    ]
    if standing.best is None or data.validation is None:
        lines.append("No validation queries were held out: the weights are those of the last epoch, unmeasured.")
    else:
        assert standing.start is not None
        lines += [
            f"On {len(data.validation.queries)} held-out queries over {len(data.validation.corpus):,} documents. The "
            f"weights are those of epoch {standing.best_epoch}, which were chosen by nDCG@10 on the same queries.",
            "",
            "| | before | after |",
            "|---|---|---|",
        ]
        names = {
            "ndcg": "nDCG@10", "mrr": "MRR@10", "recall": "Recall@1000", "flops": "FLOPS",
            "query_terms": "active terms a query", "document_terms": "active terms a passage",
        }  # fmt: skip
        for field, name in names.items():
            before, after = getattr(standing.start, field), getattr(standing.best, field)
            lines.append(f"| {name} | {before:.4f} | {after:.4f} |")
    lines += ["", "## Settings", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in dataclasses.asdict(config).items()]
    return "\n".join([*lines, ""])

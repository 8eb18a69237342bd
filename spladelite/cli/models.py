"""``spladelite models``: look at, convert and compare models."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from spladelite.encoders.base import Encoder
from spladelite.encoders.export.export import PRECISIONS
from spladelite.encoders.folder import POOLINGS

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def models() -> None:
    """Look at, convert and compare models."""


@models.command("list")
@_json
def list_models(as_json: bool) -> None:
    """The bundled model, those of installed packages, and those in the hub's cache.

    Example: spladelite models list
    """
    from spladelite.encoders.hub import cached_names
    from spladelite.encoders.registry import bundled_encoder, installed_models

    rows = [{"name": bundled_encoder().name, "where": "bundled"}]
    rows += [{"name": name, "where": "installed"} for name in installed_models()]
    rows += [{"name": name, "where": "hub cache"} for name in cached_names()]
    if as_json:
        click.echo(json.dumps(rows))
    else:
        for row in rows:
            click.echo(f"{row['name']}  ({row['where']})")


@models.command()
@click.argument("model", default="splade-tiny")
@_json
def info(model: str, as_json: bool) -> None:
    """Name, fingerprint, vocabulary and window of MODEL, a folder, an installed model's or a hub name.

    Example: spladelite models info ./my-model
    """
    encoder = _load(model)
    facts: dict[str, Any] = {
        "name": encoder.name,
        "fingerprint": encoder.fingerprint,
        "vocabulary": len(encoder.vocabulary),
        "window": encoder.window,
    }
    _print(facts, as_json)


@models.command()
@click.argument("model")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--queries", help="Another model for queries, a folder or a hub name.")
@click.option("--pooling", type=click.Choice(POOLINGS), help="For transformers checkpoints; max if left out.")
@click.option("--precision", type=click.Choice(PRECISIONS), default="float32", show_default=True)
@click.option(
    "--texts", type=click.File(encoding="utf-8"), help="One text a line to compare on; a few of ours if left out."
)
@_json
def export(
    model: str, folder: Path, queries: str | None, pooling: str | None, precision: str, texts: Any, as_json: bool
) -> None:
    """Convert MODEL, a checkpoint, to an ONNX FOLDER that needs no torch, and report how near it comes.

    Example: spladelite models export naver/splade-v3 ./splade-v3-onnx --precision int8
    """
    from spladelite.encoders.export.export import SAMPLE, export_model

    made = export_model((model, queries) if queries else model, folder, precision, _lines(texts) or SAMPLE, pooling)
    facts = {"folder": str(made.folder), "bytes": made.bytes}
    for side in ("document", "query"):
        facts |= {f"{side}_{key}": value for key, value in asdict(getattr(made, side)).items()}
    _print(facts, as_json)


@models.command("compare")
@click.argument("a")
@click.argument("b")
@click.argument("texts", type=click.File(encoding="utf-8"))
@click.option("--side", type=click.Choice(["document", "query"]), default="document", show_default=True)
@_json
def compare_models(a: str, b: str, texts: Any, side: str, as_json: bool) -> None:
    """How much the vectors of models A and B differ on TEXTS, a file with one text a line ("-": standard input).

    Example: spladelite models compare ./checkpoint ./onnx texts.txt
    """
    from spladelite.encoders.export.compare import compare

    first, second = _load(a), _load(b)
    _print(asdict(compare(first, second, _lines(texts), side)), as_json)


def _load(model: str) -> Encoder:
    from spladelite.encoders.registry import load_encoder

    return load_encoder(model)


def _lines(file: Any) -> list[str]:
    return [line.strip() for line in file if line.strip()] if file else []


def _print(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(facts))
        return
    width = max(len(key) for key in facts)
    for key, value in facts.items():
        shown = f"{value:.6g}" if isinstance(value, float) else value
        click.echo(f"{key.replace('_', ' '):{width}}  {shown}")

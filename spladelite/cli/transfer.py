"""The commands that copy a collection to another engine and compare two."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from spladelite.cli.common import as_json, model_option, print_json


@click.command()
@click.argument("source")
@click.argument("target")
@model_option
@as_json
def move(source: str, target: str, model: str | None, as_json: bool) -> None:
    """Copy a database to another engine, or back; SOURCE stays as it is.

    SOURCE and TARGET are paths or URLs: clickhouse://host/database, qdrant://host/collection,
    postgresql://host/database. opensearch:///folder and elasticsearch:///folder write files for a bulk import.

    BM25's words go along where the engine can have them (not in Qdrant); dense vectors do not.
    Documents that are there already are skipped, so a command that was interrupted may be repeated; until it is
    complete, the target cannot be searched.

    \b
    Examples:
      spladelite move kb.db qdrant://localhost:6333/kb
      spladelite move postgresql://me@localhost/kb kb.db
    """
    from spladelite.transfer.move import move as move_collection

    moved = move_collection(source, target, model)
    if as_json:
        print_json(asdict(moved))
    else:
        note = f"; not moved: {', '.join(moved.left)}" if moved.left else ""
        click.echo(f"{moved.documents} documents, {moved.new} of them new to the target{note}")


@click.command()
@click.argument("one")
@click.argument("other")
@click.option(
    "--queries", default=1000, show_default=True, help="How many queries are drawn from the documents of ONE."
)
@click.option("-k", default=10, show_default=True, help="Hits of each.")
@click.option("--seed", default=0, show_default=True, help="Of the choice of queries.")
@click.option(
    "--mode",
    type=click.Choice(["hybrid", "bm25", "splade"]),
    help="How both are asked; by default as `search` does where both can do it.",
)
@model_option
@as_json
def verify(
    one: str, other: str, queries: int, k: int, seed: int, mode: str | None, model: str | None, as_json: bool
) -> None:
    """Ask two collections the same questions and compare ids and scores. Exit status 1 if any list differs.

    ONE and OTHER are paths or URLs. The queries are pieces of ONE's documents.

    \b
    Example:
      spladelite verify kb.db qdrant://localhost:6333/kb --queries 1000
    """
    from spladelite.transfer.verify import verify as compare

    found = compare(one, other, queries, k, seed, model, mode)
    if as_json:
        print_json(asdict(found) | {"equal": found.equal})
    else:
        click.echo(
            f"{found.mode}: {found.differing} of {found.queries} top-{k} lists differ; scores differ by at most "
            f"{found.worst:.1e} of themselves; {found.contents} hits differ in text or metadata; "
            f"{found.documents[0]} and {found.documents[1]} documents"
        )
        for text, expected, got in found.examples:
            click.echo(f"  {text[:60]!r}: {', '.join(expected)} | {', '.join(got)}")
    if not found.equal:
        sys.exit(1)

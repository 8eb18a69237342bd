"""What the commands share: options, opening a database, printing JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from spladelite.documents.sources import number_or_text
from spladelite.errors import NotADatabase

if TYPE_CHECKING:
    from spladelite.database import SpladeLite

_Command = TypeVar("_Command", bound=Callable[..., Any])

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
database = click.argument("database", type=click.Path())
model_option = click.option(
    "--model", help="A model folder; by default the file's own, or the bundled one for a new file."
)
encoder_option = click.option(
    "--encoder", help="idf: weigh the query's own words by their rarity, without running the model."
)
mode_option = click.option(
    "--mode",
    default="splade",
    show_default=True,
    help="splade, bm25, dense, or hybrid for all that the file has, fused.",
)


quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print errors alone.")


def where_options(command: _Command) -> _Command:
    """``--where`` and ``--arg``."""
    where = click.option(
        "--where", help="Only documents that match: a JSON filter, or a SQL condition over doc_id, id, text, metadata."
    )
    arg = click.option("--arg", "args", multiple=True, help="The value of a '?' of a SQL --where; once for each.")
    return where(arg(command))


def open_database(
    path: str, model: str | None = None, dense: str | None = None, *, write: bool = False, create: bool = False
) -> SpladeLite:
    """The database for a command: read-only unless it writes; only ``create`` may make a new file."""
    from spladelite.database import SpladeLite  # here, so that --help need not load numpy and apsw

    if write and not create and not os.path.exists(path):
        raise NotADatabase(f"{path} does not exist; `spladelite add {path} ...` creates it")
    return SpladeLite(path, model=model, dense=dense, read_only=not write and path != ":memory:")


def where_arguments(where: str | None, args: tuple[str, ...]) -> dict[str, Any]:
    """``--where`` and ``--arg`` as keyword arguments of ``search`` and ``delete``."""
    if where is None or not where.lstrip().startswith("{"):
        return {"where": where, "where_args": [number_or_text(arg) for arg in args] if args else None}
    if args:
        raise click.UsageError("--arg is for a SQL --where; a JSON filter holds its values itself")
    try:
        return {"where": json.loads(where)}
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint="--where") from error


def json_object(text: str | None, name: str) -> dict[str, Any]:
    """The JSON object of an option; empty where it was not given."""
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint=name) from error
    if not isinstance(value, dict):
        raise click.BadParameter('give a JSON object, such as {"lang": "en"}', param_hint=name)
    return value


def print_size(name: str, size: int, path: str, as_json: bool) -> None:
    """The size of a file that was written, beside another size that ``name`` names."""
    now = os.path.getsize(path)
    if as_json:
        print_json({"path": path, "bytes": now, f"{name}_bytes": size})
    else:
        click.echo(f"{path}: {now:,} bytes ({name}: {size:,})")


def print_json(value: object) -> None:
    """What ``--json`` prints."""
    click.echo(dump(value))


def dump(value: object) -> str:
    """JSON; a BLOB becomes hexadecimal digits."""
    return json.dumps(value, ensure_ascii=False, default=lambda blob: blob.hex())

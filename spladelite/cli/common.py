"""What the commands share: options, opening a database, printing JSON."""

from __future__ import annotations

import codecs
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from spladelite.documents.sources import number_or_text
from spladelite.errors import InvalidInput, NotADatabase

if TYPE_CHECKING:
    from spladelite.database import SpladeLite

_Command = TypeVar("_Command", bound=Callable[..., Any])

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
database = click.argument("database", type=click.Path())
model_option = click.option(
    "--model", help="Where the database's model is, if its folder was moved; by default where the file says."
)
new_model_option = click.option(
    "--model", help="Of a new file: a model folder, or the name of a model on the hub; by default the bundled one."
)
encoder_option = click.option(
    "--encoder", help="idf: weigh the query's own words by their rarity, without running the model."
)
mode_option = click.option("--mode", help="splade, bm25, dense, or hybrid; by default all that the file has, fused.")
language_option = click.option(
    "--language", help="Whose stems and stop words BM25 uses, such as german; none for words as they are written."
)


quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print errors alone.")
verbose_option = click.option("-v", "--verbose", is_flag=True, help="Name every file that is stored, and say how long.")
metadata_option = click.option(
    "--metadata",
    multiple=True,
    metavar="KEY=VALUE",
    help="What the metadata of every document gets, or a JSON object of it; repeatable.",
)


def where_options(command: _Command) -> _Command:
    """``--where`` and ``--arg``."""
    where = click.option(
        "--where", help="Only documents that match: a JSON filter, or a SQL condition over doc_id, id, text, metadata."
    )
    arg = click.option("--arg", "args", multiple=True, help="The value of a '?' of a SQL --where; once for each.")
    return where(arg(command))


def open_database(
    path: str,
    model: str | None = None,
    dense: str | None = None,
    language: str | None = None,
    *,
    write: bool = False,
    create: bool = False,
) -> SpladeLite:
    """The database for a command: read-only unless it writes; only ``create`` may make a new file."""
    from spladelite.database import SpladeLite  # here, so that --help need not load numpy and apsw

    chosen: dict[str, Any] = {} if language is None else {"language": language_name(language)}
    if "://" in path:
        return _open_url(path, model, dense, write=write, **chosen)
    if write and not create and not os.path.exists(path):
        raise NotADatabase(f"{path} does not exist; `spladelite add {path} ...` creates it")
    return SpladeLite(path, model=model, dense=dense, read_only=not write and path != ":memory:", **chosen)


def language_name(language: str) -> str | None:
    """``--language`` as SpladeLite takes it."""
    return None if language == "none" else language


def _open_url(url: str, model: str | None, dense: str | None, *, write: bool, **chosen: Any) -> SpladeLite:
    """A collection in another engine. It has the methods of a file that make sense there, with the same arguments."""
    from spladelite.transfer.connect import connect

    if dense is not None:
        raise InvalidInput("--dense is for files")
    return cast("SpladeLite", connect(url, model, read_only=not write, **chosen))


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


def given_metadata(entries: Iterable[str]) -> dict[str, Any]:
    """``--metadata``: KEY=VALUE, in which a number is a number, or a JSON object."""
    metadata: dict[str, Any] = {}
    for entry in entries:
        if entry.lstrip().startswith("{"):
            try:
                metadata |= json.loads(entry)
            except (ValueError, RecursionError) as error:
                raise click.BadParameter(f"not JSON: {error}", param_hint="--metadata") from error
        else:
            name, equals, value = entry.partition("=")
            if not name or not equals:
                message = f'{entry!r} is neither KEY=VALUE nor a JSON object, such as {{"lang": "en"}}'
                raise click.BadParameter(message, param_hint="--metadata")
            metadata[name] = number_or_text(value)
    return metadata


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
    """JSON; a BLOB becomes hexadecimal digits, and what standard output's encoding may not have an escape."""
    encoding = codecs.lookup(getattr(sys.stdout, "encoding", None) or "utf-8").name
    return json.dumps(value, ensure_ascii=not encoding.startswith("utf"), default=lambda blob: blob.hex())


class WordsCommand(click.Command):
    """A command whose last words are one argument: without quotes, the message shows where they belong."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse too many arguments, and say how they were probably meant."""
        ctx.allow_extra_args = True
        rest = super().parse_args(ctx, args)
        if rest:
            names = [parameter.name for parameter in self.params if isinstance(parameter, click.Argument)]
            database, *given = [str(ctx.params[name]) for name in names if name is not None]
            words = [*given, *rest]
            end = [words.pop()] if names[-1] == "id" else []
            meant = f'{ctx.command_path} {shlex.quote(database)} "{" ".join(words)}" {" ".join(end)}'
            ctx.fail(f"several words need quotes: {meant.rstrip()}")
        return rest

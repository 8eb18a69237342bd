"""The command line: thin commands over :class:`~spladelite.database.SpladeLite`.

Every command takes the database first, prints a table or, with ``--json``, one JSON value, and ends with an exit status
that scripts can use (``EXIT_STATUS``). Errors are one line on standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from itertools import groupby, tee
from typing import TYPE_CHECKING, Any, TypeVar

import click

from spladelite.errors import Busy, DatabaseError, DocumentNotFound, InvalidInput, ModelError, NotADatabase
from spladelite.errors import SpladeLiteError as Error
from spladelite.sources import FORMATS, Columns, Source, number_or_text, read_sources, read_table
from spladelite.tables import print_fields, print_table, snippet

if TYPE_CHECKING:
    from spladelite import SpladeLite
    from spladelite.records import Hit

EXIT_STATUS = """\b
Exit status:
  0    done
  1    nothing found: no hit, no such document; or check found damage
  2    wrong usage, or input that cannot be used
  3    a database, model or file that is missing, damaged or cannot be read or written
  4    another process kept the database locked: try again
  130  Ctrl-C; what was committed stays, and the same command goes on from there
"""


class _Main(click.Group):
    """Turns exceptions into one line and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _fail(ctx, "interrupted; what was committed stays", 130)
        except BrokenPipeError:
            raise
        except OSError as error:
            name = f"{error.filename}: " if error.filename is not None else ""
            _fail(ctx, f"{name}{error.strerror or error}", 3)
        except Error as error:
            _fail(ctx, str(error), _status(error))


def _status(error: Error) -> int:
    if isinstance(error, Busy):
        return 4
    if isinstance(error, DatabaseError | ModelError):
        return 3
    return 1 if isinstance(error, DocumentNotFound) else 2


def _fail(ctx: click.Context, message: str, status: int) -> None:
    click.echo(f"Error: {' '.join(message.split())}", err=True)
    ctx.exit(status)


class _Lazy(click.Group):
    """A group that is imported when one of its commands is asked for, so that ``--help`` stays fast."""

    def __init__(self, name: str, place: str, help: str) -> None:
        super().__init__(name, help=help)
        self._place = place

    def _load(self) -> click.Group:
        module, _, attribute = self._place.partition(":")
        group = getattr(importlib.import_module(module), attribute)
        assert isinstance(group, click.Group)
        return group

    def list_commands(self, ctx: click.Context) -> list[str]:
        return self._load().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return self._load().get_command(ctx, cmd_name)


@click.group(cls=_Main, epilog=EXIT_STATUS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="spladelite")
def main() -> None:
    """Learned sparse search (SPLADE) in one SQLite file.

    \b
    Example:
      spladelite add kb.db notes/ && spladelite search kb.db "how do I shrink a file"
    """


main.add_command(_Lazy("models", "spladelite.encoders.cli:models", "Look at, convert and check models."))

_Command = TypeVar("_Command", bound=Callable[..., Any])

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
database = click.argument("database", type=click.Path())
model_option = click.option(
    "--model", help="A model folder; by default the file's own, or the bundled one for a new file."
)


def where_options(command: _Command) -> _Command:
    """``--where`` and ``--arg``."""
    where = click.option(
        "--where", help="Only documents that match: a JSON filter, or a SQL condition over doc_id, id, text, metadata."
    )
    arg = click.option("--arg", "args", multiple=True, help="The value of a '?' of a SQL --where; once for each.")
    return where(arg(command))


@main.command()
@database
@click.argument("paths", nargs=-1, metavar="[FILE | FOLDER | -]...")
@click.option(
    "--format", type=click.Choice(FORMATS), help="What the files are; by default their names say it, and - is lines."
)
@click.option("--table", help="PATH is a SQLite file: add the rows of this table or view.")
@click.option("--text-column", help="Column or key that holds the text (default: text).")
@click.option("--id-column", help="Column or key that holds the id (default: _id, id, or a table's primary key).")
@click.option("--replace", is_flag=True, help="Replace documents whose id exists with other content.")
@model_option
@as_json
def add(
    database: str,
    paths: tuple[str, ...],
    format: str | None,
    table: str | None,
    text_column: str | None,
    id_column: str | None,
    replace: bool,
    model: str | None,
    as_json: bool,
) -> None:
    """Add documents from files, folders, standard input, tables.

    The database is created if it does not exist.

    \b
    .txt .md   one document a file, its path in the folder is its id
    .jsonl     one a line: text, id or _id, title, metadata; other keys become metadata
    .csv       one a row, with the same columns
    -          standard input, one a line

    Documents that are there already are skipped, so a command that was interrupted may be repeated. Blank texts are
    left out and counted.

    \b
    Examples:
      spladelite add kb.db notes/ faq.jsonl
      spladelite add kb.db shop.db --table product --text-column description
      grep ERROR app.log | spladelite add kb.db -
    """
    if not paths:
        raise click.UsageError("say what to add: files, folders, or - for standard input")
    if table is not None and (len(paths) > 1 or format is not None):
        raise click.UsageError("--table takes one SQLite file and no --format")
    for path in paths:
        if path != "-":
            os.stat(path)
            if os.path.exists(database) and os.path.samefile(path, database):
                raise InvalidInput(f"{path} is the database itself; give other files to add")
    columns = Columns(text_column, id_column)
    found = read_sources(paths, format, columns) if table is None else read_table(paths[0], table, columns)
    blank = 0

    def written() -> Iterator[Source]:
        nonlocal blank
        for source in found:
            if source.text.strip():
                yield source
            else:
                blank += 1

    sources = written()
    first = next(sources, None)  # before the file is created: the input may be no input at all
    if first is None:
        raise InvalidInput(f"no document in {', '.join(paths)}{f' ({blank} blank)' if blank else ''}")
    with _open(database, model, write=True, create=True) as db:
        before = len(db)
        ids: list[str] = []
        for named, group in groupby(_chain(first, sources), key=lambda source: source.id is not None):
            texts, names, metadata = tee(group, 3)
            ids += (db.upsert if replace else db.add)(
                (source.text for source in texts),
                ids=(str(source.id) for source in names) if named else None,
                metadata=(source.metadata for source in metadata),
            )
        after = len(db)
    if as_json:
        _print_json({"ids": ids, "added": after - before, "blank": blank, "documents": after})
    else:
        note = f", {blank} blank left out" if blank else ""
        click.echo(f"{len(ids)} read, {after - before} new{note}; {database} has {after} documents")


def _chain(first: Source, rest: Iterable[Source]) -> Iterator[Source]:
    yield first
    yield from rest


@main.command()
@database
@click.argument("query")
@click.option("-k", default=10, show_default=True, help="How many hits.")
@where_options
@click.option("--min-score", type=float, help="Leave out hits that score less.")
@click.option("--encoder", help="idf: weigh the query's own words by their rarity, without running the model.")
@model_option
@as_json
def search(
    database: str,
    query: str,
    k: int,
    where: str | None,
    args: tuple[str, ...],
    min_score: float | None,
    encoder: str | None,
    model: str | None,
    as_json: bool,
) -> None:
    """Print the best documents for QUERY, best first. Exit status 1 if there is none.

    \b
    Examples:
      spladelite search kb.db "how do I shrink a file" -k 3
      spladelite search kb.db "engine trouble" --where '{"year": {"$gte": 2020}}' --json
      spladelite search kb.db "engine trouble" --where "metadata ->> 'lang' = ?" --arg en
    """
    with _open(database, model) as db:
        hits = db.search(query, k, **_where(where, args), min_score=min_score, encoder=encoder)
        if as_json:
            _print_json([_hit(hit) for hit in hits])
        else:
            rows = [
                (str(rank), f"{hit.score:.3f}", hit.id, snippet(db.highlight(hit, "\ue000", "\ue001")))
                for rank, hit in enumerate(hits, 1)
            ]
            print_table(("", "score", "id", "passage"), rows, right=(0, 1))
    if not hits:
        sys.exit(1)


@main.command()
@database
@click.argument("query")
@click.argument("id")
@click.option("--encoder", help="idf: weigh the query's own words by their rarity, without running the model.")
@model_option
@as_json
def explain(database: str, query: str, id: str, encoder: str | None, model: str | None, as_json: bool) -> None:
    """Show why a document has its score for QUERY.

    The products of the two weights of each term sum to the score.

    \b
    Example:
      spladelite explain kb.db "automobile accident" crash.txt
    """
    with _open(database, model) as db:
        explanation = db.explain(query, id, encoder=encoder)
    if as_json:
        terms = [asdict(match) | {"expansion": match.expansion} for match in explanation.terms]
        _print_json({"id": id, "score": explanation.score, "passage": asdict(explanation.passage), "terms": terms})
        return
    rows = [
        (
            match.term,
            f"{match.query_weight:.3f}",
            f"{match.document_weight:.3f}",
            f"{match.contribution:.3f}",
            " and ".join(
                side
                for side, added in (("query", match.query_expansion), ("document", match.document_expansion))
                if added
            ),
        )
        for match in explanation.terms
    ]
    rows.append(("score", "", "", f"{explanation.score:.3f}", ""))
    print_table(("term", "query", "document", "product", "expansion of"), rows, right=(1, 2, 3))


@main.command()
@database
@click.argument("text")
@click.option("--side", type=click.Choice(("document", "query")), default="document", show_default=True)
@click.option("-n", "count", type=click.IntRange(min=1), help="Only the n strongest terms.")
@model_option
@as_json
def expand(database: str, text: str, side: str, count: int | None, model: str | None, as_json: bool) -> None:
    """Show the weighted terms that stand for TEXT.

    DATABASE may be :memory: to use the bundled model.

    \b
    Example:
      spladelite expand :memory: "automobile accident" --side query
    """
    with _open(database, model) as db:
        terms = db.expand(text, side=side)[:count]
    if as_json:
        _print_json([asdict(term) for term in terms])
    else:
        rows = [(term.term, f"{term.weight:.3f}", "yes" if term.expansion else "") for term in terms]
        print_table(("term", "weight", "expansion"), rows, right=(1,))
    if not terms:
        sys.exit(1)


@main.command()
@database
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@as_json
def get(database: str, ids: tuple[str, ...], as_json: bool) -> None:
    """Print documents by id. Exit status 1 if one is not there.

    \b
    Example:
      spladelite get kb.db crash.txt
    """
    with _open(database) as db:
        documents = [document for document in map(db.get, ids) if document is not None]
    if as_json:
        _print_json([asdict(document) for document in documents])
    else:
        for document in documents:
            print_fields({"id": document.id, "metadata": _dump(document.metadata), "text": document.text})
    missing = set(ids) - {document.id for document in documents}
    if missing:
        raise DocumentNotFound(f"no document has the id {', '.join(map(repr, sorted(missing)))}")


@main.command()
@database
@click.argument("ids", nargs=-1, metavar="[ID]...")
@where_options
@as_json
def delete(database: str, ids: tuple[str, ...], where: str | None, args: tuple[str, ...], as_json: bool) -> None:
    """Delete documents by id, or all that match --where. Exit status 1 if there was none.

    \b
    Examples:
      spladelite delete kb.db old.txt
      spladelite delete kb.db --where '{"year": {"$lt": 2000}}'
    """
    if bool(ids) == (where is not None):
        raise click.UsageError("give ids or --where, one of them")
    with _open(database, write=True) as db:
        count = db.delete(ids) if ids else db.delete(**_where(where, args))
    if as_json:
        _print_json({"deleted": count})
    else:
        click.echo(f"{count} deleted")
    if not count:
        sys.exit(1)


@main.command()
@database
@as_json
def stats(database: str, as_json: bool) -> None:
    """Show how much there is of what, and the model.

    \b
    Example:
      spladelite stats kb.db
    """
    with _open(database) as db:
        figures = asdict(db.stats())
    if as_json:
        _print_json(figures)
        return
    sizes = figures.pop("sizes")
    print_fields({**figures, **{f"size of {part}": size for part, size in sizes.items()}})


@main.command()
@database
@as_json
def check(database: str, as_json: bool) -> None:
    """Verify the database. Exit status 1 if something is wrong.

    Every checksum is verified, and the index is compared with the stored vectors.

    \b
    Example:
      spladelite check kb.db && cp kb.db /backup/
    """
    with _open(database) as db:
        findings = db.check()
    if as_json:
        _print_json([asdict(finding) for finding in findings])
    elif findings:
        print_table(("table", "row", "problem"), [(f.table, f.row, f.problem) for f in findings])
    else:
        click.echo("no problem found")
    if findings:
        sys.exit(1)


@main.command()
@database
@as_json
def optimize(database: str, as_json: bool) -> None:
    """Rewrite the index into the fewest segments.

    Free space goes back to the disk.

    \b
    Example:
      spladelite optimize kb.db
    """
    with _open(database, write=True) as db:
        before = os.path.getsize(database)
        db.optimize()
    _print_size("before", before, database, as_json)


@main.command("create-index")
@database
@click.argument("field")
@as_json
def create_index(database: str, field: str, as_json: bool) -> None:
    """Make filters on a metadata FIELD fast.

    A dot leads into a nested object.

    \b
    Example:
      spladelite create-index kb.db year
    """
    with _open(database, write=True) as db:
        db.create_metadata_index(field)
    if as_json:
        _print_json({"field": field})
    else:
        click.echo(f"filters on {field} use an index now")


@main.command()
@database
@click.argument("target", type=click.Path())
@as_json
def backup(database: str, target: str, as_json: bool) -> None:
    """Copy the database as it is now to TARGET.

    Others may write meanwhile.

    \b
    Example:
      spladelite backup kb.db kb-monday.db
    """
    with _open(database) as db:
        db.backup(target)
    _print_size("database", os.path.getsize(database), target, as_json)


@main.command()
@database
@click.argument("target", type=click.Path())
@click.option("--slim", is_flag=True, help="Leave out the stored vectors: half the size, searchable, not changeable.")
@click.option("--rows", is_flag=True, help="Plain SQLite, one row a posting, for any language; not for spladelite.")
@as_json
def export(database: str, target: str, slim: bool, rows: bool, as_json: bool) -> None:
    """Write a compact copy for shipping to TARGET.

    It also opens in read-only folders.

    \b
    Examples:
      spladelite export kb.db app/assets/kb.db --slim
      spladelite export kb.db rows.db --rows
    """
    if slim and rows:
        raise click.UsageError("--slim and --rows are two kinds of export; give one of them")
    with _open(database) as db:
        if rows:
            db.export_rows(target)
        else:
            db.export(target, slim=slim)
    _print_size("database", os.path.getsize(database), target, as_json)


@main.command()
@database
@click.argument("query")
@click.option("--arg", "args", multiple=True, help="The value of a '?'; once for each.")
@as_json
def sql(database: str, query: str, args: tuple[str, ...], as_json: bool) -> None:
    """Run one SQL query that reads. Exit status 1 if no row.

    \b
    Example:
      spladelite sql kb.db "SELECT term, weight FROM document_term WHERE id = ?" --arg crash.txt
    """
    with _open(database) as db:
        rows = db.sql(query, [number_or_text(arg) for arg in args])
    if as_json:
        _print_json([dict(row) for row in rows])
    elif rows:
        print_table(rows[0].keys(), [tuple("" if value is None else str(value) for value in row) for row in rows])
    if not rows:
        sys.exit(1)


def _open(path: str, model: str | None = None, *, write: bool = False, create: bool = False) -> SpladeLite:
    from spladelite import SpladeLite  # here, so that --help need not load numpy and apsw

    if write and not create and not os.path.exists(path):
        raise NotADatabase(f"{path} does not exist; `spladelite add {path} ...` creates it")
    return SpladeLite(path, model=model, read_only=not write and path != ":memory:")


def _where(where: str | None, args: tuple[str, ...]) -> dict[str, Any]:
    """``--where`` and ``--arg`` as keyword arguments of ``search`` and ``delete``."""
    if where is None or not where.lstrip().startswith("{"):
        return {"where": where, "where_args": [number_or_text(arg) for arg in args] if args else None}
    if args:
        raise click.UsageError("--arg is for a SQL --where; a JSON filter holds its values itself")
    try:
        return {"where": json.loads(where)}
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint="--where") from error


def _hit(hit: Hit) -> dict[str, Any]:
    passage = asdict(hit.passage)
    return {"id": hit.id, "score": hit.score, "text": hit.text, "metadata": hit.metadata, "passage": passage}


def _print_size(name: str, size: int, path: str, as_json: bool) -> None:
    now = os.path.getsize(path)
    if as_json:
        _print_json({"path": path, "bytes": now, f"{name}_bytes": size})
    else:
        click.echo(f"{path}: {now:,} bytes ({name}: {size:,})")


def _print_json(value: object) -> None:
    click.echo(_dump(value))


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=lambda blob: blob.hex())

"""The commands that change a database or copy it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import groupby, tee

import click

from spladelite.cli.common import (
    as_json,
    database,
    language_name,
    language_option,
    model_option,
    open_database,
    print_json,
    print_size,
    where_arguments,
    where_options,
)
from spladelite.documents.sources import FORMATS, Columns, Source, read_sources, read_table
from spladelite.errors import InvalidInput


@click.command()
@database
@click.argument("paths", nargs=-1, metavar="[FILE | FOLDER | -]...")
@click.option(
    "--format", type=click.Choice(FORMATS), help="What the files are; by default their names say it, and - is lines."
)
@click.option("--table", help="PATH is a SQLite file: add the rows of this table or view.")
@click.option("--text-column", help="Column or key that holds the text (default: text).")
@click.option("--id-column", help="Column or key that holds the id (default: _id, id, or a table's primary key).")
@click.option("--types", help="Of CSV columns, such as zip=text,year=int,price=float; by default the values say it.")
@click.option("--text-columns", help="CSV columns that stay text, such as zip,sku.")
@click.option("--dense", help="Of a new file: also store dense vectors by the model in this folder.")
@language_option
@click.option("--replace", is_flag=True, help="Replace documents whose id exists with other content.")
@click.option(
    "--model", help="Of a new file: a model folder, or the name of a model on the hub; by default the bundled one."
)
@as_json
def add(
    database: str,
    paths: tuple[str, ...],
    format: str | None,
    table: str | None,
    text_column: str | None,
    id_column: str | None,
    types: str | None,
    text_columns: str | None,
    dense: str | None,
    language: str | None,
    replace: bool,
    model: str | None,
    as_json: bool,
) -> None:
    """Add documents from files, folders, standard input, tables.

    The database is created if it does not exist.

    \b
    .txt .md   one document a file, its path in the folder is its id
    .jsonl     one a line: text, id or _id, title, metadata; other keys become metadata
    .csv       one a row, with the same columns; a column of numbers that all print back as they are
               written becomes numbers, every other one stays text
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
    columns = Columns(text_column, id_column, column_types(types, text_columns))
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
    with open_database(database, model, dense, language, write=True, create=True) as db:
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
        print_json({"ids": ids, "blank": blank, "before": before, "documents": after})
    else:
        note = f" ({blank} blank left out)" if blank else ""
        click.echo(f"{len(ids)} read{note}; {database} has {after} documents, {after - before} more than before")


def column_types(types: str | None, text_columns: str | None) -> dict[str, str]:
    """``--types`` and ``--text-columns`` as a kind for each column they name."""
    kinds = dict.fromkeys(text_columns.split(",") if text_columns else (), "text")
    for entry in types.split(",") if types else ():
        name, _, kind = entry.rpartition("=")
        if not name or kind not in ("text", "int", "float"):
            raise click.BadParameter(f"{entry!r} is not NAME=text, NAME=int or NAME=float", param_hint="--types")
        kinds[name] = kind
    return kinds


def _chain(first: Source, rest: Iterable[Source]) -> Iterator[Source]:
    yield first
    yield from rest


@click.command()
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
    with open_database(database, write=True) as db:
        count = db.delete(ids) if ids else db.delete(**where_arguments(where, args))
    if as_json:
        print_json({"deleted": count})
    else:
        click.echo(f"{count} deleted")
    if not count:
        sys.exit(1)


@click.command()
@database
@click.argument("query")
@click.argument("id")
@click.option(
    "--value", default=1.0, show_default=True, help="Above 0: useful, the more the better; 0 or below: not useful."
)
def feedback(database: str, query: str, id: str, value: float) -> None:
    """Remember whether a document was useful for a query.

    "spladelite train DATABASE" and "spladelite adapt" learn from it, "spladelite eval --feedback" measures on it.

    \b
    Examples:
      spladelite feedback kb.db "automobile accident" crash.txt
      spladelite feedback kb.db "bake a loaf" crash.txt --value 0
    """
    with open_database(database, write=True) as db:
        db.feedback(query, id, value)


@click.command()
@database
@as_json
def optimize(database: str, as_json: bool) -> None:
    """Rewrite the index into the fewest segments.

    Free space goes back to the disk.

    \b
    Example:
      spladelite optimize kb.db
    """
    with open_database(database, write=True) as db:
        before = os.path.getsize(database)
        db.optimize()
    print_size("before", before, database, as_json)


@click.command()
@database
@click.option("--model", help="A model folder; without it, the bundled model.")
@language_option
@as_json
def reencode(database: str, model: str | None, language: str | None, as_json: bool) -> None:
    """Move the database to another model, from its texts.

    Others may search and write meanwhile. After an interruption, the same command goes on where it stopped. With
    --language alone the model stays, and only the words of BM25 are indexed again.

    \b
    Examples:
      spladelite reencode kb.db
      spladelite reencode kb.db --language german
    """
    with open_database(database, write=True) as db:
        if language is None:
            db.reencode(model)
        else:
            db.reencode(model, language=language_name(language))
        figures = db.stats()
    if as_json:
        print_json({"model": figures.model, "documents": figures.documents})
    else:
        click.echo(f"{database}: {figures.documents} documents by {figures.model}")


@click.command("create-index")
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
    with open_database(database, write=True) as db:
        db.create_metadata_index(field)
    if as_json:
        print_json({"field": field})
    else:
        click.echo(f"filters on {field} use an index now")


_force = click.option("--force", is_flag=True, help="Replace TARGET if it exists.")


@click.command()
@database
@click.argument("target", type=click.Path())
@_force
@as_json
def backup(database: str, target: str, force: bool, as_json: bool) -> None:
    """Copy the database as it is now to TARGET.

    Others may write meanwhile.

    \b
    Example:
      spladelite backup kb.db kb-monday.db
    """
    with open_database(database) as db:
        db.backup(target, overwrite=force)
    print_size("database", os.path.getsize(database), target, as_json)


@click.command()
@database
@click.argument("target", type=click.Path())
@click.option("--slim", is_flag=True, help="Leave out the stored vectors: half the size, searchable, not changeable.")
@click.option("--rows", is_flag=True, help="Plain SQLite, one row a posting, for any language; not for spladelite.")
@click.option("--web", is_flag=True, help="A folder that any static web host serves and a browser searches.")
@_force
@model_option
@as_json
def export(
    database: str, target: str, slim: bool, rows: bool, web: bool, force: bool, model: str | None, as_json: bool
) -> None:
    """Write a compact copy for shipping to TARGET.

    It also opens in read-only folders.

    \b
    Examples:
      spladelite export kb.db app/assets/kb.db --slim
      spladelite export kb.db rows.db --rows
      spladelite export kb.db site/ --web
    """
    if slim + rows + web > 1:
        raise click.UsageError("--slim, --rows and --web are different kinds of export; give one of them")
    with open_database(database, model) as db:
        if web:
            written = db.export_web(target)
            if as_json:
                print_json(asdict(written))
                return
            click.echo(
                f"{target}: {written.documents} documents, {written.files} data files, {written.bytes:,} bytes; "
                f"look at it: python -m http.server -d {target}"
            )
            for note in written.notes:
                click.echo(f"note: {note}")
            return
        if rows:
            db.export_rows(target, overwrite=force)
        else:
            db.export(target, slim=slim, overwrite=force)
    print_size("database", os.path.getsize(database), target, as_json)

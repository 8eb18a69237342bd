"""The commands that change a database or copy it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import chain, tee
from typing import TYPE_CHECKING, Any

import click

from spladelite.cli.common import (
    as_json,
    database,
    given_metadata,
    language_name,
    language_option,
    metadata_option,
    model_option,
    new_model_option,
    open_database,
    print_json,
    print_size,
    quiet_option,
    verbose_option,
    where_arguments,
    where_options,
)
from spladelite.cli.tables import shown
from spladelite.documents.files import FORMATS, Choice, File, find_files
from spladelite.documents.sources import KINDS, Columns, Source, check_encoding, read_file, read_stdin, read_table
from spladelite.errors import InvalidInput

if TYPE_CHECKING:
    from spladelite import SpladeLite
    from spladelite.records import FilesReport


include_option = click.option(
    "--include", multiple=True, metavar="PATTERN", help="Of folders only files like this: '*.md', 'src/*'; repeatable."
)
exclude_option = click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave files like this out.")
encoding_option = click.option("--encoding", help="Of texts that are not UTF-8, such as latin-1.")
strict_option = click.option("--strict", is_flag=True, help="Stop at the first file that cannot be used.")


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
@metadata_option
@click.option("--dense", help="Of a new file: also store dense vectors by the model in this folder.")
@language_option
@click.option("--replace", is_flag=True, help="Replace documents whose id exists with other content.")
@include_option
@exclude_option
@encoding_option
@strict_option
@quiet_option
@verbose_option
@new_model_option
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
    metadata: tuple[str, ...],
    dense: str | None,
    language: str | None,
    replace: bool,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    encoding: str | None,
    strict: bool,
    quiet: bool,
    verbose: bool,
    model: str | None,
    as_json: bool,
) -> None:
    """Add documents from files, folders, standard input, tables.

    The database is created if it does not exist.

    \b
    .txt .md .rst, source code         one document a file, its path in the folder is its id
    .html .pdf .docx .pptx .epub .eml .ipynb   the same; some need pip install 'spladelite[files]'
    .jsonl .json                       one an object: text, id or _id, title; other keys become metadata
    .csv                               one a row, with the same columns; a column of numbers that all print
                                       back as they are written becomes numbers, every other one stays text
    .gz                                any of them, packed
    -                                  standard input, one a line

    Documents that are there already are skipped, and a file that has changed is replaced, so a command may be
    repeated. Files that cannot be used are skipped and named at the end, with exit status 1. Blank texts are left out
    and counted.

    \b
    Examples:
      spladelite add kb.db notes/ faq.jsonl
      spladelite add kb.db shop.db --table product --text-column description
      spladelite add kb.db notes/ --metadata project=garden --metadata year=2024
      grep ERROR app.log | spladelite add kb.db - --metadata '{"source": "app.log"}'
    """
    if not paths:
        raise click.UsageError("say what to add: files, folders, or - for standard input")
    if table is not None and (len(paths) > 1 or format is not None):
        raise click.UsageError("--table takes one SQLite file and no --format")
    streams = table is not None or "-" in paths
    elsewhere = "://" in database
    started = time.monotonic()
    more = given_metadata(metadata)
    for path in paths:
        if path != "-":
            os.stat(path)
            if os.path.exists(database) and os.path.samefile(path, database):
                raise InvalidInput(f"{path} is the database itself; give other files to add")
    columns = Columns(text_column, id_column, column_types(types, text_columns))
    found: Iterator[Source] = iter(())
    if table is not None:
        found, paths = read_table(paths[0], table, columns), ()
    elif streams:
        found = read_stdin(format or "lines", columns, check_encoding(encoding))
    named = [path for path in paths if path != "-"]
    if named:
        files, _ = find_files(named, format, Choice(include, exclude))  # before the file is created
        if elsewhere:  # an engine keeps no account of files: it gets a stream of documents
            found, named = chain(found, _documents(files, columns, encoding)), []
    sources = Filled(found)
    first = next(sources, None)
    if first is None and not named:
        raise InvalidInput(f"no document in {table or ', '.join(paths)}{_blank(sources.blank)}")
    existed = elsewhere or database == ":memory:" or os.path.exists(database)
    with open_database(database, model, dense, language, write=True, create=True) as db:
        before = len(db)
        ids = [] if first is None else add_stream(db, first, sources, more, replace=replace)
        report = FilesReport() if elsewhere else db.add_files(
            named, format=format, text_column=text_column, id_column=id_column, types=columns.kinds, include=include,
            exclude=exclude, encoding=encoding, metadata=more, strict=strict,
            on_conflict="replace" if replace else "error",
        )  # fmt: skip
        after = len(db)
    blank = sources.blank + report.blank
    if not ids and not report.ids:
        if not existed:
            os.unlink(database)
        why = f": {report.problems[0].path}: {report.problems[0].reason}" if report.problems else ""
        raise InvalidInput(f"no document in {', '.join(named)}{_blank(blank)}{why}")
    if as_json:
        counts = {key: value for key, value in asdict(report).items() if key not in ("ids", "blank")}
        print_json({"ids": [*ids, *report.ids], "blank": blank, "before": before, "documents": after, **counts})
    elif not quiet:
        if verbose:
            _print_changes(report)
        count = f"{len(ids) + len(report.ids)} read{_blank(blank, ' left out')}"
        click.echo(f"{count}; {database} has {after} document{'s' * (after != 1)}, {after - before} more than before")
        _say_how_long(started, verbose=verbose)
    _name_what_was_not_read(report, quiet=quiet or as_json)


def column_types(types: str | None, text_columns: str | None) -> dict[str, str]:
    """``--types`` and ``--text-columns`` as a kind for each column they name."""
    kinds = dict.fromkeys(text_columns.split(",") if text_columns else (), "text")
    for entry in types.split(",") if types else ():
        name, _, kind = entry.rpartition("=")
        if not name or kind not in KINDS:
            raise click.BadParameter(f"{entry!r} is not NAME=text, NAME=int or NAME=float", param_hint="--types")
        kinds[name] = kind
    return kinds


@click.command()
@database
@click.argument("folder", type=click.Path())
@click.option("--dry-run", is_flag=True, help="Only print what would be done.")
@click.option("--watch", is_flag=True, help="Go on, and follow the folder's changes until Ctrl-C (spladelite[watch]).")
@include_option
@exclude_option
@encoding_option
@metadata_option
@strict_option
@quiet_option
@verbose_option
@model_option
@as_json
def sync(
    database: str,
    folder: str,
    dry_run: bool,
    watch: bool,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    encoding: str | None,
    metadata: tuple[str, ...],
    strict: bool,
    quiet: bool,
    verbose: bool,
    model: str | None,
    as_json: bool,
) -> None:
    """Make the database equal to a folder.

    New and changed files of FOLDER are stored, and what is gone is deleted. What was added otherwise is left alone. A
    file that was only renamed is not encoded again.

    \b
    Examples:
      spladelite sync kb.db notes/ --dry-run
      spladelite sync kb.db notes/ --exclude 'drafts/*'
    """
    if watch and dry_run:
        raise click.UsageError("--watch and --dry-run exclude each other")
    changes = _watched(folder) if watch else iter(())
    more = given_metadata(metadata)
    problems = False
    with open_database(database, model, write=True, create=not dry_run) as db:
        while True:
            started = time.monotonic()
            report = db.sync(
                folder, include=include, exclude=exclude, encoding=encoding, metadata=more, dry_run=dry_run,
                strict=strict,
            )  # fmt: skip
            if as_json:
                print_json({key: value for key, value in asdict(report).items() if key != "ids"})
            elif not quiet:
                _print_sync(report, dry_run=dry_run)
                _say_how_long(started, verbose=verbose)
            problems = _name_what_was_not_read(report, quiet=quiet or as_json or watch, leave=False)
            if next(changes, None) is None:
                break
    if problems:
        sys.exit(1)


def _watched(folder: str) -> Iterator[object]:
    try:
        from watchfiles import watch
    except ImportError:
        raise InvalidInput("--watch needs the package watchfiles: pip install 'spladelite[watch]'") from None
    changes: Iterator[object] = watch(folder, raise_interrupt=True)
    return changes


def _print_changes(report: FilesReport) -> None:
    for mark, names in (("new", report.new), ("changed", report.changed), ("deleted", report.deleted)):
        for name in names:
            click.echo(f"{mark:<8} {shown(name)}")
    for old, new in report.renamed:
        click.echo(f"renamed  {shown(old)} -> {shown(new)}")


def _say_how_long(started: float, *, verbose: bool) -> None:
    if verbose:
        click.echo(f"{time.monotonic() - started:.1f} seconds")


def _print_sync(report: FilesReport, *, dry_run: bool) -> None:
    _print_changes(report)
    would = "would be " if dry_run else ""
    click.echo(
        f"{len(report.new)} {would}new, {len(report.changed)} changed, {len(report.renamed)} renamed, "
        f"{len(report.deleted)} deleted, {report.unchanged} unchanged"
    )


def _name_what_was_not_read(report: FilesReport, *, quiet: bool, leave: bool = True) -> bool:
    """On standard error: files that could not be used, with the reason, and how many of which kinds are not read."""
    for problem in report.problems:
        click.echo(f"skipped {shown(problem.path)}: {shown(problem.reason)}", err=True)
    if report.unread and not quiet:
        kinds = ", ".join(
            f"{count:,} {kind}" for kind, count in sorted(report.unread.items(), key=lambda item: -item[1])[:12]
        )
        click.echo(f"{sum(report.unread.values()):,} files of kinds that are not read: {kinds}", err=True)
    if report.problems and leave:
        sys.exit(1)
    return bool(report.problems)


def _blank(count: int, what: str = "") -> str:
    return f" ({count} blank{what})" if count else ""


class Filled(Iterator[Source]):
    """The documents that have a text; the others are counted."""

    def __init__(self, found: Iterator[Source]) -> None:
        self._found = found
        self.blank = 0

    def __next__(self) -> Source:
        while not (source := next(self._found)).text.strip():
            self.blank += 1
        return source


def _documents(files: Iterable[File], columns: Columns, encoding: str | None) -> Iterator[Source]:
    for file in files:
        yield from read_file(file, columns, encoding)


def add_stream(
    db: SpladeLite, first: Source, rest: Iterator[Source], more: dict[str, Any], *, replace: bool
) -> list[str]:
    """Add documents as they come, with ``more`` in the metadata of each; returns the ids."""
    texts, names, metadata = tee(chain([first], rest), 3)
    return db.add(
        (source.text for source in texts),
        ids=(source.id for source in names),
        metadata=((source.metadata or {}) | more or None for source in metadata),
        on_conflict="replace" if replace else "error",
    )


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

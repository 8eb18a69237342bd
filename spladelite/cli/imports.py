"""``spladelite import``: what other search libraries have stored."""

from __future__ import annotations

import click

from spladelite.cli.common import as_json, new_model_option, open_database, print_json, quiet_option
from spladelite.cli.write import Filled, add_stream
from spladelite.errors import InvalidInput


@click.group("import")
def import_group() -> None:
    """Take over what another library has stored.

    Texts and metadata in JSONL, JSON, CSV, or a table of SQLite are for "spladelite add".
    """


@import_group.command()
@click.argument("path", type=click.Path())
@click.argument("database", type=click.Path())
@click.option("--collection", help="Name or id; needed where PATH has more than one.")
@click.option("--replace", is_flag=True, help="Replace documents whose id exists with other content.")
@new_model_option
@quiet_option
@as_json
def chroma(
    path: str, database: str, collection: str | None, replace: bool, model: str | None, quiet: bool, as_json: bool
) -> None:
    """Add a collection of Chroma: ids, texts and metadata.

    PATH is the folder of a PersistentClient; its SQLite file is only read. The texts are encoded anew, since Chroma's
    vectors are of another kind. Records without a text are left out and counted. The command may be repeated.

    \b
    Example:
      spladelite import chroma ./chroma_data kb.db --collection notes
    """
    from spladelite.integrations.chroma import read_chroma

    sources = Filled(read_chroma(path, collection))
    first = next(sources, None)
    if first is None:
        raise InvalidInput(f"no text in {path}; {sources.blank} records have none")
    with open_database(database, model, write=True, create=True) as db:
        before = len(db)
        ids = add_stream(db, first, sources, {}, replace=replace)
        after = len(db)
    if as_json:
        print_json({"ids": ids, "blank": sources.blank, "before": before, "documents": after})
    elif not quiet:
        without = f" ({sources.blank} without text left out)" if sources.blank else ""
        stored = f"{after} document{'s' * (after != 1)}"
        click.echo(f"{len(ids)} read{without}; {database} has {stored}, {after - before} more than before")

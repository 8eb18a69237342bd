"""The commands that read a database."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from spladelite.cli.common import (
    WordsCommand,
    as_json,
    database,
    dump,
    encoder_option,
    mode_option,
    model_option,
    open_database,
    print_json,
    where_arguments,
    where_options,
)
from spladelite.cli.tables import beginning, excerpt, print_card, print_fields, print_table, snippet
from spladelite.documents.sources import number_or_text
from spladelite.errors import DocumentNotFound

if TYPE_CHECKING:
    from spladelite import SpladeLite
    from spladelite.records import Hit


offset_option = click.option("--offset", default=0, help="Pass over so many; the next page of ten is --offset 10.")


@click.command(cls=WordsCommand)
@database
@click.argument("query")
@click.option("-k", default=10, show_default=True, help="How many hits.")
@offset_option
@click.option(
    "--text",
    type=click.Choice(("passage", "full", "none")),
    default="passage",
    show_default=True,
    help="What is printed of a document: the passage that was found, the whole text, or nothing.",
)
@where_options
@click.option("--min-score", type=float, help="Leave out hits that score less.")
@mode_option
@encoder_option
@model_option
@as_json
def search(
    database: str,
    query: str,
    k: int,
    offset: int,
    text: str,
    where: str | None,
    args: tuple[str, ...],
    min_score: float | None,
    mode: str | None,
    encoder: str | None,
    model: str | None,
    as_json: bool,
) -> None:
    """Print the best documents for QUERY, best first. Exit status 1 if there is none.

    A terminal shows rank, score, id, place and some lines of each passage, its words in red unless NO_COLOR is set;
    a file or a program gets a table with a line a hit.

    \b
    Examples:
      spladelite search kb.db "how do I shrink a file" -k 3
      spladelite search kb.db "engine trouble" --where '{"year": {"$gte": 2020}}' --json
      spladelite search kb.db "engine trouble" --mode bm25 --text full
      spladelite search kb.db "engine trouble" --where "metadata ->> 'lang' = ?" --arg en
    """
    with open_database(database, model) as db:
        hits = db.search(
            query, k, **where_arguments(where, args), min_score=min_score, encoder=encoder, mode=mode, offset=offset,
            text=text != "none",
        )  # fmt: skip
        if as_json:
            print_json([_hit(hit, text) for hit in hits])
        elif text == "full":
            for rank, hit in enumerate(hits, offset + 1):
                marked = db.highlight(hit, "\ue000", "\ue001")
                print_card(_head(rank, hit), hit.text[: hit.start] + marked + hit.text[hit.end :])
        elif text == "passage" and sys.stdout.isatty():
            for rank, hit in enumerate(hits, offset + 1):
                print_card((*_head(rank, hit), hit.place), excerpt(db.highlight(hit, "\ue000", "\ue001")))
        else:
            rows = [
                (*_head(rank, hit), _found(db, hit) if hit.text else "") for rank, hit in enumerate(hits, offset + 1)
            ]
            print_table(("", "score", "id", "passage"), rows, right=(0, 1))
        if not hits:
            why = _why_nothing(db, query, mode, offset, filtered=where is not None)
            click.echo(f"no hit: {why}", err=True)
            sys.exit(1)


def _head(rank: int, hit: Hit) -> tuple[str, str, str]:
    return str(rank), f"{hit.score:.3f}", hit.id


def _found(db: SpladeLite, hit: Hit) -> str:
    """The passage with its words marked, after the place in its document."""
    place = f"[{hit.place}] " if hit.place else ""
    return place + snippet(db.highlight(hit, "\ue000", "\ue001"))


def _why_nothing(db: SpladeLite, query: str, mode: str | None, offset: int, *, filtered: bool) -> str:
    if not query.strip():
        return "the query is empty; give it some words"
    if not len(db):
        return f"the database is empty; `spladelite add {db.path} ...` adds documents"
    if mode == "splade" and not db.expand(query, side="query"):
        return "the model knows no word of the query; --mode bm25 looks for the words themselves"
    if offset:
        return f"there are no more than {offset}"
    return f"no document {'that --where lets through ' if filtered else ''}has a term of the query, or scores enough"


@click.command(cls=WordsCommand)
@database
@click.argument("query")
@click.argument("id")
@mode_option
@encoder_option
@model_option
@as_json
def explain(
    database: str, query: str, id: str, mode: str | None, encoder: str | None, model: str | None, as_json: bool
) -> None:
    """Show why a document has its score for QUERY.

    First what each part adds to the score, then SPLADE's terms: the products of the two weights sum to its part.

    \b
    Example:
      spladelite explain kb.db "automobile accident" crash.txt
    """
    with open_database(database, model) as db:
        explanation = db.explain(query, id, encoder=encoder, mode=mode)
    if as_json:
        terms = [asdict(match) | {"expansion": match.expansion} for match in explanation.terms]
        print_json(asdict(explanation) | {"terms": terms})
        return
    parts = [
        (part.part, f"{part.score:.3f}", f"{part.contribution:.3f}", ", ".join(part.words))
        for part in explanation.parts
    ]
    if explanation.note:
        click.echo(explanation.note)
    if parts:
        parts.append(("score", "", f"{explanation.score:.3f}", ""))
        print_table(("part", "score", "adds", "words"), parts, right=(1, 2))
        if not explanation.terms:
            return
        click.echo()
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
    total = sum(match.contribution for match in explanation.terms)
    rows.append(("score", "", "", f"{total:.3f}", ""))
    print_table(("term", "query", "document", "product", "expansion of"), rows, right=(1, 2, 3))


@click.command(cls=WordsCommand)
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
    with open_database(database, model) as db:
        terms = db.expand(text, side=side)[:count]
    if as_json:
        print_json([asdict(term) for term in terms])
    else:
        rows = [(term.term, f"{term.weight:.3f}", "yes" if term.expansion else "") for term in terms]
        print_table(("term", "weight", "expansion"), rows, right=(1,))
    if not terms:
        sys.exit(1)


@click.command("list")
@database
@click.option("-k", default=20, show_default=True, help="How many documents.")
@offset_option
@where_options
@click.option(
    "--order-by",
    multiple=True,
    metavar="FIELD",
    help="A metadata field, $id or $text; with - before it, descending; repeatable. By default, as they were stored.",
)
@as_json
def list_documents(
    database: str,
    k: int,
    offset: int,
    where: str | None,
    args: tuple[str, ...],
    order_by: tuple[str, ...],
    as_json: bool,
) -> None:
    """List documents: ids, metadata, and how their texts begin. Exit status 1 if there is none.

    "spladelite get" prints whole texts; --json leaves them out.

    \b
    Examples:
      spladelite list kb.db -k 100
      spladelite list kb.db --where '{"lang": "en"}' --order-by=-year
    """
    with open_database(database) as db:
        found = db.documents(
            **where_arguments(where, args), order_by=order_by or None, limit=k, offset=offset, text=not as_json
        )
    if as_json:
        print_json([{"id": document.id, "metadata": document.metadata} for document in found])
    else:
        rows = [(one.id, _metadata(one.metadata), beginning(one.text, 200)) for one in found]
        print_table(("id", "metadata", "text"), rows)
    if not found:
        sys.exit(1)


@click.command()
@database
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@as_json
def get(database: str, ids: tuple[str, ...], as_json: bool) -> None:
    """Print documents by id. Exit status 1 if one is not there.

    \b
    Example:
      spladelite get kb.db crash.txt
    """
    with open_database(database) as db:
        documents = [document for document in map(db.get, ids) if document is not None]
    if as_json:
        print_json([asdict(document) for document in documents])
    else:
        for document in documents:
            print_fields({"id": document.id, "metadata": dump(document.metadata), "text": document.text})
    missing = set(ids) - {document.id for document in documents}
    if missing:
        raise DocumentNotFound(f"no document has the id {', '.join(map(repr, sorted(missing)))}")


@click.command()
@database
@as_json
def stats(database: str, as_json: bool) -> None:
    """Show how much there is of what, and the model.

    \b
    Example:
      spladelite stats kb.db
    """
    with open_database(database) as db:
        figures = asdict(db.stats())
    if as_json:
        print_json(figures)
        return
    sizes = figures.pop("sizes")
    print_fields({**figures, **{f"size of {part}": size for part, size in sizes.items()}})


@click.command()
@database
@click.option("--repair", is_flag=True, help="Rebuild what is damaged; the file as it was stays as DATABASE.damaged.")
@as_json
def check(database: str, repair: bool, as_json: bool) -> None:
    """Verify the database. Exit status 1 if something is wrong, or was before --repair.

    Every checksum is verified, and the index is compared with the stored vectors.

    \b
    Examples:
      spladelite check kb.db && cp kb.db /backup/
      spladelite check --repair kb.db
    """
    with open_database(database, write=repair) as db:
        findings = db.check(repair=repair)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    elif findings:
        print_table(("table", "row", "problem"), [(f.table, f.row, f.problem) for f in findings])
    else:
        click.echo("no problem found")
    if findings:
        sys.exit(1)


@click.command(cls=WordsCommand)
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
    with open_database(database) as db:
        rows = db.sql(query, [number_or_text(arg) for arg in args])
    if as_json:
        print_json([dict(row) for row in rows])
    elif rows:
        print_table(rows[0].keys(), [tuple("" if value is None else str(value) for value in row) for row in rows])
    if not rows:
        sys.exit(1)


def _metadata(metadata: dict[str, Any]) -> str:
    """What a list has room for; where a file is, its id says."""
    kept = {name: value for name, value in metadata.items() if name != "file"}
    return beginning(dump(kept), 60) if kept else ""


def _hit(hit: Hit, text: str) -> dict[str, Any]:
    shown: dict[str, Any] = {"id": hit.id, "score": hit.score, "relevance": hit.relevance, "metadata": hit.metadata}
    shown |= {"passage": asdict(hit.passage), "place": hit.place}
    return shown | ({"text": hit.text} if text == "full" else {})

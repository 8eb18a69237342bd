"""``spladelite eval``: measure the retrieval systems of a database on a BEIR folder or on your own judgments."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import click

from spladelite.cli.tables import print_table
from spladelite.database import SpladeLite
from spladelite.errors import InvalidInput
from spladelite.evaluation import beir, report, trec
from spladelite.evaluation.feedback import needs_feedback
from spladelite.evaluation.runner import SYSTEMS, Evaluation, available_systems, compare, run_evaluation
from spladelite.progress import ticking

_BATCH = 2048


@click.command("eval")
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--split", default="test", show_default=True, help="Which qrels/SPLIT.tsv of the folder.")
@click.option(
    "--database",
    type=click.Path(path_type=Path),
    help="With FOLDER: index its corpus here and keep it. Without: your database, which is only read.",
)
@click.option("--qrels", type=click.Path(path_type=Path), help="TREC qrels file: query 0 document grade.")
@click.option("--topics", type=click.Path(path_type=Path), help="Queries for --qrels: query_id<TAB>text in each line.")
@click.option("--feedback", is_flag=True, help="Measure on what users of --database found useful.")
@click.option(
    "--system", "systems", multiple=True, type=click.Choice(list(SYSTEMS)), help="Once for each; default all."
)
@click.option("--baseline", type=click.Choice(list(SYSTEMS)), help="What the others are tested against; default bm25.")
@click.option("--model", help="A model folder for FOLDER; by default the bundled model.")
@click.option(
    "--dense", help="A dense model's folder (ONNX or sentence-transformers) for the systems dense and hybrid."
)
@click.option("--compare", "pair", nargs=2, metavar="A B", help="The queries on which A wins and loses most against B.")
@click.option(
    "--show",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="How many queries of each kind --compare shows.",
)
@click.option("--runs", type=click.Path(path_type=Path), help="Write a TREC run file of each system into this folder.")
@click.option("--html", type=click.Path(path_type=Path), help="Write a report with plots, one self-contained file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def evaluate(
    folder: Path | None,
    split: str,
    database: Path | None,
    qrels: Path | None,
    topics: Path | None,
    feedback: bool,
    systems: tuple[str, ...],
    baseline: str | None,
    model: str | None,
    dense: str | None,
    pair: tuple[str, str] | None,
    show: int,
    runs: Path | None,
    html: Path | None,
    as_json: bool,
) -> None:
    """Measure BM25, dense, SPLADE and hybrid search side by side.

    FOLDER is a BEIR folder: corpus.jsonl, queries.jsonl (or .jsonl.gz) and qrels/SPLIT.tsv; a document with the
    query's own id is left out of its results, as BEIR does. Without a FOLDER, give --database with --qrels and
    --topics, or with --feedback.

    \b
    Examples:
      spladelite eval scifact/ --compare splade bm25 --html report.html
      spladelite eval --database kb.db --qrels judgments.txt --topics queries.tsv
      spladelite eval --database kb.db --feedback
    """
    if folder is None and not (database and (feedback or (qrels and topics))):
        raise click.UsageError("give a BEIR FOLDER, or --database with --qrels and --topics, or with --feedback")
    if folder is not None and (qrels or topics or feedback):
        raise click.UsageError("--qrels, --topics and --feedback are for your own --database; a FOLDER has its own")
    if feedback and (qrels or topics):
        raise click.UsageError("--feedback has its own queries; leave --qrels and --topics out")
    if folder is not None:
        name, queries, judgments = folder.resolve().name, beir.read_queries(folder), beir.read_judgments(folder, split)
    elif feedback:
        assert database is not None
        with SpladeLite(database, model, read_only=True) as db:
            name, (queries, judgments) = database.name, needs_feedback(db)
    else:
        assert database is not None
        assert qrels is not None
        assert topics is not None
        name, queries, judgments = database.name, trec.read_topics(topics), trec.read_qrels(qrels)
    for system in pair or ():
        if system not in SYSTEMS:
            raise InvalidInput(f"--compare {system!r}: expected two of {', '.join(SYSTEMS)}")
    with _database(folder, database, model, dense) as db:
        chosen = list(
            dict.fromkeys([*(systems or available_systems(db)), *(pair or ()), *([baseline] if baseline else [])])
        )
        with ticking(None, range(len(chosen) * len(queries.keys() & judgments.keys())), "searching") as advance:
            evaluation = run_evaluation(
                db,
                queries,
                judgments,
                chosen,
                baseline=baseline or chosen[0],
                name=name,
                without_own=folder is not None,
                advance=advance,
            )
        differences = compare(db, evaluation, judgments, *pair, show) if pair else []
    if runs is not None:
        runs.mkdir(parents=True, exist_ok=True)
        for result in evaluation.systems:
            trec.write_run(runs / f"{result.name}.run", result.run, result.name)
    if html is not None:
        html.write_text(report.as_html(evaluation, differences, pair or ("", "")), encoding="utf-8")
    if as_json:
        click.echo(json.dumps(report.as_json(evaluation), indent=1))
        return
    _print(evaluation)
    for difference in differences:
        assert pair is not None
        click.echo("\n" + report.difference_text(difference, *pair))


def _print(evaluation: Evaluation) -> None:
    columns = report.header(evaluation)
    print_table(columns, report.rows(evaluation), right=range(1, len(columns)))
    click.echo()
    for remark in report.remarks(evaluation):
        click.echo(remark)


@contextmanager
def _database(folder: Path | None, path: Path | None, model: str | None, dense: str | None) -> Iterator[SpladeLite]:
    """The user's own database, read-only; or one with the folder's corpus, in ``path`` or for this command only."""
    if folder is None:
        assert path is not None
        with SpladeLite(path, model, dense=dense, read_only=True) as db:
            yield db
        return
    with (
        tempfile.TemporaryDirectory(prefix="spladelite-eval-") as scratch,
        SpladeLite(path or Path(scratch, "eval.db"), model, dense=dense) as db,
    ):
        _index(db, folder)
        yield db


def _index(db: SpladeLite, folder: Path) -> None:
    corpus = ((id, text) for id, text in beir.read_corpus(folder) if text.strip())
    with ticking(None, None, "indexing") as advance:
        while batch := list(islice(corpus, _BATCH)):
            ids, texts = zip(*batch, strict=True)
            db.add(texts, ids=ids, progress=False)
            advance(len(batch))

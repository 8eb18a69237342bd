"""A Datasette plugin: a search page over each SpladeLite file, with reasons and facets. docs/integrations/datasette.md

Datasette opens files with Python's own ``sqlite3``, and two copies of SQLite must never have a file open in one process
(RELIABILITY.md says why). So this module never does: searches run in a process of their own, which opens the files
read-only.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any
from urllib.parse import urlencode

from spladelite.integrations.opening import missing

try:
    from datasette import Forbidden, NotFound, Response, hookimpl
except ImportError as error:
    raise ImportError(missing("datasette", "datasette")) from error

HITS = 100  # that facets are counted over
PAGE = 20
FACET_VALUES = 12
_MARKS = ("\ue000", "\ue001")

_TEMPLATE = """
{% extends "base.html" %}
{% block title %}{{ question or "Search" }} · {{ database }}{% endblock %}
{% block content %}
<h1>Search {{ database }}</h1>
<form action="{{ action }}" method="get" class="sql">
  <p><input type="search" name="q" value="{{ question }}" aria-label="Question" autofocus style="width: 70%">
  {% for field, value in chosen %}<input type="hidden" name="f" value="{{ field }}={{ value }}">{% endfor %}
  <input type="submit" value="Search"></p>
</form>
{% if error %}<p class="message-error">{{ error }}</p>{% endif %}
{% for field, value in chosen %}
<p>Only {{ field }} = <strong>{{ value }}</strong> <a href="{{ without[loop.index0] }}">✖</a></p>
{% endfor %}
{% if facets %}
<div class="facet-results">
  {% for facet in facets %}
  <div class="facet-info"><p class="facet-info-name"><strong>{{ facet.field }}</strong></p><ul>
    {% for one in facet.entries %}<li><a href="{{ one.link }}">{{ one.value }}</a> {{ one.count }}</li>{% endfor %}
  </ul></div>
  {% endfor %}
</div>
{% endif %}
{% if question and not hits and not error %}<p>Nothing found.</p>{% endif %}
{% for hit in hits %}
<article style="margin: 1em 0">
  <h3 style="margin-bottom: 0"><a href="{{ hit.row }}">{{ hit.id }}</a></h3>
  <p style="margin-top: 0.2em">{% for part, marked in hit.passage %}{% if marked %}<mark>{{ part }}</mark>
  {%- else %}{{ part }}{% endif %}{% endfor %}</p>
  <p><small>score {{ "%.3f"|format(hit.score) }} · <a href="{{ hit.why }}">why?</a>{% for key, value in hit.metadata %}
  · {{ key }}: {{ value }}{% endfor %}</small></p>
</article>
{% endfor %}
{% if reasons %}
<h2>Why {{ reasons.id }} scores {{ "%.3f"|format(reasons.score) }}</h2>
<table class="rows-and-columns">
<thead><tr><th>term</th><th>query</th><th>document</th><th>product</th><th></th></tr></thead>
<tbody>{% for term in reasons.terms %}
<tr><td>{{ term.term }}</td><td>{{ "%.3f"|format(term.query_weight) }}</td>
<td>{{ "%.3f"|format(term.document_weight) }}</td><td>{{ "%.3f"|format(term.contribution) }}</td>
<td>{% if term.expansion %}added by the model{% endif %}</td></tr>{% endfor %}
</tbody></table>
{% endif %}
{% endblock %}
"""


# --- in the process of its own ----------------------------------------------------------------------------------------

_open: dict[str, Any] = {}


def _database(path: str) -> Any:
    from spladelite import SpladeLite

    if path not in _open:
        _open[path] = SpladeLite(path, read_only=True)
    return _open[path]


def search_in_child(path: str, question: str, where: dict[str, Any]) -> list[dict[str, Any]]:
    """The hits as plain values; SpladeLiteError for a question or filter that cannot be used."""
    db = _database(path)
    hits = []
    for hit in db.search(question, HITS, where):
        passage = db.highlight(hit, *_MARKS)
        hits.append({"id": hit.id, "score": hit.score, "passage": passage, "metadata": hit.metadata})
    return hits


def explain_in_child(path: str, question: str, id: str) -> dict[str, Any]:
    """An explanation as plain values."""
    found = _database(path).explain(question, id)
    terms = [
        {name: getattr(one, name) for name in ("term", "query_weight", "document_weight", "contribution", "expansion")}
        for one in found.terms
    ]
    return {"id": found.id, "score": found.score, "terms": terms}


# --- in Datasette's --------------------------------------------------------------------------------------------------


class _Child:
    """The process that searches; another one if it has died."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    async def __call__(self, function: Any, *arguments: Any) -> Any:
        for attempt in (1, 2):
            if self._pool is None:
                self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
            try:
                return await asyncio.wrap_future(self._pool.submit(function, *arguments))
            except BrokenProcessPool:
                self._pool = None
                if attempt == 2:
                    raise
        return None


_child = _Child()


async def _is_ours(database: Any) -> bool:
    tables = set(await database.table_names())
    return database.path is not None and {"document", "passage", "posting", "meta"} <= tables


@hookimpl
def register_routes() -> list[tuple[str, Any]]:
    """The search page of a database, also as JSON."""
    return [(r"^/-/splade/(?P<database>[^/]+?)(?P<format>\.json)?$", _page)]


@hookimpl
def database_actions(datasette: Any, database: str) -> Any:
    """A link to the search page in the menu of a database."""

    async def links() -> list[dict[str, str]]:
        if not await _is_ours(datasette.get_database(database)):
            return []
        return [{"href": _address(datasette, database), "label": "Search by meaning and words"}]

    return links


@hookimpl
def menu_links(datasette: Any) -> Any:
    """A link to each search page in the main menu."""

    async def links() -> list[dict[str, str]]:
        return [
            {"href": _address(datasette, name), "label": f"Search {name}"}
            for name, database in datasette.databases.items()
            if await _is_ours(database)
        ]

    return links


def _address(datasette: Any, database: str, **arguments: Any) -> str:
    query = urlencode({name: value for name, value in arguments.items() if value}, doseq=True)
    return str(datasette.urls.path(f"/-/splade/{database}")) + (f"?{query}" if query else "")


async def _page(datasette: Any, request: Any) -> Any:
    from spladelite.errors import SpladeLiteError

    name = request.url_vars["database"]
    if name not in datasette.databases or not await _is_ours(datasette.get_database(name)):
        raise NotFound(f"There is no SpladeLite file {name!r} here")
    visible, _ = await datasette.check_visibility(request.actor, permissions=[("view-database", name), "view-instance"])
    if not visible:
        raise Forbidden("view-database")
    question = request.args.get("q") or ""
    chosen = [tuple(pair.split("=", 1)) for pair in request.args.getlist("f") if "=" in pair]
    path = str(datasette.get_database(name).path)
    hits: list[dict[str, Any]] = []
    reasons, error = None, ""
    try:
        if question.strip():
            where = {"$and": [{_filter_key(field): _value(value)} for field, value in chosen]} if chosen else {}
            hits = await _child(search_in_child, path, question, where)
            if request.args.get("why"):
                reasons = await _child(explain_in_child, path, question, request.args["why"])
    except SpladeLiteError as problem:
        error = str(problem)
    if request.url_vars["format"]:
        plain = [hit | {"passage": hit["passage"].replace(_MARKS[0], "").replace(_MARKS[1], "")} for hit in hits]
        return Response.json({"hits": plain, "error": error or None, "reasons": reasons}, status=400 if error else 200)
    pairs = [f"{field}={value}" for field, value in chosen]
    shown = [] if reasons else hits[:PAGE]
    context = {
        "database": name,
        "question": question,
        "action": _address(datasette, name),
        "chosen": chosen,
        "without": [
            _address(datasette, name, q=question, f=[other for other in pairs if other != pair]) for pair in pairs
        ],
        "error": error,
        "facets": [] if reasons else _facets(datasette, name, question, pairs, hits),
        "reasons": reasons,
        "hits": [
            {
                "id": hit["id"],
                "score": hit["score"],
                "passage": _parts(hit["passage"]),
                "metadata": [(key, _text(value)) for key, value in hit["metadata"].items()],
                "why": _address(datasette, name, q=question, f=pairs, why=hit["id"]),
                "row": f"{datasette.urls.table(name, 'document')}?{urlencode({'id__exact': hit['id']})}",
            }
            for hit in shown
        ],
    }
    template = datasette.jinja_env.from_string(_TEMPLATE)
    return Response.html(await datasette.render_template(template, context, request=request))


def _facets(
    datasette: Any, name: str, question: str, pairs: list[str], hits: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The values of metadata fields among the hits, with how many hits have each."""
    counts: dict[str, Counter[str]] = {}
    for hit in hits:
        for field, value in hit["metadata"].items():
            if isinstance(value, str | int | float | bool):
                counts.setdefault(field, Counter())[json.dumps(value)] += 1
    facets = []
    for field, values in counts.items():
        entries = [
            {
                "value": _text(json.loads(value)),
                "count": count,
                "link": _address(datasette, name, q=question, f=[*pairs, f"{field}={value}"]),
            }
            for value, count in values.most_common(FACET_VALUES)
        ]
        if len(entries) > 1:
            facets.append({"field": field, "entries": entries})
    return facets


def _filter_key(field: str) -> str:
    from spladelite.integrations.opening import escaped

    return escaped(field.replace(".", "\\."))


def _value(text: str) -> Any:
    """A facet's value as its link writes it, JSON; else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _parts(passage: str) -> list[tuple[str, bool]]:
    """Stretches of a passage, and whether each is marked."""
    parts = []
    for number, piece in enumerate(passage.split(_MARKS[0])):
        marked, _, rest = piece.partition(_MARKS[1]) if number else ("", "", piece)
        parts += [(marked, True), (rest, False)]
    return [part for part in parts if part[0]]

"""A Datasette plugin: a search page over each SpladeLite file, with reasons and facets. docs/integrations/datasette.md

Datasette opens files with Python's own ``sqlite3``, and two copies of SQLite must never have a file open in one process
(RELIABILITY.md says why). So this module never opens one: ``datasette_search`` does, in a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import weakref
from collections import Counter
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

from spladelite.integrations.opening import escaped, missing

try:
    from datasette import Forbidden, NotFound, Response, hookimpl
except ImportError as error:
    raise ImportError(missing("datasette", "datasette")) from error

HITS = 100  # that are found, and that facets are counted over
PAGE = 20
FACET_VALUES = 12
_MARKS = ("\ue000", "\ue001")  # as in datasette_search, which Datasette's process does not import

_TEMPLATE = """
{% extends "base.html" %}
{% block title %}{{ question or "Search" }}: {{ database }}{% endblock %}
{% block extra_head %}
<style>
.splade-hit { margin: 1.2em 0; overflow-wrap: anywhere; }
.splade-hit h3 { margin: 0; font-size: 1em; }
.splade-hit p { margin: 0.2em 0; }
.splade-small { color: #555; font-size: 0.85em; }
.splade-bar { display: inline-block; height: 0.7em; background: #276890; }
.splade-form input[type=search] { width: 70%; }
</style>
{% endblock %}
{% block crumbs %}{{ crumbs.nav(request=request, database=database) }}{% endblock %}
{% macro marked(parts) %}{% for part, is_match in parts %}{% if is_match %}<mark>{{ part }}</mark>{% else %}{{ part }}
{%- endif %}{% endfor %}{% endmacro %}
{% block content %}
<h1>Search {{ database }}</h1>
<form class="splade-form" action="{{ action }}" method="get">
  <p><input type="search" name="q" aria-label="Question" value="{{ question }}"
      {%- if not question %} autofocus{% endif %}>
  {% for one in chosen %}<input type="hidden" name="f" value="{{ one.pair }}">{% endfor %}
  <input type="submit" value="Search"></p>
</form>
{% if error %}<p class="message-error">{{ error }}</p>{% endif %}
{% for one in chosen %}
<p>Only {{ one.field }} = <strong>{{ one.value }}</strong>
<a href="{{ one.without }}" class="cross" aria-label="without this">&#x2716;</a></p>
{% endfor %}
{% if reasons %}
<h2>Why {{ reasons.id }} scores {{ "%.3f"|format(reasons.score) }}</h2>
<p><a href="{{ back }}">Back to what was found</a></p>
{% if reasons.note %}<p>{{ reasons.note }}</p>{% endif %}
{% if reasons.parts %}
<table class="rows-and-columns">
<thead><tr><th>index</th><th>its score</th><th>adds</th><th>words</th></tr></thead>
<tbody>{% for part in reasons.parts %}
<tr><td>{{ part.part }}</td><td>{{ "%.3f"|format(part.score) }}</td><td>{{ "%.3f"|format(part.contribution) }}</td>
<td>{% for word, score in part.words.items() %}{{ word }} {{ "%.3f"|format(score) }} {% endfor %}</td></tr>{% endfor %}
</tbody></table>
{% endif %}
{% if reasons.terms %}
<h3>SPLADE, term by term</h3>
<table class="rows-and-columns">
<thead><tr><th>term</th><th>query</th><th>document</th><th>product</th><th></th><th></th></tr></thead>
<tbody>{% for term in reasons.terms %}
<tr><td>{{ term.term }}</td><td>{{ "%.3f"|format(term.query_weight) }}</td>
<td>{{ "%.3f"|format(term.document_weight) }}</td><td>{{ "%.3f"|format(term.contribution) }}</td>
<td><span class="splade-bar" style="width: {{ (100 * term.contribution / reasons.terms[0].contribution)|round(1) }}px">
</span></td>
<td>{% if term.query_expansion and term.document_expansion %}added to both by the model
{% elif term.query_expansion %}added to the question by the model
{% elif term.document_expansion %}added to the document by the model{% endif %}</td></tr>{% endfor %}
</tbody></table>
{% endif %}
<h3>The passage</h3>
<p>{{ reasons.passage }}</p>
{% else %}
{% if facets %}
<div class="facet-results">
  {% for facet in facets %}
  <div class="facet-info"><p class="facet-info-name"><strong>{{ facet.field }}</strong></p><ul class="tight-bullets">
    {% for one in facet.entries %}<li><a href="{{ one.link }}">{{ one.value }}</a> {{ one.count }}</li>{% endfor %}
  </ul></div>
  {% endfor %}
</div>
{% endif %}
{% if question and not error %}
<p class="splade-small">{% if not found %}Nothing found.{% elif found == most %}The best {{ found }} documents
{%- else %}{{ found }} document{{ "" if found == 1 else "s" }} found{% endif %}
{%- if hits and found > hits|length %}, {{ hits[0].rank }} to {{ hits[-1].rank }} of them{% endif %}</p>
{% endif %}
{% for hit in hits %}
<article class="splade-hit">
  <h3>{{ hit.rank }}. <a href="{{ hit.row }}">{{ hit.id }}</a>{% if hit.place %} · {{ hit.place }}{% endif %}</h3>
  <p>{{ marked(hit.passage) }}</p>
  <p class="splade-small">score {{ "%.3f"|format(hit.score) }} · <a href="{{ hit.why }}">why?</a>
  {%- for key, value in hit.metadata %} · {{ key }}: {{ value }}{% endfor %}</p>
</article>
{% endfor %}
{% if earlier %}<p><a href="{{ earlier }}">Better ones</a></p>{% endif %}
{% if later %}<p><a href="{{ later }}">More</a></p>{% endif %}
{% endif %}
{% endblock %}
"""


class SearchError(Exception):
    """What the process that searches says is wrong."""


class _Searcher:
    """The process that searches: started when first asked, and again if it has died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def ask(self, *request: Any) -> Any:
        """One of the functions of ``datasette_search``: its name, path, immutable or not, further arguments."""
        with self._lock:
            for _ in range(2):
                process = self._running()
                try:
                    assert process.stdin is not None
                    assert process.stdout is not None
                    process.stdin.write(json.dumps(request) + "\n")
                    process.stdin.flush()
                    line = process.stdout.readline()
                except OSError:
                    line = ""
                if line:
                    answer = json.loads(line)
                    if "error" in answer:
                        raise SearchError(answer["error"])
                    return answer["result"]
                self.close()
            raise SearchError("The search failed; the log of Datasette says why.")

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            command = [sys.executable, "-P", "-m", "spladelite.integrations.datasette_search"]
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, encoding="ascii")  # noqa: S603 - our own
        return self._process

    def close(self) -> None:
        """End the process: at the end of its input, or by force after five seconds."""
        process, self._process = self._process, None
        if process is None or process.stdin is None or process.stdout is None:
            return
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


_searchers: weakref.WeakKeyDictionary[Any, _Searcher] = weakref.WeakKeyDictionary()


async def _ask(datasette: Any, name: str, database: Any, *arguments: Any) -> Any:
    if datasette not in _searchers:
        searcher = _searchers[datasette] = _Searcher()
        weakref.finalize(datasette, searcher.close)  # at the interpreter's end, too
    return await asyncio.to_thread(
        _searchers[datasette].ask, name, str(database.path), not database.is_mutable, *arguments
    )


async def _is_ours(database: Any) -> bool:
    return database.path is not None and {"document", "passage", "posting", "meta"} <= set(await database.table_names())


@hookimpl
def register_routes() -> list[tuple[str, Any]]:
    """The search page of a database, also as JSON."""
    return [(r"^/-/splade/(?P<database>[^/]+?)(?P<format>\.json)?$", _page)]


@hookimpl
def database_actions(datasette: Any, actor: Any, database: str) -> Any:
    """A link to the search page in the menu of a database."""

    async def links() -> list[dict[str, str]]:
        if not await _is_visible(datasette, actor, database):
            return []
        return [{"href": _address(datasette, database), "label": "Search by meaning and words"}]

    return links


@hookimpl
def menu_links(datasette: Any, actor: Any) -> Any:
    """A link to each search page in the main menu."""

    async def links() -> list[dict[str, str]]:
        return [
            {"href": _address(datasette, name), "label": f"Search {name}"}
            for name in datasette.databases
            if await _is_visible(datasette, actor, name)
        ]

    return links


async def _is_visible(datasette: Any, actor: Any, name: str) -> bool:
    """Whether there is something to search that this visitor may read."""
    if not await _is_ours(datasette.get_database(name)):
        return False
    permissions = [("view-table", (name, "document")), ("view-database", name), "view-instance"]
    visible, _ = await datasette.check_visibility(actor, permissions=permissions)
    return bool(visible)


def _address(datasette: Any, database: str, **arguments: Any) -> str:
    from datasette.utils import tilde_encode

    query = urlencode({name: value for name, value in arguments.items() if value}, doseq=True)
    return str(datasette.urls.path(f"/-/splade/{tilde_encode(database)}")) + (f"?{query}" if query else "")


async def _page(datasette: Any, request: Any) -> Any:
    from datasette.utils import tilde_decode

    name = tilde_decode(request.url_vars["database"])
    if name not in datasette.databases or not await _is_ours(datasette.get_database(name)):
        raise NotFound(f"There is no SpladeLite file {name!r} here")
    if not await _is_visible(datasette, request.actor, name):
        raise Forbidden("view-table")
    database = datasette.get_database(name)
    question, why = (request.args.get("q") or "").strip(), request.args.get("why")
    pairs = [pair for pair in request.args.getlist("f") if "=" in pair]
    hits: list[dict[str, Any]] = []
    reasons, error = None, ""
    try:
        if question and why:
            reasons = await _ask(datasette, "explain", database, question, why)
        elif question:
            hits = await _ask(datasette, "search", database, question, HITS, _condition(pairs))
    except SearchError as problem:
        error = str(problem)
    if request.url_vars["format"]:
        plain = [hit | {"passage": "".join(part for part, _ in _parts(hit["passage"]))} for hit in hits]
        return Response.json({"hits": plain, "reasons": reasons, "error": error or None}, status=400 if error else 200)
    context = _context(datasette, name, question, pairs, request.args.get("p") or "", hits)
    template = datasette.jinja_env.from_string(_TEMPLATE)
    html = await datasette.render_template(template, context | {"error": error, "reasons": reasons}, request=request)
    return Response.html(html, status=400 if error else 200)


def _context(
    datasette: Any, name: str, question: str, pairs: list[str], page: str, hits: list[dict[str, Any]]
) -> dict[str, Any]:
    """What the template shows."""
    first = (int(page) - 1) * PAGE if page.isdecimal() and 0 < int(page) <= HITS // PAGE else 0
    number = first // PAGE + 1
    document = datasette.urls.table(name, "document")

    def address(**arguments: Any) -> str:
        return _address(datasette, name, **({"q": question, "f": pairs} | arguments))

    chosen = []
    for pair in pairs:
        field, value = pair.split("=", 1)
        others = [other for other in pairs if other != pair]
        chosen.append({"pair": pair, "field": field, "value": _text(_value(value)), "without": address(f=others)})
    return {
        "database": name,
        "question": question,
        "action": _address(datasette, name),
        "back": address(),
        "chosen": chosen,
        "found": len(hits),
        "most": HITS,
        "facets": _facets(address, pairs, hits),
        "earlier": address(p=number - 1) if first else "",
        "later": address(p=number + 1) if len(hits) > first + PAGE else "",
        "hits": [
            {
                "rank": rank,
                "id": hit["id"],
                "score": hit["score"],
                "place": hit["place"],
                "passage": _parts(hit["passage"]),
                # Where a file is, the id says.
                "metadata": [(key, _text(value)) for key, value in hit["metadata"].items() if key != "file"],
                "why": address(why=hit["id"]),
                "row": f"{document}?{urlencode({'id__exact': hit['id']})}",
            }
            for rank, hit in enumerate(hits[first : first + PAGE], first + 1)
        ],
    }


def _condition(pairs: list[str]) -> dict[str, Any]:
    """A filter of the chosen fields: each has the value, or a list with it."""
    wanted = []
    for pair in pairs:
        field, text = pair.split("=", 1)
        key, value = escaped(field.replace(".", "\\.")), _value(text)
        wanted.append({"$or": [{key: value}, {key: {"$any": [value]}}]})
    return {"$and": wanted} if wanted else {}


def _facets(address: Any, pairs: list[str], hits: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The values of metadata fields among the hits, with how many hits have each."""
    counts: dict[str, Counter[str]] = {}
    for hit in hits:
        for field, value in hit["metadata"].items():
            values = {json.dumps(one) for one in (value if isinstance(value, list) else [value])}
            of_field = counts.setdefault(field, Counter())
            of_field.update(one for one in values if one[0] not in "[{" and one != "null")
    facets = []
    for field, found in counts.items():
        if max(found.values(), default=0) < 2:  # names and numbers of which each document has its own
            continue
        entries = []
        for value, count in found.most_common(FACET_VALUES):
            pair = f"{field}={value}"
            if pair not in pairs:
                entries.append({"value": _text(json.loads(value)), "count": count, "link": address(f=[*pairs, pair])})
        if entries:
            facets.append({"field": field, "entries": entries})
    return facets


def _value(text: str) -> Any:
    """A facet's value as its link writes it, JSON; else the text itself."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, str | int | float) else text


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _parts(passage: str) -> list[tuple[str, bool]]:
    """Stretches of a passage, and whether each matches."""
    parts = []
    for number, piece in enumerate(passage.split(_MARKS[0])):
        match, _, rest = piece.partition(_MARKS[1]) if number else ("", "", piece)
        parts += [(match, True), (rest, False)]
    return [part for part in parts if part[0]]

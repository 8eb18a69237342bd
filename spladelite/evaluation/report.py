"""An evaluation as text, and as one HTML file without outside parts."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from spladelite.evaluation.measures import LABELS, MEASURES
from spladelite.evaluation.runner import Difference, Evaluation, System

SIGNIFICANT = 0.05

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; } th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; } pre { background: #f6f6f6; padding: .7rem; overflow-x: auto; }
svg { display: block; margin: .5rem 0 1.5rem; } svg text { font: 12px system-ui, sans-serif; fill: #444; }
""".strip()
_WIDTH, _HEIGHT, _EDGE = 640, 220, 45


def header(evaluation: Evaluation) -> list[str]:
    """Column titles of :func:`rows`."""
    names = [LABELS.get(name, name) for name in evaluation.measures]
    return ["system", *names, "query terms", "FLOPS", "p50 ms", "p99 ms", "index MB"]


def rows(evaluation: Evaluation) -> list[list[str]]:
    """One row a system; a star marks a mean that differs from the baseline's with p < 0.05."""
    return [_row(evaluation, system) for system in evaluation.systems]


def _row(evaluation: Evaluation, system: System) -> list[str]:
    cells = [system.name]
    for name in evaluation.measures:
        star = "*" if system.p_values.get(name, 1.0) < SIGNIFICANT else " "
        cells.append(f"{system.scores.mean[name]:.4f}{star}")
    cells.append("-" if system.query_terms is None else f"{system.query_terms:.1f}")
    cells.append("-" if system.flops is None else f"{system.flops:.2f}")
    return [*cells, *(f"{value:.2f}" for value in system.latency_ms), f"{system.size / 1e6:.1f}"]


def remarks(evaluation: Evaluation) -> list[str]:
    """What belongs under the table, one sentence each."""
    judged = len(evaluation.systems[0].scores.per_query[MEASURES[0]])
    return [
        f"{evaluation.documents:,} documents in {evaluation.passages:,} passages, {judged:,} judged queries; "
        f"{evaluation.document_terms:.1f} active terms a passage.",
        f"* p < {SIGNIFICANT} against {evaluation.baseline}, paired randomisation test, not corrected for the number "
        "of comparisons.",
        "FLOPS: expected multiply-adds of a query-document pair. Latency: k = 10, query encoding included.",
        *(f"{note}." for note in evaluation.notes),
    ]


def difference_text(difference: Difference, first: str, second: str) -> str:
    """A query on which two systems differ, in a few lines."""
    lines = [
        f"{difference.query_id}: {difference.text}",
        f"  nDCG@10 {first} {difference.first:.4f}, {second} {difference.second:.4f}",
    ]
    if difference.document_id is not None:
        ranks = ", ".join(
            f"{name} {'not found' if rank is None else f'rank {rank}'}"
            for name, rank in ((first, difference.first_rank), (second, difference.second_rank))
        )
        lines.append(f"  relevant {difference.document_id}: {ranks}")
    for explanation in difference.explanations:
        lines += ["    " + line for line in explanation.splitlines()[:9]]
    return "\n".join(lines)


def as_json(evaluation: Evaluation) -> dict[str, object]:
    """The evaluation without its runs, for ``json.dumps``."""
    return {
        "name": evaluation.name,
        "documents": evaluation.documents,
        "passages": evaluation.passages,
        "document_terms": evaluation.document_terms,
        "baseline": evaluation.baseline,
        "notes": list(evaluation.notes),
        "systems": {
            system.name: {
                "measures": system.scores.mean,
                "p_values": system.p_values,
                "latency_ms": {"p50": system.latency_ms[0], "p99": system.latency_ms[1]},
                "index_bytes": system.size,
                "query_terms": system.query_terms,
                "flops": system.flops,
            }
            for system in evaluation.systems
        },
    }


def as_html(evaluation: Evaluation, differences: Sequence[Difference] = (), compared: Sequence[str] = ("", "")) -> str:
    """The whole report as one HTML page: table, plots, and the compared queries if there are any."""
    first, second = compared
    body = [
        f"<h1>{escape(evaluation.name or 'Evaluation')}</h1>",
        _html_table(header(evaluation), rows(evaluation)),
        *(f"<p>{escape(remark)}</p>" for remark in remarks(evaluation)),
        f"<h2>{MEASURES[0]} against time</h2>",
        _scatter(evaluation),
    ]
    for system in evaluation.systems:
        if system.name != evaluation.baseline:
            body.append(f"<h2>{escape(system.name)} against {escape(evaluation.baseline)}, query by query</h2>")
            body.append(_bars(evaluation, system))
    if differences:
        body.append(f"<h2>Where {escape(first)} and {escape(second)} differ most</h2>")
        body += [f"<pre>{escape(difference_text(item, first, second))}</pre>" for item in differences]
    head = f'<meta charset="utf-8"><title>{escape(evaluation.name or "Evaluation")}</title><style>{_STYLE}</style>'
    return f"<!doctype html>\n<html lang=en><head>{head}</head><body>\n" + "\n".join(body) + "\n</body></html>\n"


def _html_table(titles: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(title)}</th>" for title in titles)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in cells)
    return f"<table><tr>{top}</tr>{lines}</table>"


def _scatter(evaluation: Evaluation) -> str:
    """nDCG@10 over the median latency, one point a system."""
    slowest = max(system.latency_ms[0] for system in evaluation.systems) * 1.25
    marks = []
    for system in evaluation.systems:
        x = _EDGE + system.latency_ms[0] / slowest * (_WIDTH - 2 * _EDGE)
        y = _y(system.scores.mean[MEASURES[0]], 0.0, 1.0)
        marks.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="#36c"/>')
        marks.append(f'<text x="{x + 7:.1f}" y="{y + 4:.1f}">{escape(system.name)}</text>')
    marks.append(f'<text x="{_WIDTH - 2 * _EDGE}" y="{_HEIGHT - 8}">{slowest:.1f} ms</text>')
    return _plot(marks, 0.0, 1.0)


def _bars(evaluation: Evaluation, system: System) -> str:
    """The differences of nDCG@10, largest gain first."""
    values, base = (s.scores.per_query[MEASURES[0]] for s in (system, evaluation.system(evaluation.baseline)))
    changes = sorted((values[query] - base[query] for query in values), reverse=True)
    step = (_WIDTH - 2 * _EDGE) / len(changes)
    zero = _y(0.0, -1.0, 1.0)
    marks = []
    for i, change in enumerate(changes):
        y = _y(change, -1.0, 1.0)
        marks.append(
            f'<rect x="{_EDGE + i * step:.2f}" y="{min(y, zero):.1f}" width="{max(step, 0.5):.2f}" '
            f'height="{abs(y - zero):.1f}" fill="{"#36c" if change > 0 else "#c33"}"/>'
        )
    won, lost = sum(change > 0 for change in changes), sum(change < 0 for change in changes)
    marks.append(f'<text x="{_EDGE}" y="{_HEIGHT - 8}">better on {won}, worse on {lost} of {len(changes)}</text>')
    return _plot(marks, -1.0, 1.0)


def _plot(marks: Sequence[str], low: float, high: float) -> str:
    lines = []
    for tick in (low, (low + high) / 2, high):
        y = _y(tick, low, high)
        lines.append(f'<line x1="{_EDGE}" y1="{y:.1f}" x2="{_WIDTH - _EDGE}" y2="{y:.1f}" stroke="#ddd"/>')
        lines.append(f'<text x="4" y="{y + 4:.1f}">{tick:.1f}</text>')
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}">{"".join([*lines, *marks])}</svg>'


def _y(value: float, low: float, high: float) -> float:
    return 15 + (high - value) / (high - low) * (_HEIGHT - 45)

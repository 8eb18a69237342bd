"""Adapting a database's model to its own documents."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")
from click.testing import CliRunner

from spladelite import SpladeLite
from spladelite.cli.main import main
from spladelite.encoders.registry import load_encoder
from spladelite.errors import InvalidInput
from spladelite.training import (
    Trained,
    TrainingData,
    Validation,
    adapt,
    train,
)
from spladelite.training.adapt import GENTLE
from spladelite.training.measure import Measures, measure
from spladelite.training.probe import general_questions
from training.cases import EXAMPLES, VALIDATION


@pytest.fixture
def kb(docstrings: list[str], tmp_path: Path) -> Iterator[SpladeLite]:
    with SpladeLite(tmp_path / "kb.db") as db:
        db.add(docstrings)
        yield db


ADAPT = dataclasses.replace(GENTLE, epochs=1)
adapting = importlib.import_module("spladelite.training.adapt")  # the package's attribute of this name is the function


def graded(monkeypatch: pytest.MonkeyPatch, *grades: float) -> list[tuple[str, float]]:
    """Have adapt's measures be these, in turn; gives the fingerprint and ``min_weight`` of what it measured.

    Four a call: of held-out questions before and after, of general questions before and after. As their grades are
    given, two general questions do for all.
    """
    measured: list[tuple[str, float]] = []

    def graded_measure(encoder: Any, judged: Validation, *, min_weight: float = 0.0) -> Measures:
        measured.append((encoder.fingerprint, min_weight))
        return dataclasses.replace(measure(encoder, judged, min_weight=min_weight), ndcg=grades[len(measured) - 1])

    monkeypatch.setattr(adapting, "measure", graded_measure)
    monkeypatch.setattr(adapting, "general_questions", lambda: VALIDATION)
    return measured


def test_adapt_compares_the_databases_model_with_the_export(
    kb: SpladeLite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    before = kb.stats().fingerprint
    measured = graded(
        monkeypatch,
        *(0.5, 0.5, 0.6, 0.6),  # no gain
        *(0.4, 0.5, 0.6, 0.58),  # forgets
        *(0.4, 0.5, 0.6, 0.595),
        *(0.4, 0.5, 0.6, 0.595),
    )
    done = adapt(kb, tmp_path / "model", ADAPT, documents=50)
    assert not done.kept
    assert not done.forgot
    export = load_encoder(tmp_path / "model").fingerprint
    # Held-out questions with the database's own min_weight.
    assert measured == [(before, 0.3), (export, 0.3), (before, 0.0), (export, 0.0)]
    assert (done.before.ndcg, done.after.ndcg) == (0.5, 0.5)
    assert kb.stats().fingerprint == before
    assert kb.check() == []

    # The same call finds the model finished: it only compares, and re-encodes. Another one does not touch it.
    with pytest.raises(InvalidInput, match=r"trained otherwise \(adaptation there\)"):
        adapt(kb, tmp_path / "model", dataclasses.replace(ADAPT, seed=1), documents=50)
    with monkeypatch.context() as patch:
        patch.setattr(adapting, "train", None)
        again = adapt(kb, tmp_path / "model", ADAPT, documents=50)
        assert again.forgot
        assert not again.kept
        assert again.trained == dataclasses.replace(done.trained, seconds=0.0)
        assert kb.stats().fingerprint == before
        with monkeypatch.context() as interrupting:
            interrupting.setattr(SpladeLite, "reencode", interrupted)
            with pytest.raises(KeyboardInterrupt):
                adapt(kb, tmp_path / "model", ADAPT, documents=50)
        done = adapt(kb, tmp_path / "model", ADAPT, documents=50)
    assert done.kept
    assert (done.before.ndcg, done.after.ndcg) == (0.4, 0.5)
    assert kb.stats().fingerprint == export
    assert len(kb.search("shuffle a list", k=3)) == 3
    with pytest.raises(InvalidInput, match="already uses"):
        adapt(kb, tmp_path / "model", ADAPT, documents=50)


def test_adapt_to_static_queries_and_of_a_static_model(
    kb: SpladeLite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graded(monkeypatch, *(0.1, 0.2, 0.5, 0.5), *(0.1, 0.2, 0.5, 0.5))
    done = adapt(kb, tmp_path / "static", dataclasses.replace(ADAPT, queries="static"), documents=50)
    assert done.kept
    assert done.trained.start is not None
    assert done.before.query_terms > 1.5 * done.trained.start.query_terms  # not the static model that training began at
    assert adapt(kb, tmp_path / "again", ADAPT, documents=50).kept
    assert "| queries | static |" in (tmp_path / "again" / "MODEL_CARD.md").read_text()


def test_adapt_distils_what_the_model_knew(kb: SpladeLite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[TrainingData] = []

    def stopped(data: TrainingData, *_: Any, **__: Any) -> None:
        seen.append(data)
        raise KeyboardInterrupt

    monkeypatch.setattr(adapting, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        adapt(kb, tmp_path / "model", ADAPT, documents=50)
    model = load_encoder()
    for example in seen[0].examples[::10]:
        query = dict(zip(*model.encode_queries([example.query]).row(0), strict=True))
        texts = model.encode_documents([example.positive, *example.negatives])
        rows = [dict(zip(*texts.row(i), strict=True)) for i in range(len(texts))]
        scores = [sum(weight * row.get(term, 0) for term, weight in query.items()) for row in rows]
        assert example.scores == pytest.approx(scores, rel=1e-4)


def test_adapt_learns_and_is_judged_by_feedback(
    kb: SpladeLite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[TrainingData] = []

    def spied(data: TrainingData, *args: Any, **kwargs: Any) -> Trained:
        seen.append(data)
        return train(data, *args, **kwargs)

    monkeypatch.setattr(adapting, "train", spied)
    graded(monkeypatch, 0.5, 0.5, 0.5, 0.5)
    for number, id in enumerate(list(kb)[:8]):
        kb.feedback(f"question {number}", id)
    adapt(kb, tmp_path / "model", ADAPT, documents=50)
    (data,) = seen
    assert data.validation is not None
    learned = {example.query for example in data.examples if example.query.startswith("question")}
    judged = {query for query in data.validation.queries.values() if query.startswith("question")}
    assert (len(learned), len(judged)) == (4, 4)
    assert not learned & judged
    for id, query in data.validation.queries.items():
        if query in judged:
            (relevant,) = data.validation.qrels[id]
            document = kb.get(list(kb)[int(query.split()[1])])
            assert document is not None
            assert data.validation.corpus[relevant] == document.text
    assert len(set(data.validation.corpus.values())) == len(data.validation.corpus)


def test_general_questions_are_answered_once_and_mostly() -> None:
    general = general_questions()
    assert len(general.queries) > 150
    assert len(set(general.corpus.values())) == len(general.corpus)
    assert general.qrels.keys() == general.queries.keys()
    found = measure(load_encoder(), general)
    assert 0.3 < found.ndcg < 0.9  # neither hopeless nor so easy that nothing could be lost


def test_adapt_fails_before_it_mines(kb: SpladeLite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapting, "mine", None)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    for taken in (tmp_path / "mine", tmp_path / "mine" / "letter.txt"):
        with pytest.raises(InvalidInput, match="not an empty folder"):
            adapt(kb, taken)
    with pytest.raises(InvalidInput, match="documents is -5"):
        adapt(kb, tmp_path / "model", documents=-5)


def test_adapt_wants_enough_text(tmp_path: Path) -> None:
    with SpladeLite(tmp_path / "kb.db") as db:
        db.add(["Too short.", "Also short."])
        with pytest.raises(InvalidInput, match="0 of 2 documents"):
            adapt(db, tmp_path / "model")


def test_the_commands_of_the_page_work(docstrings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"query": e.query, "positive": e.positive} for e in EXAMPLES]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with SpladeLite("kb.db") as db:
        db.add(docstrings)
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text("utf-8")
    commands = re.findall(r"^\$ spladelite (.*)$", page, re.MULTILINE)
    assert len(commands) == 3
    for command in [*commands, "adapt kb.db kb-model --epochs 1"]:
        result = CliRunner(catch_exceptions=False).invoke(main, shlex.split(command))
        assert result.exit_code == 0, result.output
    assert re.search(r"kb.db (now uses kb-model|is unchanged: (no gain|general))", result.stdout)
    assert Path("sparse-model/MODEL_CARD.md").exists()

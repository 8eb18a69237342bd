"""Whole small runs of the bundled model: what they learn, leave behind, and go on with."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

from click.testing import CliRunner

from spladelite import SpladeLite
from spladelite.cli.main import main
from spladelite.encoders.checkpoint import MlmRoute, StaticRoute, read_checkpoint
from spladelite.encoders.export.compare import compare
from spladelite.encoders.registry import bundled_encoder, load_encoder
from spladelite.errors import InvalidInput
from spladelite.training import (
    Setup,
    TrainConfig,
    Trained,
    TrainingData,
    loop,
    report,
    train,
)
from spladelite.training.measure import Measures, measure
from spladelite.training.start import Start, find_start, open_start
from spladelite.training.state import claim, finished, identify
from training.cases import BARE, DATA, EXAMPLES, SMALL, TOPICS, same, weights


def test_training_learns_and_leaves_a_model_folder(trained: Trained) -> None:
    assert trained.steps == 4
    with (trained.folder / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4]
    first, last = ([float(row["contrastive"]) for row in rows[part]] for part in (slice(2), slice(2, 4)))
    assert sum(last) < sum(first)
    assert (trained.folder / "training.png").stat().st_size > 10_000
    card = (trained.folder / "MODEL_CARD.md").read_text()
    assert "eight topics: 8 examples" in card
    assert "| nDCG@10 |" in card
    facts = json.loads((trained.folder / "training.json").read_text())
    assert facts["run"]["config"] == dataclasses.asdict(SMALL)
    assert (facts["source"], facts["start"]) == ("eight topics", bundled_encoder().name)
    assert facts["validation"] == {"queries": 2, "documents": 8}
    assert facts["after"] == dataclasses.asdict(trained.best)  # type: ignore[arg-type]
    assert not (trained.folder / "run").exists()


def test_the_result_serves_a_database(trained: Trained, tmp_path: Path) -> None:
    with SpladeLite(tmp_path / "kb.db") as db:
        db.add([text for _, text in TOPICS.values()], ids=list(TOPICS))
        db.reencode(trained.folder)
        for topic, (query, _) in TOPICS.items():
            assert topic in [hit.id for hit in db.search(query, k=2)]
        assert db.stats().model == "model"


def test_the_onnx_export_is_the_checkpoint(trained: Trained, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (plain / name).write_bytes((trained.folder / name).read_bytes())
    texts = [text for _, text in TOPICS.values()]
    found = compare(load_encoder(plain), load_encoder(trained.folder), texts, "document")
    assert found.top_overlap > 0.9
    assert found.score_error < 0.02


def test_sentence_transformers_reads_the_result(trained: Trained, tmp_path: Path) -> None:
    st = pytest.importorskip("sentence_transformers")
    texts = [text for _, text in TOPICS.values()]
    theirs = st.SparseEncoder(str(trained.folder), device="cpu").encode(texts, convert_to_sparse_tensor=False).numpy()
    torch_only = tmp_path / "model"
    torch_only.mkdir()
    for file in trained.folder.rglob("*"):
        if file.is_file() and file.name not in ("spladelite.json", "model.onnx"):
            place = torch_only / file.relative_to(trained.folder)
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(file.read_bytes())
    for row, (terms, values) in zip(theirs, load_encoder(torch_only).encode_documents(texts), strict=True):
        assert np.allclose(row[terms], values, atol=1e-4)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    trained: Trained, weights_only: Setup, tmp_path: Path
) -> None:
    again = train(DATA, tmp_path / "again", SMALL, weights_only)
    other = train(BARE, tmp_path / "other", dataclasses.replace(SMALL, seed=1), weights_only)
    assert same(trained.folder, again.folder)
    assert not same(trained.folder, other.folder)


def test_a_blend_lies_between_the_first_weights_and_the_trained_ones(weights_only: Setup, tmp_path: Path) -> None:
    whole, half, quarter = (
        weights(train(BARE, tmp_path / str(blend), dataclasses.replace(SMALL, blend=blend), weights_only).folder)
        for blend in (1.0, 0.5, 0.25)
    )
    moved = 0.0
    for name, trained in whole.items():
        moved = max(moved, float(np.abs(trained - half[name]).max()))
        assert np.allclose(trained - half[name], 2 * (half[name] - quarter[name]), atol=5e-6)
    assert moved > 1e-4


def test_an_interrupted_run_ends_where_it_would_have_ended(
    trained: Trained, weights_only: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    objective = loop.objective

    def interrupted(*args: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return objective(*args)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "objective", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(DATA, tmp_path / "model", SMALL, weights_only)
    assert not (tmp_path / "model" / "model.safetensors").exists()
    resumed = train(DATA, tmp_path / "model", SMALL, weights_only)
    assert steps == 3  # the third step was finished, the fourth came with the second call
    assert same(trained.folder, resumed.folder)
    lines = (tmp_path / "model" / "log.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in lines] == ["step", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("error", "seconds", "saved"),
    [
        (MemoryError, 600, 1),  # a failure saves
        (KeyboardInterrupt, -1, 1),  # so does the clock, here after each step
        (KeyboardInterrupt, 600, 0),  # as if killed: what was saved before the first step has no moments
    ],
)
def test_a_run_that_failed_ends_where_it_would_have_ended(
    error: type[BaseException],
    seconds: int,
    saved: int,
    trained: Trained,
    weights_only: Setup,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    objective, calls = loop.objective, 0

    def failing(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        result = objective(*args)  # takes random numbers
        if calls == 2:
            raise error
        return result

    with monkeypatch.context() as patch:
        patch.setattr(loop, "objective", failing)
        patch.setattr(loop, "SAVE_SECONDS", seconds)
        with pytest.raises(error):
            train(DATA, tmp_path / "model", SMALL, weights_only)
    latest = tmp_path / "model" / "run" / "latest"
    assert json.loads((latest / "standing.json").read_text())["step"] == saved
    latest.rename(latest.with_name("latest.old"))  # as if killed while a newer state was put in its place
    assert same(trained.folder, train(DATA, tmp_path / "model", SMALL, weights_only).folder)


def test_an_epoch_that_could_not_be_measured_is_measured_when_the_run_goes_on(
    trained: Trained, weights_only: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine, calls = measure, 0

    def failing(*args: Any) -> Measures:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise MemoryError
        return genuine(*args)

    monkeypatch.setattr(loop, "measure", failing)
    monkeypatch.setattr(loop, "SAVE_SECONDS", -1)
    with pytest.raises(MemoryError):
        train(DATA, tmp_path / "model", SMALL, weights_only)
    again = train(DATA, tmp_path / "model", SMALL, weights_only)
    assert same(trained.folder, again.folder)
    assert (again.folder / "validation.csv").read_text() == (trained.folder / "validation.csv").read_text()


def test_the_best_epoch_is_kept_and_patience_ends_the_run(
    weights_only: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = [0.1, 0.2, 0.5, 0.4, 0.3, 0.9]
    seen: list[dict[str, Any]] = []

    def scripted(*_: Any) -> Measures:
        seen.append(weights(tmp_path / "model" / "run" / "measured"))
        return Measures(series[len(seen) - 1], 0.0, 0.0, 0.0, 0.0, 0.0)

    monkeypatch.setattr(loop, "measure", scripted)
    config = dataclasses.replace(SMALL, epochs=6, batch_size=8, lambda_warmup=0.0, patience=2)
    lines: list[str] = []
    made = train(DATA, tmp_path / "model", config, weights_only, log=lines.append)
    assert (made.epoch, made.steps) == (2, 4)
    assert made.best is not None
    assert made.best.ndcg == 0.5
    shipped = weights(made.folder)
    assert all(np.array_equal(shipped[name], seen[2][name]) for name in shipped)
    assert not all(np.array_equal(shipped[name], seen[4][name]) for name in shipped)
    assert "the scores of the examples are not used: kl and margin_mse are 0" in lines


def test_an_interrupted_export_is_done_again(
    trained: Trained, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(report, "plot", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(DATA, tmp_path / "model", SMALL, Setup(model=checkpoint))
    assert (tmp_path / "model" / "spladelite.json").exists()
    assert finished(tmp_path / "model", {}) is None
    made = train(DATA, tmp_path / "model", SMALL, Setup(model=checkpoint))
    assert finished(made.folder, {"config": dataclasses.asdict(SMALL)})
    assert same(trained.folder, made.folder)


def test_a_run_goes_on_with_the_same_data_only(tmp_path: Path) -> None:
    def run(data: TrainingData, origin: dict[str, Any]) -> dict[str, Any]:
        return identify(data, "model", SMALL, origin)

    folder = tmp_path / "model"
    assert not claim(folder, run(BARE, {}))
    assert not claim(folder, run(DATA, {"mine": 4}))  # nothing was saved, so nothing is lost
    (folder / "run" / "latest").mkdir()
    assert claim(folder, run(DATA, {"mine": 4}))
    for other, origin, differing in (
        (BARE, {"mine": 4}, "validation"),
        (dataclasses.replace(DATA, corpus=("a",)), {"mine": 4}, "corpus"),
        (dataclasses.replace(DATA, examples=EXAMPLES[1:]), {"mine": 4}, "data"),
        (DATA, {"mine": 5}, "mine=4"),
    ):
        with pytest.raises(InvalidInput, match=rf"differs \({differing} there\)"):
            claim(folder, run(other, origin))
    (folder / "run" / "run.json").write_text('{"config": {')
    with pytest.raises(InvalidInput, match=r"run\.json: damaged.*remove its folder"):
        claim(folder, run(DATA, {"mine": 4}))


def test_another_run_does_not_go_on_in_the_same_folder(
    weights_only: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "objective", fail)
        with pytest.raises(KeyboardInterrupt):
            train(DATA, tmp_path / "model", SMALL, weights_only)
    with pytest.raises(InvalidInput, match=r"unfinished run that differs \(lambda_d=0.003 there\)"):
        train(DATA, tmp_path / "model", dataclasses.replace(SMALL, lambda_d=0.5), weights_only)


def test_ctrl_c_in_a_process_saves_and_the_command_goes_on(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["query\tpositive\tnegative"] + ["\t".join((e.query, e.positive, *e.negatives)) for e in EXAMPLES]
    (tmp_path / "pairs.tsv").write_text("\n".join(lines) + "\n")
    arguments = [
        "train", "pairs.tsv", "out", "--model", str(checkpoint), "--mine", "0", "--epochs", "6", "--batch-size", "4",
        "--validation", "0", "--patience", "0",
    ]  # fmt: skip
    command = [sys.executable, "-m", "spladelite", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "step 2/" in line:
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
        assert process.wait(60) == 130, rest
    assert "interrupted" in rest
    assert (tmp_path / "out" / "run" / "latest" / "state.safetensors").exists()
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert "step 1/" not in done.output
    assert (tmp_path / "out" / "model.onnx").exists()


def test_documents_alone_are_trained_with_static_queries(checkpoint: Path, tmp_path: Path) -> None:
    made = train(BARE, tmp_path / "static", dataclasses.replace(SMALL, queries="static"))
    encoder = load_encoder(made.folder)
    query = "why does the iron rust"
    weights = encoder.encode_queries([query]).dicts()[0]
    assert set(weights) == set(encoder.tokenize(query).term_ids.tolist())
    rarer, common = (encoder.vocabulary.index(word) for word in ("iron", "the"))
    assert weights[rarer] > weights[common]
    assert not same(made.folder, checkpoint)
    with (made.folder / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert "flops_q" not in rows[0]
    first, last = ([float(row["contrastive"]) for row in rows[part]] for part in (slice(2), slice(2, 4)))
    assert sum(last) < sum(first)


def test_static_queries_need_a_model_that_such_a_folder_can_say(checkpoint: Path, tmp_path: Path) -> None:
    found = read_checkpoint(checkpoint)
    config = TrainConfig(queries="static")
    plain, ones = MlmRoute(checkpoint), np.ones(len(found.tokenizer.vocabulary), np.float32)
    for document, query in (
        (MlmRoute(checkpoint, "sum"), None),
        (MlmRoute(checkpoint, "max", "log1p_log1p"), None),
        (MlmRoute(checkpoint, "max", "log1p", "passage: "), None),
        (MlmRoute(checkpoint, "sum"), StaticRoute(ones)),
        (plain, StaticRoute(ones, "query: ")),
    ):
        start = Start(checkpoint, "m", "f", dataclasses.replace(found, document=document, query=query or document))
        with pytest.raises(InvalidInput, match="max pooling, log1p and no prompt"):
            open_start(start, tmp_path, config, ("a text",), "cpu")
    assert open_start(find_start(checkpoint, None), tmp_path, config, ("a text",), "cpu").static is not None


def test_a_start_that_failed_leaves_the_folder_free(checkpoint: Path, tmp_path: Path) -> None:
    static = dataclasses.replace(SMALL, epochs=1, queries="static")
    with pytest.raises(InvalidInput, match="max pooling"):
        train(BARE, tmp_path / "model", static, Setup(model=checkpoint, pooling="sum"))
    made = train(BARE, tmp_path / "model", static, Setup(model=checkpoint))
    assert load_encoder(made.folder).encode_queries(["iron"]).dicts()[0]


@pytest.mark.parametrize(
    ("change", "steps"),
    [
        ({"margin_mse": 0.1, "contrastive": 0.0}, 8),
        ({"kl": 1.0, "temperature": 2.0}, 8),
        ({"query_regularizer": "l1", "accumulate": 2}, 4),
    ],
)
def test_every_loss_falls(change: dict[str, Any], steps: int, weights_only: Setup, tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, epochs=4, learning_rate=3e-4, lambda_q=0.0, lambda_d=0.0, **change)
    train(BARE, tmp_path / "model", config, weights_only)
    with (tmp_path / "model" / "log.csv").open() as file:
        loss = [float(row["loss"]) for row in csv.DictReader(file)]
    assert len(loss) == steps
    assert np.mean(loss[-2:]) < np.mean(loss[:2])


def test_more_lambda_is_sparser(weights_only: Setup, tmp_path: Path) -> None:
    terms = []
    for weight in (0.0, 0.1):
        config = dataclasses.replace(SMALL, epochs=6, lambda_q=weight, lambda_d=weight)
        made = train(DATA, tmp_path / f"model{weight}", config, weights_only)
        assert made.best is not None
        terms.append(made.best.document_terms)
    assert terms[1] < 0.9 * terms[0]

"""Training: losses against sentence-transformers, exact gradients, and whole small runs of the bundled model."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import inspect
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")
import torch
from click.testing import CliRunner

from spladelite import SpladeLite
from spladelite.cli.main import main
from spladelite.encoders.checkpoint import MlmRoute, StaticRoute, read_checkpoint
from spladelite.encoders.export.compare import compare
from spladelite.encoders.export.unpack import unpack
from spladelite.encoders.registry import BUNDLED, bundled_encoder, load_encoder
from spladelite.errors import InvalidInput, ModelError, TrainingError
from spladelite.training import (
    Example,
    Recipe,
    Setup,
    TrainConfig,
    Trained,
    TrainingData,
    Validation,
    adapt,
    fine_tune,
    loop,
    losses,
    recipe,
    report,
    train,
)
from spladelite.training.adapt import GENTLE
from spladelite.training.batches import batch_count, epoch_batches, positives_of
from spladelite.training.measure import Measures, measure
from spladelite.training.model import Trainee, pool
from spladelite.training.start import Start, find_start, open_start
from spladelite.training.state import claim, finished, identify
from spladelite.training.teachers import sparse

TOPICS = {
    "bread": ("How is bread baked?", "Dough of flour and water rises with yeast and is baked in a hot oven."),
    "tide": ("What causes tides?", "The moon pulls the sea, so that water rises and falls twice a day."),
    "rust": ("Why does iron rust?", "Iron reacts with oxygen and water to a brown oxide that flakes off."),
    "bee": ("How do bees make honey?", "Bees collect nectar and let its water evaporate in the comb."),
    "loan": ("What is interest on a loan?", "A bank charges a yearly share of the borrowed money."),
    "volcano": ("Why do volcanoes erupt?", "Gas in molten rock expands and drives magma out of the crust."),
    "bike": ("How does a bicycle stay upright?", "Steering into a fall brings the wheels back under the rider."),
    "sleep": ("Why do we sleep?", "Sleep lets the brain sort memories and clear away waste at night."),
}
EXAMPLES = tuple(
    Example(
        query, positive, tuple(other for key, (_, other) in TOPICS.items() if key != topic)[:3], (3.0, 1.0, 0.0, -1.0)
    )
    for topic, (query, positive) in TOPICS.items()
)
VALIDATION = Validation(
    {"q1": "baking a loaf", "q2": "ocean water levels and the moon"},
    {topic: text for topic, (_, text) in TOPICS.items()},
    {"q1": {"bread": 1}, "q2": {"tide": 1}},
)
DATA = TrainingData(EXAMPLES, tuple(text for _, text in TOPICS.values()), VALIDATION)
BARE = dataclasses.replace(DATA, validation=None)
SMALL = TrainConfig(epochs=2, batch_size=4, learning_rate=1e-4, patience=0)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Batches this small are done before threads have met."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "splade-tiny"
    unpack(BUNDLED, folder)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(DATA, tmp_path_factory.mktemp("run") / "model", SMALL, source="eight topics")


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    return dict(load_file(folder / "model.safetensors"))


def same(first: Path, second: Path) -> bool:
    one, other = weights(first), weights(second)
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


# --- losses ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tensors() -> tuple[Any, list[Any], Any]:
    """Queries, positives and two lists of negatives as sparse vectors (6, 50), and a teacher's scores."""
    torch.manual_seed(3)
    vectors = [torch.relu(torch.randn(6, 50)) for _ in range(4)]
    return vectors[0], vectors[1:], torch.randn(6, 3) * 4


def test_losses_are_those_of_sentence_transformers(tensors: tuple[Any, list[Any], Any]) -> None:
    st = pytest.importorskip("sentence_transformers.sparse_encoder.losses")
    queries, documents, teacher = tensors
    every = [queries, *documents]
    columns = torch.cat(documents)
    scores = queries @ columns.T
    own = torch.stack([(queries * part).sum(1) for part in documents], 1)

    def equal(ours: Any, theirs: Any) -> None:
        assert float(ours) == pytest.approx(float(theirs), abs=1e-5)

    flops = st.FlopsLoss(None)
    equal(losses.flops(columns), flops.compute_loss_from_embeddings(columns))
    ranking = st.SparseMultipleNegativesRankingLoss(None)
    equal(losses.contrastive(scores, torch.arange(6)), ranking.compute_loss_from_embeddings(every, None))
    margins = teacher[:, :1] - teacher[:, 1:]
    equal(losses.margin_mse(own, teacher), st.SparseMarginMSELoss(None).compute_loss_from_embeddings(every, margins))
    for temperature in (1.0, 2.0):
        kl = st.SparseDistillKLDivLoss(None, temperature=temperature)
        equal(losses.kl_divergence(own, teacher, temperature), kl.compute_loss_from_embeddings(every, teacher))
    whole = st.SpladeLoss(None, ranking, document_regularizer_weight=3e-3, query_regularizer_weight=5e-3)
    parts = {
        "base": whole.loss.compute_loss_from_embeddings(every, None),
        "documents": whole.document_regularizer_weight
        * whole.document_regularizer.compute_loss_from_embeddings(columns),
        "queries": whole.query_regularizer_weight * whole.query_regularizer.compute_loss_from_embeddings(queries),
    }
    ours = losses.contrastive(scores, torch.arange(6)) + 3e-3 * losses.flops(columns) + 5e-3 * losses.flops(queries)
    equal(ours, sum(parts.values()))


def test_losses_leave_out_what_a_query_has_not(tensors: tuple[Any, list[Any], Any]) -> None:
    queries, documents, teacher = tensors
    own = torch.stack([(queries * part).sum(1) for part in documents], 1)
    padded = torch.cat([own, torch.full((6, 1), torch.nan)], 1)
    wide = torch.cat([teacher, torch.full((6, 1), torch.nan)], 1)
    assert losses.margin_mse(padded, wide) == losses.margin_mse(own, teacher)
    assert float(losses.kl_divergence(padded, wide)) == pytest.approx(
        float(losses.kl_divergence(own, teacher)), abs=1e-6
    )


def test_l1_and_warmup() -> None:
    assert float(losses.l1(torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, 1.0]]))) == 2.0
    assert [losses.quadratic_warmup(step, 4) for step in (0, 1, 2, 4, 9)] == [0.0, 1 / 16, 1 / 4, 1.0, 1.0]
    assert losses.quadratic_warmup(0, 0) == 1.0


# --- the model -------------------------------------------------------------------------------------------------------


def test_the_bundled_model_is_read_back(checkpoint: Path) -> None:
    found = compare(bundled_encoder(), load_encoder(checkpoint), [text for _, text in TOPICS.values()], "document")
    assert found.top_overlap == 1.0
    assert found.largest_difference < 0.2  # what int8 costs against float32
    assert found.mean_difference < 0.015


def test_other_folders_are_not_read_back(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="missing"):
        unpack(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("pooling", ["max", "sum"])
@pytest.mark.parametrize("fast", [False, True])
def test_gradients_are_those_of_the_plain_formula(
    checkpoint: Path, pooling: str, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spladelite.training.model.has_fast_bfloat16", lambda: fast)
    trainee = Trainee(read_checkpoint(checkpoint), "cpu").eval()
    route = MlmRoute(checkpoint, pooling)
    ids = [torch.from_numpy(trainee.tokens(text)) for text in ("automobile accident injury", *TOPICS["tide"])]
    hidden = [trainee.mlm(input_ids=text[None]).logits[0] for text in ids]
    longest = max(map(len, hidden))
    padded = torch.stack([torch.nn.functional.pad(rows, (0, 0, 0, longest - len(rows))) for rows in hidden])
    mask = torch.tensor([[i < len(rows) for i in range(longest)] for rows in hidden])
    ours = pool(padded, mask, trainee.output, trainee.excluded, route)
    plain = []
    for rows in hidden:
        activated = torch.log1p(torch.relu(rows @ trainee.output.weight.T + trainee.output.bias))
        values = activated.amax(0) if pooling == "max" else activated.sum(0)
        plain.append(values.masked_fill(trainee.excluded, 0))
    expected = torch.stack(plain)
    assert torch.allclose(ours, expected, atol=1e-5)
    direction = torch.randn(ours.shape, generator=torch.Generator().manual_seed(0))
    names, parameters = zip(*trainee.named_parameters(), strict=True)
    got, wanted = (
        torch.autograd.grad((vectors * direction).sum(), parameters, retain_graph=True) for vectors in (ours, expected)
    )
    for name, one, other in zip(names, got, wanted, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()) + 1e-6), name


# --- batches ---------------------------------------------------------------------------------------------------------


def test_other_positives_of_a_query_are_no_negatives() -> None:
    examples = [Example("q", "a", ("x",)), Example("q", "b", ("y",)), Example("r", "c", ("a",))]
    (batch,) = epoch_batches(examples, positives_of(examples), TrainConfig(batch_size=3, negatives=1), 0)
    for row in range(3):
        own = batch.documents[batch.groups[row, 0]]
        barred = {batch.documents[i] for i in np.flatnonzero(batch.barred[row])}
        assert barred == {"a": {"a", "b"}, "b": {"a"}, "c": set()}[own]  # "a" is also a negative of the third
        assert not batch.barred[row, batch.groups[row, 0]]


def test_an_epoch_has_every_example_once_and_draws_anew() -> None:
    config = TrainConfig(batch_size=3, negatives=2)
    epochs = [epoch_batches(EXAMPLES, positives_of(EXAMPLES), config, epoch) for epoch in (0, 0, 1)]
    texts = [[query for batch in batches for query in batch.queries] for batches in epochs]
    assert sorted(texts[0]) == sorted(example.query for example in EXAMPLES)
    assert texts[0] == texts[1] != texts[2]
    assert [len(batch.queries) for batch in epochs[0]] == [3, 3, 2]
    for batch in epochs[0]:
        for row, query in enumerate(batch.queries):
            example = next(example for example in EXAMPLES if example.query == query)
            known = dict(zip((example.positive, *example.negatives), example.scores or (), strict=True))
            drawn = [batch.documents[i] for i in batch.groups[row]]
            assert drawn[0] == example.positive
            assert [known[text] for text in drawn] == batch.teacher[row].tolist()


@pytest.mark.parametrize(("size", "expected"), [(3, [3, 3, 2]), (4, [4, 4]), (5, [5, 3]), (6, [8]), (9, [8])])
def test_a_small_remainder_goes_into_the_batch_before(size: int, expected: list[int]) -> None:
    config = TrainConfig(batch_size=size)
    batches = epoch_batches(EXAMPLES, positives_of(EXAMPLES), config, 0)
    assert [len(batch.queries) for batch in batches] == expected
    assert batch_count(len(EXAMPLES), size) == len(expected)


@pytest.mark.parametrize(
    "examples",
    [
        [Example("q", "a")],
        [Example("q", "a"), Example("q", "b")],
        [Example("q", "a"), Example("r", "a")],
    ],
)
def test_examples_with_nothing_to_contrast_are_refused(examples: list[Example], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="nothing to tell a positive from"):
        train(TrainingData(tuple(examples), ("a", "b"), None), tmp_path / "model", SMALL)
    assert not (tmp_path / "model").exists()


def test_accumulated_batches_count_by_their_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    def known(trainee: Any, batch: Any, *_: Any) -> Any:
        return trainee.bias.sum() * len(batch.queries), {"loss": float(len(batch.queries))}

    monkeypatch.setattr(loop, "objective", known)
    trainee = torch.nn.Linear(1, 1)
    batches = epoch_batches(EXAMPLES, positives_of(EXAMPLES), TrainConfig(batch_size=5), 0)
    row = loop._gradients(trainee, batches, TrainConfig(max_grad_norm=100.0), 1.0)
    assert [len(batch.queries) for batch in batches] == [5, 3]
    assert row["loss"] == pytest.approx((5 * 5 + 3 * 3) / 8)
    assert float(trainee.bias.grad) == pytest.approx((5 * 5 + 3 * 3) / 8)


# --- whole runs ------------------------------------------------------------------------------------------------------


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


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(trained: Trained, tmp_path: Path) -> None:
    again = train(DATA, tmp_path / "again", SMALL)
    other = train(BARE, tmp_path / "other", dataclasses.replace(SMALL, seed=1))
    assert same(trained.folder, again.folder)
    assert not same(trained.folder, other.folder)


def test_an_interrupted_run_ends_where_it_would_have_ended(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
            train(DATA, tmp_path / "model", SMALL)
    assert not (tmp_path / "model" / "model.safetensors").exists()
    resumed = train(DATA, tmp_path / "model", SMALL)
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
            train(DATA, tmp_path / "model", SMALL)
    latest = tmp_path / "model" / "run" / "latest"
    assert json.loads((latest / "standing.json").read_text())["step"] == saved
    latest.rename(latest.with_name("latest.old"))  # as if killed while a newer state was put in its place
    assert same(trained.folder, train(DATA, tmp_path / "model", SMALL).folder)


def test_an_epoch_that_could_not_be_measured_is_measured_when_the_run_goes_on(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
        train(DATA, tmp_path / "model", SMALL)
    again = train(DATA, tmp_path / "model", SMALL)
    assert same(trained.folder, again.folder)
    assert (again.folder / "validation.csv").read_text() == (trained.folder / "validation.csv").read_text()


def test_the_best_epoch_is_kept_and_patience_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    series = [0.1, 0.2, 0.5, 0.4, 0.3, 0.9]
    seen: list[dict[str, Any]] = []

    def scripted(*_: Any) -> Measures:
        seen.append(weights(tmp_path / "model" / "run" / "measured"))
        return Measures(series[len(seen) - 1], 0.0, 0.0, 0.0, 0.0, 0.0)

    monkeypatch.setattr(loop, "measure", scripted)
    config = dataclasses.replace(SMALL, epochs=6, batch_size=8, lambda_warmup=0.0, patience=2)
    lines: list[str] = []
    made = train(DATA, tmp_path / "model", config, log=lines.append)
    assert (made.epoch, made.steps) == (2, 4)
    assert made.best is not None
    assert made.best.ndcg == 0.5
    shipped = weights(made.folder)
    assert all(np.array_equal(shipped[name], seen[2][name]) for name in shipped)
    assert not all(np.array_equal(shipped[name], seen[4][name]) for name in shipped)
    assert "the scores of the examples are not used: kl and margin_mse are 0" in lines


def test_an_interrupted_export_is_done_again(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(report, "plot", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(DATA, tmp_path / "model", SMALL)
    assert (tmp_path / "model" / "spladelite.json").exists()
    assert finished(tmp_path / "model", {}) is None
    made = train(DATA, tmp_path / "model", SMALL)
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


def test_another_run_does_not_go_on_in_the_same_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "objective", fail)
        with pytest.raises(KeyboardInterrupt):
            train(DATA, tmp_path / "model", SMALL)
    with pytest.raises(InvalidInput, match=r"unfinished run that differs \(lambda_d=0.003 there\)"):
        train(DATA, tmp_path / "model", dataclasses.replace(SMALL, lambda_d=0.5))


def test_ctrl_c_in_a_process_saves_and_the_command_goes_on(tmp_path: Path) -> None:
    lines = ["query\tpositive\tnegative"] + ["\t".join((e.query, e.positive, *e.negatives)) for e in EXAMPLES]
    (tmp_path / "pairs.tsv").write_text("\n".join(lines) + "\n")
    command = [
        sys.executable, "-m", "spladelite", "train", "pairs.tsv", "out", "--mine", "0", "--epochs", "6",
        "--batch-size", "4", "--validation", "0", "--patience", "0",
    ]  # fmt: skip
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
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "step 1/" not in done.stderr
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
def test_every_loss_falls(change: dict[str, Any], steps: int, tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, epochs=4, learning_rate=3e-4, lambda_q=0.0, lambda_d=0.0, **change)
    train(BARE, tmp_path / "model", config)
    with (tmp_path / "model" / "log.csv").open() as file:
        loss = [float(row["loss"]) for row in csv.DictReader(file)]
    assert len(loss) == steps
    assert np.mean(loss[-2:]) < np.mean(loss[:2])


def test_more_lambda_is_sparser(tmp_path: Path) -> None:
    terms = []
    for weight in (0.0, 0.1):
        config = dataclasses.replace(SMALL, epochs=6, lambda_q=weight, lambda_d=weight)
        made = train(DATA, tmp_path / f"model{weight}", config)
        assert made.best is not None
        terms.append(made.best.document_terms)
    assert terms[1] < 0.9 * terms[0]


# --- what goes wrong -------------------------------------------------------------------------------------------------


def spoil(step: int, value: float) -> Callable[..., Any]:
    objective = loop.objective
    calls = 0

    def spoiled(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        loss, part = objective(*args)
        return (loss * value, part | {"loss": value}) if calls == step else (loss, part)

    return spoiled


def test_a_loss_that_is_nan_stops_and_the_best_epoch_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "objective", spoil(4, float("nan")))
    with pytest.raises(TrainingError, match=r"step 4: loss, gradient became nan.*epoch 1 is in .*best"):
        train(DATA, tmp_path / "model", SMALL)
    kept = load_encoder(tmp_path / "model" / "run" / "best")
    assert len(kept.encode_queries(["iron and rust"]).row(0)[0]) > 5


def test_collapse_is_noticed(tmp_path: Path) -> None:
    config = TrainConfig(
        epochs=30, batch_size=8, learning_rate=5e-3, lambda_q=50.0, lambda_d=50.0, lambda_warmup=0.0, patience=0
    )
    with pytest.raises(TrainingError, match="FLOPS collapse"):
        train(BARE, tmp_path / "model", config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lambda_d": -1.0}, "lambda_d is -1.0"),
        ({"lambda_q": float("nan")}, "lambda_q is nan"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 2.5}, "batch_size is 2.5"),
        ({"lambda_warmup": 1.5}, "lambda_warmup is 1.5"),
        ({"queries": "idf"}, "queries must be one of model, static"),
        ({"contrastive": 0.0}, "nothing to learn"),
        ({"seed": 2**63}, "seed is 9223372036854775808"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        TrainConfig(**settings)


def test_distillation_without_scores_is_refused(tmp_path: Path) -> None:
    bare = tuple(dataclasses.replace(example, scores=None) for example in EXAMPLES)
    with pytest.raises(InvalidInput, match="of 8 examples 8 have no scores"):
        train(dataclasses.replace(DATA, examples=bare), tmp_path / "model", TrainConfig(kl=1.0))
    assert not (tmp_path / "model").exists()


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InvalidInput, match="not an empty folder"):
        train(DATA, tmp_path, SMALL)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_a_model_of_another_architecture_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "classifier"
    folder.mkdir()
    config = {"architectures": ["BertForSequenceClassification"], "vocab_size": 30522}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_bytes((BUNDLED / "tokenizer.json").read_bytes())
    with pytest.raises(ModelError, match="masked language model"):
        train(DATA, tmp_path / "out", SMALL, Setup(model=folder))
    assert not (tmp_path / "out").exists()


# --- recipes and commands --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def docstrings() -> list[str]:
    """Real prose that every Python has."""
    texts = []
    for name in ("json", "os", "shutil", "random", "statistics", "textwrap", "difflib", "csv", "heapq", "socket"):
        module = importlib.import_module(name)
        for value in vars(module).values():
            text = inspect.getdoc(value) if inspect.isroutine(value) else None
            if text and 40 < len(text.split()) < 150:
                texts.append(text)
    return list(dict.fromkeys(texts))[:90]


def test_rounds_mine_with_the_model_of_the_round_before_and_a_teacher_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tuple(dataclasses.replace(example, negatives=(), scores=None) for example in EXAMPLES)
    data = dataclasses.replace(BARE, examples=bare)
    seen: list[tuple[str, tuple[Example, ...]]] = []

    def watched(data: TrainingData, folder: Path, *args: Any, **named: Any) -> Trained:
        seen.append((str(args[1].model), data.examples))
        return train(data, folder, *args, **named)

    monkeypatch.setattr(recipe, "train", watched)
    config = dataclasses.replace(SMALL, epochs=1, kl=1.0)
    lines: list[str] = []
    made = fine_tune(
        data, tmp_path / "model", config, Recipe(mine=3, rounds=2), teacher=sparse(bundled_encoder()), log=lines.append
    )
    assert [model for model, _ in seen] == ["None", str(tmp_path / "model-round1")]
    for _, examples in seen:
        assert all(len(example.negatives) == 3 and example.positive not in example.negatives for example in examples)
        assert all(example.scores is not None and len(example.scores) == 4 for example in examples)
    assert (made.folder / "model.onnx").exists()
    assert "round 2: mining 3 negatives a query with splade" in lines
    card = (made.folder / "MODEL_CARD.md").read_text()
    assert "3 negatives a query were mined with splade." in card
    assert f"Teacher: {bundled_encoder().name}." in card
    shutil.rmtree(made.folder)
    with pytest.raises(InvalidInput, match=r"model-round1 holds a model that was trained otherwise \(mine=3 there\)"):
        fine_tune(data, tmp_path / "model", config, Recipe(mine=2, rounds=2), teacher=sparse(bundled_encoder()))
    monkeypatch.setattr(recipe, "train", unused)
    with pytest.raises(AssertionError, match=r"'model': \w+\(.*model-round1"):  # straight on to the second round
        fine_tune(data, tmp_path / "model", config, Recipe(mine=3, rounds=2), teacher=sparse(bundled_encoder()))


def unused(*args: Any, **named: Any) -> Any:
    raise AssertionError(f"{args} {named}")


def test_given_scores_are_kept_and_nothing_is_mined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Example, ...]] = []
    monkeypatch.setattr(recipe, "train", lambda data, *_, **__: seen.append(data.examples))
    monkeypatch.setattr(recipe, "mined", unused)
    config = dataclasses.replace(SMALL, epochs=1, kl=1.0)
    fine_tune(BARE, tmp_path / "model", config)
    fine_tune(BARE, tmp_path / "model", config, teacher=sparse(bundled_encoder()))
    assert seen == [EXAMPLES, EXAMPLES]


@pytest.mark.parametrize(
    ("change", "steps", "scored", "teacher", "message"),
    [
        ({}, Recipe(), False, True, "a teacher was given, but kl and margin_mse are 0"),
        ({"kl": 1.0}, Recipe(), False, False, "of 8 examples 8 have no scores"),
        ({"kl": 1.0}, Recipe(mine=0), False, True, "8 no negatives"),
        ({}, Recipe(rounds=2), True, False, "rounds is 2, but nothing is mined"),
        ({}, Recipe(mine=3), True, False, "mined negatives would lack"),
    ],
)
def test_a_plan_that_cannot_work_is_refused_before_mining(
    change: dict[str, Any],
    steps: Recipe,
    scored: bool,
    teacher: bool,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recipe, "mined", unused)
    bare = tuple(dataclasses.replace(example, negatives=(), scores=None) for example in EXAMPLES)
    data = BARE if scored else dataclasses.replace(BARE, examples=bare)
    config = dataclasses.replace(SMALL, **change)
    with pytest.raises(InvalidInput, match=message):
        fine_tune(data, tmp_path / "model", config, steps, teacher=sparse(bundled_encoder()) if teacher else None)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_refused_before_mining(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "mined", unused)
    (tmp_path / "notes.txt").write_text("mine")
    bare = tuple(dataclasses.replace(example, scores=None) for example in EXAMPLES)
    with pytest.raises(InvalidInput, match="not an empty folder"):
        fine_tune(dataclasses.replace(BARE, examples=bare), tmp_path, SMALL)


def test_mining_pools_as_training_does(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def watched(db: SpladeLite, *_: Any, **__: Any) -> tuple[Example, ...]:
        seen.append(db.stats().fingerprint)
        return EXAMPLES

    seen: list[str] = []
    monkeypatch.setattr(recipe, "mine", watched)
    monkeypatch.setattr(recipe, "train", lambda *_, **__: None)
    bare = tuple(dataclasses.replace(example, scores=None) for example in EXAMPLES)
    data = dataclasses.replace(BARE, examples=bare)
    fine_tune(data, tmp_path / "model", SMALL, Recipe(mine=1), Setup(model=checkpoint, pooling="sum"))
    assert seen == [load_encoder(checkpoint, pooling="sum").fingerprint]
    assert seen != [load_encoder(checkpoint).fingerprint]


def test_the_command_refuses_a_teacher_that_no_loss_uses(tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_text("".join(f"{e.query}\t{e.positive}\n" for e in EXAMPLES))
    result = CliRunner().invoke(
        main, ["train", str(tmp_path / "pairs.tsv"), str(tmp_path / "out"), "--teacher", "none"]
    )
    assert result.exit_code != 0
    assert "set --kl 1 or --margin-mse 0.05" in result.output


@pytest.fixture
def kb(docstrings: list[str], tmp_path: Path) -> Iterator[SpladeLite]:
    with SpladeLite(tmp_path / "kb.db") as db:
        db.add(docstrings)
        yield db


ADAPT = dataclasses.replace(GENTLE, epochs=1)
adapting = importlib.import_module("spladelite.training.adapt")  # the package's attribute of this name is the function


def graded(monkeypatch: pytest.MonkeyPatch, *grades: float) -> list[tuple[str, float]]:
    """Have adapt's measures be these, in turn; gives the fingerprint and ``min_weight`` of what it measured."""
    measured: list[tuple[str, float]] = []

    def graded_measure(encoder: Any, judged: Validation, *, min_weight: float) -> Measures:
        measured.append((encoder.fingerprint, min_weight))
        return dataclasses.replace(measure(encoder, judged, min_weight=min_weight), ndcg=grades[len(measured) - 1])

    monkeypatch.setattr(adapting, "measure", graded_measure)
    return measured


def test_adapt_compares_the_databases_model_with_the_export(
    kb: SpladeLite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    before = kb.stats().fingerprint
    measured = graded(monkeypatch, 0.5, 0.5, 0.5, 0.5, 0.4, 0.5, 0.4, 0.5)
    done = adapt(kb, tmp_path / "model", ADAPT, documents=60)
    assert not done.kept
    export = load_encoder(tmp_path / "model").fingerprint
    assert measured == [(before, 0.3), (export, 0.3)]  # the database's own min_weight
    assert (done.before.ndcg, done.after.ndcg) == (0.5, 0.5)
    assert kb.stats().fingerprint == before
    assert kb.check() == []

    # The same call finds the model finished: it only compares, and re-encodes. Another one does not touch it.
    with pytest.raises(InvalidInput, match=r"trained otherwise \(adaptation there\)"):
        adapt(kb, tmp_path / "model", dataclasses.replace(ADAPT, seed=1), documents=60)
    with monkeypatch.context() as patch:
        patch.setattr(adapting, "train", None)
        again = adapt(kb, tmp_path / "model", ADAPT, documents=60)
        untimed = dataclasses.replace(done.trained, seconds=0.0)
        assert again == dataclasses.replace(done, trained=untimed)
        with monkeypatch.context() as interrupting:
            interrupting.setattr(SpladeLite, "reencode", interrupted)
            with pytest.raises(KeyboardInterrupt):
                adapt(kb, tmp_path / "model", ADAPT, documents=60)
        done = adapt(kb, tmp_path / "model", ADAPT, documents=60)
    assert done.kept
    assert (done.before.ndcg, done.after.ndcg) == (0.4, 0.5)
    assert kb.stats().fingerprint == export
    assert len(kb.search("shuffle a list", k=3)) == 3
    with pytest.raises(InvalidInput, match="already uses"):
        adapt(kb, tmp_path / "model", ADAPT, documents=60)


def test_adapt_to_static_queries_and_of_a_static_model(
    kb: SpladeLite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graded(monkeypatch, 0.1, 0.2, 0.1, 0.2)
    done = adapt(kb, tmp_path / "static", dataclasses.replace(ADAPT, queries="static"), documents=60)
    assert done.kept
    assert done.trained.start is not None
    assert done.before.query_terms > 1.5 * done.trained.start.query_terms  # not the static model that training began at
    assert adapt(kb, tmp_path / "again", ADAPT, documents=60).kept
    assert "| queries | static |" in (tmp_path / "again" / "MODEL_CARD.md").read_text()


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


def test_the_readmes_commands_work(docstrings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"query": e.query, "positive": e.positive} for e in EXAMPLES]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with SpladeLite("kb.db") as db:
        db.add(docstrings)
    readme = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    section = readme[readme.index("## Training") : readme.index("## How good it is")]
    commands = re.findall(r"^\$ spladelite (.*)$", section, re.MULTILINE)
    assert len(commands) == 3
    for command in [*commands, "adapt kb.db kb-model --epochs 1"]:
        result = CliRunner(catch_exceptions=False).invoke(main, shlex.split(command))
        assert result.exit_code == 0, result.output
    assert re.search(r"kb.db (now uses kb-model|is unchanged: no gain)", result.stdout)
    assert Path("sparse-model/MODEL_CARD.md").exists()

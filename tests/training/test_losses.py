"""Losses against sentence-transformers, exact gradients, batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")
import torch

from spladelite.encoders.checkpoint import MlmRoute, read_checkpoint
from spladelite.encoders.export.compare import compare
from spladelite.encoders.export.unpack import unpack
from spladelite.encoders.registry import bundled_encoder, load_encoder
from spladelite.errors import InvalidInput, ModelError
from spladelite.training import (
    Example,
    TrainConfig,
    TrainingData,
    loop,
    losses,
    train,
)
from spladelite.training.batches import batch_count, epoch_batches, positives_of
from spladelite.training.model import Trainee, pool
from training.cases import EXAMPLES, SMALL, TOPICS


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

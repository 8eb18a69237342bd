"""A model that reads another model's states: it begins as what it was, learns through the states, and is exported."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy")
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "training"))
import torch
from default_export import export_widened
from default_states import Reader, States
from default_widen import ADDED, Widened, vectors
from models_for_tests import TEXTS, write_mlm

from spladelite.encoders.checkpoint import read_checkpoint
from spladelite.encoders.registry import load_encoder
from spladelite.training.model import Trainee


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Reader]:
    """A checkpoint, and what reads for it: another body with the same vocabulary."""
    folder = tmp_path_factory.mktemp("widened")
    reader = Reader(write_mlm(folder / "reader", seed=1, hidden_size=48), layers=(1, 3))
    reader.body.float()
    return write_mlm(folder / "plain", tie_word_embeddings=True), reader


def opened(folder: Path, reader: Reader, some: list[str]) -> Widened:
    trainee = Widened(read_checkpoint(folder), States(reader), some)
    trainee.eval()
    return trainee


def moved(folder: Path, reader: Reader) -> Widened:
    """A widened model with something added."""
    trainee = opened(folder, reader, TEXTS)
    torch.manual_seed(0)
    with torch.no_grad():
        for added in (trainee.early, trainee.late):
            added.weight.normal_(std=0.3)
            added.bias.normal_(std=0.3)
    return trainee


def test_it_begins_as_what_it_was(parts: tuple[Path, Reader]) -> None:
    folder, reader = parts
    plain = Trainee(read_checkpoint(folder), "cpu").eval()
    with torch.no_grad():
        assert torch.equal(opened(folder, reader, TEXTS)(TEXTS), plain(TEXTS))
        assert not torch.allclose(moved(folder, reader)(TEXTS), plain(TEXTS), atol=0.01)


def test_it_learns_through_the_states_and_leaves_what_gave_them(parts: tuple[Path, Reader]) -> None:
    folder, reader = parts
    trainee = opened(folder, reader, TEXTS)
    trainee(TEXTS).sum().backward()
    for added in (trainee.early, trainee.late):
        assert added.weight.shape == (32, 2 * 48)
        assert added.weight.grad.abs().sum() > 0
    assert not any(tensor.requires_grad for tensor in reader.body.parameters())
    assert not any("reader" in name for name, _ in trainee.named_parameters())


def test_a_share_of_what_was_trained_is_kept(parts: tuple[Path, Reader]) -> None:
    folder, reader = parts
    start = Trainee(read_checkpoint(folder), "cpu").eval()
    trained = moved(folder, reader)
    with torch.no_grad():
        for tensor in trained.mlm.parameters():
            tensor.add_(0.5)
    added = trained.late.weight.detach().clone()
    trained.blend(start, 0.4)
    first = dict(start.named_parameters())
    for name, tensor in trained.named_parameters():
        if name.startswith("mlm."):
            torch.testing.assert_close(tensor, first[name] + 0.2)
    torch.testing.assert_close(trained.late.weight, 0.4 * added)
    trained.blend(start, 0)
    with torch.no_grad():
        torch.testing.assert_close(trained(TEXTS), start(TEXTS))


def test_kept_states_are_those_that_are_read(parts: tuple[Path, Reader], tmp_path: Path, monkeypatch: Any) -> None:
    folder, reader = parts
    tokens = [opened(folder, reader, []).tokens(text) for text in TEXTS]
    kept = States(reader)
    kept.keep(tokens, tmp_path / "states")
    read = reader(tokens)
    for ids, ours, theirs in zip(tokens, kept.of(tokens), read, strict=True):
        assert ours.shape == (len(ids), 2 * 48)
        np.testing.assert_array_equal(ours, theirs)
    monkeypatch.setattr(Reader, "__call__", lambda *_: pytest.fail("what is kept is not read again"))
    again = States(reader)
    again.keep(tokens, tmp_path / "states")
    again.of(tokens)
    with pytest.raises(SystemExit, match="other texts"):
        again.keep(tokens[1:], tmp_path / "states")


def test_saved_and_exported_it_stays_the_same(parts: tuple[Path, Reader], tmp_path: Path) -> None:
    folder, reader = parts
    trainee = moved(folder, reader)
    expected = vectors(trainee, TEXTS).toarray()
    (tmp_path / "saved").mkdir()
    trainee.save(tmp_path / "saved")
    assert (tmp_path / "saved" / ADDED).exists()
    again = opened(tmp_path / "saved", reader, [])
    np.testing.assert_allclose(vectors(again, TEXTS).toarray(), expected, atol=1e-5)
    for precision, tolerance in (("float32", 5e-3), ("int8", 0.5)):
        export_widened(again, read_checkpoint(tmp_path / "saved"), tmp_path / precision, TEXTS, precision)
        found = load_encoder(tmp_path / precision).encode_documents(TEXTS)
        for i in range(len(TEXTS)):
            row = np.zeros(expected.shape[1])
            terms, weights = found.row(i)
            row[terms] = weights
            assert np.abs(row - expected[i]).max() < tolerance, precision

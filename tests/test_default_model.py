"""The stages towards a default model: what is drawn, and that an interrupted run ends where it would have ended."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("scipy")
pytest.importorskip("sklearn")
sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks" / "training"))
import default
import default_data
import default_loop
import torch
from default_data import Asked, Pool
from default_states import Reader, States
from default_widen import Widened

from spladelite.encoders.checkpoint import read_checkpoint
from spladelite.encoders.export.unpack import unpack
from spladelite.encoders.registry import BUNDLED, load_encoder
from spladelite.training.model import Trainee


def test_keywords_are_what_is_left_of_a_question() -> None:
    assert default_data.keywords("what is the capital of australia") == "capital australia"
    assert default_data.keywords("who is he") == "who is he"


def test_all_queries_stay_and_texts_are_those_of_the_first() -> None:
    texts = [f"text {i}" for i in range(30)]
    asked = [Asked(f"query {i}", (i, i + 1, i + 2), 1, "") for i in range(28)]
    less = default_data.to_train(Pool(texts, asked, {}))
    assert len(less.train) == 28
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(default_data, "TEXTS", 5)
        less = default_data.to_train(Pool(texts, asked, {}))
    assert less.texts == texts[:5]
    assert less.train[3] == Asked("query 3", (3, 4), 1, "")
    assert less.train[10] == Asked("query 10", (), 0, "")  # its texts were not read; it is asked of the others


def test_batches_are_of_few_subjects_and_go_round() -> None:
    size = default_loop.GROUP * default_loop.GROUPS
    labels = np.repeat(np.arange(12), 16)
    drawn = default_loop.batches(labels, 3)
    epoch = [next(drawn) for _ in range(len(labels) // size)]
    assert sorted(i for batch in epoch for i in batch) == list(range(len(labels)))
    for batch in epoch:
        assert all(len(set(labels[batch[i : i + 8]])) == 1 for i in range(0, size, 8))
    again = default_loop.batches(labels, 3)
    assert [next(again) for _ in epoch] == epoch
    assert next(drawn) != epoch[0]


def teachers_in(folder: Path) -> default_loop.Teachers:
    """Forty texts and what teachers say of them, and splade-tiny in ``folder/start``."""
    random = np.random.default_rng(0)
    words = [f"{a} {b}" for a in ("cats", "bread", "trains", "snow") for b in ("eat", "rise", "run", "fall")]
    texts = [f"{words[i % 16]} in the {words[(3 * i) % 16]} number {i}" for i in range(40)]
    asked = [Asked(f"do {words[i % 16]} {i}", (i % 40,), 1, "") for i in range(64)]
    for name, count in (("texts", 40), ("queries", 64)):
        (folder / f"dense-{name}").mkdir()
        np.save(folder / f"dense-{name}" / "000000.npy", random.normal(size=(count, 8)).astype(np.float16))
    unpack(BUNDLED, folder / "start")
    return default_loop.Teachers(Pool(texts, asked, {}), folder)


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    teachers = teachers_in(tmp_path)

    def run(name: str, steps: int) -> dict[str, Any]:
        settings = default_loop.Settings(steps=steps, first_lambda=1e-2)
        trainee = Trainee(read_checkpoint(tmp_path / "start"), "cpu")
        default_loop.distil(teachers, trainee, tmp_path / name, settings)
        weights: dict[str, Any] = torch.load(tmp_path / name / "state.pt")["average"]
        return weights

    run("halves", 2)
    halves, whole = run("halves", 4), run("whole", 4)
    assert halves.keys() == whole.keys()
    assert len((tmp_path / "halves" / "log.jsonl").read_text().splitlines()) == 4
    rows = (tmp_path / "whole" / "log.jsonl").read_text().splitlines()
    assert len(rows) == 4
    with pytest.raises(SystemExit, match="another run"):
        default_loop.distil(teachers, None, tmp_path / "whole", default_loop.Settings(dense=0.0))


def test_a_widened_run_learns_what_is_added_and_goes_on(tmp_path: Path) -> None:
    import transformers

    teachers = teachers_in(tmp_path)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.BertModel(transformers.BertConfig(vocab_size=30522, **shape)).save_pretrained(tmp_path / "reader")
    states = States(Reader(tmp_path / "reader", layers=(1,)))
    for steps in (1, 3):
        settings = default_loop.Settings(steps=steps, words=0.0, layers=0.1, dropout=0.0)
        trainee = Widened(read_checkpoint(tmp_path / "start"), states, teachers.pool.texts)
        words = trainee.output.weight.detach().clone()
        default_loop.distil(teachers, trainee, tmp_path / "run", settings)
        assert torch.equal(trainee.output.weight, words)
        for added in (trainee.early, trainee.late):
            assert added.weight.abs().sum() > 0
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 3
    kept = Widened(read_checkpoint(tmp_path / "run" / "average-00003"), states)
    assert kept.late.weight.abs().sum() > 0


def test_words_and_body_are_blended_apart(tmp_path: Path) -> None:
    trainee = Trainee(read_checkpoint(default.unpacked(tmp_path)), "cpu")
    origin = {name: tensor.detach().clone() for name, tensor in trainee.named_parameters()}
    with torch.no_grad():
        for tensor in trainee.parameters():
            tensor.add_(0.125)
    trainee.save(tmp_path / "trained")
    arguments = ["pack", str(tmp_path), str(tmp_path / "packed"), str(tmp_path / "trained"), "--body", "0.5"]
    assert CliRunner().invoke(default.main, arguments, catch_exceptions=False).exit_code == 0
    packed = Trainee(read_checkpoint(tmp_path / "packed-weights"), "cpu").named_parameters()
    for name, tensor in packed:
        moved = 0.125 if len(tensor) == len(trainee.tokenizer.vocabulary) else 0.0625
        assert torch.allclose(tensor, origin[name] + moved, atol=1e-6), name
    assert len(load_encoder(tmp_path / "packed").encode_queries(["bread"]).row(0)[0])


def test_what_chooses_counts_places() -> None:
    dev: dict[str, list[Any]] = {"searched": [7, 8, 9], "relevant": [[9], [7, 8]]}
    scores = np.array([[3, 2, 1], [1, 2, 0]], np.float32)
    assert default.ndcg(scores, dev) == pytest.approx((1 / np.log2(4) + 1) / 2)
    assert default.interval(0.5, default.resampled(np.full(20, 0.5))) == "+0.5000 (+0.5000 to +0.5000)"

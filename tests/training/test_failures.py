"""What goes wrong in a run, and what is refused before it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

from spladelite.encoders.registry import BUNDLED, load_encoder
from spladelite.errors import InvalidInput, ModelError, TrainingError
from spladelite.training import (
    Setup,
    TrainConfig,
    loop,
    train,
)
from training.cases import BARE, DATA, EXAMPLES, SMALL


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

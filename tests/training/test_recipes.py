"""Mining, scoring and training together; the commands."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")
from click.testing import CliRunner

from spladelite import SpladeLite
from spladelite.cli.main import main
from spladelite.encoders.registry import bundled_encoder, load_encoder
from spladelite.errors import InvalidInput
from spladelite.training import (
    Example,
    Recipe,
    Setup,
    Trained,
    TrainingData,
    fine_tune,
    recipe,
    train,
)
from spladelite.training.teachers import sparse
from training.cases import BARE, EXAMPLES, SMALL, unused


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
    with pytest.raises(AssertionError, match=r"Setup\(model=\w+\(.*model-round1"):  # straight on to the second round
        fine_tune(data, tmp_path / "model", config, Recipe(mine=3, rounds=2), teacher=sparse(bundled_encoder()))


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

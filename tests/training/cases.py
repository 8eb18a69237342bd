"""Eight topics to train on, and what several of these tests need."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from spladelite.training import (
    Example,
    TrainConfig,
    TrainingData,
    Validation,
)

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


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    return dict(load_file(folder / "model.safetensors"))


def same(first: Path, second: Path) -> bool:
    one, other = weights(first), weights(second)
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def unused(*args: Any, **named: Any) -> Any:
    raise AssertionError(f"{args} {named}")

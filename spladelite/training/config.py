"""The settings of a training run: one frozen dataclass, saved beside the weights."""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass

from spladelite.errors import InvalidInput

QUERIES = ("model", "static")
QUERY_REGULARIZERS = ("flops", "l1")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How to train: ``loss = contrastive + margin_mse + kl (each with its weight) + lambda_q R_q + lambda_d FLOPS_d``.

    Attributes:
        contrastive: weight of the cross-entropy over in-batch and given negatives (SPLADE v1).
        margin_mse: weight of MarginMSE to a teacher's scores (SPLADE v2).
        kl: weight of the KL divergence from a teacher's scores.
        temperature: of the KL divergence; teachers whose scores lie far apart want more than 1.
        lambda_q, lambda_d: weights of the regularisers of queries and documents; more is sparser.
        query_regularizer: "flops", or "l1" (Efficient SPLADE).
        lambda_warmup: share of the steps over which both lambdas rise, quadratically. Models are compared for being
            the best only after it, since before they are not as sparse as was asked for.
        queries: "model", or "static": fixed weights for the query's own tokens, documents alone are trained
            (SPLADE-doc, inference-free). They are the model's own static weights, or else inverse document
            frequencies in the training corpus.
        epochs, batch_size: passes over the examples, and queries a step; the last of an epoch may have fewer, or up to
            half as many more.
        accumulate: batches whose gradients make one step, each counting by its queries. In-batch negatives and FLOPS
            see one batch.
        negatives: given or mined negatives a query, drawn anew every epoch; fewer where there are fewer.
        learning_rate: of AdamW, at its highest.
        warmup: share of the steps over which the learning rate rises linearly; it then falls linearly to 0.
        weight_decay: of AdamW.
        max_grad_norm: longer gradients are scaled down to this length.
        blend: how far the weights that are measured and kept go from the first ones to the trained ones, above 0 to 1:
            between the two lies a model that has learned and not forgotten (WiSE-FT, Wortsman et al. 2022).
        patience: epochs without a better validation measure after which training ends; 0 for never.
        seed: of everything that is drawn.

    Raises:
        InvalidInput: a value out of its range; names it.
    """

    contrastive: float = 1.0
    margin_mse: float = 0.0
    kl: float = 0.0
    temperature: float = 1.0
    lambda_q: float = 3e-3
    lambda_d: float = 3e-3
    query_regularizer: str = "flops"
    lambda_warmup: float = 0.3
    queries: str = "model"
    epochs: int = 6
    batch_size: int = 16
    accumulate: int = 1
    negatives: int = 2
    learning_rate: float = 2e-4
    warmup: float = 0.1
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    blend: float = 1.0
    patience: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("contrastive", "margin_mse", "kl", "lambda_q", "lambda_d", "weight_decay"):
            _check(name, getattr(self, name), 0, math.inf, "a finite number that is not negative")
        for name in ("temperature", "learning_rate", "max_grad_norm"):
            _check(name, getattr(self, name), math.nextafter(0, 1), math.inf, "a finite number above 0")
        for name in ("lambda_warmup", "warmup"):
            _check(name, getattr(self, name), 0, 1, "a share from 0 to 1")
        _check("blend", self.blend, math.nextafter(0, 1), 1, "a share above 0 and at most 1")
        for name, least in (("epochs", 1), ("batch_size", 1), ("accumulate", 1), ("negatives", 0), ("patience", 0)):
            _check_whole(name, getattr(self, name), least)
        _check_whole("seed", self.seed, 0)
        if self.seed >= 2**63:  # what torch takes
            raise InvalidInput(f"seed is {self.seed}; expected less than 2**63")
        for name, known in (("queries", QUERIES), ("query_regularizer", QUERY_REGULARIZERS)):
            if getattr(self, name) not in known:
                raise InvalidInput(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if not self.contrastive + self.margin_mse + self.kl:
            raise InvalidInput("contrastive, margin_mse and kl are all 0: there is nothing to learn; give one a weight")

    @property
    def distils(self) -> bool:
        """Whether a teacher's scores are needed."""
        return self.margin_mse > 0 or self.kl > 0

    def differences(self, other: TrainConfig) -> list[str]:
        """The names of the settings that differ."""
        return [f.name for f in dataclasses.fields(self) if getattr(self, f.name) != getattr(other, f.name)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a run starts from, where it runs, and what it is made into.

    Attributes:
        model: a checkpoint folder or hub name; None for the bundled model.
        pooling: "max" or "sum", for checkpoints that do not say it.
        precision: of the ONNX export, "int8" or "float32".
        device: where to compute; by default CUDA if there is one, else the processor.
    """

    model: str | os.PathLike[str] | None = None
    pooling: str | None = None
    precision: str = "int8"
    device: str | None = None


def _check(name: str, value: object, low: float, high: float, expected: str) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high or math.isinf(value):  # type: ignore[operator,arg-type]
        raise InvalidInput(f"{name} is {value!r}; expected {expected}")


def _check_whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InvalidInput(f"{name} is {value!r}; expected a whole number of at least {least}")

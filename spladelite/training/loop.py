"""The training loop: ``train`` reads from top to bottom like the recipe in the papers.

    loss = contrastive + MarginMSE + KL (each with its weight) + lambda_q R(queries) + lambda_d FLOPS(documents)

An epoch's order and negatives are drawn from (seed, epoch), and torch's random state is saved with the weights, so a
run that was interrupted ends where it would have ended.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from spladelite.encoders.registry import load_encoder
from spladelite.errors import TrainingError
from spladelite.training.batches import Batch, batch_count, check_examples, epoch_batches, positives_of
from spladelite.training.config import Setup, TrainConfig
from spladelite.training.data import TrainingData
from spladelite.training.measure import Measures, measure
from spladelite.training.report import Log, finish, model_card, needs, training_facts
from spladelite.training.start import find_start, open_start
from spladelite.training.state import (
    RUN,
    Standing,
    claim,
    identify,
    load_state,
    random_state,
    replace_folder,
    save_state,
)

SAVE_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished run.

    Attributes:
        folder: the model folder, for ``SpladeLite(model=folder)``.
        start, best: measures on the validation queries before training, and of the weights that were kept; None
            without validation queries.
        epoch: the epoch of these weights.
        steps: optimiser steps that were done.
        seconds: how long this call took.
    """

    folder: Path
    start: Measures | None
    best: Measures | None
    epoch: int
    steps: int
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class _Course:
    """What stays the same from the first step of a run to its last."""

    target: Path
    data: TrainingData
    config: TrainConfig
    trainee: Any
    optimizer: Any
    device: str
    first: Sequence[Any]
    steps: int
    per_epoch: int
    log: Callable[[str], object]

    def save_result(self, folder: Path) -> None:
        """Save what a user gets of the weights as they are: a blend with ``first``, those at the start."""
        import torch

        trained = [tensor.detach().clone() for tensor in self.trainee.parameters()]
        with torch.no_grad():
            for tensor, first in zip(self.trainee.parameters(), self.first, strict=True):
                tensor.copy_(torch.lerp(first, tensor, self.config.blend))
            self.trainee.save(folder)
            for tensor, value in zip(self.trainee.parameters(), trained, strict=True):
                tensor.copy_(value)

    def save(self, standing: Standing, random: Any = None) -> None:
        """Save everything that a run needs to go on, with torch's random state as it is, or as it was."""
        save_state(self.target, self.trainee, self.optimizer, standing, random or random_state())


def train(
    data: TrainingData,
    folder: str | os.PathLike[str],
    config: TrainConfig | None = None,
    setup: Setup | None = None,
    *,
    source: str = "",
    origin: Mapping[str, Any] | None = None,
    log: Callable[[str], object] = lambda _: None,
) -> Trained:
    """Fine-tune a model and write the result as a model folder.

    The folder gets the weights and the tokenizer, an ONNX export that needs no torch, MODEL_CARD.md, ``log.csv`` with a
    line a step, ``validation.csv`` with a line an epoch, a plot of them, and at last ``training.json``: settings, data
    and measures. A run that was interrupted, or that failed, goes on when the same call is made again; its state is
    saved after each epoch, every ten minutes, and when a step fails. Texts are cut at the model's window.

    Args:
        data: see :func:`~spladelite.training.data.read_training_data`.
        folder: new or empty, or where the same run was interrupted.
        config: settings; the defaults if left out.
        setup: the model, and where it is trained; the bundled model if left out.
        source: what the data is, for the model card.
        origin: how the examples came about, as JSON can hold it, for the model card: ``mine`` (negatives a query),
            ``mine_with``, ``teacher``. A run goes on only if it is the same.
        log: gets a line a step.

    Raises:
        InvalidInput: the data lacks what the settings need, or ``folder`` is in use.
        ModelError: torch is missing, or the model cannot be trained.
        TrainingError: the loss became NaN or infinite, or the vectors empty; the best epoch until then is kept.
        KeyboardInterrupt: Ctrl-C; the state is saved.
    """
    config, setup = config or TrainConfig(), setup or Setup()
    check_examples(data.examples, config)
    device = needs(setup.device)
    began = time.monotonic()
    target = Path(folder)
    start = find_start(setup.model, setup.pooling)
    run = identify(data, start.fingerprint, config, origin or {})
    resumed = claim(target, run)
    if not config.distils and any(example.scores is not None for example in data.examples):
        log("the scores of the examples are not used: kl and margin_mse are 0")

    import torch

    torch.manual_seed(config.seed)
    trainee = open_start(start, target / RUN, config, data.corpus, device)
    optimizer = torch.optim.AdamW(trainee.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    per_epoch = -(-batch_count(len(data.examples), config.batch_size) // config.accumulate)
    first = [tensor.detach().clone() for tensor in trainee.parameters()]
    course = _Course(target, data, config, trainee, optimizer, device, first, config.epochs * per_epoch, per_epoch, log)
    if resumed:
        standing = load_state(target, trainee, optimizer)
    else:
        standing = Standing(start=_measure(course, 0))
        course.save(standing)
    rows = Log(target, standing.step)
    positives = positives_of(data.examples)

    with _on_interrupt() as interrupted:
        while standing.step < course.steps and not (config.patience and standing.waited >= config.patience):
            epoch = standing.step // per_epoch
            batches = epoch_batches(data.examples, positives, config, epoch)
            standing = _epoch(course, standing, batches, rows, interrupted)
            standing = _compare(course, standing, epoch + 1)
            course.save(standing)
            if interrupted.is_set():
                raise KeyboardInterrupt

    card = model_card(target, start, config, data, standing, setup.precision, source, origin or {})
    facts = training_facts(run, start, data, standing, setup.precision, source)
    finish(target, card, facts, setup.precision)
    return Trained(target, standing.start, standing.best, standing.best_epoch, standing.step, time.monotonic() - began)


def _epoch(
    course: _Course, standing: Standing, batches: Sequence[Batch], rows: Log, interrupted: threading.Event
) -> Standing:
    """The steps of an epoch that are left. A whole epoch is saved by the caller, with its measures."""
    accumulate, saved = course.config.accumulate, time.monotonic()
    epoch = standing.step // course.per_epoch
    for step in range(standing.step, (epoch + 1) * course.per_epoch):
        first = (step - epoch * course.per_epoch) * accumulate
        row = _step(course, standing, batches[first : first + accumulate])
        course.log(rows.add(epoch + 1, step + 1, course.steps, row))
        standing = replace(standing, step=step + 1)
        unfinished = standing.step % course.per_epoch
        if unfinished and (interrupted.is_set() or time.monotonic() - saved > SAVE_SECONDS):
            course.save(standing)
            saved = time.monotonic()
            if interrupted.is_set():
                raise KeyboardInterrupt
    return standing


def _step(course: _Course, standing: Standing, batches: Sequence[Batch]) -> dict[str, float]:
    """One step of the optimiser, and its figures."""
    from spladelite.training.losses import quadratic_warmup

    clock, config, step = time.monotonic(), course.config, standing.step
    rate = config.learning_rate * _triangle(step, course.steps, config.warmup)
    share = quadratic_warmup(step, round(config.lambda_warmup * course.steps))
    random = random_state()
    try:
        row = _gradients(course.trainee, batches, config, share)
        _check_step(row, step + 1, course.target, standing)
    except Exception:
        course.save(standing, random)  # as it was before the step
        raise
    for group in course.optimizer.param_groups:
        group["lr"] = rate
    course.optimizer.step()
    course.optimizer.zero_grad(set_to_none=True)
    speed = sum(len(batch.queries) for batch in batches) / (time.monotonic() - clock)
    return row | {"lambda_share": share, "learning_rate": rate, "examples_per_s": speed}


def _compare(course: _Course, standing: Standing, epoch: int) -> Standing:
    """Measure the weights after an epoch, and keep them if they are the best."""
    measures = _measure(course, epoch)
    if standing.step < round(course.config.lambda_warmup * course.steps):  # before it, vectors are not yet sparse
        return standing
    if measures is None or standing.best is None or measures.ndcg > standing.best.ndcg:
        replace_folder(course.target / RUN / "best", course.save_result)
        return replace(standing, best_epoch=epoch, best=measures, waited=0)
    return replace(standing, waited=standing.waited + 1)


def _gradients(trainee: Any, batches: Sequence[Batch], config: TrainConfig, share: float) -> dict[str, float]:
    """Compute a step's gradients, of the mean over its queries, and give its figures."""
    import torch

    trainee.train()
    weights = np.array([len(batch.queries) for batch in batches]) / sum(len(batch.queries) for batch in batches)
    parts = []
    for batch, weight in zip(batches, weights.tolist(), strict=True):
        loss, part = objective(trainee, batch, config, share)
        (weight * loss).backward()
        parts.append(part)
    norm = float(torch.nn.utils.clip_grad_norm_(trainee.parameters(), config.max_grad_norm))
    return {name: float(weights @ [part[name] for part in parts]) for name in parts[0]} | {"gradient": norm}


def objective(trainee: Any, batch: Batch, config: TrainConfig, share: float) -> tuple[Any, dict[str, float]]:
    """The loss of a batch, a scalar, and its parts as numbers; ``share`` is that of the lambdas."""
    import torch

    from spladelite.training import losses

    queries = trainee.queries(batch.queries)  # (B, V)
    documents = trainee.documents(batch.documents)  # (D, V)
    scores = queries @ documents.T  # (B, D)
    groups = torch.from_numpy(batch.groups).to(scores.device)
    own = scores.gather(1, groups.clamp(min=0)).masked_fill(groups < 0, math.nan)  # (B, 1 + N)
    teacher = torch.from_numpy(batch.teacher).to(scores.device)
    parts: dict[str, Any] = {}
    if config.contrastive:
        barred = torch.from_numpy(batch.barred).to(scores.device)
        parts["contrastive"] = losses.contrastive(scores.masked_fill(barred, -math.inf), groups[:, 0])
    if config.margin_mse:
        parts["margin_mse"] = losses.margin_mse(own, teacher)
    if config.kl:
        parts["kl"] = losses.kl_divergence(own, teacher, config.temperature)
    loss = sum(getattr(config, name) * part for name, part in parts.items())
    parts["flops_d"] = losses.flops(documents)
    loss = loss + share * config.lambda_d * parts["flops_d"]
    if config.queries == "model":
        regularizer = losses.flops if config.query_regularizer == "flops" else losses.l1
        parts[f"{config.query_regularizer}_q"] = regularizer(queries)
        loss = loss + share * config.lambda_q * parts[f"{config.query_regularizer}_q"]
    active_q, active_d = queries.detach() > 0, documents.detach() > 0
    shown = {
        "loss": loss,
        **parts,
        "flops": active_q.float().mean(0) @ active_d.float().mean(0),  # expected multiply-adds of a pair
        "terms_q": active_q.sum(1).float().mean(),
        "terms_d": active_d.sum(1).float().mean(),
    }
    return loss, {name: float(value.detach()) for name, value in shown.items()}


def _measure(course: _Course, epoch: int) -> Measures | None:
    """Measures on the validation queries, through the encoder that a user of these weights would load."""
    if course.data.validation is None:
        return None
    folder = course.target / RUN / "measured"
    replace_folder(folder, course.save_result)
    measures = measure(load_encoder(folder, device=course.device), course.data.validation)
    Log.add_epoch(course.target, epoch, measures)
    course.log(f"epoch {epoch}: {measures}")
    return measures


def _triangle(step: int, steps: int, warmup: float) -> float:
    """The learning rate's share: rising to 1 over the first steps, then falling to 0."""
    rising = round(warmup * steps)
    return (step + 1) / rising if step < rising else (steps - step) / (steps - rising)


def _check_step(row: dict[str, float], step: int, target: Path, standing: Standing) -> None:
    """Stop before the weights are spoilt.

    Raises:
        TrainingError: a value is not finite, or vectors are empty.
    """
    kept = f"the model of epoch {standing.best_epoch} is in {target / RUN / 'best'}" if standing.best_epoch else (
        f"the state before this step is in {target / RUN / 'latest'}"
    )  # fmt: skip
    wrong = [name for name, value in row.items() if not math.isfinite(value)]
    if wrong:
        raise TrainingError(
            f"step {step}: {', '.join(wrong)} became {row[wrong[0]]}; lower learning_rate, and look at the teacher's "
            f"scores if there are any; {kept}"
        )
    for side, name in (("d", "documents"), ("q", "queries")):
        if row[f"terms_{side}"] < 1:
            raise TrainingError(
                f"step {step}: FLOPS collapse: the vectors of {name} are all zero, or nearly so, with "
                f"{row[f'terms_{side}']:.2g} active terms on average; lower lambda_{side} or learning_rate, or raise "
                f"lambda_warmup; {kept}"
            )


@contextmanager
def _on_interrupt() -> Iterator[threading.Event]:
    """Ctrl-C sets the event, so that a step is never left half done; a second one interrupts at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # signals reach the main thread only
        yield event
        return

    def handler(number: int, frame: Any) -> None:
        if event.is_set():
            signal.default_int_handler(number, frame)
        event.set()

    before = signal.signal(signal.SIGINT, handler)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)

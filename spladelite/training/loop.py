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
from spladelite.training.config import TrainConfig
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


def train(
    data: TrainingData,
    folder: str | os.PathLike[str],
    config: TrainConfig | None = None,
    *,
    model: str | os.PathLike[str] | None = None,
    pooling: str | None = None,
    precision: str = "int8",
    device: str | None = None,
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
        model: a checkpoint folder or hub name; None for the bundled model.
        pooling: "max" or "sum", for checkpoints that do not say it.
        precision: of the ONNX export, "int8" or "float32".
        device: where to compute; by default CUDA if there is one, else the processor.
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
    config = config or TrainConfig()
    check_examples(data.examples, config)
    device = needs(device)
    began = time.monotonic()
    target = Path(folder)
    start = find_start(model, pooling)
    run = identify(data, start.fingerprint, config, origin or {})
    resumed = claim(target, run)
    if not config.distils and any(example.scores is not None for example in data.examples):
        log("the scores of the examples are not used: kl and margin_mse are 0")

    import torch

    from spladelite.training.losses import quadratic_warmup

    torch.manual_seed(config.seed)
    trainee = open_start(start, target / RUN, config, data.corpus, device)
    optimizer = torch.optim.AdamW(trainee.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    per_epoch = -(-batch_count(len(data.examples), config.batch_size) // config.accumulate)
    steps = config.epochs * per_epoch
    positives = positives_of(data.examples)
    if resumed:
        standing = load_state(target, trainee, optimizer)
    else:
        standing = Standing(start=_measure(target, trainee, data, log, 0, device))
        save_state(target, trainee, optimizer, standing, random_state())
    saved = time.monotonic()
    rows = Log(target, standing.step)

    with _on_interrupt() as interrupted:
        while standing.step < steps and not (config.patience and standing.waited >= config.patience):
            epoch = standing.step // per_epoch
            batches = epoch_batches(data.examples, positives, config, epoch)
            for step in range(standing.step, (epoch + 1) * per_epoch):
                clock = time.monotonic()
                rate = config.learning_rate * _triangle(step, steps, config.warmup)
                share = quadratic_warmup(step, round(config.lambda_warmup * steps))
                first = (step - epoch * per_epoch) * config.accumulate
                now = batches[first : first + config.accumulate]
                random = random_state()
                try:
                    row = _gradients(trainee, now, config, share)
                    _check_step(row, step + 1, target, standing)
                except Exception:
                    save_state(target, trainee, optimizer, standing, random)  # as it was before the step
                    raise
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                speed = sum(len(batch.queries) for batch in now) / (time.monotonic() - clock)
                row |= {"lambda_share": share, "learning_rate": rate, "examples_per_s": speed}
                log(rows.add(epoch + 1, step + 1, steps, row))
                standing = replace(standing, step=step + 1)
                within = standing.step % per_epoch  # a whole epoch is saved with its measures, below
                if within and (interrupted.is_set() or time.monotonic() - saved > SAVE_SECONDS):
                    save_state(target, trainee, optimizer, standing, random_state())
                    saved = time.monotonic()
                    if interrupted.is_set():
                        raise KeyboardInterrupt
            measures = _measure(target, trainee, data, log, epoch + 1, device)
            if standing.step >= round(config.lambda_warmup * steps):  # before it, vectors are not yet sparse
                better = measures is None or standing.best is None or measures.ndcg > standing.best.ndcg
                if better:
                    replace_folder(target / RUN / "best", trainee.save)
                    standing = replace(standing, best_epoch=epoch + 1, best=measures)
                standing = replace(standing, waited=0 if better else standing.waited + 1)
            save_state(target, trainee, optimizer, standing, random_state())
            saved = time.monotonic()
            if interrupted.is_set():
                raise KeyboardInterrupt

    card = model_card(target, start, config, data, standing, precision, source, origin or {})
    finish(target, card, training_facts(run, start, data, standing, precision, source), precision)
    return Trained(target, standing.start, standing.best, standing.best_epoch, standing.step, time.monotonic() - began)


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


def _measure(
    target: Path, trainee: Any, data: TrainingData, log: Callable[[str], object], epoch: int, device: str
) -> Measures | None:
    """Measures on the validation queries, through the encoder that a user of these weights would load."""
    if data.validation is None:
        return None
    folder = target / RUN / "measured"
    replace_folder(folder, trainee.save)
    measures = measure(load_encoder(folder, device=device), data.validation)
    Log.add_epoch(target, epoch, measures)
    log(f"epoch {epoch}: {measures}")
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

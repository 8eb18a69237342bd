"""Distillation into a SPLADE model: the KL divergence from a mixture of teachers, over whole batches of texts.

A batch is made of groups of queries about one subject (TAS-B, Hofstätter et al. 2021), so that other queries' texts are
worth telling apart. FLOPS are held at a share of what the first teacher has on the same batches: lambda follows.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from default_data import Pool
from default_teachers import bm25_vectors, dense_vectors, sparse_vectors
from numpy.typing import NDArray
from scipy import sparse
from tqdm import tqdm

from spladelite.encoders.registry import load_encoder
from spladelite.training import losses

GROUP, GROUPS = 8, 6  # queries about one subject, and such groups a step
MINED = 3  # candidates a query; it is told from those of the others, too


@dataclass(frozen=True)
class Settings:
    """Of a run. ``flops``: the share of splade-tiny's that the student may have; ``bonus``: for labelled answers."""

    steps: int = 1500
    learning_rate: float = 1e-4
    warmup: int = 40
    temperature: float = 2.0
    sparse: float = 0.4
    dense: float = 0.4
    bm25: float = 0.2
    bonus: float = 1.0
    own: float = 1.0  # weight of the divergence over a query's own candidates; that over the batch has 1
    flops: float = 0.85
    first_lambda: float = 1e-3
    average: float = 0.995  # of the weights, over steps
    dropout: float = 0.1
    words: float = 1.0  # share of the learning rate that the word vectors and their biases have; 0 leaves them
    layers: float = 1.0  # and all else that splade-tiny has
    seed: int = 18


class Teachers:
    """The pool with all teachers' vectors, each brought to the spread of the first, and each query's candidates."""

    def __init__(self, pool: Pool, folder: Path) -> None:
        self.pool = pool
        asked = [one.query for one in pool.train]
        encoder = load_encoder("splade-tiny")
        tiny, tiny_q = (
            sparse_vectors(t, encoder, folder / f"tiny-{n}") for t, n in ((pool.texts, "texts"), (asked, "queries"))
        )
        dense, dense_q = (
            dense_vectors(t, folder / f"dense-{n}") for t, n in ((pool.texts, "texts"), (asked, "queries"))
        )
        lexical, lexical_q = bm25_vectors(pool.texts, asked)
        self.sides: dict[str, tuple[Any, Any]] = {
            "sparse": (tiny_q, tiny),
            "dense": (dense_q, dense),
            "bm25": (lexical_q, lexical),
        }
        self.scale = dict.fromkeys(self.sides, 1.0)
        some = range(0, len(asked), 20)
        for name in self.sides:  # the spread over what this teacher finds best
            best = -np.sort(-self.score(name, some, range(len(pool.texts))), 1)[:, :30]
            self.scale[name] = float(np.sqrt(best.var(1).mean()))
        self.first = self.scale["sparse"]

    def mined(self, weights: dict[str, float], seed: int) -> list[tuple[int, ...]]:
        """Candidates of each query: labelled answers, the mixture's best text, and what two of the teachers find."""
        random, found = np.random.default_rng(seed), []
        everything = range(len(self.pool.texts))
        for start in tqdm(range(0, len(self.pool.train), 512), desc="mining"):
            some = range(start, min(start + 512, len(self.pool.train)))
            best = np.argsort(-self.mixed(some, everything, weights), 1)[:, :2]
            hits = [np.argsort(-self.score(name, some, everything), 1)[:, :30] for name in ("sparse", "dense")]
            for row, i in enumerate(some):
                one = self.pool.train[i]
                chosen = dict.fromkeys([*one.texts[: min(one.answers, 1)], int(best[row][0])])
                drawn = [int(side[row][random.integers(depth)]) for depth in (8, 30) for side in hits]
                random.shuffle(drawn)
                for text in (*drawn, *hits[1][row].tolist()):
                    if len(chosen) == MINED:
                        break
                    chosen.setdefault(text)
                found.append(tuple(chosen))
        return found

    def score(self, name: str, queries: Any, texts: Any) -> NDArray[np.float32]:
        left, right = self.sides[name]
        product = left[list(queries)] @ right[list(texts)].T
        return np.asarray(product.toarray() if sparse.issparse(product) else product, np.float32)

    def mixed(self, queries: Any, texts: Any, weights: dict[str, float]) -> NDArray[np.float32]:
        total = np.zeros((len(queries), len(texts)), np.float32)
        for name, weight in weights.items():
            if weight:
                total += np.float32(weight * self.first / self.scale[name]) * self.score(name, queries, texts)
        return total

    def flops(self, queries: Any, texts: Any) -> float:
        left, right = self.sides["sparse"]
        q = np.bincount(left[list(queries)].indices, minlength=left.shape[1]) / len(queries)
        d = np.bincount(right[list(texts)].indices, minlength=left.shape[1]) / len(texts)
        return float(q @ d)


def subjects(vectors: NDArray[np.float32], seed: int) -> NDArray[np.int64]:
    from sklearn.cluster import MiniBatchKMeans

    found = MiniBatchKMeans(len(vectors) // 32, random_state=seed, n_init=1, batch_size=2048).fit_predict(vectors)
    return np.asarray(found, np.int64)


def batches(labels: NDArray[np.int64], seed: int) -> Iterator[list[int]]:
    """Queries of step after step, for ever; every epoch groups them anew."""
    epoch = 0
    while True:
        random = np.random.default_rng([seed, epoch])
        ranks = random.permutation(labels.max() + 1)[labels]
        order = np.lexsort((random.random(len(labels)), ranks))
        groups = order[: len(order) // GROUP * GROUP].reshape(-1, GROUP)
        groups = groups[random.permutation(len(groups))]
        for start in range(0, len(groups) - GROUPS + 1, GROUPS):
            yield groups[start : start + GROUPS].ravel().tolist()
        epoch += 1


def rates(trainee: Any, settings: Settings) -> list[dict[str, Any]]:
    """The optimiser's groups: word vectors, other weights of the start, and what was added to it."""
    groups: dict[float, list[Any]] = {}
    for name, tensor in trainee.named_parameters():
        of_words = len(tensor) == len(trainee.tokenizer.vocabulary)
        share = settings.words if of_words else settings.layers if name.startswith("mlm.") else 1.0
        tensor.requires_grad_(share > 0)
        groups.setdefault(share, []).append(tensor)
    return [{"params": tensors, "share": share, "lr": 0.0} for share, tensors in groups.items()]


def distil(teachers: Teachers, trainee: Any, folder: Path, settings: Settings, **said_too: str) -> None:
    """Train; ``folder/average-STEP`` are the results, also while it goes on.

    Args:
        trainee: a :class:`~spladelite.training.model.Trainee`, the start.
        said_too: what else makes two runs the same run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    said = folder / "settings.json"
    now = asdict(settings) | said_too
    if said.exists() and {**json.loads(said.read_text()), "steps": 0} != {**now, "steps": 0}:
        raise SystemExit(f"{folder} holds another run; name another folder")
    said.write_text(json.dumps(now, indent=1))
    torch.manual_seed(settings.seed)
    trainee.train()
    for module in trainee.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = settings.dropout
    optimizer = torch.optim.AdamW(rates(trainee, settings), weight_decay=0.01)
    average = {name: tensor.detach().clone() for name, tensor in trainee.named_parameters()}
    step, lamb, ratio = 0, settings.first_lambda, 0.0
    state = folder / "state.pt"
    if state.exists():
        saved = torch.load(state, map_location="cpu")
        step, lamb, ratio = saved["step"], saved["lambda"], saved["ratio"]
        with torch.no_grad():
            for name, tensor in trainee.named_parameters():
                tensor.copy_(saved["weights"][name])
                average[name].copy_(saved["average"][name])
        optimizer.load_state_dict(saved["optimizer"])
        torch.set_rng_state(saved["random"])
    pool, device = teachers.pool, trainee.output.weight.device
    weights = {name: getattr(settings, name) for name in teachers.sides}
    candidates = teachers.mined(weights, settings.seed)
    labels = subjects(teachers.sides["dense"][0][: len(pool.train)], settings.seed)
    drawn = batches(labels, settings.seed)
    for _ in range(step):
        next(drawn)
    saved_at = time.monotonic()
    with (folder / "log.jsonl").open("a") as log, tqdm(total=settings.steps, initial=step) as bar:
        while step < settings.steps:
            chosen = next(drawn)
            texts = list(dict.fromkeys(t for i in chosen for t in candidates[i]))
            column = {text: j for j, text in enumerate(texts)}
            own = torch.tensor([[column[t] for t in candidates[i]] for i in chosen], device=device)
            target = teachers.mixed(chosen, texts, weights)
            for row, i in enumerate(chosen):
                for text in pool.train[i].texts[: min(pool.train[i].answers, 1)]:
                    target[row, column[text]] += settings.bonus * teachers.first
            wanted = torch.from_numpy(target).to(device)
            q = trainee([pool.train[i].query for i in chosen])
            d = trainee([pool.texts[t] for t in texts])
            scores = q @ d.T
            batch_kl = losses.kl_divergence(scores, wanted, settings.temperature)
            own_kl = losses.kl_divergence(scores.gather(1, own), wanted.gather(1, own), settings.temperature)
            sparsity = 2 * losses.flops(q) + losses.flops(d)
            loss = batch_kl + settings.own * own_kl + lamb * sparsity
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trainee.parameters(), 1.0)
            rate = settings.learning_rate * min(1.0, (step + 1) / settings.warmup)
            for group in optimizer.param_groups:
                group["lr"] = rate * group["share"]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            with torch.no_grad():
                keep = min(settings.average, step / (step + 10))
                for name, tensor in trainee.named_parameters():
                    average[name].lerp_(tensor, 1 - keep)
                there = float((q > 0).float().mean(0) @ (d > 0).float().mean(0))
            now_ratio = math.log(max(there, 1e-3) / teachers.flops(chosen, texts))
            ratio = 0.9 * ratio + 0.1 * now_ratio
            lamb = min(max(lamb * math.exp(0.1 * (ratio - math.log(settings.flops))), 1e-5), 0.3)
            row_ = {
                "step": step, "batch_kl": batch_kl.item(), "own_kl": own_kl.item(), "lambda": lamb,
                "flops": math.exp(ratio), "terms_q": (q > 0).sum(1).float().mean().item(),
                "terms_d": (d > 0).sum(1).float().mean().item(),
            }  # fmt: skip
            log.write(json.dumps(row_) + "\n")
            log.flush()
            bar.update()
            if step == settings.steps or time.monotonic() - saved_at > 240:
                _save(folder, trainee, optimizer, average, {"step": step, "lambda": lamb, "ratio": ratio})
                saved_at = time.monotonic()


def _save(folder: Path, trainee: Any, optimizer: Any, average: dict[str, Any], numbers: dict[str, Any]) -> None:
    weights = {name: tensor.detach().clone() for name, tensor in trainee.named_parameters()}
    content = {**numbers, "weights": weights, "average": average, "optimizer": optimizer.state_dict()}
    torch.save(content | {"random": torch.get_rng_state()}, folder / "state.new")
    (folder / "state.new").rename(folder / "state.pt")
    with torch.no_grad():
        for name, tensor in trainee.named_parameters():
            tensor.copy_(average[name])
        fresh = folder / f"average-{numbers['step']:05}"
        if not fresh.exists():
            fresh.mkdir()
            trainee.save(fresh)
        for name, tensor in trainee.named_parameters():
            tensor.copy_(weights[name])

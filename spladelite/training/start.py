"""Where a run starts: a checkpoint, or the bundled model read back from its ONNX form."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spladelite.encoders.checkpoint import Checkpoint, read_checkpoint
from spladelite.encoders.export.unpack import unpack
from spladelite.encoders.folder import NAME, ModelFolder
from spladelite.encoders.registry import BUNDLED, find_folder
from spladelite.errors import InvalidInput
from spladelite.training.config import TrainConfig


@dataclass(frozen=True, slots=True)
class Start:
    """The model that is trained.

    Attributes:
        folder: its folder.   name: what a person calls it.   fingerprint: of its content.
        checkpoint: None for an ONNX folder without torch weights, which has to be unpacked first.
    """

    folder: Path
    name: str
    fingerprint: str
    checkpoint: Checkpoint | None


def find_start(model: str | os.PathLike[str] | None, pooling: str | None) -> Start:
    """Find and check a model, without loading its weights.

    Raises:
        ModelError: there is none.
        InvalidInput: ``pooling`` does not apply.
    """
    folder = BUNDLED if model is None or model == BUNDLED.name else find_folder(model)
    if (folder / NAME).exists() and not (folder / "config.json").exists():
        if pooling is not None:
            raise InvalidInput(f"{folder} says its pooling itself; leave pooling= out")
        packed = ModelFolder.read(folder)
        return Start(folder, packed.name, packed.fingerprint, None)
    checkpoint = read_checkpoint(folder, pooling=pooling)
    return Start(folder, checkpoint.name, checkpoint.fingerprint, checkpoint)


def open_start(start: Start, scratch: Path, config: TrainConfig, corpus: Sequence[str], device: str) -> Any:
    """The :class:`~spladelite.training.model.Trainee`; a model that is packed is unpacked into ``scratch``.

    Raises:
        ModelError: the model cannot be trained.
        InvalidInput: queries cannot be static for this model.
    """
    from spladelite.training.model import Trainee

    checkpoint = start.checkpoint
    if checkpoint is None:
        unpack(start.folder, scratch / "start")
        checkpoint = read_checkpoint(scratch / "start")
    trainee = Trainee(checkpoint, device)
    route, prompt = trainee.route, trainee.route.prompt or checkpoint.query.prompt
    if config.queries == "static" and (route.pooling, route.activation, prompt) != ("max", "log1p", ""):
        raise InvalidInput(  # a folder with static query weights cannot say these, so they would be lost
            f"queries='static' needs a model with max pooling, log1p and no prompt; {start.folder} has {route.pooling} "
            f"pooling, {route.activation} and the prompt {prompt!r}; train it with queries='model'"
        )
    if config.queries == "static" and trainee.static is None:
        trainee.set_static(idf_of_tokens(trainee.tokenizer, corpus))
    elif config.queries == "model" and trainee.static is not None:
        raise InvalidInput(f"{start.folder} has static query weights; train it with queries='static'")
    return trainee


def idf_of_tokens(tokenizer: Any, corpus: Sequence[str]) -> NDArray[np.float32]:
    """``ln(1 + N / df)`` of each token over the corpus, ``(V,)``; a token that no text has counts as in one.

    Scaled to a mean of 1 over the corpus's tokens: rankings do not depend on the scale, the loss does.
    """
    df = np.zeros(len(tokenizer.vocabulary), np.int64)
    for text in corpus:
        df[np.unique(np.array(tokenizer.ids(text), np.int64))] += 1
    weights = np.log1p(len(corpus) / np.maximum(df, 1))
    weights /= np.average(weights, weights=np.maximum(df, 1e-9))
    weights[tokenizer.excluded] = 0
    return weights.astype(np.float32)

"""A checkpoint and a trained model, made once for all tests of training."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from spladelite.encoders.registry import BUNDLED
from spladelite.training import Setup, Trained, report, train
from training.cases import DATA, SMALL


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Batches this small are done before threads have met."""
    import torch  # here: without it the tests are skipped, and this file is read all the same

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from spladelite.encoders.export.unpack import unpack

    folder = tmp_path_factory.mktemp("base") / "splade-tiny"
    unpack(BUNDLED, folder)
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(DATA, tmp_path_factory.mktemp("run") / "model", SMALL, source="eight topics")


@pytest.fixture
def weights_only(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    """Runs that start from ``checkpoint`` and leave out ONNX and the plot, most of the time that a small run takes.

    For what is told from weights and logs; how a run is finished is tested with ``trained``, and from start to end.
    """
    monkeypatch.setattr(report, "export_model", lambda _model, exported, _precision: exported.mkdir(parents=True))
    monkeypatch.setattr(report, "plot", lambda _: None)
    return Setup(model=checkpoint)


@pytest.fixture(scope="session")
def docstrings() -> list[str]:
    """Real prose that every Python has."""
    texts = []
    for name in ("json", "os", "shutil", "random", "statistics", "textwrap", "difflib", "csv", "heapq", "socket"):
        module = importlib.import_module(name)
        for value in vars(module).values():
            text = inspect.getdoc(value) if inspect.isroutine(value) else None
            if text and 40 < len(text.split()) < 100:
                texts.append(text)
    return list(dict.fromkeys(texts))[:90]

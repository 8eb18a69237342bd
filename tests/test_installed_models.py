"""Models that packages bring, found by their names; splade-small, which is such a package."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from spladelite import ModelError, SpladeLite, load_encoder
from spladelite.cli.main import main
from spladelite.encoders.registry import BUNDLED, PACKAGED, installed_models
from spladelite.index.settings import read_meta

PACKAGE = Path(__file__).parents[1] / "packages" / "splade-small"
FOLDER = PACKAGE / "spladelite_splade_small"

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="packages/splade-small is in the repository only")


def install(site: Path, entry: str) -> None:
    """What pip leaves behind of a package with this entry point."""
    info = site / "a_model-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: a-model\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[spladelite.models]\n{entry}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_a_model_is_found_by_the_name_that_its_package_gives_it(site: Path) -> None:
    package = site / "package_of_a_model"
    shutil.copytree(BUNDLED, package)
    (package / "__init__.py").write_text("raise SystemExit('no code of the package runs')")
    install(site, "a-model = package_of_a_model")
    assert installed_models()["a-model"] == package
    with SpladeLite(site / "kb.db", model="a-model") as db:
        db.add(["A car crashed into a tree."], ids=["car"])
        assert db.search("vehicle accident")[0].id == "car"
    with SpladeLite(site / "kb.db") as db:  # the file says the name, wherever the package lies on this machine
        assert db.search("vehicle accident", mode="splade")[0].id == "car"
        with db._session.connections.read() as connection:
            assert read_meta(connection).source == "a-model"
    listed = json.loads(CliRunner().invoke(main, ["models", "list", "--json"]).output)
    assert {"name": "a-model", "where": "installed"} in listed


def test_a_package_that_is_gone_is_named(site: Path) -> None:
    install(site, "a-model = package_that_is_gone")
    with pytest.raises(ModelError, match="the package package_that_is_gone with the model a-model is gone"):
        load_encoder("a-model")


def test_a_model_of_ours_that_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spladelite.encoders.registry.entry_points", lambda **_: [])
    with pytest.raises(ModelError, match="pip install spladelite-splade-small brings it"):
        load_encoder("splade-small")
    with pytest.raises(ModelError, match=r"no installed model \(there is splade-tiny\), .*\(owner/name\)$"):
        load_encoder("splade-other")


def test_the_package_of_splade_small() -> None:
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text("utf-8"))["project"]
    (name,) = PACKAGED
    assert project["name"] == f"spladelite-{name}"
    assert project["entry-points"]["spladelite.models"] == {name: FOLDER.name}
    assert load_encoder(FOLDER).name == name
    assert (FOLDER / "MODEL_CARD.md").read_text("utf-8").startswith(f"# {name}\n")


def test_splade_small_finds_by_meaning() -> None:
    """What is asked has hardly a word in common with its answer."""
    texts = {
        "insulin": "Type 1 diabetes is treated with insulin, which is injected under the skin several times a day.",
        "tick": "Lyme disease is spread by the bite of infected ticks and begins with a ring-shaped rash.",
        "angina": "Angina is chest pain that comes when the heart muscle does not get enough blood.",
        "cataract": "A cataract clouds the lens of the eye; an operation puts an artificial lens in its place.",
        "scurvy": "Scurvy comes from a lack of vitamin C: gums bleed and teeth become loose.",
        "migraine": "A migraine is a throbbing pain on one side of the head, often with nausea.",
        "asthma": "In asthma the airways narrow and swell; an inhaler opens them within minutes.",
    }
    asked = {
        "medicine for high blood sugar": "insulin",
        "rash after an insect bite": "tick",
        "tight feeling in the chest when climbing stairs": "angina",
        "blurry vision in old people": "cataract",
        "teeth fall out because of bad food": "scurvy",
        "headache": "migraine",
        "cannot breathe, wheezing": "asthma",
    }
    with SpladeLite(":memory:", model=FOLDER) as db:
        db.add(list(texts.values()), ids=list(texts))
        found = {query: db.search(query, k=1, mode="splade")[0].id for query in asked}
    assert found == asked

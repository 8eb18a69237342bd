"""Golden databases: a small file of each format, as a release wrote it, is opened, searched and extended for ever.

``scripts/make_golden.py`` writes the file of the present format; a format that was released is never written again.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from spladelite import ReadOnly, SpladeLite
from spladelite.file.migrations import migrations

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.db"))
QUERIES = ["automobile accident", "how long does bread bake", "a warm place for a cat", "space"]


@pytest.fixture(params=GOLDEN, ids=lambda path: path.stem)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copy(request.param, tmp_path / "golden.db"))


def test_every_format_has_its_file() -> None:
    assert {path.stem for path in GOLDEN} >= {f"format{n}" for n in range(1, len(migrations()) + 1)}


@pytest.mark.filterwarnings("ignore::spladelite.UnreadText")
@pytest.mark.parametrize("mode", ["splade", "bm25", "hybrid"])
def test_it_answers_as_a_file_that_is_built_today(golden: Path, tmp_path: Path, mode: str) -> None:
    with SpladeLite(golden) as old, SpladeLite(tmp_path / "today.db") as today:
        assert old.check() == []
        documents = [old.get(id) for id in old]
        assert len(documents) > 5
        for document in documents:
            assert document is not None
            today.add(document.text, ids=document.id, metadata=document.metadata)
        for query in QUERIES:
            found, expected = old.search(query, mode=mode), today.search(query, mode=mode)
            assert [(hit.id, hit.passage) for hit in found] == [(hit.id, hit.passage) for hit in expected]
            assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], rel=1e-6)
        assert any(old.search(query, mode=mode) for query in QUERIES)


def test_it_can_be_extended(golden: Path) -> None:
    with SpladeLite(golden) as db:
        before = len(db)
        db.add("A submarine explores the deep ocean floor.", ids="submarine", metadata={"year": 2026})
        assert db.search("submarine under water", k=1)[0].id == "submarine"
        assert db.search("ocean", mode="bm25", k=1)[0].id == "submarine"
        first = next(iter(db))
        assert db.delete(first) == 1
        assert len(db) == before
        db.optimize()
        assert db.check() == []
    with SpladeLite(golden, read_only=True) as db:
        assert "submarine" in db


def test_an_older_one_is_not_changed_by_looking_at_it(golden: Path) -> None:
    content = golden.read_bytes()
    with SpladeLite(golden) as db:
        current = db.stats().format
    golden.write_bytes(content)
    if int.from_bytes(content[60:64], "big") == current:  # SQLite's header keeps user_version, our format, there
        SpladeLite(golden, read_only=True).close()
    else:
        with pytest.raises(ReadOnly, match="open it once"):
            SpladeLite(golden, read_only=True)
    assert golden.read_bytes() == content

"""Files of every kind into a database, and a database that follows a folder."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import subprocess
import sys
import time
import zipfile
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from five_texts import Counting

from spladelite import SpladeLite
from spladelite.cli.main import main
from spladelite.documents.extract import MAX_UNPACKED, html_text
from spladelite.documents.files import Choice, find_files
from spladelite.documents.sources import read_file
from spladelite.errors import InvalidInput, WrongType


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "notes"
    write(folder / "a.md", "# Engines\n\nThe engine does not start.")
    write(folder / "deep" / "b.txt", "Bake the bread for an hour.")
    write(folder / "rows.jsonl", '{"id": "r1", "text": "The cat sleeps."}\n{"text": "The dog barks."}\n')
    return folder


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: Path, encoding: str | None = None) -> list[tuple[str, dict[str, Any] | None]]:
    (file,) = find_files([str(path)])[0]
    return [(source.text, source.metadata) for source in read_file(file, encoding=encoding)]


# --- kinds of files ---------------------------------------------------------------------------------------------------

HTML = """<!DOCTYPE html><html><head><title>The &amp; title</title><style>p { color: red }</style>
<script>alert("no")</script></head><body><nav>Menu</nav><h1>Head  line</h1><p>Cats &lt;sleep&gt;
and<br>dream.</p><ul><li>one<li>two</ul><table><tr><td>a</td><td>b</td></tr></table><pre>  kept
   as it is</pre><!-- no --></body></html>"""


def test_html(tmp_path: Path) -> None:
    ((text, metadata),) = read(write(tmp_path / "x.html", HTML))
    assert metadata == {"title": "The & title"}
    assert text.startswith("Menu\n\n# Head line\n\nCats <sleep> and\ndream.")
    assert "- one\n- two" in text
    assert "a\tb" in text
    assert "kept\n   as it is" in text
    assert "alert" not in text
    assert "red" not in text
    assert html_text("<head><p>unclosed head<body><p>seen") == "seen"
    assert html_text("<b>bold</b> <i>text") == "bold text"
    latin = '<meta charset="iso-8859-1"><p>caf\xe9'.encode("latin-1")
    assert read(write(tmp_path / "y.htm", latin))[0][0] == "café"


def test_epub(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "book.epub", "w") as book:
        book.writestr(
            "META-INF/container.xml",
            '<container xmlns="urn:x"><rootfiles><rootfile full-path="in/book.opf"/></rootfiles></container>',
        )
        book.writestr(
            "in/book.opf",
            '<package xmlns="urn:p" xmlns:dc="urn:d"><metadata><dc:title>A book</dc:title></metadata><manifest>'
            '<item id="two" href="b%202.xhtml"/><item id="one" href="a.xhtml"/></manifest>'
            '<spine><itemref idref="one"/><itemref idref="two"/><itemref idref="gone"/></spine></package>',
        )
        book.writestr("in/a.xhtml", "<h1>One</h1><p>First.")
        book.writestr("in/b 2.xhtml", "<h1>Two</h1><p>Second.")
    assert read(tmp_path / "book.epub") == [("# One\n\nFirst.\n\n# Two\n\nSecond.", {"title": "A book"})]


def test_mail(tmp_path: Path) -> None:
    mail = EmailMessage()
    mail["Subject"], mail["From"], mail["To"] = "Grüße", "a@example.org", "b@example.org"
    mail.set_content("<p>Only <b>this</b>.", subtype="html")
    ((text, metadata),) = read(write(tmp_path / "m.eml", mail.as_bytes()))
    assert text == "Grüße\n\nOnly this."
    assert metadata == {"subject": "Grüße", "from": "a@example.org", "to": "b@example.org"}


def test_notebooks_json_and_packed_files(tmp_path: Path) -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "text"]},
        {"cell_type": "code", "source": "print(1)", "outputs": [{"text": "not this"}]},
        {"cell_type": "code", "source": []},
    ]
    assert read(write(tmp_path / "n.ipynb", json.dumps({"cells": cells}))) == [("# Title\ntext\n\nprint(1)", None)]
    rows = [{"text": "a", "id": 1}, {"text": "b", "n": 2}]
    assert read(write(tmp_path / "r.json", json.dumps(rows))) == [("a", None), ("b", {"n": 2})]
    assert read(write(tmp_path / "o.json", '{"text": "only"}')) == [("only", None)]
    assert read(write(tmp_path / "t.md.gz", gzip.compress(b"packed"))) == [("packed", None)]
    lines = gzip.compress(b'{"text": "x"}\n{"text": "y"}\n')
    assert read(write(tmp_path / "l.jsonl.gz", lines)) == [("x", None), ("y", None)]


def test_pdf_word_and_powerpoint(tmp_path: Path) -> None:
    docx = pytest.importorskip("docx")
    pptx = pytest.importorskip("pptx")
    pytest.importorskip("pypdf")
    document = docx.Document()
    document.add_heading("Engines", level=2)
    document.add_paragraph("The engine does not start.")
    table = document.add_table(rows=1, cols=2)
    table.rows[0].cells[0].text, table.rows[0].cells[1].text = "a", "b"
    document.save(str(tmp_path / "w.docx"))
    assert read(tmp_path / "w.docx")[0][0] == "## Engines\n\nThe engine does not start.\na\tb"
    slides = pptx.Presentation()
    for title in ("First", "Second"):
        slides.slides.add_slide(slides.slide_layouts[5]).shapes.title.text = title
    slides.save(str(tmp_path / "s.pptx"))
    assert read(tmp_path / "s.pptx") == [("First\n\f\nSecond", {"pages": 2})]
    assert read(write(tmp_path / "p.pdf", pdf("Engines start.", "Bread bakes."))) == [
        ("Engines start.\n\f\nBread bakes.", {"pages": 2})
    ]
    with pytest.raises(InvalidInput, match="without text: a scan"):
        read(write(tmp_path / "scan.pdf", pdf("")))


def test_a_hit_says_where_it_is(db: SpladeLite, tmp_path: Path) -> None:
    filler = "It rained the whole day and nothing else was to be told of it. " * 60
    db.add(f"{filler}\n\f\n{filler}A car crashed into a tree. {filler}\n\f\nEnd.", "pages")
    assert db.search("car crash", k=1)[0].place == "page 2"
    db.add("Bread bakes.\n\f\nLet it cool.", "short")
    assert db.search("bread", k=1)[0].place == "pages 1–2"
    markdown = "# Bread\n\nFlour.\n\n## Engines\n\nAn engine.\n"
    for name in ("a.md", "a.py"):
        db.add_files(write(tmp_path / name, markdown))
    assert {hit.id: hit.place for hit in db.search("engine") if hit.metadata} == {"a.md": "Bread", "a.py": ""}
    assert db.search("bread", k=1, text=False)[0].place == ""


def pdf(*pages: str) -> bytes:
    """A PDF with a line of text a page."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", ""]
    kids = []
    for text in pages:
        stream = f"BT /F1 24 Tf 72 700 Td ({text}) Tj ET"
        font = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
        kids.append(f"{len(objects) + 1} 0 R")
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {len(objects) + 2} 0 R"
            f" /Resources << /Font << /F1 {font} >> >> >>"
        )
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    out, places = io.BytesIO(b"%PDF-1.4\n"), []
    out.seek(0, 2)
    for number, body in enumerate(objects, 1):
        places.append(out.tell())
        out.write(f"{number} 0 obj\n{body}\nendobj\n".encode())
    start = out.tell()
    entries = "".join(f"{place:010} 00000 n \n" for place in places)
    out.write(f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{entries}".encode())
    out.write(f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF".encode())
    return out.getvalue()


NONSENSE = [b"", b"\x00\xff" * 500, b"PK\x03\x04" + b"\x07" * 99, b"%PDF-1.4\n", b"[[[", b"{}"]


@pytest.mark.filterwarnings("ignore::spladelite.UnfindableText")
@pytest.mark.parametrize("name", ["x.pdf", "x.docx", "x.pptx", "x.epub", "x.ipynb", "x.json", "x.txt.gz", "x.eml"])
def test_files_that_are_not_what_their_names_say(db: SpladeLite, tmp_path: Path, name: str) -> None:
    """They are read as what they are, or named with a reason of one line."""
    for content in NONSENSE:
        report = db.add_files(write(tmp_path / name, content))
        assert all(problem.reason and "\n" not in problem.reason for problem in report.problems)
        assert len(report.problems) + report.blank + len(report.ids) == 1


def test_bombs_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.epub", "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("META-INF/container.xml", b" " * (MAX_UNPACKED // 8))
        for info in book.infolist() * 8:
            book.filelist.append(info)
    with pytest.raises(InvalidInput, match="unpacks to"):
        read(tmp_path / "bomb.epub")
    with zipfile.ZipFile(tmp_path / "laughs.epub", "w") as book:
        book.writestr("META-INF/container.xml", '<!DOCTYPE x [<!ENTITY a "ha">]><x>&a;</x>')
    with pytest.raises(InvalidInput, match="entities"):
        read(tmp_path / "laughs.epub")


def test_encodings(tmp_path: Path) -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        assert read(write(tmp_path / f"{encoding}.txt", "naïve 😀\n".encode(encoding))) == [("naïve 😀\n", None)]
    rows = '{"text": "naïve"}\r\n{"text": "zwei"}'.encode("utf-16")
    assert read(write(tmp_path / "rows.jsonl", rows)) == [("naïve", None), ("zwei", None)]
    latin = write(tmp_path / "latin.txt", "naïve".encode("latin-1"))
    with pytest.raises(InvalidInput, match=r"byte 2 \(0xef\) is not UTF-8; say .*--encoding latin-1"):
        read(latin)
    assert read(latin, "latin-1") == [("naïve", None)]
    assert read(write(tmp_path / "utf8.txt", "naïve"), "latin-1") == [("naïve", None)]  # what is UTF-8 is UTF-8
    with pytest.raises(InvalidInput, match="is not ascii"):
        read(latin, "ascii")
    with SpladeLite(":memory:") as db:
        for wrong in ("klingon", "hex"):
            with pytest.raises(InvalidInput, match="encoding is"):
                db.add_files(latin, encoding=wrong)


def test_which_files_are_read(tmp_path: Path) -> None:
    for name in ("a.md", "src/b.py", "src/c.py", "d.bin", "e.bin", "noext", ".hidden.md", "drafts/f.md"):
        write(tmp_path / name, "x")

    def names(*include: str, exclude: tuple[str, ...] = ()) -> list[str]:
        return [file.name for file in find_files([str(tmp_path)], choice=Choice(include, exclude))[0]]

    assert names() == ["a.md", "drafts/f.md", "src/b.py", "src/c.py"]
    assert names("*.md") == ["a.md", "drafts/f.md"]
    assert names("src/*") == ["src/b.py", "src/c.py"]
    assert names(exclude=("drafts/*", "c.py")) == ["a.md", "src/b.py"]
    assert find_files([str(tmp_path)])[1] == {".bin": 2, "no suffix": 1}


# --- add --------------------------------------------------------------------------------------------------------------


def test_files_of_two_folders_do_not_collide(db: SpladeLite, tmp_path: Path) -> None:
    for folder in ("A", "B", "deep/B"):
        write(tmp_path / folder / "README.md", f"The engine of {folder}.")
    report = db.add_files([tmp_path / "A", tmp_path / "B", tmp_path / "deep/B"])
    assert report.ids == ("README.md", "B/README.md", "deep/B/README.md")
    write(tmp_path / "B" / "README.md", "Another engine.")
    report = db.add_files([tmp_path / "B", tmp_path / "A"])
    assert report.ids == ("B/README.md", "README.md")
    assert (report.changed, report.unchanged, len(db)) == (("README.md",), 1, 3)
    assert db.get("B/README.md").text == "Another engine."  # type: ignore[union-attr]
    db.add("Own text.", "notes.md")
    assert db.add_files(write(tmp_path / "A" / "notes.md", "A file.")).ids == ("A/notes.md",)
    assert db.get("notes.md").text == "Own text."  # type: ignore[union-attr]
    assert db.check() == []


def test_one_bad_file_does_not_stop_a_folder(db: SpladeLite, notes: Path) -> None:
    write(notes / "b.txt", b"caf\xe9")
    write(notes / "c.csv", "title,body\na,b\n")
    write(notes / "d.pdf", b"no PDF")
    report = db.add_files(notes)
    assert [Path(problem.path).name for problem in report.problems] == ["b.txt", "d.pdf", "c.csv"]
    assert "no 'text' among title, body" in report.problems[2].reason
    assert len(db) == 4
    with pytest.raises(InvalidInput, match=r"b\.txt: byte 3"):
        db.add_files(notes, strict=True)
    if os.getuid():
        (notes / "a.md").chmod(0)
        assert "Permission denied" in db.add_files(notes).problems[0].reason


# --- sync -------------------------------------------------------------------------------------------------------------


def state(db: SpladeLite) -> dict[str, str]:
    return {document.id: document.text for document in db.documents()}


def test_a_database_follows_its_folder(db: SpladeLite, notes: Path) -> None:
    db.add("Not from a file.", "own")
    report = db.sync(notes)
    assert (report.new, report.changed, report.deleted) == (("a.md", "deep/b.txt", "rows.jsonl"), (), ())
    facts = db.get("deep/b.txt").metadata["file"]  # type: ignore[union-attr]
    assert (facts["folder"], facts["path"], facts["size"]) == (str(notes), "deep/b.txt", 27)
    assert db.count({"file.modified": {"$gt": "2020-01-01T00:00:00+00:00"}}) == 2
    before = state(db)
    assert len(before) == 5
    again = db.sync(notes)
    assert (again.unchanged, again.new, again.changed) == (3, (), ())
    write(notes / "a.md", "The engine runs.")
    (notes / "deep" / "b.txt").rename(notes / "bread.txt")
    write(notes / "rows.jsonl", '{"id": "r1", "text": "The cat wakes."}\n{"text": "The dog barks."}\n')
    expected = (("a.md", "rows.jsonl"), (("deep/b.txt", "bread.txt"),))
    dry = db.sync(notes, dry_run=True)
    assert state(db) == before
    assert (dry.changed, dry.renamed) == (("a.md",), expected[1])  # rows: as many as before
    encoded = db.stats().passages
    report = db.sync(notes)
    assert (report.changed, report.renamed) == expected
    assert db.stats().passages == encoded
    assert state(db)["a.md"] == "The engine runs."
    assert state(db)["r1"] == "The cat wakes."
    assert "deep/b.txt" not in db
    assert db.search("bread", k=1)[0].id == "bread.txt"
    (notes / "rows.jsonl").unlink()
    write(notes / "a.md", " \n")
    report = db.sync(notes)
    assert set(report.deleted) == {"rows.jsonl", "a.md"}
    assert state(db).keys() == {"own", "bread.txt"}
    assert db.check() == []


def test_a_rename_encodes_nothing(path: str, notes: Path) -> None:
    with SpladeLite(path) as db:
        db.sync(notes)
    (notes / "a.md").rename(notes / "z.md")
    with SpladeLite(path) as db:
        db._session.models.sparse.load = None  # type: ignore[assignment, method-assign]
        assert db.sync(notes).renamed == (("a.md", "z.md"),)
        assert db.get("z.md").text.startswith("# Engines")  # type: ignore[union-attr]


def test_a_touched_file_is_not_read_as_changed(db: SpladeLite, notes: Path) -> None:
    db.sync(notes)
    os.utime(notes / "a.md", (1, 1))
    report = db.sync(notes)
    assert (report.changed, report.unchanged) == ((), 3)
    assert db.get("a.md").metadata["file"]["modified"] == "1970-01-01T00:00:01+00:00"  # type: ignore[union-attr]


def test_a_file_that_cannot_be_used_any_more_keeps_its_document(db: SpladeLite, notes: Path) -> None:
    db.sync(notes)
    write(notes / "a.md", b"caf\xe9")
    write(notes / "rows.jsonl", "no JSON")
    report = db.sync(notes)
    assert len(report.problems) == 2
    assert (len(db), report.deleted) == (4, ())


def test_a_folder_that_is_suddenly_empty_deletes_nothing(db: SpladeLite, notes: Path) -> None:
    db.sync(notes)
    for name in ("a.md", "deep/b.txt", "rows.jsonl"):
        (notes / name).unlink()
    with pytest.raises(InvalidInput, match="is it the right folder"):
        db.sync(notes)
    assert len(db) == 4
    with pytest.raises(NotADirectoryError):
        db.sync(notes / "nowhere")


def test_rows_whose_ids_are_somebody_elses_get_their_file_before_it(db: SpladeLite, notes: Path) -> None:
    db.add("Mine.", "r1")
    db.sync(notes)
    assert db.get("r1").text == "Mine."  # type: ignore[union-attr]
    assert db.get("rows.jsonl#r1").text == "The cat sleeps."  # type: ignore[union-attr]
    assert db.sync(notes).unchanged == 3
    write(notes / "taken.csv", "text,file\nx,y\n")
    assert "column named 'file'" in db.sync(notes).problems[0].reason


# --- the command line -------------------------------------------------------------------------------------------------


def run(*args: str, status: int = 0) -> Result:
    result = CliRunner(catch_exceptions=False).invoke(main, args)
    assert result.exit_code == status, result.output
    return result


@pytest.mark.usefixtures("notes")
def test_add_names_what_was_skipped_and_what_is_not_read() -> None:
    write(Path("notes/bad.txt"), b"caf\xe9")
    write(Path("notes/x.png"), b"x")
    write(Path("notes/y.png"), b"x")
    result = run("add", "kb.db", "notes", status=1)
    assert result.stdout == "4 read; kb.db has 4 documents, 4 more than before\n"
    assert re.match(r"skipped notes/bad\.txt: byte 3 .*\n2 files of kinds that are not read: 2 \.png\n", result.stderr)
    assert run("add", "kb.db", "notes", "--encoding", "latin-1", "-q").output == ""
    write(Path("notes/bad.txt"), b"caf\xe9 again")
    assert "bad.txt: byte 3" in run("add", "kb.db", "notes", "--strict", status=2).stderr


@pytest.mark.usefixtures("notes")
def test_an_edited_file_is_added_again() -> None:
    run("add", "kb.db", "notes/a.md")
    write(Path("notes/a.md"), "Edited.")
    assert run("add", "kb.db", "notes/a.md").stdout == "1 read; kb.db has 1 document, 0 more than before\n"
    assert "Edited." in run("get", "kb.db", "a.md").stdout


@pytest.mark.usefixtures("notes")
def test_sync_prints_what_it_does() -> None:
    run("sync", "kb.db", "notes")
    write(Path("notes/new.md"), "New.")
    Path("notes/a.md").rename("notes/b.md")
    lines = run("sync", "kb.db", "notes", "--dry-run").stdout.splitlines()
    assert lines == [
        "new      new.md",
        "renamed  a.md -> b.md",
        "1 would be new, 0 changed, 1 renamed, 0 deleted, 2 unchanged",
    ]
    report = json.loads(run("sync", "kb.db", "notes", "--json").stdout)
    assert (report["new"], report["renamed"]) == (["new.md"], [["a.md", "b.md"]])
    assert run("sync", "kb.db", "nowhere", status=3).stderr.startswith("Error: nowhere")


@pytest.mark.usefixtures("notes")
def test_watch_follows_the_folder_until_it_is_ended() -> None:
    pytest.importorskip("watchfiles")
    code = "from spladelite.cli.main import main; main(prog_name='spladelite')"
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", code, "sync", "kb.db", "notes", "--watch"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert any("3 new" in line for line in iter(process.stdout.readline, ""))
        time.sleep(0.5)
        write(Path("notes/late.md"), "The late engine.")
        assert any(line.startswith("new      late.md") for line in iter(process.stdout.readline, ""))
    finally:
        process.terminate()
        process.communicate(timeout=20)
    with SpladeLite("kb.db") as db:
        assert "late.md" in db


def test_the_bar_knows_bytes_files_and_moves(db: SpladeLite, notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done: list[tuple[int, int | None]] = []
    db.add_files(notes, progress=lambda count, total: done.append((count, total)))
    size = sum(path.stat().st_size for path in notes.rglob("*") if path.is_file())
    assert done[-1] == (size, size)
    assert [count for count, _ in done] == sorted(count for count, _ in done)
    write(notes / "long.txt", "The engine starts when it is warm, and not before. " * 8000)
    db.add_files(notes, progress=True)
    shown = re.findall(r"\d+/4 files", capsys.readouterr().err)
    assert len(shown) >= 2
    assert shown[-1] == "4/4 files"


def test_metadata_that_files_get_stays_when_they_change(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    write(folder / "a.txt", "An engine.")
    write(folder / "page.html", HTML)
    write(folder / "rows.jsonl", json.dumps({"id": "r", "text": "A row.", "n": 1}))
    model = Counting()
    with SpladeLite(tmp_path / "kb.db", model) as db:
        db.add_files(folder, metadata={"project": "x", "title": "mine"})
        assert db.get("r").metadata == {"n": 1, "project": "x", "title": "mine"}  # type: ignore[union-attr]
        encoded = model.encoded

        def of(id: str) -> dict[str, Any]:
            document = db.get(id)
            assert document is not None
            return {name: value for name, value in document.metadata.items() if name != "file"}

        assert of("page.html") == {"project": "x", "title": "mine"}
        assert db.add_files(folder, metadata={"project": "x", "title": "mine"}).unchanged == 3
        report = db.sync(folder, metadata={"lang": "en"})
        assert (report.changed, report.new) == (("a.txt", "page.html"), ("rows.jsonl",))
        assert of("rows.jsonl#r") == {"n": 1, "lang": "en"}
        assert of("a.txt") == {"project": "x", "title": "mine", "lang": "en"}
        assert model.encoded == encoded + 1  # the row, which sync keeps apart from what was added
        write(folder / "a.txt", "A new engine.")
        (folder / "page.html").rename(folder / "other.html")
        db.sync(folder)
        assert of("rows.jsonl#r") == {"n": 1}  # of rows the file and the call say all
        assert of("a.txt") == of("other.html") == {"project": "x", "title": "mine", "lang": "en"}
        for call in (db.sync, db.add_files):
            with pytest.raises(InvalidInput, match="'file'"):
                call(folder, metadata={"file": "x"})
            with pytest.raises(WrongType, match="metadata"):
                call(folder, metadata=[1])  # type: ignore[arg-type]
        assert db.check() == []

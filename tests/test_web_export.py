"""``db.export_web``: what is written, and that Node and Chromium find in it exactly what Python finds."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from languages import ENGLISH
from languages import TEXTS as LANGUAGES
from web_host import host

from spladelite import Encoder, InvalidInput, SpladeLite, load_encoder
from spladelite.encoders.reading import Reader
from spladelite.upkeep.web import encoder, files
from spladelite.upkeep.web.graph import read_graph

WEB = Path(__file__).parents[1] / "web"
SPLADE_SMALL = Path(__file__).parents[1] / "packages" / "splade-small" / "spladelite_splade_small"
LONG = (
    "The lighthouse keeper wrote every evening about the weather, the ships and the birds he had seen. 🌊 "
    "On stormy nights he did not sleep; the lamp needed oil and the glass had to be kept clear of salt. "
    "In spring, migrating geese rested on the rocks below the tower. His daughter learned to read from the almanac. "
)
TEXTS = {
    "car": "A car crashed into a tree and the driver was hurt.",
    "bread": "Let the bread cool for an hour before you cut it.",
    "cat": "The cat sleeps on the warm windowsill, cats do.",
    "penguin": "Penguins huddle together in the Antarctic winter.",
    "script": "<script>alert('x')</script> & <b>bold</b> \"quoted\" text about browsers and HTML injection.",
    "accents": "Crème brûlée à la Café de Flore — naïve Zürich, ΣΊΣΥΦΟΣ; 東京タワー.",
    "code": "def read_file(path): return open(path).read()  # HTTPServer v1.2.3, mail a.b@example.org",
    "emoji": "🎉🎉 The party starts at eight, bring 👩‍👩‍👧 and a cake 🎂.",
    "long": LONG * 12,
    **{f"n{i}": f"Note {i}: the {w} of {x} in the year {1900 + i}." for i, (w, x) in enumerate(
        (w, x)
        for w in ("history", "price", "engine", "music", "weather")
        for x in ("trains", "gold", "oceans", "software", "bread")
    )},
}  # fmt: skip
METADATA: dict[str, dict[str, Any]] = {
    id: {"year": 1990 + i % 7, "kind": ["news", "food", None][i % 3], "author": {"name": f"A{i % 4}"}, "tags": ["x"]}
    for i, id in enumerate(TEXTS)
} | {"cat": {"year": "1991", "flag": True, "dotted.key": 1, "$money": 2.5}, "code": {"year": 1991.0, "flag": 1}}

QUERIES = [
    "automobile accident injury",
    "bread",
    "the price of gold",
    "Who keeps the lighthouse lamp in a storm?",
    "html injection",
    "Café crème İstanbul 東京",
    "[SEP] [UNK] 🎉",
    "zzzzqqqq",
    "",
    "   ",
]
LONG_QUERY = "geese " * 150 + " and the almanac in spring, " + "a cat sleeping " * 50  # more than one window
FILTERS: list[dict[str, Any]] = [
    {"year": {"$gte": 1992}},
    {"year": 1991},
    {"year": "1991"},
    {"year": {"$in": [1993, "1991", None]}},
    {"year": {"$nin": [1990, 1991]}},
    {"kind": None},
    {"kind": {"$exists": False}},
    {"kind": {"$ne": "food"}},
    {"author.name": {"$gt": "A1", "$lte": "A3"}},
    {"author": {"$exists": True}},
    {"tags": {"$not": {"$eq": "x"}}},
    {"flag": True},
    {"flag": 1},
    {r"dotted\.key": 1},
    {r"\$money": {"$lt": 3}},
    {"$or": [{"kind": "news"}, {"$and": [{"year": {"$lt": 1992}}, {"$not": {"kind": "food"}}]}]},
    {"missing": {"$ne": 3}},
    {},
]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpladeLite]:
    """Two segments, a tail, dead passages, a document of many passages."""
    path = tmp_path_factory.mktemp("web") / "kb.db"
    with SpladeLite(path, tail_size=8, segment_size=32) as db:
        ids = list(TEXTS)
        db.add([TEXTS[id] for id in ids[:20]], ids=ids[:20], metadata=[METADATA[id] for id in ids[:20]])
        db.add(["A car that is deleted again", "bread that goes"], ids=["gone", "gone too"])
        db.add([TEXTS[id] for id in ids[20:]], ids=ids[20:], metadata=[METADATA[id] for id in ids[20:]])
        db.delete(["gone", "gone too"])
        yield db


@pytest.fixture(scope="module")
def site(database: SpladeLite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sites") / "site"
    database.export_web(folder)
    return folder


def contents(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "database.json").read_bytes())
    return found


def data_files(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.bin")}


# --- what is written --------------------------------------------------------------------------------------------------


def test_the_folder_is_complete_and_the_same_each_time(database: SpladeLite, site: Path, tmp_path: Path) -> None:
    named = {name for parts in contents(site)["files"].values() for name, _ in parts}
    assert named == data_files(site)
    assert {"index.html", "page.js", "worker.js", "spladelite/index.js"} <= contents(site)["page"].keys()
    written = database.export_web(tmp_path / "again")
    assert data_files(tmp_path / "again") == named
    assert (written.documents, written.files) == (len(TEXTS), len(named))
    assert written.bytes == sum((site / name).stat().st_size for name in named)
    assert written.notes == ()


def test_the_worker_keeps_every_module() -> None:
    worker = (WEB / "page" / "worker.js").read_text()
    listed = set(json.loads(worker.split("const MODULES = ")[1].split(";")[0]))
    assert listed == {path.stem for path in (WEB / "src").glob("*.js")}


def test_a_folder_of_something_else_is_refused(database: SpladeLite, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InvalidInput, match="no earlier web export"):
        database.export_web(tmp_path)
    (tmp_path / "database.json").write_text('{"files": {"x": [["thesis.tex", 3]]}}')
    with pytest.raises(InvalidInput, match="not written by an export"):
        database.export_web(tmp_path)
    with pytest.raises(InvalidInput, match="is a file"):
        database.export_web(tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".bin"] == []


def test_another_export_replaces_data_and_keeps_what_was_changed(tmp_path: Path) -> None:
    with SpladeLite(tmp_path / "kb.db") as db:
        db.add("A first text")
        db.export_web(tmp_path / "site")
        before = data_files(tmp_path / "site")
        (tmp_path / "site" / "index.html").write_text("mine")
        (tmp_path / "site" / "CNAME").write_text("example.org")
        db.add("A second text")
        for _ in range(2):
            written = db.export_web(tmp_path / "site")
            assert written.notes == ("index.html was changed since it was exported and stays as it is",)
    after = data_files(tmp_path / "site")
    assert after != before
    assert after == {name for parts in contents(tmp_path / "site")["files"].values() for name, _ in parts}
    assert (tmp_path / "site" / "index.html").read_text() == "mine"
    assert (tmp_path / "site" / "CNAME").exists()


def test_an_export_that_fails_leaves_the_earlier_one(tmp_path: Path) -> None:
    def stop(done: int, _: int | None) -> None:
        if done > 1:
            raise KeyboardInterrupt

    with SpladeLite(tmp_path / "kb.db") as db:
        db.add(["A first text", "another text"])
        db.export_web(tmp_path / "site")
        before = {path: path.read_bytes() for path in (tmp_path / "site").rglob("*") if path.is_file()}
        db.add("A second text")
        with pytest.raises(KeyboardInterrupt):
            db.export_web(tmp_path / "site", progress=stop)
        assert {path: path.read_bytes() for path in (tmp_path / "site").rglob("*") if path.is_file()} == before


def test_a_model_that_no_browser_runs_is_told(tmp_path: Path) -> None:
    bundled = load_encoder(None)

    class Model:
        """The bundled model as somebody's own object."""

        name, fingerprint, vocabulary, window = "mine", "f", bundled.vocabulary, bundled.window
        encode_documents, encode_queries, tokenize = (
            bundled.encode_documents, bundled.encode_queries, bundled.tokenize,
        )  # fmt: skip

    assert isinstance(Model(), Encoder)
    with SpladeLite(tmp_path / "kb.db", model=Model()) as db:
        db.add("A text")
        assert "mine is an object" in db.export_web(tmp_path / "site").notes[0]
    with SpladeLite(tmp_path / "kb.db") as db:
        assert "open it with model=" in db.export_web(tmp_path / "site").notes[0]


def test_the_command(database: SpladeLite, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from spladelite.cli.main import main

    database.backup(tmp_path / "kb.db")
    result = CliRunner().invoke(main, ["export", str(tmp_path / "kb.db"), str(tmp_path / "site"), "--web"])
    assert result.exit_code == 0, result.output
    assert f"{len(TEXTS)} documents" in result.output
    result = CliRunner().invoke(main, ["export", str(tmp_path / "kb.db"), str(tmp_path / "s"), "--web", "--slim"])
    assert result.exit_code == 2


def test_the_graph_is_read_as_onnx_reads_it() -> None:
    onnx = pytest.importorskip("onnx")
    query: Any = load_encoder(None).query  # type: ignore[attr-defined]
    content = (query.folder.path / query.route.file).read_bytes()
    ours, theirs = read_graph(content), onnx.load_from_string(content).graph
    assert [(n.op, n.inputs, n.outputs) for n in ours.nodes] == [
        (n.op_type, list(n.input), list(n.output)) for n in theirs.node
    ]
    for mine, other in zip(ours.nodes, theirs.node, strict=True):
        assert mine.attributes == {a.name: onnx.helper.get_attribute_value(a) for a in other.attribute}
    assert (ours.inputs, ours.outputs) == ([i.name for i in theirs.input], [o.name for o in theirs.output])
    for tensor in theirs.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        mine_ = ours.tensors[tensor.name]
        assert mine_.shape == values.shape
        assert mine_.content == (values.astype("<i4") if mine_.dtype == "i32" else values).tobytes()


# --- what is found ----------------------------------------------------------------------------------------------------


def hits(db: SpladeLite, query: Any, **options: Any) -> list[dict[str, Any]]:
    found = []
    for hit in db.search(query, **options):
        utf16 = [len(hit.text[:place].encode("utf-16-le")) // 2 for place in (hit.start, hit.end)]
        found.append(
            {
                "id": hit.id,
                "score": hit.score,
                "metadata": hit.metadata,
                "passage": {"text": hit.passage.text, "start": utf16[0], "end": utf16[1]},
                "text": hit.text,
                "highlight": db.highlight(hit, "\ue000", "\ue001"),
            }
        )
    return found


# A query, options in JavaScript, and in Python where they are others.
Case = tuple[Any, dict[str, Any], dict[str, Any]]


def cases(db: SpladeLite) -> list[dict[str, Any]]:
    """Searches with what Python finds, as JSON."""
    made: list[Case] = []
    made += modes(QUERIES)
    made.append((LONG_QUERY, {"mode": "splade", "encoder": "model"}, {"encoder": None}))
    query = "the year of bread and a car"
    for where in FILTERS:
        made += [
            (query, {"mode": mode, "encoder": "idf", "k": 50, "where": where}, {}) for mode in ("splade", "hybrid")
        ]
    made.append((query, {"mode": "hybrid", "encoder": "idf", "fusion": "rrf"}, {}))
    made.append((query, {"mode": "hybrid", "encoder": "idf", "weights": {"splade": 0.2, "bm25": 3}}, {}))
    made.append((query, {"mode": "hybrid", "weights": {"bm25": 1}}, {}))
    made.append((query, {"mode": "hybrid", "weights": {"splade": 1}, "encoder": "idf"}, {}))
    made.append((query, {"encoder": "idf"}, {"mode": "hybrid"}))
    vector: Any = {2482: 1.5, 7852: 0.5}
    made.append((vector, {}, {"mode": "splade"}))
    for mode in ("splade", "bm25", "hybrid"):
        least = 0.5 if mode == "hybrid" else 3
        idf = {} if mode == "bm25" else {"encoder": "idf"}
        made.append((query, {"mode": mode, **idf, "minScore": least, "k": 50}, {"min_score": least}))
    return found_by_python(db, made)


def modes(queries: Sequence[str]) -> list[Case]:
    """Each query in each mode and with each encoder."""
    made: list[Case] = []
    for query in queries:
        for mode in ("splade", "bm25", "hybrid"):
            for name in ("model", "idf")[: 1 if mode == "bm25" else 2]:
                options: dict[str, Any] = {"mode": mode, "encoder": name, "k": 5}
                python = {"encoder": name if name == "idf" and mode != "bm25" else None}
                made.append((query, options, python))
    return made


def found_by_python(db: SpladeLite, made: Sequence[Case]) -> list[dict[str, Any]]:
    found = []
    for query, options, python in made:
        arguments = {key: value for key, value in (options | python).items() if key != "minScore"}
        found.append({"query": query, "options": options, "hits": hits(db, query, **arguments)})
    return found


def explanations(db: SpladeLite) -> list[dict[str, Any]]:
    made = []
    for query in QUERIES[:4]:
        for hit in db.search(query, k=3, encoder="idf", mode="hybrid"):
            explanation = db.explain(query, hit.id, encoder="idf", mode="hybrid")
            terms = explanation.terms
            rows = [[term.term, term.query_weight, term.document_weight, term.contribution] for term in terms]
            parts = [[part.part, part.score, part.contribution, dict(part.words)] for part in explanation.parts]
            made.append({"query": query, "id": hit.id, "terms": rows, "parts": parts})
    return made


def russian(tmp_path: Path) -> list[dict[str, Any]]:
    """A database of another language, with words of English and of a third one, and constructors' names."""
    with SpladeLite(tmp_path / "russian.db", language="russian") as db:
        db.add(
            [
                "В городах строили новые дома и дороги.",
                "Кошки и собаки живут в домах людей.",
                "The engines were running, hasOwnProperty and constructor are names.",
                "القطط تنام في البيوت",
            ],
            ids=["cities", "pets", "engines", "arabic"],
        )
        db.export_web(tmp_path / "russian")
        queries = ["город и дома", "дом собаки", "engine constructor", "قطط البيت", "домах", "names in городах"]
        of_words = found_by_python(db, [(query, {"mode": "bm25"}, {}) for query in queries])
        return of_words + found_by_python(db, [(query, {"mode": "hybrid", "encoder": "idf"}, {}) for query in queries])


def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("needs Node.js 20 or newer: no command `node` was found")
    return found


def readable() -> list[tuple[str, bool]]:
    """Texts in many languages and in several, and whether the bundled model can read them."""
    every = [text for texts in (*LANGUAGES.values(), ENGLISH) for text in texts]
    every += [
        "人民大学在北京的中心 🎉",
        "고양이가 소파 위에서 자고 있습니다",
        "बिल्ली सोफे पर सो रही है",
        "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 雪𠮷",
        "Q4 β 12٣ …",
        "x",
    ]
    every += QUERIES + [one[:20] + two for one, two in pairwise(every)] + [" ".join(every), " ".join(reversed(every))]
    reader = Reader(load_encoder(None))
    return [(text, reader.reads(text)) for text in every]


@pytest.mark.filterwarnings("ignore::spladelite.UnreadText")
def test_node_finds_what_python_finds(database: SpladeLite, site: Path, tmp_path: Path) -> None:
    database.export(tmp_path / "slim.db", slim=True)
    with SpladeLite(tmp_path / "slim.db", read_only=True) as slim:
        slim.export_web(tmp_path / "slim")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "PART_BYTES", 1500)
        original = encoder.web_encoder
        patch.setattr(encoder, "web_encoder", lambda load: replace(original(load), settings=None, graph=b"", rows=b""))
        database.export_web(tmp_path / "split")
    assert len(list((tmp_path / "split").glob("lists-*.bin"))) > 2
    with SpladeLite(tmp_path / "slim.db", read_only=True) as slim:
        expected = {
            "cases": cases(database),
            "explanations": explanations(database),
            "slim": found_by_python(slim, modes(QUERIES[:4])),
            "russian": russian(tmp_path),
            "readable": readable(),
        }
    (tmp_path / "expected.json").write_text(json.dumps(expected))
    shutil.copytree(site, tmp_path / "site")
    with SpladeLite(":memory:") as empty:
        empty.export_web(tmp_path / "empty")
    with host(tmp_path) as address, host(tmp_path, "whole") as whole, host(tmp_path, "compressing") as compressing:
        hosts = {"ranges": address, "whole": whole, "compressing": compressing}
        run = subprocess.run(
            [node(), "--test", "--test-reporter=tap", str(WEB / "test")],
            env={
                **os.environ,
                "SPLADELITE_HOSTS": json.dumps(hosts),
                "SPLADELITE_EXPECTED": str(tmp_path / "expected.json"),
            },
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    assert "# skipped 0" in run.stdout, run.stdout[-2000:]


@pytest.mark.skipif(not SPLADE_SMALL.exists(), reason="packages/splade-small is in the repository only")
def test_another_exported_model_finds_the_same_in_javascript(tmp_path: Path) -> None:
    """Its graph has other forms of the operations than the bundled model's, such as a matrix that is transposed."""
    queries = ["automobile accident", "birds of the south", "how long must it rest before I cut it"]
    with SpladeLite(tmp_path / "kb.db", model=SPLADE_SMALL) as db:
        db.add(list(TEXTS.values()), ids=list(TEXTS))
        db.export_web(tmp_path / "site")
        expected = [[(hit.id, hit.score) for hit in db.search(query, mode="splade")] for query in queries]
    module = json.dumps((WEB / "src" / "index.js").as_uri())
    with host(tmp_path / "site") as address:
        code = (
            f"import {{ open }} from {module};\nconst db = await open({json.dumps(address)});\nconst found = [];\n"
            f"for (const query of {json.dumps(queries)}) {{\n"
            "  const { hits } = await db.search(query, { mode: 'splade', encoder: 'model' });\n"
            "  found.push(hits.map(({ id, score }) => [id, score]));\n}\nconsole.log(JSON.stringify(found));"
        )
        run = subprocess.run([node(), "--input-type=module", "-e", code], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    for hits, found in zip(expected, json.loads(run.stdout), strict=True):
        assert [id for id, _ in found] == [id for id, _ in hits]
        assert [score for _, score in found] == pytest.approx([score for _, score in hits], rel=1e-3)


@pytest.mark.parametrize("page_", [WEB.parent / "docs" / "web.md", WEB / "README.md"], ids=lambda path: path.name)
def test_the_javascript_in_the_documentation_runs(page_: Path, site: Path) -> None:
    (code,) = re.findall(r"^```js\n(.*?)^```$", page_.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    module = json.dumps((WEB / "src" / "index.js").as_uri())
    code = code.replace('"./spladelite/index.js"', module).replace('"spladelite-web"', module)
    with host(site) as address:
        code, replaced = re.subn(r'open\("[^"]*"\)', f'open("{address}")', code)
        code += "\nif (!hits[0].id || !db.highlight(hits[0]).some(({ mark }) => mark)) process.exit(3);"
        run = subprocess.run([node(), "--input-type=module", "-e", code], capture_output=True, text=True, timeout=60)
    assert (replaced, run.returncode) == (1, 0), run.stderr


# --- in a browser -----------------------------------------------------------------------------------------------------

CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium, or whatever CHROMIUM names."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path is None:
        pytest.skip("needs a Chromium: no command `chromium` was found, and CHROMIUM names none")
    with playwright.sync_playwright() as running:
        launched = running.chromium.launch(executable_path=path, args=CHROMIUM)
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page in a fresh profile that may not complain on the console."""
    context = browser.new_context()
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.set_default_timeout(20_000)
    yield opened
    context.close()
    assert [text for text in complaints if "ERR_INTERNET_DISCONNECTED" not in text] == []  # that is meant


SEARCH = """async ([address, cases]) => {
  const { open } = await import(address + "spladelite/index.js");
  const db = await open(address);
  const found = [];
  for (const { query, options } of cases) {
    const { hits } = await db.search(query, options);
    found.push(hits.map(({ id, score }) => [id, score]));
  }
  return found;
}"""


def test_chromium_finds_what_python_finds(page: Any, database: SpladeLite, site: Path) -> None:
    expected = cases(database)
    with host(site) as address:
        page.goto(address)
        found = page.evaluate(SEARCH, [address, [{k: v for k, v in case.items() if k != "hits"} for case in expected]])
    for case, hits_ in zip(expected, found, strict=True):
        assert [id for id, _ in hits_] == [hit["id"] for hit in case["hits"]]
        assert [score for _, score in hits_] == pytest.approx([hit["score"] for hit in case["hits"]], rel=1e-5)


def test_the_page_searches_explains_and_filters(page: Any, site: Path) -> None:
    with host(site) as address:
        page.goto(address)
        page.get_by_role("searchbox", name="Search").fill("bread to cut")
        page.locator("#hits li").first.wait_for()
        assert page.locator("#hits h2").first.text_content() == "bread"
        assert "bread" in page.locator("#hits li").first.locator("mark").all_text_contents()
        assert "The best" in page.get_by_role("status").text_content()
        page.locator("#hits li").first.get_by_text("Why: score").click()
        page.locator("#hits li").first.get_by_role("rowheader", name="bread", exact=True).first.wait_for()
        page.get_by_label("SPLADE encoder").check()
        page.locator("#hits .why .added").first.wait_for(state="attached")
        assert "way=full" in page.url
        page.get_by_text("Filters").click()
        page.get_by_label("kind").select_option(index=1)
        page.locator("#hits li").nth(5).wait_for(state="detached")
        page.reload()
        page.locator("#hits li").first.wait_for()
        assert page.get_by_role("searchbox").input_value() == "bread to cut"


def test_what_is_typed_while_the_page_loads_is_searched(page: Any, site: Path) -> None:
    held: list[Any] = []
    page.route("**/database.json", lambda route: held.append(route))
    with host(site) as address:
        page.goto(address)
        page.get_by_role("searchbox", name="Search").fill("bread to cut")
        while not held:
            page.wait_for_timeout(10)
        held.pop().continue_()
        page.locator("#hits li").first.wait_for()
        assert page.get_by_role("searchbox").input_value() == "bread to cut"


def test_what_documents_say_is_shown_as_text(page: Any, site: Path) -> None:
    with host(site) as address:
        page.goto(f"{address}?q=html+injection+browsers")
        first = page.locator("#hits li").first
        first.wait_for()
        assert "<script>alert('x')</script> & <b>bold</b>" in first.text_content()
        assert page.locator("#hits b, #hits script").count() == 0


def test_without_a_network(page: Any, site: Path) -> None:
    with host(site) as address:
        page.goto(f"{address}?q=bread")
        page.locator("#hits li").first.wait_for()
        page.evaluate("navigator.serviceWorker.ready.then(() => new Promise((done) => setTimeout(done, 200)))")
    page.context.set_offline(True)
    page.reload()
    page.locator("#hits li").first.wait_for()
    assert "nothing fetched" in page.get_by_role("status").text_content()
    page.get_by_role("searchbox").fill("geese on rocks")
    page.get_by_text("cannot be reached, and this part of the database was not kept").wait_for()


def test_kept_for_use_without_a_network(page: Any, site: Path) -> None:
    with host(site) as address:
        page.goto(address)
        page.get_by_role("button", name="Keep for use without a network").click()
        page.get_by_role("button", name="Works without a network").wait_for()
        page.evaluate("navigator.serviceWorker.ready.then(() => new Promise((done) => setTimeout(done, 200)))")
    page.context.set_offline(True)
    page.goto(f"{address}?q=geese+on+rocks&way=full")
    page.locator("#hits li").first.wait_for()
    assert page.locator("#hits h2").first.text_content() == "long"


def test_a_host_without_ranges_is_told_on_the_page(page: Any, site: Path) -> None:
    with host(site, "whole") as address:
        page.goto(f"{address}?q=bread")
        page.get_by_role("alert").filter(has_text="with the whole file").wait_for()
        page.locator("#hits li").first.wait_for()


def test_a_page_opened_as_a_file_says_what_to_do(browser: Any, site: Path) -> None:
    context = browser.new_context()
    opened = context.new_page()
    opened.goto((site / "index.html").as_uri())
    assert "python3 -m http.server" in opened.get_by_role("status").text_content()
    context.close()

"""`spladelite serve` as other programs meet it: a child process, asked over HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import COMMAND, Server, serving

from spladelite import SpladeLite

pytest.importorskip("starlette", reason="needs the extra [serve]")
pytest.importorskip("uvicorn", reason="needs the extra [serve]")

TEXTS = {
    "crash": "A car crashed into a tree and the driver was hurt.",
    "bread": "Let the bread cool for an hour before you cut it.",
    "cat": "The cat sleeps on the warm windowsill.",
    "bike": "The bicycle has a flat tyre; a car must give way. 🚲 The car waits.",
    "a/b&c": "Trains were pulled by steam engines.",
}
METADATA: dict[str, dict[str, Any]] = {
    "crash": {"topic": "news", "year": 2001, "author": {"name": "Ann"}, "urgent": True, "tags": ["car", "tree"]},
    "bread": {"topic": "food", "year": 2002, "author": {"name": "Bob"}, "urgent": False},
    "cat": {"topic": "pets", "year": 2003, "author": {"name": "Ann"}, "urgent": False},
    "bike": {"topic": "news", "year": 2004, "author": {"name": "Bob"}, "urgent": False, "id": "b", "tags": ["car", 1]},
    "a/b&c": {},
}


def fill(path: Path) -> None:
    with SpladeLite(path) as db:
        db.add(list(TEXTS.values()), ids=list(TEXTS), metadata=list(METADATA.values()))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("serve") / "kb.db"
    fill(path)
    return path


@pytest.fixture(scope="module")
def server(file: Path) -> Iterator[Server]:
    with serving(str(file)) as running:
        yield running


@pytest.fixture(scope="module")
def writable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    path = tmp_path_factory.mktemp("serve") / "kb.db"
    fill(path)
    with serving(str(path), "--write") as running:
        yield running, path


# --- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["hybrid", "splade", "bm25"])
def test_a_search_gives_what_the_database_gives(server: Server, file: Path, mode: str) -> None:
    with SpladeLite(file, read_only=True) as db:
        for query in ("automobile accident", "bread", "cat or car", "🚲"):
            expected = db.search(query, 3, mode=mode)
            found = server.get("search", q=query, k=3, mode=mode)
            assert [(hit["id"], hit["score"]) for hit in found["hits"]] == [(hit.id, hit.score) for hit in expected]
            for answer, hit in zip(found["hits"], expected, strict=True):
                assert answer["metadata"] == hit.metadata
                text = answer["passage"]["text"]
                for mark in reversed(answer["passage"]["marks"]):
                    text = f"{text[: mark['start']]}[{text[mark['start'] : mark['end']]}]{text[mark['end'] :]}"
                assert text == db.highlight(hit, "[", "]")


def test_pages_of_hits(server: Server) -> None:
    everything = server.get("search", q="the car and the cat", k=10)
    first, second = (server.get("search", q="the car and the cat", k=2, offset=offset) for offset in (0, 2))
    assert [hit["id"] for hit in first["hits"] + second["hits"]] == [hit["id"] for hit in everything["hits"]][:4]
    assert first["more"]
    assert not everything["more"]


def test_without_a_question_the_newest_documents_come(server: Server) -> None:
    found = server.get("search", k=2)
    assert [hit["id"] for hit in found["hits"]] == ["a/b&c", "bike"]
    assert found["more"]


def test_filters(server: Server) -> None:
    for where in ({"topic": {"$in": ["news"]}, "year": {"$gte": 2002}}, {"tags": {"$any": [1]}}, {r"\id": "b"}):
        for query in ("car", ""):
            found = server.get("search", q=query, where=json.dumps(where))
            assert [hit["id"] for hit in found["hits"]] == ["bike"]
    tagged = json.dumps({"topic": {"$exists": True}})
    pages = [server.get("search", k=3, offset=offset, where=tagged) for offset in (0, 3, 6)]
    assert [[hit["id"] for hit in page["hits"]] for page in pages] == [["bike", "cat", "bread"], ["crash"], []]
    assert [page["more"] for page in pages] == [True, False, False]


def test_facets_count_the_best_documents_of_a_question(server: Server) -> None:
    def values(answer: dict[str, Any], field: str) -> dict[Any, int]:
        (facet,) = (facet for facet in answer["facets"] if facet["field"] == field)
        return {value["value"]: value["count"] for value in facet["values"]}

    everything = server.get("facets")
    assert everything["of"] == "collection"
    assert values(everything, "topic") == {"news": 2, "food": 1, "pets": 1}
    assert values(everything, "author.name") == {"Ann": 2, "Bob": 2}
    assert values(everything, "urgent") == {False: 3, True: 1}
    assert values(everything, "tags") == {"car": 2, "tree": 1, 1: 1}
    assert values(everything, r"\id") == {"b": 1}
    # A field's own filter does not hide its other values; that of another field does.
    found = server.get("facets", q="car", mode="bm25", where=json.dumps({"topic": {"$in": ["pets"]}}))
    assert found["of"] == "best"
    assert values(found, "topic") == {"news": 2, "pets": 0}
    assert values(found, "author.name") == {}


def test_an_explanation_adds_up_and_says_where_its_terms_stand(server: Server) -> None:
    found = server.get("explain", q="car accident 🚲", id="bike", mode="splade")
    assert sum(term["contribution"] for term in found["terms"]) == pytest.approx(found["score"], abs=1e-4)
    (car,) = (term for term in found["terms"] if term["term"] == "car")
    text = found["passage"]["text"]
    assert [text[span["start"] : span["end"]] for span in car["spans"]] == ["car", "car"]
    assert car["spans"][1]["start"] > text.index("🚲")
    added = [term for term in found["terms"] if term["document_expansion"]]
    assert added
    assert all(term["spans"] == [] for term in added)
    parts = server.get("explain", q="car accident", id="crash")["parts"]
    assert [part["part"] for part in parts] == ["splade", "bm25"]
    assert list(parts[1]["words"]) == ["car"]


def test_expansion(server: Server) -> None:
    found = server.get("expand", text="automobile accident", side="query")
    terms = {term["term"]: term["expansion"] for term in found["terms"]}
    assert terms["accident"] is False
    assert terms["crash"] is True
    assert server.get("expand", text=" ")["terms"] == []


def test_documents_terms_and_their_like(server: Server) -> None:
    found = server.get("document", id="crash")
    assert found["text"] == TEXTS["crash"]
    assert found["metadata"] == METADATA["crash"]
    assert found["passages"] == [{"start": 0, "end": len(TEXTS["crash"])}]
    weights = [term["weight"] for term in found["terms"]]
    assert weights == sorted(weights, reverse=True)
    assert {"car", "crashed"} <= {term["term"] for term in found["terms"] if not term["expansion"]}
    assert server.get("document", id="a/b&c")["text"] == TEXTS["a/b&c"]
    assert server.get("similar", id="crash", k=1)["hits"][0]["id"] == "bike"

    term = server.get("term", term="car")
    assert {hit["id"] for hit in term["hits"][:2]} == {"bike", "crash"}
    assert term["passages"] == len(term["hits"])
    assert server.get("term", term="no such term")["hits"] == []
    counts = server.get("terms", contains="car", k=500)["terms"]
    assert {"term": "car", "passages": term["passages"]} in counts
    assert all("car" in count["term"] for count in counts)


def test_the_collection(server: Server) -> None:
    found = server.get("collection")
    assert found["name"] == "kb.db"
    assert found["modes"] == ["hybrid", "splade", "bm25"]
    assert not found["writable"]
    assert found["figures"]["documents"] == len(TEXTS)
    assert found["model_card"].startswith("# splade-tiny")
    assert server.get("check")["problems"] == []


def test_sealed_segments_and_their_terms_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "small.db"
    with SpladeLite(path, tail_size=4, segment_size=16, bm25=False) as db:
        db.add([f"Car number {number} is here." for number in range(11)])
        vectors = db.sql("SELECT count(*) FROM document_term WHERE term = 'car'")[0][0]
    with serving(str(path)) as running:
        found = running.get("collection")
        assert found["modes"] == ["splade"]
        assert sum(segment["passages"] for segment in found["segments"]) + found["figures"]["tail"] == 11
        assert found["segments"]
        assert running.get("term", term="car")["passages"] == vectors == 11


def test_the_openapi_document_describes_every_answer(server: Server) -> None:
    status, described = server.send("GET", "/openapi.json", headers={"Authorization": ""})
    assert status == 200
    schemas = described["components"]["schemas"]

    def check(schema: dict[str, Any], value: Any, place: str) -> None:
        if "$ref" in schema:
            schema = schemas[schema["$ref"].rpartition("/")[2]]
        if "anyOf" in schema:
            schema = next(one for one in schema["anyOf"] if (one.get("type") == "null") == (value is None))
        kinds = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool}
        if value is not None and "type" in schema:
            assert isinstance(value, kinds[schema["type"]]), place  # type: ignore[arg-type]
        if "properties" in schema:
            assert set(value) == set(schema["properties"]) == set(schema["required"]), place
            for name, inner in schema["properties"].items():
                check(inner, value[name], f"{place}.{name}")
        for item in value if schema.get("type") == "array" else ():
            check(schema["items"], item, f"{place}[]")

    examples = {"q": "car", "id": "crash", "text": "car", "term": "car"}
    for path, methods in described["paths"].items():
        operation = methods["get"]
        assert operation["summary"]
        query = {one["name"]: examples[one["name"]] for one in operation["parameters"] if one["name"] in examples}
        answer = server.get(path.removeprefix("/api/"), **query)
        check(operation["responses"]["200"]["content"]["application/json"]["schema"], answer, path)


@pytest.mark.parametrize(
    ("name", "query", "status", "message"),
    [
        ("search", {"q": "car", "k": "many"}, 400, "k is 'many'"),
        ("search", {"q": "car", "k": 0}, 400, "k is 0"),
        ("search", {"q": "car", "k": 10**30}, 400, "k is 1000"),
        ("search", {"q": "car", "mode": "magic"}, 400, "magic"),
        ("search", {"q": "car", "colour": "red"}, 400, "unknown: colour"),
        ("search", {"q": "car", "where": "{"}, 400, "where is not JSON"),
        ("search", {"q": "car", "where": "[" * 100_00}, 400, "where is not JSON"),
        ("search", {"q": "car", "where": '"1=1"'}, 400, "expected a JSON object"),
        ("search", {"q": "car", "where": '{"a": {"$near": 1}}'}, 400, "$near"),
        ("search", {"q": "a\0b\ud800".encode("utf-8", "surrogatepass")}, 200, ""),
        ("explain", {"q": "car"}, 400, "id is missing"),
        ("explain", {"q": "car", "id": "nothing"}, 404, "nothing"),
        ("document", {"id": "nothing"}, 404, "nothing"),
        ("similar", {"id": "nothing"}, 404, "nothing"),
        ("terms", {"k": -1}, 400, "k is -1"),
        ("nothing", {}, 404, "/api/nothing"),
    ],
)
def test_what_cannot_be_asked_is_an_error_in_words(
    server: Server, name: str, query: dict[str, object], status: int, message: str
) -> None:
    given, answer = server.send("GET", f"/api/{name}", query)
    assert given == status, answer
    assert message in answer.get("message", "")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["search", "facets", "explain", "expand", "document", "similar", "term", "terms"]),
    query=st.dictionaries(
        st.sampled_from(["q", "mode", "k", "offset", "where", "id", "text", "side", "term", "contains"]),
        st.text(max_size=20)
        | st.sampled_from([*TEXTS, "hybrid", "bm25", "query", "car", "-1", "3", '{"year": {"$gt": null}}', '{"": {}}']),
    ),
)
def test_nothing_that_is_asked_breaks_it(server: Server, name: str, query: dict[str, object]) -> None:
    known = server.send("GET", "/openapi.json")[1]["paths"][f"/api/{name}"]["get"]["parameters"]
    asked = {one["name"]: query[one["name"]] for one in known if one["name"] in query}
    status, answer = server.send("GET", f"/api/{name}", asked)
    assert status in (200, 400, 404), answer


def test_a_long_text_goes_in_the_body(server: Server) -> None:
    text = "automobile accident " * 5000
    body = json.dumps({"text": text, "side": "query"}).encode()
    status, answer = server.send("POST", "/api/expand", body=body)
    assert status == 200
    assert "crash" in {term["term"] for term in answer["terms"]}
    status, answer = server.send("POST", "/api/search", body=json.dumps({"q": text, "k": 1}).encode())
    assert answer["hits"][0]["id"] == "crash"


def test_metadata_of_a_strangers_file(tmp_path: Path) -> None:
    path = tmp_path / "strange.db"
    deep: dict[str, Any] = {"leaf": 1}
    for _ in range(150):
        deep = {"a": deep}
    with SpladeLite(path) as db:
        db.add(
            ["A deep car.", "A wide car."], ids=["deep", "wide"], metadata=[deep, {"x.y": 1, "$z": [], "é\u2028": None}]
        )
    with serving(str(path)) as running:
        assert {hit["id"] for hit in running.get("search", q="car")["hits"]} == {"deep", "wide"}
        assert [facet["field"] for facet in running.get("facets")["facets"]] == ["x\\.y"]
        where = json.dumps({"x\\.y": {"$in": [1]}})
        assert [hit["id"] for hit in running.get("search", q="car", where=where)["hits"]] == ["wide"]


# --- who may ask -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status", "error"),
    [
        ({"Authorization": ""}, 401, "NoToken"),
        ({"Authorization": "Bearer guessed"}, 401, "NoToken"),
        ({"Authorization": "Bearer gu\xe9ssed"}, 401, "NoToken"),
        ({"Authorization": "Basic OnRva2Vu"}, 401, "NoToken"),
        ({"Origin": "https://example.com"}, 403, "WrongOrigin"),
        ({"Origin": "null"}, 403, "WrongOrigin"),
        ({"Origin": "http://127.0.0.1:1"}, 403, "WrongOrigin"),
        ({"Host": "rebound.example.com"}, 421, "WrongHost"),
        ({"Host": "127.0.0.1"}, 421, "WrongHost"),
        ({"Host": "127.0.0.1:1"}, 421, "WrongHost"),
    ],
)
def test_strangers_are_refused(server: Server, headers: dict[str, str], status: int, error: str) -> None:
    given, answer = server.send("GET", "/api/search", {"q": "car"}, headers=headers)
    assert (given, answer["error"]) == (status, error)


def test_the_page_of_this_server_may_ask(server: Server) -> None:
    for host in ("127.0.0.1", "localhost"):
        headers = {"Host": f"{host}:{server.port}", "Origin": f"http://{host}:{server.port}"}
        assert server.send("GET", "/api/search", {"q": "car"}, headers=headers)[0] == 200


def test_dns_rebinding_does_not_even_get_the_page(server: Server) -> None:
    assert server.send("GET", "/", headers={"Host": f"rebound.example.com:{server.port}"})[0] == 421


def test_no_other_origin_is_granted_anything(server: Server) -> None:
    headers = {"Origin": "https://example.com", "Access-Control-Request-Method": "GET"}
    status, _ = server.send("OPTIONS", "/api/search", headers=headers)
    assert status == 403


def test_read_only_without_write(server: Server) -> None:
    assert server.send("POST", "/api/documents", body=b"{}")[0] in (404, 405)
    assert server.send("DELETE", "/api/document", {"id": "crash"})[0] == 405
    assert server.get("document", id="crash")["id"] == "crash"


def test_only_this_machine_can_connect() -> None:
    from spladelite.cli.serve import listen

    with listen(None) as one, listen(None) as other:
        assert {one.getsockname()[0], other.getsockname()[0]} == {"127.0.0.1"}
        assert one.getsockname()[1] != other.getsockname()[1]
        done = subprocess.run(
            [*COMMAND, ":memory:", "--port", str(one.getsockname()[1])], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 2
        assert "choose another --port" in done.stderr


def test_files_of_the_page_come_with_a_strict_policy(server: Server) -> None:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    for path in ("/", "/main.js", "/style.css"):
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        assert response.status == 200
        policy = response.getheader("Content-Security-Policy") or ""
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
    for path in ("/../app.py", "/%2e%2e/app.py", "/..%2fapp.py"):
        connection.request("GET", path)
        response = connection.getresponse()
        assert b"Starlette" not in response.read()
        assert response.status == 404
    connection.close()


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['uvicorn'] = None\n"
        "from spladelite.cli.main import main; main(['serve', 'kb.db'], prog_name='spladelite')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 2
    assert "pip install 'spladelite[serve]'" in done.stderr


# --- writing ---------------------------------------------------------------------------------------------------------


def post(server: Server, body: object) -> tuple[int, Any]:
    return server.send("POST", "/api/documents", body=json.dumps(body).encode())


def test_documents_come_and_go(writable: tuple[Server, Path]) -> None:
    server, path = writable
    status, added = post(
        server,
        {
            "documents": [
                {"text": "A lorry overturned on the motorway.", "id": "lorry", "metadata": {"topic": "lorries"}},
                {"text": "No id of its own."},
            ]
        },
    )
    assert status == 200, added
    assert added["ids"][0] == "lorry"
    assert added["documents"] == len(TEXTS) + 2
    assert server.get("search", q="truck overturned on the motorway")["hits"][0]["id"] == "lorry"
    topics = next(facet for facet in server.get("facets")["facets"] if facet["field"] == "topic")
    assert {"value": "lorries", "count": 1} in topics["values"]
    with SpladeLite(path, read_only=True) as db:
        assert "lorry" in db

    status, answer = post(server, {"documents": [{"text": "Another text.", "id": "lorry"}]})
    assert (status, answer["error"]) == (400, "IdConflict")
    status, _ = post(server, {"documents": [{"text": "Another text.", "id": "lorry"}], "replace": True})
    assert status == 200
    assert server.get("document", id="lorry")["text"] == "Another text."

    for id in added["ids"]:
        assert server.send("DELETE", "/api/document", {"id": id}) == (200, {"deleted": 1})
    assert server.send("DELETE", "/api/document", {"id": "lorry"})[0] == 404


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"documents": "text"},
        {"documents": ["text"]},
        {"documents": [{"id": "a"}]},
        {"documents": [{"text": 1}]},
        {"documents": [{"text": "a", "id": 1}]},
        {"documents": [{"text": "a", "metadata": []}]},
        {"documents": [{"text": "a", "color": "red"}]},
        {"documents": [{"text": "a"}], "replace": "yes"},
        {"documents": [{"text": "fine"}, {"text": " "}]},
    ],
)
def test_bodies_that_are_wrong_change_nothing(writable: tuple[Server, Path], body: object) -> None:
    server, _ = writable
    before = server.get("collection")["figures"]["documents"]
    status, answer = post(server, body)
    assert status == 400, answer
    assert server.get("collection")["figures"]["documents"] == before


def test_files_are_added_by_their_kind(writable: tuple[Server, Path]) -> None:
    server, path = writable

    def upload(name: str, content: bytes) -> tuple[int, Any]:
        return server.send("POST", "/api/files", {"name": name}, body=content)

    assert upload("notes.md", "Größe: a grüne note".encode())[1]["ids"] == ["notes.md"]
    assert upload("faq.jsonl", b'{"id": "f1", "text": "one"}\n{"id": "f2", "text": "two"}')[1]["ids"] == ["f1", "f2"]
    assert upload("../../../etc/escape.txt", b"stays inside")[1]["ids"] == ["escape.txt"]
    assert upload("C:\\temp\\windows.txt", b"has another slash")[1]["ids"] == ["windows.txt"]
    for name, content, message in (
        ("photo.xyz", b"...", "photo.xyz"),
        ("latin.txt", b"\xe4\xf6", "latin.txt"),
        ("blank.txt", b" \n", "no text"),
        ("..", b"x", "file's name"),
        ("", b"x", "file's name"),
        ("a\0b.txt", b"x", "file's name"),
    ):
        status, answer = upload(name, content)
        assert status == 400, answer
        assert message in answer["message"]
        assert "/tmp" not in answer["message"]
    assert not (path.parent.parent / "escape.txt").exists()


def test_a_body_that_is_too_large_is_refused(writable: tuple[Server, Path]) -> None:
    from spladelite.serve.changes import LARGEST

    server, _ = writable
    status, answer = server.send("POST", "/api/files", {"name": "large.txt"}, body=b"a" * (LARGEST + 1))
    assert (status, answer["error"]) == (413, "TooLarge")


def test_feedback_is_stored_where_the_database_can(writable: tuple[Server, Path]) -> None:
    server, _ = writable
    body = json.dumps({"q": "car", "id": "crash", "value": 1}).encode()
    status, answer = server.send("POST", "/api/feedback", body=body)
    if hasattr(SpladeLite, "feedback"):
        assert (status, answer) == (200, {"noted": True})
    else:
        assert status == 400
        assert not server.get("collection")["feedback"]


def test_200_searches_at_once_while_another_process_writes(tmp_path: Path) -> None:
    path = tmp_path / "kb.db"
    fill(path)
    writes = (
        "import sys\nfrom spladelite import SpladeLite\n"
        "with SpladeLite(sys.argv[1]) as db:\n"
        "    for number in range(10**6):\n"
        "        db.add(f'Car number {number} passes.', ids=f'car {number}')\n"
        "        print(number, flush=True)\n"
    )
    with serving(str(path)) as running:
        writer = subprocess.Popen([sys.executable, "-c", writes, str(path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        try:
            acknowledged = [writer.stdout.readline()]

            def ask(number: int) -> set[str]:
                found = running.get("search", q=f"crashed into a tree {number}", k=200)
                assert found["hits"][0]["id"] == "crash"
                return {hit["id"] for hit in found["hits"]}

            with ThreadPoolExecutor(200) as pool:
                answers = list(pool.map(ask, range(200)))
            assert writer.poll() is None
        finally:
            writer.kill()
            acknowledged += writer.communicate()[0].splitlines()
        assert len(set.union(*answers)) > len(min(answers, key=len))  # what was written meanwhile was seen
    # If all of the killed writer's log is in the file, the last reader removes it, and the file looks like a copy.
    with warnings.catch_warnings(action="ignore", category=UserWarning), SpladeLite(path) as db:
        assert db.check() == []
        assert [number for number in acknowledged if f"car {int(number)}" not in db] == []

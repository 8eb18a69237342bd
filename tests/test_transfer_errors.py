"""What another engine or a wrong address cannot do is an error in words."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cluster import servers
from remotes import TEXTS, Servers, fill, random_database

from spladelite import SpladeLite
from spladelite.errors import (
    InvalidFilter,
    InvalidInput,
    InvalidText,
    ModelMismatch,
    NotADatabase,
    ReadOnly,
    ServerError,
    Unsupported,
    UnsupportedFormat,
    WrongType,
)
from spladelite.transfer.connect import connect, open_engine
from spladelite.transfer.move import move
from spladelite.transfer.remote import Remote


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://host/kb", "unknown scheme 'mysql'"),
        ("http://user:secret@host/kb", "unknown scheme"),
        ("clickhouse://host", "name of the database"),
        ("qdrant://host:6333", "name of the collection"),
        ("postgresql://host/a/b", "name of the database"),
        ("qdrant://host:port/kb", "not a URL"),
        ("qdrant://host:1/kb?password=secret", "unknown option 'password'"),
        ("clickhouse://", "three slashes and a folder"),
        ("clickhouse://host/kb;drop", "cannot name"),
        ("postgresql://host/kb?schema=a.b", "cannot be used"),
        ("opensearch://host/kb", "opensearch:///folder"),
    ],
)
def test_urls_that_cannot_be_used(url: str, message: str) -> None:
    for extra in ("clickhouse_driver", "qdrant_client", "psycopg"):
        pytest.importorskip(extra)
    with pytest.raises((InvalidInput, ServerError), match=message) as caught:
        connect(url)
    assert "secret" not in str(caught.value)


def test_connect_to_a_path_is_a_file(path: str) -> None:
    with connect(path) as db:
        assert isinstance(db, SpladeLite)
    with pytest.raises(WrongType):
        connect(7)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="backup"):
        move(path, path + "2")


@pytest.mark.parametrize("scheme", ["clickhouse", "qdrant", "postgresql"])
def test_a_server_that_is_down(scheme: str) -> None:
    pytest.importorskip({"clickhouse": "clickhouse_driver", "qdrant": "qdrant_client"}.get(scheme, "psycopg"))
    (port,) = servers.free_ports(1)
    start = time.monotonic()
    with pytest.raises(ServerError, match=rf"{scheme}://127.0.0.1:{port}.*does not answer") as caught:
        connect(f"{scheme}://me:secret@127.0.0.1:{port}/kb")
    assert "secret" not in str(caught.value)
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("engine", ["postgres", "clickhouse"])
def test_a_wrong_password(engine: str, running: Servers) -> None:
    url = running.url(engine).replace(":secret@", ":wrong!word@")
    with pytest.raises(ServerError, match="refuses the login") as caught:
        connect(url)
    assert "wrong!word" not in str(caught.value)


def test_a_shard_that_is_down_is_an_error_and_not_a_shorter_list(running: Servers) -> None:
    url = running.url("shards")
    shards = running.start("clickhouse")
    with connect(url) as remote:
        texts = [f"A river called {name} " for name in ("Elbe", "Rhine", "Weser", "Spree", "Havel", "Oder")] * 5
        remote.add([f"{text}{i}" for i, text in enumerate(texts)])
        full = [hit.id for hit in remote.search("river", 30)]
        assert len(full) == 30
        shards[1].kill()
        try:
            for call in (
                lambda: remote.search("river", 30, timeout=5),
                lambda: len(remote),
                lambda: remote.add(["x"]),
                lambda: list(remote),
            ):
                start = time.monotonic()
                with pytest.raises(ServerError, match="shard"):
                    call()
                assert time.monotonic() - start < 15
        finally:
            shards[1].start()
        assert [hit.id for hit in remote.search("river", 30)] == full


def test_another_model_another_format_another_owner(remote: Remote) -> None:
    fill(remote)
    from spladelite.encoders.objects import from_functions
    from spladelite.encoders.registry import bundled_encoder

    bundled = bundled_encoder()
    other = from_functions(bundled.encode_documents, bundled.encode_queries, tokenizer=bundled.tokenizer, name="other")
    with pytest.raises(ModelMismatch, match="splade-tiny"):
        Remote(remote.engine, other)
    with pytest.raises(ReadOnly, match="read_only"):
        Remote(remote.engine, read_only=True).add(["x"])
    remote.engine.set_meta({"format": "99"})
    with pytest.raises(UnsupportedFormat, match="newer"):
        Remote(remote.engine)


def test_a_move_into_a_collection_of_another_model(running: Servers, tmp_path: Path) -> None:
    url = running.url("postgres")
    random_database(tmp_path / "kb.db", 10)
    with connect(url) as remote:
        remote.engine.set_meta({"fingerprint": "f" * 64})  # type: ignore[union-attr]
    with pytest.raises(ModelMismatch, match="give an empty collection"):
        move(tmp_path / "kb.db", url)


def test_an_engine_that_is_too_old(running: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    for engine, module, oldest in (("postgres", "postgres", 990_000), ("clickhouse", "clickhouse", (99, 1))):
        url = running.url(engine)
        monkeypatch.setattr(f"spladelite.transfer.{module}.OLDEST", oldest)
        with pytest.raises(ServerError, match=r"99.*oldest known"):
            open_engine(url)


def test_a_full_disk_is_named(running: Servers) -> None:
    """The drivers' own words for it, and that the batch is gone."""
    from spladelite.transfer.clickhouse_clients import refusal

    url = running.url("postgres")
    with connect(url) as remote:
        assert isinstance(remote, Remote)
        fill(remote)
        engine: Any = remote.engine
        import psycopg

        def fill_up() -> None:
            with engine._transaction() as cursor:
                cursor.execute(f"DELETE FROM {engine._schema}.document")
                raise psycopg.errors.DiskFull("could not extend file: No space left on device")

        with pytest.raises(ServerError, match="no room left"):
            fill_up()
        assert remote.count() == len(TEXTS)
    assert "no room" in str(refusal("clickhouse://host/kb", 243, "Cannot reserve 1.00 MiB, not enough space"))


def test_bad_arguments_are_the_same_errors_as_in_a_file(remote: Remote) -> None:
    fill(remote)
    for call, error in BAD:
        with pytest.raises(error):
            call(remote)
    assert remote.count() == len(TEXTS)


BAD: list[tuple[Callable[[Remote], object], type[Exception]]] = [
    (lambda r: r.search("x", k=0), InvalidInput),
    (lambda r: r.search(7), WrongType),  # type: ignore[arg-type]
    (lambda r: r.search("x", where={"a": {"$what": 1}}), InvalidFilter),
    (lambda r: r.search("x", where="year > 2000"), Unsupported),
    (lambda r: r.search("x", mode="dense"), Unsupported),
    (lambda r: r.search("x", mode="what"), InvalidInput),
    (lambda r: r.search("x", weights={"dense": 1}), Unsupported),
    (lambda r: r.search("x", encoder="magic"), InvalidInput),
    (lambda r: r.search("x", timeout=-1), InvalidInput),
    (lambda r: r.add([""]), InvalidText),
    (lambda r: r.add(["x"], ids=["a\0b"]), InvalidInput),
    (lambda r: r.add(["x"], vectors=[{1: float("nan")}]), InvalidInput),
    (lambda r: r.add(["x"], vectors=[{1: -1.0}]), InvalidInput),
    (lambda r: r.delete(), InvalidInput),
    (lambda r: r.update("car"), InvalidInput),
    (lambda r: r.documents(order_by="year"), Unsupported),
    (lambda r: r.documents(limit=-1), InvalidInput),
    (lambda r: r.search("x", diversity=0.5), Unsupported),
    (lambda r: r.search("x", offset=-1), InvalidInput),
    (lambda r: r.search("x", where={"$text": {"$icontains": "a"}}), Unsupported),
    (lambda r: r.add(["x"], on_conflict="what"), InvalidInput),  # type: ignore[arg-type]
]


def test_a_collection_that_is_not_ours() -> None:
    client = pytest.importorskip("qdrant_client").QdrantClient(":memory:")
    from spladelite.transfer.qdrant import Qdrant
    from spladelite.transfer.qdrant_clients import ServerClient

    client.create_collection("kb", vectors_config={})
    with pytest.raises(NotADatabase, match="did not make"):
        Remote(Qdrant(ServerClient(client, "kb", "qdrant://memory/kb")))
    with pytest.raises(NotADatabase, match="holds no"):
        Remote(Qdrant(ServerClient(client, "kc", "qdrant://memory/kc")), read_only=True)

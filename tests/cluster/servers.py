"""PostgreSQL, and ClickHouse with two shards: run as an ordinary user, stopped and gone with their context."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

LIFE = 3600  # seconds after which a server ends even if nobody ends it
PACKAGES = Path(__file__).parents[2] / "build" / "clickhouse"
MISSING_POSTGRES = "PostgreSQL is not installed: apt-get install postgresql && pip install '.[postgres]'"
MISSING_CLICKHOUSE = f"ClickHouse is not in {PACKAGES}: make build/clickhouse (Debian packages, nothing is installed)"

CONFIG = """<?xml version="1.0"?>
<yandex>
<logger><level>warning</level><log>{folder}/server.log</log><errorlog>{folder}/error.log</errorlog></logger>
<http_port>{http}</http_port><tcp_port>{tcp}</tcp_port><interserver_http_port>{inter}</interserver_http_port>
<interserver_http_host>127.0.0.1</interserver_http_host><listen_host>127.0.0.1</listen_host>
<path>{folder}/data/</path><tmp_path>{folder}/tmp/</tmp_path><users_config>{folder}/users.xml</users_config>
<default_profile>default</default_profile><default_database>default</default_database>
<mark_cache_size>268435456</mark_cache_size>
<remote_servers><two>{shards}</two></remote_servers>
</yandex>
"""
SHARD = "<shard><replica><host>127.0.0.1</host><port>{port}</port><password>secret</password></replica></shard>"
USERS = """<?xml version="1.0"?>
<yandex><profiles><default><max_memory_usage>4000000000</max_memory_usage></default></profiles>
<users><default><password>secret</password><networks><ip>127.0.0.1</ip></networks><profile>default</profile>
<quota>default</quota></default></users><quotas><default></default></quotas></yandex>
"""


def user() -> dict[str, Any]:
    """For ``Popen``: an ordinary user, where this one is root."""
    if os.geteuid():
        return {}
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid}
    return {}


@contextmanager
def folder() -> Iterator[Path]:
    """A folder of the ordinary user's, under /tmp since he may not enter others."""
    path = Path(tempfile.mkdtemp(prefix="spladelite-", dir="/tmp"))
    try:
        if whom := user():
            os.chown(path, whom["user"], whom["group"])
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(f"no server on port {port}: {log.read_text(errors='replace')[-2000:] if log.exists() else ''}")


def end(process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM) -> None:
    """End a server and whatever it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, how)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)


def postgres_programs() -> Path | None:
    """The folder with PostgreSQL's programs."""
    folders = [*Path("/usr/lib/postgresql").glob("*/bin"), *map(Path, os.environ.get("PATH", "").split(":"))]
    needed = ("initdb", "postgres", "pg_isready")
    return next((place for place in sorted(folders, reverse=True) if all((place / n).exists() for n in needed)), None)


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL server; gives the URL of its empty database."""
    programs = postgres_programs()
    assert programs is not None
    with folder() as place:
        environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"}
        with (place / "password").open("w") as file:
            file.write("secret")
        os.chmod(place / "password", 0o644)
        subprocess.run(
            [programs / "initdb", "-D", place / "data", "-E", "UTF8", "--locale=C.UTF-8", "-U", "tester", "-A",
             "scram-sha-256", "--pwfile", place / "password", "--no-sync"],
            check=True, stdout=subprocess.DEVNULL, cwd=place, env=environment, **user(),
        )  # fmt: skip
        (port,) = free_ports(1)
        with (place / "log").open("wb") as log:
            process = subprocess.Popen(
                ["timeout", str(LIFE), programs / "postgres", "-D", place / "data", "-p", str(port),
                 "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={place}",
                 "-c", "shared_buffers=256MB", "-c", "max_wal_size=2GB", "-c", "fsync=off"],
                stdout=log, stderr=log, cwd=place, env=environment, start_new_session=True, **user(),
            )  # fmt: skip
        try:
            wait_for(port, process, place / "log")
            ready = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
            while subprocess.run(ready, check=False).returncode and process.poll() is None:
                time.sleep(0.05)
            yield f"postgresql://tester:secret@127.0.0.1:{port}/postgres"
        finally:
            end(process, signal.SIGINT)


def clickhouse_there() -> bool:
    return (PACKAGES / "usr/sbin/clickhouse-server").exists()


class Shard:
    """One ClickHouse server."""

    def __init__(self, place: Path, ports: list[int], tcp: list[int]) -> None:
        self.place, self.port = place, ports[1]
        place.mkdir()
        shards = "".join(SHARD.format(port=port) for port in tcp)
        http, own, inter = ports
        (place / "config.xml").write_text(CONFIG.format(folder=place, http=http, tcp=own, inter=inter, shards=shards))
        (place / "users.xml").write_text(USERS)
        for name in ("data", "tmp"):
            (place / name).mkdir()
        if whom := user():
            for path in (place, *place.iterdir()):
                os.chown(path, whom["user"], whom["group"])
        self.start()

    def start(self) -> None:
        libraries = f"{PACKAGES}/usr/lib/x86_64-linux-gnu:{PACKAGES}/lib/x86_64-linux-gnu"
        with (self.place / "out.log").open("ab") as log:
            self.process = subprocess.Popen(
                ["timeout", str(LIFE), PACKAGES / "usr/sbin/clickhouse-server",
                 f"--config-file={self.place / 'config.xml'}"],
                stdout=log, stderr=log, cwd=self.place, start_new_session=True,
                env={"PATH": os.environ.get("PATH", ""), "LD_LIBRARY_PATH": libraries}, **user(),
            )  # fmt: skip
        wait_for(self.port, self.process, self.place / "error.log")

    def kill(self) -> None:
        end(self.process, signal.SIGKILL)


@contextmanager
def clickhouse() -> Iterator[list[Shard]]:
    """Two ClickHouse servers that know each other as the cluster ``two``; user ``default``, password ``secret``."""
    with folder() as place:
        os.chmod(place, 0o755)
        ports = free_ports(6)
        tcp = [ports[1], ports[4]]
        shards: list[Shard] = []
        try:
            for i in (0, 1):
                shards.append(Shard(place / str(i), ports[3 * i : 3 * i + 3], tcp))  # noqa: PERF401 - those that started are stopped
            yield shards
        finally:
            for shard in shards:
                end(shard.process, signal.SIGKILL)

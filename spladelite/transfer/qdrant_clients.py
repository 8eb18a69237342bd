"""Two ways to the same points: a Qdrant server (or the client's local mode), and the vendor's engine in this process.

Filters are dicts as Qdrant's REST interface writes them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from spladelite.errors import Interrupted, NotADatabase, ServerError

VECTOR = "splade"
AT_ONCE = 256  # points of a request; a server takes at most 32 MB
OLDEST = (1, 10)
ANSWER_SECONDS = 60

Filter = Mapping[str, Any]
INDEXES = {"doc": "integer", "ordinal": "integer", "id": "keyword", "eq": "keyword", "has": "keyword", "set": "keyword"}


class Point(NamedTuple):
    """A point: ``id`` is a UUID; ``indices`` and ``values`` are empty where the vector was not asked for."""

    id: str
    indices: Sequence[int]
    values: Sequence[float]
    payload: dict[str, Any]


class Client(Protocol):
    """One collection."""

    server: str

    def exists(self) -> bool:
        """Whether there is such a collection."""
        ...

    def create(self) -> None:
        """Make it."""
        ...

    def upsert(self, points: Sequence[Point]) -> None:
        """Store points, in order; they are searchable when it returns."""
        ...

    def set_payload(self, id: str, payload: Mapping[str, Any]) -> None:
        """Change some fields of a point's payload."""
        ...

    def delete(self, ids: Sequence[str]) -> None:
        """Delete points."""
        ...

    def retrieve(self, ids: Sequence[str], payload: Sequence[str] | bool = True, vector: bool = False) -> list[Point]:
        """Those of the points that exist."""
        ...

    def scroll(
        self, filter: Filter, limit: int, payload: Sequence[str] | bool = True, vector: bool = False, last: bool = False
    ) -> list[Point]:
        """Points that match, by ``doc`` ascending (``last``: descending)."""
        ...

    def query(
        self,
        indices: Sequence[int],
        values: Sequence[float],
        limit: int,
        filter: Filter | None,
        payload: Sequence[str],
        timeout: float | None,
    ) -> list[tuple[Point, float]]:
        """The points with the largest inner product, with it."""
        ...

    def count(self, filter: Filter) -> int:
        """How many points match."""
        ...

    def sizes(self) -> dict[str, int]:
        """Bytes on disk by part, where the engine tells."""
        ...

    def settle(self) -> None:
        """Build the index of what is stored."""
        ...

    def close(self) -> None:
        """Idempotent."""
        ...


class ServerClient:
    """A server, by ``qdrant-client``.

    Args:
        client: a ``QdrantClient``.
        collection: its name.
        server: how to name both.
    """

    def __init__(self, client: Any, collection: str, server: str) -> None:
        from qdrant_client import models
        from qdrant_client.http.exceptions import ApiException

        self._client, self._collection, self.server = client, collection, server
        self._models, self._error = models, ApiException

    def _call(self, method: str, **arguments: Any) -> Any:
        try:
            return getattr(self._client, method)(collection_name=self._collection, **arguments)
        except self._error as error:
            raise _refusal(self.server, error) from error
        except (OSError, RuntimeError) as error:
            raise ServerError(f"{self.server} fails ({_line(error)})") from error

    def exists(self) -> bool:
        """See :class:`Client`."""
        return bool(self._call("collection_exists"))

    def create(self) -> None:
        """See :class:`Client`."""
        self._call(
            "create_collection", vectors_config={}, sparse_vectors_config={VECTOR: self._models.SparseVectorParams()}
        )
        for field, kind in INDEXES.items():
            self._call("create_payload_index", field_name=field, field_schema=kind, wait=True)

    def upsert(self, points: Sequence[Point]) -> None:
        """See :class:`Client`."""
        m = self._models
        for start in range(0, len(points), AT_ONCE):
            self._call(
                "upsert",
                wait=True,
                points=[
                    m.PointStruct(
                        id=point.id,
                        payload=point.payload,
                        vector={VECTOR: m.SparseVector(indices=list(point.indices), values=list(point.values))}
                        if len(point.indices)
                        else {},
                    )
                    for point in points[start : start + AT_ONCE]
                ],
            )

    def set_payload(self, id: str, payload: Mapping[str, Any]) -> None:
        """See :class:`Client`."""
        self._call("set_payload", payload=dict(payload), points=[id], wait=True)

    def delete(self, ids: Sequence[str]) -> None:
        """See :class:`Client`."""
        for start in range(0, len(ids), AT_ONCE):
            chunk = list(ids[start : start + AT_ONCE])
            self._call("delete", points_selector=self._models.PointIdsList(points=chunk), wait=True)

    def retrieve(self, ids: Sequence[str], payload: Sequence[str] | bool = True, vector: bool = False) -> list[Point]:
        """See :class:`Client`."""
        found = []
        for start in range(0, len(ids), AT_ONCE):
            chunk = list(ids[start : start + AT_ONCE])
            fields = payload if isinstance(payload, bool) else list(payload)
            found += self._call("retrieve", ids=chunk, with_payload=fields, with_vectors=vector)
        return [self._point(record) for record in found]

    def scroll(
        self, filter: Filter, limit: int, payload: Sequence[str] | bool = True, vector: bool = False, last: bool = False
    ) -> list[Point]:
        """See :class:`Client`."""
        m = self._models
        records, _ = self._call(
            "scroll",
            scroll_filter=m.Filter.model_validate(filter),
            limit=limit,
            order_by=m.OrderBy(key="doc", direction=m.Direction.DESC if last else m.Direction.ASC),
            with_payload=payload if isinstance(payload, bool) else list(payload),
            with_vectors=vector,
        )
        return [self._point(record) for record in records]

    def query(
        self,
        indices: Sequence[int],
        values: Sequence[float],
        limit: int,
        filter: Filter | None,
        payload: Sequence[str],
        timeout: float | None,
    ) -> list[tuple[Point, float]]:
        """See :class:`Client`."""
        m = self._models
        answer = self._call(
            "query_points",
            query=m.SparseVector(indices=list(indices), values=list(values)),
            using=VECTOR,
            query_filter=None if filter is None else m.Filter.model_validate(filter),
            limit=limit,
            with_payload=list(payload),
            with_vectors=True,
            timeout=None if timeout is None else max(1, math.ceil(timeout)),
        )
        return [(self._point(point), point.score) for point in answer.points]

    def _point(self, record: Any) -> Point:
        found = record.vector.get(VECTOR) if isinstance(record.vector, dict) else None
        payload = record.payload or {}
        if found is None:
            return Point(str(record.id), (), (), payload)
        return Point(str(record.id), found.indices, found.values, payload)

    def count(self, filter: Filter) -> int:
        """See :class:`Client`."""
        found = self._call("count", count_filter=self._models.Filter.model_validate(filter), exact=True)
        return int(found.count)

    def sizes(self) -> dict[str, int]:
        """See :class:`Client`. A server keeps them to itself."""
        return {}

    def settle(self) -> None:
        """See :class:`Client`. The server optimises by itself."""

    def close(self) -> None:
        """See :class:`Client`."""
        self._client.close()


class ProcessClient:
    """The vendor's engine in this process (``qdrant-edge-py``), with its data in a folder."""

    def __init__(self, folder: str) -> None:
        try:
            import qdrant_edge
        except ImportError:
            raise ServerError("qdrant:///folder runs Qdrant in this process: pip install qdrant-edge-py") from None
        self.server, self._folder, self._edge = f"qdrant://{folder}", folder, qdrant_edge
        self._shard: Any = None
        if os.path.isdir(folder) and os.listdir(folder):
            try:
                self._shard = qdrant_edge.EdgeShard.load(folder)
            except Exception as error:
                raise NotADatabase(f"{self.server} is no folder of Qdrant's ({_line(error)})") from error

    def _call(self, method: str, *arguments: Any) -> Any:
        try:
            return getattr(self._shard, method)(*arguments)
        except Exception as error:
            raise ServerError(f"{self.server} fails ({_line(error)})") from error

    def exists(self) -> bool:
        """See :class:`Client`."""
        return self._shard is not None

    def create(self) -> None:
        """See :class:`Client`."""
        edge = self._edge
        os.makedirs(self._folder, exist_ok=True)
        self._shard = edge.EdgeShard.create(
            self._folder, edge.EdgeConfig(sparse_vectors={VECTOR: edge.EdgeSparseVectorParams()})
        )
        for field, kind in INDEXES.items():
            schema = getattr(edge.PayloadSchemaType, kind.capitalize())
            self._call("update", edge.UpdateOperation.create_field_index(field, schema))

    def upsert(self, points: Sequence[Point]) -> None:
        """See :class:`Client`."""
        edge = self._edge
        made = [
            edge.Point(
                point.id,
                {VECTOR: edge.SparseVector(list(point.indices), list(point.values))} if len(point.indices) else {},
                point.payload,
            )
            for point in points
        ]
        if made:
            self._call("update", edge.UpdateOperation.upsert_points(made))
            self._call("flush")

    def set_payload(self, id: str, payload: Mapping[str, Any]) -> None:
        """See :class:`Client`."""
        self._call("update", self._edge.UpdateOperation.set_payload([id], dict(payload)))
        self._call("flush")

    def delete(self, ids: Sequence[str]) -> None:
        """See :class:`Client`."""
        if ids:
            self._call("update", self._edge.UpdateOperation.delete_points(list(ids)))
            self._call("flush")

    def retrieve(self, ids: Sequence[str], payload: Sequence[str] | bool = True, vector: bool = False) -> list[Point]:
        """See :class:`Client`."""
        fields = payload if isinstance(payload, bool) else list(payload)
        return [self._point(record) for record in self._call("retrieve", list(ids), fields, vector)] if ids else []

    def scroll(
        self, filter: Filter, limit: int, payload: Sequence[str] | bool = True, vector: bool = False, last: bool = False
    ) -> list[Point]:
        """See :class:`Client`."""
        edge = self._edge
        records, _ = self._call(
            "scroll",
            edge.ScrollRequest(
                limit=limit,
                filter=self._filter(filter),
                with_payload=payload if isinstance(payload, bool) else list(payload),
                with_vector=vector,
                order_by=edge.OrderBy("doc", edge.Direction.Desc if last else edge.Direction.Asc),
            ),
        )
        return [self._point(record) for record in records]

    def query(
        self,
        indices: Sequence[int],
        values: Sequence[float],
        limit: int,
        filter: Filter | None,
        payload: Sequence[str],
        timeout: float | None,  # noqa: ARG002 - nothing here can be ended early
    ) -> list[tuple[Point, float]]:
        """See :class:`Client`."""
        edge = self._edge
        request = edge.QueryRequest(
            limit=limit,
            query=edge.Query.Nearest(edge.SparseVector(list(indices), list(values)), using=VECTOR),
            filter=None if filter is None else self._filter(filter),
            with_payload=list(payload),
            with_vector=True,
        )
        return [(self._point(point), point.score) for point in self._call("query", request)]

    def _point(self, record: Any) -> Point:
        found = record.vector.get(VECTOR) if isinstance(record.vector, dict) else None
        if found is None:
            return Point(str(record.id), (), (), record.payload or {})
        return Point(str(record.id), found.indices, found.values, record.payload or {})

    def _filter(self, filter: Filter) -> Any:
        edge = self._edge

        def condition(entry: Mapping[str, Any]) -> Any:
            if "key" not in entry:
                return self._filter(entry)
            match, bounds = entry.get("match"), entry.get("range")
            return edge.FieldCondition(
                entry["key"],
                match=None if match is None else edge.MatchValue(match["value"]),
                range=None if bounds is None else edge.RangeFloat(**bounds),
            )

        return edge.Filter(**{key: list(map(condition, entries)) for key, entries in filter.items()})

    def count(self, filter: Filter) -> int:
        """See :class:`Client`."""
        return int(self._call("count", self._edge.CountRequest(exact=True, filter=self._filter(filter))))

    def sizes(self) -> dict[str, int]:
        """See :class:`Client`."""
        paths = (os.path.join(folder, name) for folder, _, names in os.walk(self._folder) for name in names)
        # Blocks, not lengths: Qdrant's files have holes.
        return {"folder": sum(os.stat(path).st_blocks * 512 for path in paths)}

    def settle(self) -> None:
        """See :class:`Client`."""
        self._call("optimize")

    def close(self) -> None:
        """See :class:`Client`."""
        if self._shard is not None:
            self._shard.close()
            self._shard = None


def connect_server(host: str, port: int, api_key: str | None, secure: bool, collection: str) -> ServerClient:
    """A client of a server that answers."""
    server = f"qdrant://{host}:{port}/{collection}"
    try:
        from qdrant_client import QdrantClient
        from qdrant_client.http.exceptions import ApiException
    except ImportError:
        raise ServerError("qdrant:// needs qdrant-client: pip install 'spladelite[qdrant]'") from None
    client = QdrantClient(
        host=host, port=port, api_key=api_key, https=secure, timeout=ANSWER_SECONDS, check_compatibility=False
    )
    try:
        version = client.info().version
    except ApiException as error:
        client.close()
        raise _refusal(server, error) from error
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        client.close()
        raise ServerError(f"{server} runs Qdrant {version}; {OLDEST[0]}.{OLDEST[1]} is the oldest known")
    return ServerClient(client, collection, server)


def _refusal(server: str, error: Any) -> ServerError | Interrupted:
    status = getattr(error, "status_code", None)
    text = _line(error)
    if status in (401, 403):
        return ServerError(f"{server} refuses the login; check api_key")
    if status == 507 or "No space" in text or "disk" in text.lower():
        return ServerError(f"{server} has no room left; repeat the call when it has ({text})")
    if status in (408, 504) or "timeout" in text.lower() or "timed out" in text:
        return Interrupted(f"{server}: the timeout has passed")
    if status is None:
        return ServerError(f"{server} does not answer: {text}; is it running?")
    return ServerError(f"{server} fails ({text})")


def _line(error: object) -> str:
    return " ".join(str(error).split())[:300]

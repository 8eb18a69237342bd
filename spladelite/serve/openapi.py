"""An endpoint is a typed function: its signature decides which parameters a request has, and what the document says.

``Annotated[int, "how many"]`` gives a parameter its description. A GET or DELETE takes them from the address, a POST
from a JSON object, but for a parameter of type ``bytes``, which is the request's body as it is.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from spladelite.errors import InvalidInput, WrongType

_NAMES: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}
_MISSING = inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``answer(library, **parameters)`` returns a dataclass, which becomes JSON."""

    method: str
    path: str
    answer: Callable[..., Any]

    def parameters(self) -> dict[str, tuple[Any, str, Any]]:
        """Type, description and default (or ``inspect.Parameter.empty``) by name."""
        hints = typing.get_type_hints(self.answer, include_extras=True)
        result = {}
        for name, parameter in list(inspect.signature(self.answer).parameters.items())[1:]:
            kind, description = typing.get_args(hints[name])
            result[name] = (kind, description, parameter.default)
        return result

    @property
    def body(self) -> str | None:
        """The parameter that is the request's body as it is."""
        return next((name for name, (kind, _, _) in self.parameters().items() if kind is bytes), None)

    def arguments(self, query: Mapping[str, str], body: object) -> dict[str, Any]:
        """Checked arguments for ``answer``.

        Raises:
            InvalidInput, WrongType: a parameter is missing, unknown, or of another type; names it.
        """
        parameters = self.parameters()
        given: dict[str, Any] = dict(query)
        if self.method == "POST" and self.body is None:
            if not isinstance(body, dict):
                raise WrongType(f"the body is {type(body).__name__}; send a JSON object with {', '.join(parameters)}")
            given |= body
        elif self.body is not None:
            given[self.body] = body
        unknown = given.keys() - parameters
        if unknown:
            raise InvalidInput(f"unknown: {', '.join(sorted(unknown))}; {self.path} takes {', '.join(parameters)}")
        arguments = {}
        for name, (kind, description, default) in parameters.items():
            if name in given:
                from_text = name in query and kind is not str
                value = _from_text(kind, given[name], name) if from_text else given[name]
                arguments[name] = convert(kind, value, name)
            elif default is _MISSING:
                raise InvalidInput(f"{name} is missing: {description}")
        return arguments


def _from_text(kind: Any, text: str, name: str) -> Any:
    try:
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        return int(text) if kind is int else float(text) if kind is float else text
    except (ValueError, KeyError):
        raise InvalidInput(f"{name} is {text[:60]!r}; expected {_NAMES[kind]}") from None


def convert(kind: Any, value: Any, name: str) -> Any:
    """``value``, read from JSON, as ``kind``: a plain type, ``X | None``, ``list[X]``, ``dict``, or a dataclass.

    Raises:
        WrongType: it is of another type; names the place.
    """
    if isinstance(kind, types.UnionType):
        return None if value is None else convert(typing.get_args(kind)[0], value, name)
    if typing.get_origin(kind) is list and isinstance(value, list):
        (inner,) = typing.get_args(kind)
        return [convert(inner, item, f"{name}[{number}]") for number, item in enumerate(value)]
    if typing.get_origin(kind) is dict and isinstance(value, dict):
        return value
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        fields = {field.name: field for field in dataclasses.fields(kind)}
        hints = typing.get_type_hints(kind)
        unknown = value.keys() - fields
        missing = [n for n, field in fields.items() if field.default is dataclasses.MISSING and n not in value]
        if unknown or missing:
            raise InvalidInput(f"{name} has {', '.join(value) or 'nothing'}; expected {', '.join(fields)}")
        return kind(**{key: convert(hints[key], item, f"{name}.{key}") for key, item in value.items()})  # type: ignore[operator]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    plain = kind in _NAMES or kind is bytes
    if not plain or not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise WrongType(f"{name} is of type {type(value).__name__}; expected {schema(kind).get('type', 'an object')}")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput(f"{name} is {value}; expected a finite number")
    return value


def schema(kind: Any) -> dict[str, Any]:
    """The JSON Schema of a type; a dataclass becomes a reference."""
    if isinstance(kind, types.UnionType):
        return {"anyOf": [schema(inner) for inner in typing.get_args(kind)]}
    if kind is type(None):
        return {"type": "null"}
    if typing.get_origin(kind) is list:
        return {"type": "array", "items": schema(typing.get_args(kind)[0])}
    if typing.get_origin(kind) is dict:
        inner = typing.get_args(kind)[1]
        return {"type": "object", "additionalProperties": True if inner is Any else schema(inner)}
    if dataclasses.is_dataclass(kind):
        return {"$ref": f"#/components/schemas/{kind.__name__}"}  # type: ignore[union-attr]
    if kind is bytes:
        return {"type": "string", "format": "binary"}
    return {"type": _NAMES[kind]} if kind in _NAMES else {}


def document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of some endpoints."""
    paths: dict[str, dict[str, Any]] = {}
    schemas: dict[str, Any] = {}
    for endpoint in endpoints:
        result = typing.get_type_hints(endpoint.answer)["return"]
        _collect(result, schemas)
        parameters = endpoint.parameters()
        in_body = endpoint.method == "POST" and endpoint.body is None
        for kind, _, _ in parameters.values():
            _collect(kind, schemas)
        summary, _, details = (inspect.getdoc(endpoint.answer) or "").partition("\n\n")
        operation: dict[str, Any] = {
            "operationId": f"{endpoint.method.lower()}_{endpoint.answer.__name__}",
            "summary": summary,
            "responses": {
                "200": {"description": "OK", "content": {"application/json": {"schema": schema(result)}}},
                "default": {
                    "description": "What was wrong, and what to do",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
                },
            },
        }
        if details:
            operation["description"] = " ".join(details.split())
        if not in_body:
            operation["parameters"] = [
                {
                    "name": name,
                    "in": "query",
                    "required": default is _MISSING,
                    "description": description,
                    "schema": schema(kind) | ({} if default is _MISSING else {"default": default}),
                }
                for name, (kind, description, default) in parameters.items()
                if kind is not bytes
            ]
        if in_body:
            content = {
                "type": "object",
                "properties": {
                    name: schema(kind) | {"description": description}
                    for name, (kind, description, _) in parameters.items()
                },
                "required": [name for name, (_, _, default) in parameters.items() if default is _MISSING],
            }
            operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": content}}}
        elif endpoint.body is not None:
            operation["requestBody"] = {
                "required": True,
                "content": {"application/octet-stream": {"schema": schema(bytes)}},
            }
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = operation
    schemas["Error"] = {
        "type": "object",
        "properties": {"error": {"type": "string"}, "message": {"type": "string"}},
        "required": ["error", "message"],
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "SpladeLite", "version": version("spladelite"), "description": "One database, searched."},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{"token": []}],
    }


def _collect(kind: Any, schemas: dict[str, Any]) -> None:
    """Add the schemas of a type's dataclasses, and of theirs."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type) and kind.__name__ not in schemas:
        hints = typing.get_type_hints(kind)
        schemas[kind.__name__] = {
            "type": "object",
            "description": " ".join((inspect.getdoc(kind) or "").split()),
            "properties": {name: schema(hint) for name, hint in hints.items()},
            "required": [field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING],
        }
        for hint in hints.values():
            _collect(hint, schemas)
    for inner in typing.get_args(kind):
        _collect(inner, schemas)

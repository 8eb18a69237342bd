"""What of a database's model can go to the web: its tokenizer, and its query encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from spladelite.encoders.base import Encoder
from spladelite.encoders.onnx import OnnxSide
from spladelite.encoders.reading import Reader
from spladelite.encoders.routed import RoutedEncoder, StaticSide
from spladelite.encoders.tokenizer import TextTokenizer
from spladelite.errors import ModelError, ModelMismatch
from spladelite.upkeep.web.graph import read_graph, write_graph


@dataclass(frozen=True, slots=True, eq=False)
class WebEncoder:
    """The parts of a model that a browser can run.

    Attributes:
        tokenizer: settings of a BERT WordPiece tokenizer, or None: texts cannot be cut into the model's terms there.
        settings: of the query encoder, or None: there is no SPLADE query encoder there.
        graph, rows: its files, see :mod:`spladelite.upkeep.web.graph`; or the static weights, float32 ``(V,)``.
        note: why something is missing, for people; "" if nothing is.
    """

    tokenizer: dict[str, Any] | None = None
    settings: dict[str, Any] | None = None
    graph: bytes = b""
    rows: bytes = b""
    note: str = ""


def web_encoder(load: Callable[[], Encoder]) -> WebEncoder:
    """Take the model that ``load`` gives apart for the web; one that cannot be loaded is not needed either."""
    try:
        encoder = load()
    except (ModelError, ModelMismatch) as error:
        return WebEncoder(note=f"no SPLADE queries in the browser: {error}")
    if not isinstance(encoder, RoutedEncoder):
        return WebEncoder(note=f"the model {encoder.name} is an object or function, which a browser cannot run")
    tokenizer = _tokenizer(encoder.tokenizer)
    if tokenizer is None:
        return WebEncoder(note=f"the tokenizer of {encoder.name} is not BERT's WordPiece; a browser cannot run it")
    reader = Reader(encoder)
    tokenizer["reads"] = {"unknown": reader.unknown, "han": reader.han, "latin": reader.latin}
    side = encoder.query
    settings: dict[str, Any] = {
        "window": encoder.window,
        "prompt": side.prompt,
        "excluded": encoder.tokenizer.excluded.tolist(),
        "maxTerms": encoder.limits.max_active_terms,
        "minWeight": encoder.limits.min_weight,
    }
    if isinstance(side, StaticSide):
        return WebEncoder(tokenizer, settings | {"kind": "static"}, side.weights.astype("<f4").tobytes())
    if not isinstance(side, OnnxSide):
        return WebEncoder(
            tokenizer,
            note=f"{encoder.name} is a checkpoint for torch; for SPLADE queries in the browser, write it as an ONNX "
            "folder (spladelite models export) and open the database with that as its model",
        )
    settings |= {"kind": "graph", "pooling": side.route.pooling, "activation": side.route.activation}
    path = side.folder.path / side.route.file
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != side.folder.files[side.route.file].sha256:
        raise ModelError(f"{path}: damaged: its SHA-256 is not the one in spladelite.json; export the model again")
    graph, rows = write_graph(read_graph(content), {})
    return WebEncoder(tokenizer, settings, graph, rows)


def _tokenizer(tokenizer: TextTokenizer) -> dict[str, Any] | None:
    """The settings of BERT's tokenizer; None for another."""
    definition = tokenizer.definition
    normalizer, model = definition.get("normalizer") or {}, definition["model"]
    added = [token for token in definition.get("added_tokens") or () if not token.get("special")]
    splitter = definition.get("pre_tokenizer") or {}
    if (
        (normalizer.get("type"), splitter.get("type")) != ("BertNormalizer", "BertPreTokenizer")
        or model.get("type", "WordPiece") != "WordPiece"
        or added
    ):
        return None
    lowercase = bool(normalizer.get("lowercase"))
    accents = normalizer.get("strip_accents")
    return {
        "cleanText": bool(normalizer.get("clean_text")),
        "chinese": bool(normalizer.get("handle_chinese_chars")),
        "stripAccents": lowercase if accents is None else bool(accents),
        "lowercase": lowercase,
        "prefix": model.get("continuing_subword_prefix", "##"),
        "longestWord": model.get("max_input_chars_per_word", 100),
        "unknown": tokenizer.unknown_id,
        "before": tokenizer.frame.before,
        "after": tokenizer.frame.after,
    }

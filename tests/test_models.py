"""The bundled model against the float32 original, where torch and the collections are at hand."""

from __future__ import annotations

import gzip
import json
import os
from itertools import islice
from pathlib import Path

import pytest

from spladelite.encoders.export.compare import compare
from spladelite.encoders.registry import bundled_encoder, load_encoder

DATA = Path(os.environ.get("SPLADELITE_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))
ORIGINAL = os.environ.get("SPLADELITE_ORIGINAL", "")


@pytest.mark.skipif(not ORIGINAL, reason="SPLADELITE_ORIGINAL is not set to the folder of the float32 original")
@pytest.mark.skipif(not (DATA / "wiki-100k").exists(), reason=f"no test collections in {DATA}")
def test_what_the_model_card_says_about_parity() -> None:
    pytest.importorskip("transformers")
    with gzip.open(DATA / "wiki-100k" / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in islice(lines, 300)]
    bundled, original = bundled_encoder(), load_encoder(ORIGINAL, device="cpu")
    texts = [text for text in texts if len(bundled.tokenize(text)) <= bundled.window]
    found = compare(original, bundled, texts)
    assert found.largest_difference < 0.33
    assert found.mean_difference < 0.012
    assert found.top_overlap > 0.99
    assert found.score_error < 0.002

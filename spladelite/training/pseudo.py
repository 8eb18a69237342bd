"""Questions out of the documents themselves, for collections that nobody has labelled.

What stands in for a question, best first: a heading (or a question, as in a list of frequent ones) with the text under
it; a document's first sentence with what follows; a random span with the text beside it. That is the inverse cloze task
of Lee et al. 2019 ("Latent Retrieval for Weakly Supervised Open Domain Question Answering"), with span lengths after
the independent cropping of Izacard et al. 2022 ("Unsupervised Dense Information Retrieval with Contrastive Learning").
As in the former, the question is cut out of the text that answers it nine times in ten, so that words which only mean
the same must be learned too. An answer is always one uncut piece of its document: mining relies on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from spladelite.arguments import check_count
from spladelite.documents.chunking import _SENTENCE, _borders
from spladelite.errors import InvalidInput
from spladelite.training.data import Example, TrainingData, as_collection, held_out_count, limited

# A word is what stands between white space; each character of the scripts that are written without any.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\s\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")
_HEADING = re.compile(r"^#{1,6}[ \t]+(\S.*?)[ \t]*#*$", re.MULTILINE)
_QUESTION = re.compile(
    r"^[ \t]*(?:Q(?:uestion)?[ \t]*\d*[.:][ \t]*)?(\S.*[?\uff1f])[ \t]*$", re.MULTILINE | re.IGNORECASE
)

# All in words.
LEAST_QUERY, MOST_QUERY = 2, 32
LEAST_SPAN = 5
LEAST_ANSWER = 10
MOST_ANSWER = 180  # about a window of 256 tokens: what is cut off teaches nothing
MOST_TITLE = 16
SPAN_SHARE = (0.05, 0.5)  # of the document
KEEP = 0.1  # how often the question stays in the answer


Range = tuple[int, int]


def pseudo_queries(
    documents: Sequence[str], *, per_document: int = 2, seed: int = 0, keep: float = KEEP
) -> tuple[Example, ...]:
    """Training pairs made of documents, at most ``per_document`` of each; too short documents give none.

    Headings and questions come first, then the first sentence, then random spans.

    Args:
        documents: their texts.
        per_document: at least 1.
        seed: of the choice; what is made of a document depends on nothing but its text, its place and the seed.
        keep: how often the question stays in the answer, 0 to 1.

    Raises:
        InvalidInput: ``per_document`` or ``keep`` is out of range.
    """
    check_count(per_document, "per_document")
    if not 0 <= keep <= 1:
        raise InvalidInput(f"keep is {keep}; it must be from 0 to 1")
    examples: dict[Example, None] = {}
    for place, text in enumerate(documents):
        random = np.random.default_rng([seed, place])
        for query, answer in _pairs(text, per_document, random):
            if random.random() < keep:
                answer = (min(query[0], answer[0]), max(query[1], answer[1]))
            examples[Example(_clean(text[slice(*query)]), text[slice(*answer)].strip())] = None
    return tuple(examples)


def pseudo_data(documents: Sequence[str], *, per_document: int = 2, seed: int = 0) -> TrainingData:
    """Pseudo-queries of documents; some documents are held out, with all that is made of them, for validation.

    They are a tenth of the usable documents, at least 20 and at most 200, but never more than half. The validation
    queries are one of each, and never stay in their answers.

    Raises:
        InvalidInput: fewer than two documents are long enough.
    """
    distinct = list(dict.fromkeys(documents))
    usable = [i for i, text in enumerate(distinct) if len(_WORD.findall(text)) >= LEAST_SPAN + LEAST_ANSWER]
    if len(usable) < 2:
        raise InvalidInput(
            f"{len(usable)} of {len(distinct)} documents can be made queries of; give at least two documents with "
            f"{LEAST_SPAN + LEAST_ANSWER} words or more"
        )
    drawn = np.random.default_rng(seed).permutation(len(usable))[: held_out_count(len(usable))]
    held = {usable[i] for i in drawn.tolist()}
    rest = [text for i, text in enumerate(distinct) if i not in held]
    asked = pseudo_queries([distinct[i] for i in sorted(held)], per_document=1, seed=seed, keep=0.0)
    return TrainingData(
        pseudo_queries(rest, per_document=per_document, seed=seed),
        tuple(distinct),
        limited(as_collection(asked, distinct), seed),
        (f"{len(held)} of {len(usable)} documents held out for validation, with all that is made of them",),
    )


def _pairs(text: str, count: int, random: np.random.Generator) -> list[tuple[Range, Range]]:
    """Character ranges of queries and of their answers, the query not in the answer."""
    words = [match.span() for match in _WORD.finditer(text)]
    if len(words) < LEAST_QUERY + LEAST_ANSWER:
        return []
    titled = list(_titled(text, words))
    pairs = [titled[i] for i in sorted(random.permutation(len(titled))[:count].tolist())]
    if len(pairs) < count and not any(query[0] <= words[0][0] < query[1] for query, _ in pairs):
        pairs += _first_sentence(text, words)
    while len(pairs) < count and len(words) >= LEAST_SPAN + LEAST_ANSWER:
        pairs.append(_span(words, random))
    return pairs


def _titled(text: str, words: list[Range]) -> Iterator[tuple[Range, Range]]:
    """Headings, questions on a line of their own, and a title in the first line, each with the text up to the next."""
    titles = [match.span(1) for pattern in (_HEADING, _QUESTION) for match in pattern.finditer(text)]
    title = _title(text)
    if title is not None:
        titles.append(title)
    titles = sorted(set(titles))
    for title, following in zip(titles, [*titles[1:], (len(text), 0)], strict=False):
        # The next title's own marks, such as "##", stand before it on its line.
        end = text.rfind("\n", 0, following[0]) + 1 if following[0] < len(text) else len(text)
        answer = [word for word in words if title[1] <= word[0] < end]
        length = sum(title[0] <= word[0] < title[1] for word in words)
        if LEAST_QUERY <= length <= MOST_QUERY and len(answer) >= LEAST_ANSWER:
            yield title, _range(answer[:MOST_ANSWER])


def _title(text: str) -> Range | None:
    """The first line, if it is one by its looks: short beside the other lines, or with an empty line after it."""
    lines = text.lstrip().split("\n")
    first = lines[0].strip()
    if len(lines) < 2 or not first or len(first.split()) > MOST_TITLE or first.startswith("#"):
        return None
    if lines[1].strip() and len(first) > 0.7 * max(map(len, lines[1:])):
        return None
    start = text.index(first)
    return start, start + len(first)


def _first_sentence(text: str, words: list[Range]) -> list[tuple[Range, Range]]:
    some = words[: MOST_QUERY + 1]
    starts, ends = np.array(some, np.int64).T
    levels, _ = _borders(text[: some[-1][1]], starts, ends)
    breaks = np.flatnonzero(levels >= _SENTENCE)
    length = int(breaks[0]) + 1 if len(breaks) else 0
    if length < LEAST_SPAN or len(words) - length < LEAST_ANSWER:
        return []
    return [(_range(words[:length]), _range(words[length : length + MOST_ANSWER]))]


def _span(words: list[Range], random: np.random.Generator) -> tuple[Range, Range]:
    """A random span, and the words before or after it."""
    total = len(words)
    size = int(total * random.uniform(*SPAN_SHARE))
    size = min(max(size, LEAST_SPAN), MOST_QUERY, total - LEAST_ANSWER)
    start = int(random.integers(0, total - LEAST_ANSWER - size + 1))
    if random.random() < 0.5:
        return _range(words[start : start + size]), _range(words[start + size :][:MOST_ANSWER])
    start = total - size - start  # the same from the other end: at least so many words are before it
    return _range(words[start : start + size]), _range(words[:start][-MOST_ANSWER:])


def _range(words: Sequence[Range]) -> Range:
    return words[0][0], words[-1][1]


def _clean(query: str) -> str:
    return " ".join(query.split())

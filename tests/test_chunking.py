"""Chunking against a real BERT tokenizer: spans cover, fit, overlap and survive being tokenized again."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from spladelite.documents.chunking import chunk
from spladelite.errors import InvalidInput
from spladelite.records import Tokens

LETTERS = [*"abcdefghijklmnopqrstuvwxyz0123456789.,!?'\"-()。！é漢字かな", "ᄒ", "ᅡ", "ᆫ"]
PIECES = ["[UNK]", *LETTERS, *(f"##{letter}" for letter in LETTERS), "the", "##ing", "ab", "##ab", "##ba", "abba"]


def bert(pieces: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    return tokenizer


TOKENIZER = bert(PIECES)


def tokenize(text: str) -> Tokens:
    encoding = TOKENIZER.encode(text, add_special_tokens=False)
    offsets = np.array(encoding.offsets, np.int64).reshape(-1, 2)
    return Tokens(np.array(encoding.ids, np.int32), offsets[:, 0], offsets[:, 1])


def words(count: int) -> str:
    return " ".join(["the"] * count)


def pieces_of(text: str, window: int, overlap: int | None = None) -> list[str]:
    return [text[a:b] for a, b in chunk(text, tokenize(text), window, overlap)]


TEXTS = st.text(st.sampled_from("abbaing .,!?\n\n\t'\"()é漢字。！한​\x00\x0c\u0301\u2028😀Z_€"), max_size=300)


@given(text=TEXTS | st.text(max_size=200), window=st.integers(1, 40), data=st.data())
@settings(max_examples=400)
def test_spans_cover_every_token_fit_the_window_and_move_forward(text: str, window: int, data: st.DataObject) -> None:
    overlap = data.draw(st.none() | st.integers(0, window - 1))
    tokens = tokenize(text)
    spans = chunk(text, tokens, window, overlap)
    if len(tokens) <= window:
        assert spans == [(0, len(text))]
        return
    covered = np.zeros(len(tokens), bool)
    for start, end in spans:
        assert 0 <= start < end <= len(text)
        inside = (tokens.starts >= start) & (tokens.ends <= end)
        # Tokens of one character cannot be separated, so a window smaller than a character's tokens is exceeded.
        longest_character = np.unique(tokens.starts, return_counts=True)[1].max()
        assert inside.sum() <= max(window, longest_character + window // 2)
        covered |= inside
    assert covered.all()
    for (start, end), (next_start, next_end) in itertools.pairwise(spans):
        assert start < next_start
        assert end < next_end
        shared = ((tokens.starts >= next_start) & (tokens.ends <= end)).sum()
        assert shared <= (window // 8 if overlap is None else overlap)


@given(text=TEXTS, window=st.integers(16, 60))
@settings(max_examples=300)
def test_a_span_tokenized_again_fits_the_window(text: str, window: int) -> None:
    for start, end in chunk(text, tokenize(text), window):
        assert len(tokenize(text[start:end])) <= window


@given(words=st.lists(st.text("abbaing", min_size=1, max_size=9), min_size=30, max_size=80))
def test_spans_of_plain_words_begin_and_end_at_words(words: list[str]) -> None:
    text = " ".join(words)
    for start, end in chunk(text, tokenize(text), 16):
        assert start == 0 or text[start - 1] == " "
        assert end == len(text) or text[end] == " "


def test_cut_goes_to_the_paragraph_then_sentence_then_line_then_word() -> None:
    prefix, rest = words(15), words(30)
    assert pieces_of(f"{prefix}\n\n{words(3)}. The {rest}", 20, 0)[0] == prefix
    assert pieces_of(f"{prefix}. The\n{rest}", 20, 0)[0] == prefix + "."
    assert pieces_of(f"{prefix}\nthe {rest}", 20, 0)[0] == prefix
    assert pieces_of(f"{prefix} {rest}", 20, 0)[0] == words(20)
    assert pieces_of(f"{prefix}, e.g. the {rest}", 20, 0)[0] == f"{prefix}, e.g."  # 20 tokens: full, not a sentence end
    assert pieces_of(f'{prefix}." The {rest}', 20, 0)[0] == prefix + '."'
    assert pieces_of("漢字漢字漢字漢字漢字漢字漢字。漢字漢字漢字", 20, 0)[0] == "漢字漢字漢字漢字漢字漢字漢字。"


def test_a_border_before_the_last_third_is_not_taken() -> None:
    assert pieces_of(f"{words(5)}\n\n{words(40)}", 20, 0)[0] == f"{words(5)}\n\n{words(15)}"


def test_overlap_begins_at_a_sentence_where_one_begins() -> None:
    text = f"{words(13)}. The the. The {words(30)}"
    first, second = pieces_of(text, 18, 6)[:2]
    assert first == f"{words(13)}. The the."
    assert second.startswith("The the. The")


def test_a_word_longer_than_the_window_is_cut_between_tokens() -> None:
    text = "the " + "ab" * 40 + " the"
    pieces = pieces_of(text, 10)
    assert pieces[0] == "the"
    assert pieces[-1] == "the"
    assert "".join(pieces[1:-1]) == "ab" * 40
    assert all(len(tokenize(piece)) <= 10 for piece in pieces)


def test_a_text_without_tokens_is_one_span() -> None:
    assert len(tokenize("\x00\u200b " * 9)) == 0
    assert chunk("\x00\u200b " * 9, tokenize("\x00\u200b " * 9), 4) == [(0, 27)]


@pytest.mark.parametrize(("window", "overlap"), [(0, None), (-1, None), (8, 8), (8, -1)])
def test_impossible_sizes_are_refused(window: int, overlap: int | None) -> None:
    with pytest.raises(InvalidInput, match="must be at least"):
        chunk("a b", tokenize("a b"), window, overlap)


def test_time_is_linear_in_the_text() -> None:
    def seconds(count: int) -> float:
        text = "Some words make one sentence here. " * count
        starts = np.flatnonzero(np.frombuffer((" " + text[:-1]).encode(), np.uint8) == ord(" "))
        tokens = Tokens(np.zeros(len(starts), np.int32), starts, np.append(starts[1:] - 1, len(text) - 1))
        best = 1e9
        for _ in range(3):
            begin = time.process_time()
            chunk(text, tokens, 64)
            best = min(best, time.process_time() - begin)
        return best

    assert seconds(32_000) < 24 * seconds(4_000)  # 8 times; if it were quadratic, 64

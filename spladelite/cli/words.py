"""Messages in the command's words: what the library says of its arguments, said of options and commands."""

from __future__ import annotations

import re

# The first column is what errors say to a Python program. Each is specific enough not to occur in what a user gave.
_WORDS = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r", and read_only=True never creates a file", "; `spladelite add` creates a database"),
        (
            r"`id in db` tells, and iterating over db lists all ids",
            "`spladelite sql DATABASE 'SELECT id FROM document'`",
        ),
        (r"open it (once )?without read_only=True", r"open it \1with a command that writes"),
        (r"(;|, or) open (it|\S+) with read_only=True", r"\1 make it writable"),
        (r" opened with immutable=True", " read without its log"),
        (r"immutable=True opens it", "copy the file to a folder that can be written"),
        (r"delete\(\) takes ids or where=", "give ids or --where"),
        (r"use upsert\(\), or on_conflict='replace' or 'skip'", "--replace replaces it"),
        (r"\b(run )?check\(repair=True\)", "run `spladelite check --repair`"),
        (r"\b(run )?check\(\)", "run `spladelite check`"),
        (r"\bdb\.sql\(\) runs", "`spladelite sql` runs"),
        (r"call it once more for", "run it once more for"),
        (r"\bdb\.export\(\)", "`spladelite export`"),
        (r"\bdb\.backup\(\.\.\.\)", "`spladelite backup`"),
        (r"\bmode='(\w+)'", r"--mode \1"),
        (r"^mode is ", "--mode is "),
        (r"^encoder is ", "--encoder is "),
        (r"^k is ", "-k is "),
        (r"^min_score is ", "--min-score is "),
        (r"^path is ", "DATABASE is "),
        (r"\bencoder='?(\w+)'?", r"--encoder \1"),
        (r"\bmodel=(?=$|[ ,;])", "--model"),
        (r"\bbm25=False\b", "BM25 left out"),
        (
            r"say dense= with each text and each query, or open it with dense= a function that encodes them",
            "Python's add(dense=...) and search(dense=...) take them; --mode splade and bm25 need none",
        ),
        (r"\bwithout dense=", "without --dense"),
        (r"\bdense=(?=$|[ ,;])", "--dense"),
        (r"\bwhere_args\[(\d+)\]", r"--arg \1"),
        (r"\bwhere_args\b", "--arg"),
        (r"\bargs\[(\d+)\]", r"--arg \1"),
        (
            r"^the SQL has a value named (\S+), which args does not give",
            r"the SQL has a value named \1; use '?' and --arg",
        ),
        (r"^where (?=is|has|may|leaves|closes|and)", "--where "),
        (r"; give None for no filter", "; leave it out for no filter"),
        (r"give one SQL expression", "it takes one SQL expression"),
        (r"decode the source with errors='replace'", "give it as valid UTF-8"),
    )
)


def in_words_of_the_command(message: str) -> str:
    """The message with options and commands in place of Python's arguments and methods."""
    for pattern, words in _WORDS:
        message = pattern.sub(words, message)
    return message

"""Every exception that SpladeLite raises on purpose.

::

    SpladeLiteError
    ├── InvalidInput (ValueError)      a caller's argument; says what was given and what was expected
    │   ├── InvalidText                empty, blank or non-string text, by position
    │   ├── InvalidVector              weights or term ids that cannot be indexed
    │   ├── InvalidMetadata            metadata that is not a JSON object
    │   ├── InvalidFilter              an unknown operator, a malformed ``where``
    │   └── IdConflict                 an id that exists with other content
    ├── WrongType (TypeError)          an argument of a type that cannot be used
    ├── DocumentNotFound (KeyError)    an id that is not in the database
    ├── DatabaseError                  the file as a whole
    │   ├── NotADatabase               missing, a directory, or not a SpladeLite file
    │   ├── UnsupportedFormat          written by a newer SpladeLite
    │   ├── ReadOnly                   a write through a read-only handle
    │   ├── Busy                       another process held the write lock too long
    │   ├── Interrupted                Ctrl-C or ``timeout=`` ended a search
    │   ├── ServerError                an engine's server is down, refuses, is too old or full; names it
    │   ├── Unfinished                 a ``move`` into it was not completed; the same command goes on
    │   └── CorruptIndex               stored bytes that contradict themselves; names the row
    ├── Unsupported                    what an engine cannot do; connect("kb.db") can
    ├── ModelError                     a model folder that cannot be loaded or does not fit
    │   └── ModelMismatch              another model than the one the file was built with
    └── TrainingError                  a run whose loss or vectors can no longer be used

    UnfindableText (UserWarning)       documents that no SPLADE search can find
    UnreadText (UserWarning)           documents most of whose text is outside the model's vocabulary

``assert`` is for our bugs only.
"""

from __future__ import annotations


class SpladeLiteError(Exception):
    """Base of all errors that SpladeLite raises on purpose."""


class InvalidInput(SpladeLiteError, ValueError):
    """An argument that cannot be used: says what was given, what was expected and what to do."""


class InvalidText(InvalidInput):
    """A text that is empty, blank, not a string, or not valid Unicode; named by its position."""


class InvalidVector(InvalidInput):
    """A sparse vector with NaN, infinite, negative or zero weights, or unknown term ids."""


class InvalidMetadata(InvalidInput):
    """Metadata that is not a JSON object."""


class InvalidFilter(InvalidInput):
    """A ``where`` that is malformed: unknown operator, wrong operand, SQL that does not compile."""


class IdConflict(InvalidInput):
    """An id that exists with other content, or occurs twice in one call with different content."""


class WrongType(SpladeLiteError, TypeError):
    """An argument of a type that cannot be used: says what was given and what was expected."""


class DocumentNotFound(SpladeLiteError, KeyError):
    """An id that is not in the database."""

    __str__ = Exception.__str__  # KeyError would show the message in quotes


class DatabaseError(SpladeLiteError):
    """Something about the database file as a whole."""


class NotADatabase(DatabaseError):
    """The path is missing, a directory, or a file that SpladeLite did not write."""


class UnsupportedFormat(DatabaseError):
    """The file was written by a newer format version than this release reads."""


class ReadOnly(DatabaseError):
    """A write was asked of a handle or a file that is read-only."""


class Busy(DatabaseError):
    """Another connection held the write lock for longer than the busy timeout."""


class Interrupted(DatabaseError):
    """A running statement was ended by ``timeout=``."""


class CorruptIndex(DatabaseError):
    """Stored bytes that contradict themselves; the message names the table and the row."""


class ServerError(DatabaseError):
    """A server that cannot be reached, refuses, is too old, full or failing; names it, never the password."""


class Unfinished(DatabaseError):
    """A move into this collection is running or was interrupted; until it is complete nobody searches it."""


class Unsupported(SpladeLiteError):
    """What the engine behind this collection cannot do; the message says what can."""


class ModelError(SpladeLiteError):
    """A model that cannot be found or loaded, or whose files disagree with each other."""


class ModelMismatch(ModelError):
    """The database was built with another model than the one that was given."""


class TrainingError(SpladeLiteError):
    """A training run that cannot go on: its loss is not finite, or its vectors have become empty."""


class UnfindableText(UserWarning):
    """Documents without a term that the model knows: Thai for an English model, a hash. SPLADE never finds them."""


class UnreadText(UserWarning):
    """Documents most of whose text is outside the model's vocabulary: Arabic for an English model.

    SPLADE finds them by chance only, so a hybrid goes by their words alone. A model that knows their language helps.
    """

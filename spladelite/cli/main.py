"""The command line: thin commands over :class:`~spladelite.database.SpladeLite`.

Every command takes the database first, prints a table or, with ``--json``, one JSON value, and ends with an exit status
that scripts can use (``EXIT_STATUS``). Errors are one line on standard error.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from importlib import import_module
from typing import Any

import click

from spladelite import __version__
from spladelite.cli.read import check, expand, explain, get, list_documents, search, sql, stats
from spladelite.cli.words import in_words_of_the_command
from spladelite.cli.write import add, backup, create_index, delete, export, feedback, optimize, reencode, sync
from spladelite.errors import Busy, DatabaseError, DocumentNotFound, ModelError
from spladelite.errors import SpladeLiteError as Error

EXIT_STATUS = """\b
Exit status:
  0    done
  1    nothing found: no hit, no such document; check found damage; or files were skipped
  2    wrong usage, or input that cannot be used
  3    a database, model or file that is missing, damaged or cannot be read or written
  4    another process kept the database locked: try again
  5    not enough memory, or an error that nobody expected: please report it
  130  Ctrl-C; what was committed stays, and the same command goes on from there
  141  what read the output has gone, such as head
"""


class _Main(click.Group):
    """Turns exceptions into one line and an exit status, and loads the lazy commands."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, _Lazy) else command, rest

    def invoke(self, ctx: click.Context) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a terminal's encoding may not have every character
                stream.reconfigure(errors="backslashreplace")
        if os.environ.get("NO_COLOR"):
            ctx.color = False
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                return super().invoke(ctx)
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except KeyboardInterrupt:
            _fail(ctx, "interrupted; what was committed stays", 130)
        except BrokenPipeError:
            sys.stdout = io.StringIO()  # so that flushing at exit does not fail once more
            ctx.exit(141)
        except Error as error:
            _fail(ctx, str(error), exit_status(error))
        except OSError as error:
            name = f"{error.filename}: " if error.filename is not None else ""
            _fail(ctx, f"{name}{error.strerror or error}", 3)
        except MemoryError:
            _fail(ctx, "not enough memory; what was committed stays", 5)
        except UnicodeError as error:
            _fail(ctx, f"the input is not valid text: {error}", 2)
        except Exception as error:
            if os.environ.get("SPLADELITE_TRACEBACK"):
                raise
            _fail(
                ctx,
                f"unexpected {type(error).__name__}: {error}; please report it, with what SPLADELITE_TRACEBACK=1 shows",
                5,
            )


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"Warning: {' '.join(in_words_of_the_command(str(message)).split())}", err=True)


def exit_status(error: Error) -> int:
    """The status with which the command ends after an error."""
    if isinstance(error, Busy):
        return 4
    if isinstance(error, DatabaseError | ModelError):
        return 3
    return 1 if isinstance(error, DocumentNotFound) else 2


def _fail(ctx: click.Context, message: str, status: int) -> None:
    click.echo(f"Error: {' '.join(in_words_of_the_command(message).split())}", err=True)
    ctx.exit(status)


class _Lazy(click.Command):
    """Stands for a command that is imported when it is asked for, so that ``--help`` stays fast."""

    def __init__(self, name: str, place: str, help: str) -> None:
        super().__init__(name, help=help)
        self._place = place

    def load(self) -> click.Command:
        module, _, attribute = self._place.partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Main, epilog=EXIT_STATUS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Learned sparse search (SPLADE) in one SQLite file.

    \b
    Example:
      spladelite add kb.db notes/ && spladelite search kb.db "how do I shrink a file"
    """


for _command in (add, sync, search, list_documents, explain, expand, get, delete, stats, check, optimize, reencode):
    main.add_command(_command)
for _command in (create_index, backup, export, sql, feedback):
    main.add_command(_command)
main.add_command(_Lazy("mcp", "spladelite.cli.mcp:mcp", "Serve a database to agents by MCP."))
main.add_command(_Lazy("models", "spladelite.cli.models:models", "Look at, convert and compare models."))
main.add_command(_Lazy("eval", "spladelite.cli.evaluate:evaluate", "Measure search quality on judged queries."))
main.add_command(_Lazy("train", "spladelite.cli.train:train", "Fine-tune a model on pairs of texts."))
main.add_command(_Lazy("move", "spladelite.cli.transfer:move", "Copy a database to another engine, or back."))
main.add_command(_Lazy("verify", "spladelite.cli.transfer:verify", "Compare the answers of two collections."))
main.add_command(_Lazy("import", "spladelite.cli.imports:import_group", "Take over what another library has stored."))
main.add_command(_Lazy("adapt", "spladelite.cli.train:adapt_command", "Tune a database's model to its documents."))
main.add_command(_Lazy("serve", "spladelite.cli.serve:serve", "Explore a database in the browser."))

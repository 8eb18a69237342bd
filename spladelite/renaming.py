"""The last step of writing a file or a folder: it gets its name, and what had the name before is gone."""

from __future__ import annotations

import os
import sys
import time

from spladelite.errors import InvalidInput

# Windows refuses while anybody has a file open, also a virus scanner, which looks at each new file for a moment.
_PATIENCE = 2.0 if sys.platform == "win32" else 0.0  # seconds


def rename(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Give ``source`` the name ``target``, in one step. A file that has that name is replaced.

    Raises:
        InvalidInput: the system does not let us.
    """
    give_up = time.monotonic() + _PATIENCE
    while True:
        try:
            os.replace(source, target)
            return
        except PermissionError as error:
            if time.monotonic() >= give_up:
                raise InvalidInput(
                    f"{os.fspath(target)} cannot be replaced ({error.strerror}): is it, or a file in it, open in "
                    f"another program? Close it, or give another path"
                ) from error
        time.sleep(0.05)

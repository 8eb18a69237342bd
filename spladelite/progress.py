"""A progress bar for what takes over a second; silent when nobody looks at a terminal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import contextmanager
from typing import Any, Protocol

from spladelite.errors import WrongType

Progress = bool | Callable[[int, int | None], None] | None


@contextmanager
def ticking(progress: Progress, of: object, what: str) -> Iterator[Callable[..., object]]:
    """A function that is to be called with how many more are done, and how many passages were encoded for them.

    Args:
        progress: None shows a bar on a terminal, False shows none, True shows one anywhere; a callable gets
            ``(done, total)``, total None if it is not known.
        of: what is being worked through; its length, if it has one, is the total.
        what: the bar's label.
    """
    total = 1 if isinstance(of, str) else len(of) if isinstance(of, Sized) else None
    if progress is False:
        yield lambda *_: None
    elif callable(progress):
        done = 0

        def call(more: int, _: int = 0) -> None:
            nonlocal done
            done += more
            progress(done, total)

        yield call
    elif progress is not None and progress is not True:
        raise WrongType(f"progress is {progress!r}; give None, True, False, or a function of (done, total)")
    else:
        from tqdm import tqdm  # here, since only those who wait need it

        with tqdm(total=total, desc=what, disable=None if progress is None else False, delay=1, unit=" docs") as bar:
            passages, start, shown = 0, time.monotonic(), time.monotonic()

            def tick(more: int, encoded: int = 0) -> None:
                nonlocal passages, shown
                passages += encoded
                now = time.monotonic()
                if encoded:
                    rate = passages / max(now - start, 1e-3)
                    bar.set_postfix_str(f"{passages:,} passages, {rate:.0f}/s", refresh=False)
                if more:
                    bar.update(more)
                elif now - shown > 1:  # one long document: the bar stands still, and says that something happens
                    bar.refresh()
                    shown = now

            yield tick


class SizedFile(Protocol):
    """What :func:`ticking_files` needs to know of a file."""

    @property
    def name(self) -> str:
        """What the bar shows."""

    @property
    def size(self) -> int:
        """In bytes."""


@contextmanager
def ticking_files(progress: Progress, files: Sequence[SizedFile]) -> Iterator[Callable[[Any, int], object]]:
    """A function that is to be called with a file and how many more of its bytes are done.

    The bar shows bytes of all bytes, files of all files, the file, and the time left; it moves twice a second also
    while one batch is encoded. A callable gets ``(bytes done, bytes)``.
    """
    total = sum(file.size for file in files)
    if progress is False:
        yield lambda *_: None
    elif callable(progress):
        done = 0

        def call(_: SizedFile, more: int) -> None:
            nonlocal done
            done += more
            progress(done, total)

        yield call
    elif progress is not None and progress is not True:
        raise WrongType(f"progress is {progress!r}; give None, True, False, or a function of (bytes done, bytes)")
    else:
        from tqdm import tqdm  # here, since only those who wait need it

        disable = None if progress is None else False
        with tqdm(total=total, disable=disable, delay=0.4, unit="B", unit_scale=True, dynamic_ncols=True) as bar:
            finished: set[int] = set()
            ended = threading.Event()

            def keep_moving() -> None:
                while not ended.wait(0.4):
                    bar.refresh()

            def tick(file: SizedFile, more: int) -> None:
                if more:
                    finished.add(id(file))
                bar.set_description_str(f"{len(finished):,}/{len(files):,} files", refresh=False)
                bar.set_postfix_str(file.name[-40:], refresh=False)
                bar.update(more)

            mover = threading.Thread(target=keep_moving, daemon=True)
            if not bar.disable:
                mover.start()
            try:
                yield tick
            finally:
                ended.set()
                if mover.is_alive():
                    mover.join()

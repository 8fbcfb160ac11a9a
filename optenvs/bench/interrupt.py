"""Ctrl+C ends a benchmark at once: every file is whole at any moment, so nothing needs to be cleaned up."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

from optenvs.program import INTERRUPTED


@contextlib.contextmanager
def ends_at_once(farewell: str, before: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Inside of the block an interrupt ends this process: says a line, exits with code 130.

    Python's own way is an exception at whatever line the main thread is, which may be a destructor that drops
    it, a library that waits for its processes, or the handler of the interrupt before. And the main thread
    hears of it only when it comes back from a long operation. Here a thread hears of it, by the signal's file
    descriptor. It works where a shell has started this process with interrupts ignored, too.

    Args:
        farewell: the line.
        before: called first, in the thread: to end what would go on otherwise.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard, said = os.pipe()
    os.set_blocking(said, False)
    told = signal.set_wakeup_fd(said, warn_on_full_buffer=False)
    handler = signal.signal(signal.SIGINT, lambda number, frame: None)
    listener = threading.Thread(target=_listen, args=(heard, farewell, before), daemon=True)
    listener.start()
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(told)
        os.close(said)
        listener.join()
        os.close(heard)


def _listen(heard: int, farewell: str, before: Callable[[], None]) -> None:
    while signals := os.read(heard, 64):
        if signal.SIGINT in signals:
            try:
                before()
                with contextlib.suppress(OSError):  # the terminal may be gone
                    os.write(2, f"{'' if _new_line() else chr(10)}{farewell}\n".encode())
            finally:
                os._exit(INTERRUPTED)


def _new_line() -> bool:
    """Whether standard error is surely at the start of a line: it is no terminal with a bar of progress."""
    return not (sys.__stderr__ is not None and sys.__stderr__.isatty())

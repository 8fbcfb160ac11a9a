"""Ctrl+C ends the program ``optenvs`` in silence, with exit code 130, from its first line on.

Importing what a command needs takes seconds, in which Python would answer with the traceback of whatever was
just being imported. ``import optenvs`` looks here first, and changes nothing in any other process.
"""

from __future__ import annotations

import os
import signal
import sys

INTERRUPTED = 130  # the exit code, as shells have it


def is_program() -> bool:
    """Whether this process is the installed script ``optenvs``, or ``python -m optenvs`` on its way there."""
    name = os.path.basename(sys.argv[0]) if sys.argv else ""
    if name == "-m":  # Python's own mark, while it looks for the module
        return not {"optenvs", "-moptenvs"}.isdisjoint(sys.orig_argv)
    return name.removesuffix(".exe") == "optenvs"


def end_in_silence() -> None:
    """From now on an interrupt ends this process, unless somebody has said already what it is to do."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def raise_again() -> None:
    """From now on an interrupt is an exception, as Python has it."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: object) -> None:
    os._exit(INTERRUPTED)


if is_program():
    end_in_silence()

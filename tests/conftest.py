"""One thread, and the shapes in annotations checked at run time."""

from __future__ import annotations

import gc
import signal
import threading

import torch
import typechecking

torch.set_num_threads(1)
typechecking.install("optenvs")

# what is tested starts programs that are interrupted; a shell's background job has interrupts ignored
ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
if ignored and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Leave the million objects of what is imported out of every later search for cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(7_000, 10, 50)

"""One thread, and the shapes in annotations checked at run time."""

from __future__ import annotations

import gc
import signal
import threading

import pytest
import standin  # noqa: F401  # names its device before any module of tests differentiates
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


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--ci``: the dearest checks too, which ``.ci/run`` makes."""
    parser.addoption("--ci", action="store_true", help="run also what is marked ci")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked ``ci``, which the summary counts as deselected; a test that is named runs."""
    named = any("::" in argument for argument in config.args)
    if config.getoption("--ci") or named or config.getoption("-m"):
        return
    dear = [item for item in items if item.get_closest_marker("ci")]
    config.hook.pytest_deselected(items=dear)
    items[:] = [item for item in items if not item.get_closest_marker("ci")]

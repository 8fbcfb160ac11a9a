"""How far a benchmark has come, told on terminals that have a width and on those that have none."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import sys
import termios
import threading
import time

import pytest

from optenvs.bench import progress
from optenvs.bench.progress import Progress


class Screen:
    """A terminal of ``columns`` as standard error; what is written is read at once, so that nobody waits."""

    def __init__(self, columns: int) -> None:
        self._reader, writer = pty.openpty()
        size = struct.pack("HHHH", 24 if columns else 0, columns, 0, 0)
        fcntl.ioctl(writer, termios.TIOCSWINSZ, size)
        self.stream, self._shown = os.fdopen(writer, "w", buffering=1), bytearray()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            while part := os.read(self._reader, 4096):
                self._shown += part
        except OSError:  # the terminal is closed
            pass

    def text(self) -> str:
        """All that was written; the terminal is closed."""
        self.stream.close()
        self._thread.join(timeout=10)
        return self._shown.decode()


@pytest.mark.parametrize(("columns", "bar"), [(0, False), (80, True)])
def test_a_terminal_without_a_width_gets_lines(
    columns: int, bar: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Screen(columns)
    monkeypatch.setattr(sys, "stderr", screen.stream)
    monkeypatch.setattr(progress, "EVERY", 0.0)
    monkeypatch.setattr(progress, "_TICK", 0.01)
    with Progress(total=4, shown=True) as counted:
        counted.begin("adam on Rosenbrock")
        counted.advance(1)
        time.sleep(0.2)  # some ticks
        counted.advance(3)
        counted.say("done")
    shown = screen.text()
    assert ("1 of 4 runs in" in shown) is not bar
    assert ("4 of 4 runs in" in shown) is not bar
    assert ("4/4" in shown) is bar
    assert "adam on Rosenbrock" in shown
    assert "done" in shown


@pytest.mark.parametrize("columns", [0, 80])
def test_it_is_silent_where_it_is_not_shown(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(columns)
    monkeypatch.setattr(sys, "stderr", screen.stream)
    with Progress(total=1, shown=False) as counted:
        counted.begin("adam")
        counted.advance(1)
        counted.say("done")
    assert screen.text() == ""

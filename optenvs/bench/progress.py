"""How far a benchmark has come: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any

from tqdm import tqdm

EVERY = 30.0
"""Seconds between two lines where there is no bar."""
_TICK = 1.0


class Progress:
    """Counts runs, and shows it on standard error while its ``with`` block lasts.

    Args:
        total: of the runs.
        shown: whether to show anything.
    """

    def __init__(self, total: int, shown: bool) -> None:
        tqdm.set_lock(threading.RLock())  # its own default is a semaphore of the system's
        self.total, self.count, self.stage = total, 0, ""
        self._shown, self._begun, self._said = shown, time.monotonic(), time.monotonic()
        bar = shown and _width() > 0
        self._bar: Any = tqdm(total=total, unit="run", smoothing=0.05) if bar else None
        self._over = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def begin(self, stage: str) -> None:
        """From now on it is about this."""
        self.stage = stage
        if self._bar is not None:
            self._bar.set_description(stage)

    def advance(self, count: int, found: bool = False) -> None:
        """So many runs are done, or were ``found``: the forecast is about work."""
        if found:
            self.total -= count
        else:
            self.count += count
        if self._bar is not None:
            self._bar.total, self._bar.n = self.total, self.count
            self._bar.refresh()
        elif self._shown and not found and self.count == self.total:
            self._line()

    def say(self, line: str) -> None:
        """A line that stays."""
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        elif self._shown:
            print(line, file=sys.stderr, flush=True)

    def _tick(self) -> None:
        while not self._over.wait(_TICK):
            if self._bar is not None:
                self._bar.refresh()
            elif self._shown and time.monotonic() - self._said > EVERY:
                self._line()

    def _line(self) -> None:
        self._said = time.monotonic()
        spent = self._said - self._begun
        left = f", about {_clock(spent / self.count * (self.total - self.count))} left" if self.count else ""
        self.say(f"{self.stage}: {self.count} of {self.total} runs in {_clock(spent)}{left}")

    def __enter__(self) -> Progress:
        self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._ticker.join()
        if self._bar is not None:
            self._bar.leave = self.count > 0
            self._bar.close()


def _width() -> int:
    """Columns of the terminal on standard error; 0 where it is none, or one that does not know."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns if sys.stderr.isatty() else 0
    except (OSError, ValueError, AttributeError):
        return 0


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min"

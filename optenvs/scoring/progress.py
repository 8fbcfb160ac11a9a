"""A line on standard error that says how far a computation has come, where that is a terminal."""

from __future__ import annotations

import sys
import time
from typing import Any

_EVERY = 0.2  # seconds between two looks at the clock's hand


class Bar:
    """Counts steps, and shows them while its ``with`` block lasts.

    Args:
        title: what is counted.
        total: the steps.
        shown: whether to show anything; a file or a pipe never is told.
    """

    def __init__(self, title: str, total: int, shown: bool = True) -> None:
        self.title, self.total, self.count = title, total, 0
        self._begun = self._said = time.monotonic()
        self._shown = shown and sys.stderr is not None and sys.stderr.isatty()

    def step(self, number: int, state: Any) -> None:
        """One more; as ``on_step`` of :func:`optenvs.rollout`."""
        self.count += 1
        now = time.monotonic()
        if self._shown and now - self._said > _EVERY:
            self._said = now
            share = self.count / self.total
            filled = "#" * round(30 * share)
            left = (now - self._begun) * (1 / share - 1)
            line = f"\r{self.title} [{filled:30}] {share:4.0%}, about {left:.0f} s left "
            print(line, end="", file=sys.stderr, flush=True)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown and self._said > self._begun:
            print(f"\r{' ' * (len(self.title) + 65)}\r", end="", file=sys.stderr, flush=True)

"""How many threads a step is worth: small steps run on one, large ones on all that the user allows.

torch splits some operations of a few thousand numbers among its threads (a square root from 2,048 on). On a
machine that has other work they then wait for a core that is not theirs, far longer than the operation takes.
What a step holds is known before it runs, so that nothing is looked at: see :attr:`OptimizationEnv.numbers`.
``examples/benchmarks/threads.py`` measures the rule.

What is set is put back, after errors, too; within another's it stays as it is. More threads than
``torch.set_num_threads`` or ``OMP_NUM_THREADS`` allow are never used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch

if TYPE_CHECKING:
    from .env import OptimizationEnv

SMALL = 1 << 16
"""Numbers in the largest tensor of a step up to which one thread takes it."""


class Threads:
    """A context in which steps of ``batch`` instances of ``env`` run on one thread, where they are small.

    Rollouts and faces enter it by themselves. For a backward pass through an unrolled episode, enter it
    around both. To enter and to leave costs less than a microsecond.

    Example:
        >>> with Threads(env, batch):                                      # doctest: +SKIP
        ...     unroll(env, agent, batch=batch, steps=20).merit.mean().backward()
    """

    __slots__ = ("_before", "_small")

    def __init__(self, env: OptimizationEnv, batch: int) -> None:
        self._small = env.numbers * batch <= SMALL
        self._before = 1

    def __enter__(self) -> Self:
        if self._small:
            self._before = torch.get_num_threads()
            if self._before > 1:
                torch.set_num_threads(1)
        return self

    def __exit__(self, *_: object) -> None:
        # another number than the one set here is the user's, who asked for it meanwhile
        if self._before > 1 and torch.get_num_threads() == 1:
            torch.set_num_threads(self._before)

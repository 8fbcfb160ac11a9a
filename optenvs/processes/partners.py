"""Who exchanges with whom, by the clock: free neighbours are paired in the order in which they ask."""

from __future__ import annotations

from queue import Queue
from typing import Any

import torch
from torch import Tensor

from optenvs.core.random import Keys, uniform

from .watch import Watch
from .wire import CONTROL, REPLY, Wire

FREE, COUNT = 0, 1
GO, STOP = -1, -2
_SIGNAL = torch.zeros(2, dtype=torch.int64)
_ANSWER = torch.zeros(1, dtype=torch.int64)


class Desk:
    """A node's line to the coordinator: it asks, and waits for the answer.

    A node says that it is free for an exchange, or that it has computed a gradient; the number of its
    gradients travels with both. The answer is the partner's number, ``GO`` or ``STOP``.
    """

    def __init__(self, wire: Wire, watch: Watch, own: Queue[Any], reply: Queue[Tensor]) -> None:
        self._wire, self._watch, self._own = wire, watch, own
        self._reply = reply if wire.rank == 0 else wire.listen(0, REPLY, _ANSWER)

    def ask(self, what: int, gradients: int) -> int:
        """One signal, one answer."""
        signal = torch.tensor([what, gradients])
        if self._wire.rank == 0:
            self._own.put((0, signal))
        else:
            self._wire.send(0, CONTROL, signal)
        return int(self._watch.wait(self._reply))


class Coordinator:
    """Pairs the nodes, and ends the run; a thread of node 0.

    Args:
        wire, watch: of node 0.
        rates: for each node the rate of its edge to each neighbour: of several that are free, a partner is
            drawn in proportion.
        target: gradients of all nodes together, after which nobody begins another.
        key: of the draws.
    """

    def __init__(
        self, wire: Wire, watch: Watch, rates: list[dict[int, float]], target: int, key: Keys
    ) -> None:
        self._wire, self._watch = wire, watch
        self._rates, self._target, self._key = rates, target, key
        self._drawn = 0
        self.inbox: Queue[Any] = Queue()
        self.own_reply: Queue[Tensor] = Queue()

    def run(self) -> None:
        """Answer until all nodes have been told to stop."""
        for other in range(1, self._wire.size):
            self._wire.listen(other, CONTROL, _SIGNAL, into=self.inbox)
        counts, waiting, stopped = [0] * self._wire.size, [], set()
        while len(stopped) < self._wire.size:
            rank, signal = self._watch.wait(self.inbox)
            what, counts[rank] = signal.tolist()
            over = sum(counts) >= self._target
            if what == FREE:
                waiting.append(rank)
            else:
                self._answer(rank, STOP if over else GO)
                stopped |= {rank} if over else set()
            if over:
                for node in waiting:
                    self._answer(node, STOP)
                stopped |= set(waiting)
                waiting = []
            while pair := self._pair(waiting):
                for node, partner in (pair, pair[::-1]):
                    waiting.remove(node)
                    self._answer(node, partner)

    def _pair(self, waiting: list[int]) -> tuple[int, int] | None:
        for node in waiting:
            free = {other: rate for other, rate in self._rates[node].items() if other in waiting}
            if free:
                self._drawn += 1
                place = float(uniform(self._key, "partner", 1, counter=self._drawn)) * sum(free.values())
                for other, rate in free.items():
                    place -= rate
                    if place < 0:
                        return node, other
                return node, max(free)
        return None

    def _answer(self, rank: int, what: int) -> None:
        answer = torch.tensor([what])
        if rank == 0:
            self.own_reply.put(answer)
        else:
            self._wire.send(rank, REPLY, answer)

"""Who exchanges with whom, by the clock: free neighbours are paired in the order in which they ask."""

from __future__ import annotations

from queue import Queue
from typing import Any

import torch
from torch import Tensor

from optenvs.core.random import Keys, uniform

from .watch import Watch
from .wire import CONTROL, REPLY, Wire

FREE, NEXT = 0, 1
GO, STOP = -1, -2
_SIGNAL = torch.zeros(2, dtype=torch.int64)
_ANSWER = torch.zeros(1, dtype=torch.int64)


class Desk:
    """A node's line to the coordinator: it asks, and waits for the answer.

    A node says that it is free for an exchange, or that it would compute the next gradient; the number of
    its gradients travels with both. The answer is a partner's number, ``GO`` or ``STOP``.
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
    """Pairs the nodes, keeps them together, and ends the run; a thread of node 0.

    Args:
        wire, watch: of node 0.
        rates: for each node the rate of its edge to each neighbour: of several that are free, a partner is
            drawn in proportion.
        target: gradients of all nodes together, after which nobody begins another.
        lead: a node that has computed so many gradients more than the slowest waits before the next one, and
            exchanges meanwhile with those who find nobody else; ``None`` for no limit.
        key: of the draws.
    """

    def __init__(
        self,
        wire: Wire,
        watch: Watch,
        rates: list[dict[int, float]],
        target: int,
        lead: int | None,
        key: Keys,
    ) -> None:
        self._wire, self._watch = wire, watch
        self._rates, self._target, self._lead, self._key = rates, target, lead, key
        self._counts = [0] * wire.size
        self._free: list[int] = []
        self._ahead: list[int] = []
        self._drawn = 0
        self.inbox: Queue[Any] = Queue()
        self.own_reply: Queue[Tensor] = Queue()

    def run(self) -> None:
        """Answer until all nodes have been told to stop."""
        for other in range(1, self._wire.size):
            self._wire.listen(other, CONTROL, _SIGNAL, into=self.inbox)
        stopped = 0
        while stopped < self._wire.size:
            rank, signal = self._watch.wait(self.inbox)
            what, self._counts[rank] = signal.tolist()
            (self._free if what == FREE else self._ahead).append(rank)
            if sum(self._counts) >= self._target:
                for node in (*self._free, *self._ahead):
                    self._answer(node, STOP)
                    stopped += 1
                continue
            for node in [node for node in self._ahead if self._may_go_on(node)]:
                self._answer(node, GO)
            while pair := self._pair():
                for node, partner in (pair, pair[::-1]):
                    self._answer(node, partner)

    def _may_go_on(self, node: int) -> bool:
        return self._lead is None or self._counts[node] < min(self._counts) + self._lead

    def _pair(self) -> tuple[int, int] | None:
        for node in self._free:
            near = self._rates[node].items()
            able = {other: rate for other, rate in near if other in self._free}
            able = able or {other: rate for other, rate in near if other in self._ahead}
            if able:
                self._drawn += 1
                place = float(uniform(self._key, "partner", 1, counter=self._drawn)) * sum(able.values())
                for other, rate in able.items():
                    place -= rate
                    if place < 0:
                        return node, other
                return node, max(able)
        return None

    def _answer(self, rank: int, what: int) -> None:
        for those in (self._free, self._ahead):
            if rank in those:
                those.remove(rank)
        answer = torch.tensor([what])
        if rank == 0:
            self.own_reply.put(answer)
        else:
            self._wire.send(rank, REPLY, answer)

"""By the clock: a thread that computes and one that communicates, apart, under a lock on the node's state.

A node's unit of time is the running average, with factor 0.5, of the time from one of its gradients to the
next; so a node computes once in a unit on average, as the methods assume. What the agent is told of elapsed
time is measured in that unit. Between two gradients a node has a Poisson number of exchanges, whose mean is
the sum of the rates of its edges; with whom is found out by :mod:`.partners`. Nodes start from the mean of
their starting points. The methods assume nodes that compute equally often: one that is far ahead of the
slowest waits, and exchanges with those who find nobody else, beyond its own number.

The rates of convergence that are proven for Poisson clocks hold approximately here: a gradient belongs to the
point at which it was asked, and exchanges move the node while it is computed.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from queue import Queue
from typing import Any

import torch
from torch import Tensor

from optenvs.core.nodes import Event, Kind
from optenvs.core.random import Keys, fold_in, uniform
from optenvs.core.rollout import agent_keys

from .partners import FREE, NEXT, STOP, Coordinator, Desk
from .record import Seat
from .replay import swap
from .watch import Over, Watch
from .wire import MESSAGE, Wire

_COMMUNICATES = "communication"


def poisson(keys: Keys, mean: float, counter: int) -> int:
    """A Poisson number: arrivals at rate ``mean`` in a unit of time."""
    if mean == 0:
        return 0
    most = int(mean + 10 * mean**0.5 + 40)
    waiting = -torch.log1p(-uniform(keys, "exchanges", most, counter=counter, dtype=torch.float64)) / mean
    return int((waiting.cumsum(-1) < 1).sum())


class Clockwork:
    """One node by the clock.

    Args:
        seat: the node.
        wire, watch: its connections.
        rates: for each node, those of its edges.
        target: gradients of all nodes together.
        lead: how many gradients a node may be ahead of the slowest.
    """

    def __init__(
        self,
        seat: Seat,
        wire: Wire,
        watch: Watch,
        rates: list[dict[int, float]],
        target: int,
        lead: int | None,
    ) -> None:
        self._seat, self._wire, self._watch = seat, wire, watch
        node = seat.node
        self._key = fold_in(node.key, node.index)
        self._coordinator = (
            Coordinator(wire, watch, rates, target, lead, node.key) if wire.rank == 0 else None
        )
        queues = (
            (self._coordinator.inbox, self._coordinator.own_reply)
            if self._coordinator
            else (Queue(), Queue())
        )
        self._desk = Desk(wire, watch, *queues)
        like = torch.empty(node.start.shape[-1] * node.channels, dtype=node.start.dtype)
        self._heard = {peer: wire.listen(peer, MESSAGE, like) for peer in node.rates}
        self._lock = threading.Lock()
        self._orders: Queue[int] = Queue()
        self._finished: Queue[bool] = Queue()
        self._unit: float | None = None
        self._last = 0.0
        self._point = node.start

    def run(self) -> None:
        """Until the coordinator ends the run."""
        self._begin()
        threads = [threading.Thread(target=self._guarded, args=(self._communicate,), daemon=True)]
        if self._coordinator is not None:
            threads.append(threading.Thread(target=self._guarded, args=(self._coordinator.run,), daemon=True))
        for thread in threads:
            thread.start()
        rate, stop = sum(self._seat.node.rates.values()), False
        while not stop:
            begun = time.monotonic()
            self._orders.put(poisson(self._key, rate, self._seat.gradients))
            self._compute()
            self._watch.doing("waiting", "waiting for its exchanges")
            stop = self._watch.wait(self._finished)
            while not stop:
                self._watch.doing("waiting", "waiting for leave to go on")
                answer = self._desk.ask(NEXT, self._seat.gradients)
                if answer < 0:
                    stop = answer == STOP
                    break
                self._exchange(answer, "")
            taken = time.monotonic() - begun
            self._unit = taken if self._unit is None else 0.5 * (self._unit + taken)
        self._orders.put(-1)
        for thread in threads:
            while thread.is_alive():
                self._watch.check()
                thread.join(0.05)
        self._act(self._event("report"), self._elapsed())
        self._seat.log()

    def _begin(self) -> None:
        seat, node = self._seat, self._seat.node
        self._watch.doing("waiting", "waiting for the mean of the starting points")
        seat.iterate = self._point = self._wire.mean(node.start)
        observation = node.observation(self._point, None, 0.0)
        seat.state = seat.agent.init(node.problem, observation, fold_in(agent_keys(node.key), node.index))
        seat.began = self._last = time.monotonic()
        seat.log()

    def _guarded(self, task: Any) -> None:
        """Run in a thread; what goes wrong there is this node's failure."""
        with suppress(Over):
            try:
                task()
            except Exception as error:  # noqa: BLE001, whatever it is, the main thread must hear of it
                rank = self._wire.rank
                self._watch.fail(rank, f"node {rank} failed: {type(error).__name__}: {error}")

    def _elapsed(self) -> float:
        """Units of time since this was asked last; none before the first unit is known."""
        now = time.monotonic()
        elapsed = 0.0 if self._unit is None else (now - self._last) / self._unit
        self._last = now
        self._seat.time += elapsed
        return elapsed

    def _event(self, kind: Kind, peer: int | None = None) -> Event:
        return Event(kind, self._wire.rank if peer is None else peer, self._seat.time)

    def _act(self, asked: Event | None, elapsed: float, *answer: Any) -> dict[str, Tensor]:
        """One turn of the agent, under the lock: an answer, then the flow of time, then what is asked."""
        observation = self._seat.node.observation(self._point, asked, elapsed, *answer)
        action, self._seat.state = self._seat.agent.act(self._seat.state, observation)
        self._seat.iterate = action["recommendation"]
        return action

    def _compute(self) -> None:
        seat, watch = self._seat, self._watch
        with self._lock:
            elapsed = self._elapsed()
            asked = self._event("gradient")
            point = self._act(asked, elapsed)["query"]
        watch.doing("gradient", f"computing its gradient {seat.gradients + 1}")
        gradient = seat.node.gradient(point, seat.gradients)
        watch.doing("work", f"using its gradient {seat.gradients + 1}")
        with self._lock:
            self._act(None, self._elapsed())
            self._point = point
            self._act(self._event("report"), 0.0, asked, gradient)
            seat.gradients += 1
            seat.log()

    def _communicate(self) -> None:
        while (due := self._watch.wait(self._orders)) >= 0:
            stop = False
            for _ in range(due):
                self._watch.doing("waiting", "waiting for a free neighbour", _COMMUNICATES)
                partner = self._desk.ask(FREE, self._seat.gradients)
                if partner == STOP:
                    stop = True
                    break
                self._exchange(partner, _COMMUNICATES)
            self._watch.doing("waiting", "waiting for the next gradient to begin", _COMMUNICATES)
            self._finished.put(stop)

    def _exchange(self, partner: int, thread: str) -> None:
        """Swap messages with a partner; the lock stays closed, so that both ends use the same two."""
        seat = self._seat
        with self._lock:
            elapsed = self._elapsed()
            asked = self._event("message", partner)
            said = self._act(asked, elapsed)["message"]
            what = f"exchange {seat.exchanges + 1}"
            heard = swap(self._wire, self._watch, partner, said, self._heard[partner], what, thread)
            self._act(None, 0.0, asked, heard)
            seat.exchanges += 1

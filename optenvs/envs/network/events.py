"""Random clocks: which node computes, which edge exchanges, and when (Nabli and Oyallon 2023, section 3).

All events of an episode are drawn by ``reset``. Each node has its own list of those that touch it, in order
of time, and a place in it. An event is *ready* when it is the next of every node that it touches: events that
are ready at once touch different nodes, so they commute, and a *wave* of all of them gives exactly what their
sequential order gives. The waves are found on the fly, from the places alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.random import Keys, integers, uniform
from optenvs.core.struct import struct

from .graphs import Graph
from .rates import EdgeRates

IDLE, GRADIENT, EXCHANGE, REPORT = range(4)
"""What is asked of a node: nothing, a gradient's query, a message, or its iterate at a common time."""
CLOCKS = ("poisson", "edges")
_LAST = (1 << 40) - 1  # in the place of an event's number, past every real one


def given_events(
    events: Sequence[Sequence[float]], graphs: tuple[Graph, ...], clock: str
) -> Float[np.ndarray, "E 3"]:
    """Times and ends of a user's list of events, see :class:`optenvs.envs.network.base.Network`.

    Raises:
        ValueError: what is no event of these graphs, or comes before the one before it.
    """
    edges = {edge for graph in graphs for edge in graph.edges}
    nodes, rows, last = graphs[0].nodes, [], 0.0
    for place, event in enumerate(events):
        known = len(event) in (2, 3) and all(node in range(nodes) for node in event[1:])
        if not known or (len(event) == 2 and clock == "edges"):
            form = "(time, i, j)" if clock == "edges" else "(time, i) or (time, i, j)"
            raise ValueError(f"events: expected {form} with nodes 0 to {nodes - 1}, got {event!r} at {place}")
        time, first, second = float(event[0]), int(event[1]), int(event[-1])
        if len(event) == 3 and (min(first, second), max(first, second)) not in edges:
            raise ValueError(f"events: expected neighbours, got {event!r} at {place}")
        if not last <= time < math.inf:
            raise ValueError(f"events: expected times >= 0 in order, got {time} after {last} at {place}")
        rows.append((time, first, second))
        last = time
    if not rows:
        raise ValueError("events: expected at least one")
    return np.array(rows, dtype=np.float64)


@struct
class Agenda:
    """Who does what, node by node: what is drawn once an episode, ``Q`` entries in order of (node, time).

    Attributes:
        entry: number of the event, the other end (the node itself where there is none), kind, time: float64
            ``(B, Q, 4)``, so that one gather fetches all.
        first: where the entries of each node begin, ``(B, N)``.
    """

    entry: Float[Tensor, "B Q 4"]
    first: Int64[Tensor, "B N"]


@struct
class Wave:
    """The events of all nodes that are ready together, ``(B, N)`` each.

    Attributes:
        kind: ``IDLE``, ``GRADIENT``, ``EXCHANGE`` or ``REPORT``.
        peer: the other end of an exchange, else the node itself.
        time: of the event; of the node's last one where it is idle.
        elapsed: since the node's event before this one; 0 where it is idle.
    """

    kind: Int64[Tensor, "B N"]
    peer: Int64[Tensor, "B N"]
    time: Float[Tensor, "B N"]
    elapsed: Float[Tensor, "B N"]


@struct
class Places:
    """How far each node has come: the number of its events behind it, and the time of the last."""

    behind: Int64[Tensor, "B N"]
    time: Float[Tensor, "B N"]

    @classmethod
    def beginning(cls, batch: int, nodes: int, device: torch.device) -> Places:
        """Before the first event."""
        zero = torch.zeros(batch, nodes, dtype=torch.int64, device=device)
        return cls(behind=zero, time=zero.double())


@dataclass(frozen=True, eq=False)
class Clocks:
    """The clocks of a network.

    Args:
        nodes: the number N of nodes.
        rates: the rates of the edges.
        t_max: the last time.
        reports: the times of the reports, increasing; the last one is ``t_max``.
        clock: ``poisson``: each node computes at rate 1, each edge exchanges at its rate; ``edges``: only the
            edges have clocks, and both ends compute just before they exchange.
        sequential: one event a wave, the earliest, in place of all that are ready.
        given: time and both ends of all firings, in place of random ones; of a gradient they are the same.
    """

    nodes: int
    rates: EdgeRates
    t_max: float
    reports: tuple[float, ...]
    clock: str = "poisson"
    sequential: bool = False
    given: Float[np.ndarray, "E 3"] | None = None

    @property
    def speed(self) -> float:
        """Firings of all clocks in a unit of time."""
        return self.rates.total + (self.nodes if self.clock == "poisson" else 0)

    @property
    def capacity(self) -> int:
        """Firings drawn for an episode: the mean, and as much more as is missed once in 1e15 episodes."""
        if self.given is not None:
            return len(self.given)
        mean = self.speed * self.t_max
        return math.ceil(mean + 8 * math.sqrt(mean) + 32)

    @property
    def longest(self) -> int:
        """More waves than this no episode has."""
        return self.capacity * (1 if self.clock == "poisson" else 3) + len(self.reports)

    def draw(self, keys: Keys) -> Agenda:
        """The events of one episode a key."""
        count, device = self.capacity, keys.device
        time, first, second = self._firings(keys)
        computes = first == second
        reports = torch.tensor(self.reports, dtype=torch.float64, device=device)
        # an event's number is its rank in time; a firing of an edge clock is three of them
        rank = torch.arange(count, device=device) + torch.searchsorted(reports, time, right=False)
        late = time > self.t_max
        gradient = torch.full_like(first, GRADIENT)
        exchange = torch.full_like(first, EXCHANGE)
        if self.clock == "poisson":
            kind = torch.where(computes, gradient, exchange)
            rows = [
                (first, 3 * rank, second, kind, time, late),
                (second, 3 * rank, first, kind, time, late | computes),
            ]
        else:
            rows = [
                (first, 3 * rank, first, gradient, time, late),
                (second, 3 * rank + 1, second, gradient, time, late),
                (first, 3 * rank + 2, second, exchange, time, late),
                (second, 3 * rank + 2, first, exchange, time, late),
            ]
        return self._sorted(rows, time, reports)

    def _firings(self, keys: Keys) -> tuple[Tensor, Tensor, Tensor]:
        """Time and both ends of each firing, ``(B, E)`` each; a node that computes is both ends."""
        if self.given is not None:
            time, first, second = (
                torch.from_numpy(self.given).to(keys.device).expand(len(keys), -1, -1).unbind(-1)
            )
            return time.contiguous(), first.long(), second.long()
        waiting = (
            -torch.log1p(-uniform(keys, "waiting times", self.capacity, dtype=torch.float64)) / self.speed
        )
        time = waiting.cumsum(-1)
        first, second = self._edges(keys, time)
        if self.clock == "poisson":
            chance = uniform(keys, "kinds", self.capacity, dtype=torch.float64)
            computes = chance * self.speed < self.nodes
            node = integers(keys, "nodes", self.capacity, self.nodes)
            first = torch.where(computes, node, first)
            second = torch.where(computes, node, second)
        return time, first, second

    def _edges(self, keys: Keys, time: Tensor) -> tuple[Tensor, Tensor]:
        """The ends of the edge that each firing would activate, ``(B, E)`` each."""
        edges, chances = self.rates.table
        if not chances.any():  # a single node has no edge
            nobody = torch.zeros_like(time, dtype=torch.int64)
            return nobody, nobody
        sums = chances.cumsum(-1)
        sums = np.minimum(sums / sums[:, -1:], 1.0) + np.arange(len(sums))[:, None]
        device = time.device
        graph = torch.zeros_like(time, dtype=torch.int64)
        if len(sums) > 1:
            graph = (time * self.rates.switch_rate).floor().long() % len(sums)
        # the graphs' distributions, end to end, are one increasing function
        steps = torch.from_numpy(sums.ravel()).to(device)
        drawn = uniform(keys, "edges", time.shape[-1], dtype=torch.float64) + graph
        place = torch.searchsorted(steps, drawn, right=True).clamp_(max=len(steps) - 1)
        ends = torch.from_numpy(edges.reshape(-1, 2)).to(device)[place]
        return ends[..., 0], ends[..., 1]

    def _sorted(self, rows: list[tuple[Tensor, ...]], time: Tensor, reports: Tensor) -> Agenda:
        batch, device, nodes = len(time), time.device, self.nodes
        node = torch.cat([torch.where(late, nodes, who) for who, _, _, _, _, late in rows], -1)
        columns = [torch.cat([row[i].expand_as(time).double() for row in rows], -1) for i in (1, 2, 3, 4)]
        # every node takes part in every report, and ends with an entry that never is ready
        everyone = torch.arange(nodes, device=device)
        before = torch.searchsorted(time, reports.repeat(batch, 1), right=True)
        number = 3 * (before + torch.arange(len(reports), device=device))
        number = torch.cat((number, torch.full_like(number[:, :1], _LAST)), -1)
        shape = (batch, nodes, number.shape[-1])
        when = torch.cat((reports, reports[-1:]))
        what = torch.full_like(when, REPORT)
        what[-1] = IDLE
        extra = [number.unsqueeze(1), everyone.unsqueeze(-1), what, when]
        node = torch.cat((node, everyone.unsqueeze(-1).expand(shape).flatten(1)), -1)
        columns = [
            torch.cat((column, more.double().expand(shape).flatten(1)), -1)
            for column, more in zip(columns, extra, strict=True)
        ]
        order = (node * (_LAST + 1) + columns[0].long()).argsort(-1)  # by node, then by number
        entry = torch.stack([column.gather(-1, order) for column in columns], -1)
        first = torch.searchsorted(node.gather(-1, order), everyone.expand(batch, -1).contiguous())
        return Agenda(entry=entry, first=first)

    def wave(self, agenda: Agenda, places: Places) -> tuple[Wave, Places]:
        """The events that are ready, and the places behind them."""
        index = (agenda.first + places.behind).unsqueeze(-1).expand(-1, -1, 4)
        number, other, what, next_time = agenda.entry.gather(1, index).unbind(-1)
        peer = other.long()
        earliest = number == number.amin(-1, keepdim=True)
        if self.sequential:
            ready = earliest
        else:
            # a report is ready when no node has anything before it: it is the earliest of all
            ready = (number.gather(1, peer) == number) & ((what < REPORT) | earliest)
        kind = (what * ready).long()
        alone = torch.arange(self.nodes, device=peer.device)
        time = torch.where(ready, next_time, places.time)
        wave = Wave(kind=kind, peer=torch.where(ready, peer, alone), time=time, elapsed=time - places.time)
        # the last entry of a node is ready for ever: it is idle, and stays in its place
        return wave, Places(behind=places.behind + (kind > 0), time=time)

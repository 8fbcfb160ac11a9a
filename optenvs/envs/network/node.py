"""One node of an asynchronous network, for a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from optenvs.core.nodes import Event, Kind, Node
from optenvs.core.random import Keys, fold_in

from .events import EXCHANGE, GRADIENT, REPORT
from .rates import EdgeRates
from .traffic import Events

_KINDS: dict[int, Kind] = {GRADIENT: "gradient", EXCHANGE: "message", REPORT: "report"}
_NUMBERS = {kind: number for number, kind in _KINDS.items()}


@dataclass(frozen=True, eq=False)
class NetworkNode(Node):
    """What one node has: its function's data, its place, its events. No tensor of another node is kept.

    Attributes:
        ask: the oracle: of data, a point, and the key of this gradient.
        agenda: number, other end, kind and time of each of its events, ``(Q, 4)``.
        data: its function's, with one node in the dimension of the nodes.
    """

    ask: Callable[[Any, Tensor, Tensor], Tensor]
    index: int
    key: Keys
    problem: Any
    start: Tensor
    channels: int
    rates: dict[int, float]
    bills: tuple[str, str]
    data: Any
    agenda: Tensor

    def events(self) -> list[Event]:
        return [
            Event(kind=_KINDS[int(kind)], peer=int(peer), time=time)
            for _, peer, kind, time in self.agenda.tolist()
        ]

    def gradient(self, query: Tensor, computed: int) -> Tensor:
        node = torch.tensor([self.index], device=query.device)
        keys = fold_in(fold_in(self.key.unsqueeze(-1), node), computed)
        return self.ask(self.data, query, keys)

    def observation(
        self,
        point: Tensor,
        asked: Event | None,
        elapsed: float,
        answered: Event | None = None,
        answer: Tensor | None = None,
    ) -> dict[str, Tensor]:
        was = "" if answered is None else answered.kind
        silence = torch.zeros_like(point)
        words = silence.unsqueeze(2).repeat(1, 1, self.channels, 1)
        whole = {
            "answered": _NUMBERS[was] if was in ("gradient", "message") else 0,
            "event": 0 if asked is None else _NUMBERS[asked.kind],
            "peer": self.index if asked is None else asked.peer,
        }
        number = {"time": 0.0 if asked is None else asked.time, "elapsed": elapsed}
        seen = {
            "point": point,
            "gradient": silence if answer is None or was != "gradient" else answer,
            "message": words if answer is None or was != "message" else answer,
        }
        seen |= {name: point.new_full((1, 1, 1), value, dtype=torch.int64) for name, value in whole.items()}
        return seen | {name: point.new_full((1, 1, 1), value) for name, value in number.items()}


def own_agenda(traffic: Events, index: int) -> Tensor:
    """The node's entries up to the one that never comes."""
    own = traffic.agenda.entry[0, int(traffic.agenda.first[0, index]) :]
    return own[: int((own[:, 2] == 0).int().argmax())].cpu().clone()


def own_rates(edge_rates: EdgeRates, index: int) -> dict[int, float]:
    """Exchanges with each neighbour in a unit of time; none that hold where graphs take turns."""
    graph, *others = edge_rates.graphs
    if others:
        return {}
    edges = zip(graph.pairs, edge_rates.rates[0], strict=True)
    mine = {int(ends.sum()) - index: float(rate) for ends, rate in edges if index in ends}
    return {peer: rate for peer, rate in sorted(mine.items()) if rate > 0}

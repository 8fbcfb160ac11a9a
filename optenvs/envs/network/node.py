"""One node of an asynchronous network, for a process of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from optenvs.core.nodes import Event, Kind, Node
from optenvs.core.random import Keys, fold_in

from .events import EXCHANGE, GRADIENT, REPORT
from .traffic import Asynchronous, Events

if TYPE_CHECKING:
    from .base import Network

_KINDS: dict[int, Kind] = {GRADIENT: "gradient", EXCHANGE: "message", REPORT: "report"}
_NUMBERS = {kind: number for number, kind in _KINDS.items()}


@dataclass(frozen=True, eq=False)
class NetworkNode(Node):
    """What one node has: its function's data, its place, its events. No tensor of another node is kept.

    Attributes:
        agenda: number, other end, kind and time of each of its events, ``(Q, 4)``.
        data: its function's, with one node in the dimension of the nodes.
    """

    env: Network
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
        if self.env.oracle == "conjugate":
            return self.env.conjugate(self.data, query)
        node = torch.tensor([self.index], device=query.device)
        keys = fold_in(fold_in(self.key.unsqueeze(-1), node), computed)
        return self.env.gradient(self.data, query, keys)

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


def node_of(env: Network, keys: Keys, index: int) -> NetworkNode:
    """Node ``index`` of the instance ``keys`` ``(1,)``, copied out of the whole."""
    traffic = env.traffic
    if not isinstance(traffic, Asynchronous):
        raise TypeError("clock: nodes in processes of their own communicate asynchronously, not in rounds")
    if len(keys) != 1:
        raise ValueError(f"keys: expected one instance, got {len(keys)}")
    if not 0 <= index < env.agents:
        raise ValueError(f"index: expected a node of 0 .. {env.agents - 1}, got {index!r}")
    instance = env.sample(keys)
    assert isinstance(instance.start, dict)
    return NetworkNode(
        env=env,
        index=index,
        key=keys,
        problem=env.local(instance.problem, index),
        start=instance.start["query"][:, index : index + 1].clone(),
        channels=traffic.channels,
        rates=_rates(env, index),
        bills=(env.oracle, traffic.oracle),
        data=env.own(instance.hidden.functions.data, index),
        agenda=_agenda(instance.hidden.traffic, index),
    )


def _agenda(traffic: Events, index: int) -> Tensor:
    """The node's entries up to the one that never comes."""
    own = traffic.agenda.entry[0, int(traffic.agenda.first[0, index]) :]
    return own[: int((own[:, 2] == 0).int().argmax())].cpu().clone()


def _rates(env: Network, index: int) -> dict[int, float]:
    """Exchanges with each neighbour in a unit of time; none that hold where graphs take turns."""
    graph, *others = env.graphs
    if others or env.clock != "poisson":
        return {}
    edges = zip(graph.pairs, env.edge_rates.rates[0], strict=True)
    mine = {int(ends.sum()) - index: float(rate) for ends, rate in edges if index in ends}
    return {peer: rate for peer, rate in sorted(mine.items()) if rate > 0}

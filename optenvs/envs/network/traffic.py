"""What passes through a network in one step: asynchronous events, or synchronous rounds.

Both read the nodes' parts of a query, decide whose gradient is computed and which messages arrive, and keep
the bill of the communications. Neither knows what the functions are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.random import Keys
from optenvs.core.spaces import box
from optenvs.core.struct import struct

from .events import EXCHANGE, GRADIENT, REPORT, Agenda, Clocks, Places, Wave
from .graphs import Graph
from .spectra import condition, metropolis

COMPUTATION = "computation"
"""The gradients of a step, whatever the ledger calls them."""

Left = dict[str, Int64[Tensor, "B"]]
"""What a budget still pays, by kind, for the kinds that have a limit."""

PATIENCE = 1024
"""Rounds of gossip for one of computation that are allowed at least, however small the network."""


@struct
class Service:
    """What one step does for the nodes of ``B`` networks.

    Attributes:
        computes: whose query is answered with a gradient, ``(B, N)``.
        observation: the fields that the traffic adds to the answer.
        traffic: the memory of the next step.
        calls: the bill of the communications.
        measured: whether all recommendations are of one time, ``(B,)``.
        time: the time now, ``(B,)``.
        ended: whether time is up, ``(B,)``.
    """

    computes: Bool[Tensor, "B N"]
    observation: dict[str, Tensor]
    traffic: Any
    calls: dict[str, Tensor]
    measured: Bool[Tensor, "B"]
    time: Float[Tensor, "B"]
    ended: Bool[Tensor, "B"]


@struct
class Events:
    """The memory of asynchronous traffic: all events, the nodes' places in them, and what is asked now."""

    agenda: Agenda
    places: Places
    wave: Wave


@dataclass(frozen=True, eq=False)
class Asynchronous:
    """Events at random times; a step answers one wave of them and announces the next."""

    clocks: Clocks
    channels: int

    oracle = "exchange"
    announcement = ("event", "peer", "time", "elapsed")
    reply = ("answered", "gradient", "message")
    common: tuple[str, ...] = ()

    @property
    def bill(self) -> dict[str, int]:
        """The communications of a wave are at most a few; the true bill comes with each."""
        return {"exchange": 1}

    def action_fields(self, dim: int, dtype: str) -> dict[str, spaces.Box]:
        """What a node says: a point, a message, its iterate."""
        return {
            "query": box((dim,), dtype),
            "message": box((self.channels, dim), dtype),
            "recommendation": box((dim,), dtype),
        }

    def observation_fields(self, dim: int, dtype: str) -> dict[str, spaces.Box]:
        """What a node hears besides its gradient."""
        last = self.clocks.nodes - 1
        return {
            "answered": box((1,), "int64", 0, EXCHANGE),
            "message": box((self.channels, dim), dtype),
            "event": box((1,), "int64", 0, REPORT),
            "peer": box((1,), "int64", 0, last),
            "time": box((1,), dtype, 0.0),
            "elapsed": box((1,), dtype, 0.0),
        }

    def start(self, point: Float[Tensor, "B N d"]) -> dict[str, Tensor]:
        """The first query: nothing is asked of anybody yet."""
        message = torch.zeros_like(point).unsqueeze(2).repeat(1, 1, self.channels, 1)
        return {"query": point, "message": message, "recommendation": point}

    def begin(self, keys: Keys) -> Events:
        """All events of the episodes, and nobody asked."""
        places = Places.beginning(len(keys), self.clocks.nodes, keys.device)
        alone = torch.arange(self.clocks.nodes, device=keys.device).expand_as(places.behind)
        nothing = torch.zeros_like(places.behind)
        wave = Wave(kind=nothing, peer=alone.clone(), time=places.time, elapsed=places.time)
        return Events(agenda=self.clocks.draw(keys), places=places, wave=wave)

    @property
    def first_bill(self) -> dict[str, int]:
        """Nothing is said before the first event."""
        return {"exchange": 0}

    first_computations = 0

    def serve(self, traffic: Events, action: dict[str, Tensor], left: Left) -> Service:
        """Answer the events of the wave that was announced, as far as the budget pays, and announce the next.

        Of what it does not pay in full the nodes with the lowest numbers are answered.
        """
        wave, said = traffic.wave, action["message"]
        computes, exchanges = wave.kind == GRADIENT, wave.kind == EXCHANGE
        if COMPUTATION in left:
            computes = _first(computes, left[COMPUTATION])
        if "exchange" in left:
            node = torch.arange(exchanges.shape[1], device=exchanges.device)
            paid = _first(exchanges & (node < wave.peer), left["exchange"])
            exchanges = paid | (exchanges & paid.gather(1, wave.peer))
        index = wave.peer[..., None, None].expand_as(said)
        heard = torch.where(exchanges[..., None, None], said.gather(1, index), 0.0)
        following, places = self.clocks.wave(traffic.agenda, traffic.places)
        observation = {
            "answered": (wave.kind * (computes | exchanges)).unsqueeze(-1),
            "message": heard,
            "event": following.kind.unsqueeze(-1),
            "peer": following.peer.unsqueeze(-1),
            "time": following.time.to(said.dtype).unsqueeze(-1),
            "elapsed": following.elapsed.to(said.dtype).unsqueeze(-1),
        }
        measured = wave.kind[:, 0] == REPORT  # then all nodes report
        return Service(
            computes=computes,
            observation=observation,
            traffic=Events(agenda=traffic.agenda, places=places, wave=following),
            calls={"exchange": exchanges.sum(-1) // 2},
            measured=measured,
            time=wave.time.amax(-1).to(said.dtype),
            ended=following.kind.amax(-1) == 0,
        )


@struct
class Rounds:
    """The memory of synchronous traffic, ``(B,)`` each.

    Attributes:
        computed, gossiped: rounds of computation and of gossip so far.
        waited: steps since the last computation.
    """

    computed: Int64[Tensor, "B"]
    gossiped: Int64[Tensor, "B"]
    waited: Int64[Tensor, "B"]


@dataclass(frozen=True, eq=False)
class Synchronous:
    """All nodes at once: in one step each may ask a gradient, and send to all its neighbours.

    With a list of graphs, gossip number g uses graph g modulo their count.
    """

    graphs: tuple[Graph, ...]
    t_max: float
    channels: int
    device: torch.device
    dtype: torch.dtype

    oracle = "gossip"
    announcement: tuple[str, ...] = ()
    reply: tuple[str, ...] = ()
    common = ("k", "N", "spent")

    @cached_property
    def patience(self) -> int:
        """Most steps without a computation, so that an agent that never computes comes to an end."""
        return max(PATIENCE, math.ceil(2 * condition(self.graphs)))

    @cached_property
    def _sums(self) -> Float[Tensor, "K M N"]:
        """For each graph the plain adjacency and below it the Metropolis weights, M = 2 N."""
        return self._table([np.concatenate((graph.adjacency, metropolis(graph))) for graph in self.graphs])

    @cached_property
    def _degree(self) -> Float[Tensor, "K N 1"]:
        return self._table([graph.degree[:, None] for graph in self.graphs])

    @cached_property
    def _ends(self) -> tuple[Int64[Tensor, "K E"], Int64[Tensor, "K E"]]:
        """The two ends of the edges; a graph with fewer than another has edges from node 0 to itself."""
        longest = max(len(graph.edges) for graph in self.graphs)
        padded = [np.pad(graph.pairs, ((0, longest - len(graph.edges)), (0, 0))) for graph in self.graphs]
        first, second = torch.from_numpy(np.stack(padded)).to(self.device).unbind(-1)
        return first, second

    def _table(self, arrays: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(arrays)).to(self.device, self.dtype)

    def _of(self, table: Tensor, gossip: Int64[Tensor, "B"]) -> Tensor:
        """The rows of a table for the graphs of these rounds; one row for all where there is one graph."""
        return table if len(self.graphs) == 1 else table[gossip % len(self.graphs)]

    def _heard(self, sent: Float[Tensor, "B N c d"], gossip: Int64[Tensor, "B"]) -> tuple[Tensor, Tensor]:
        """The two sums of each node, of the vectors that were sent."""
        if len(self.graphs) == 1:  # the matrix is read once for the whole batch
            heard = torch.einsum("mn,bncd->bmcd", self._sums[0], sent)
        else:
            heard = torch.einsum("bmn,bncd->bmcd", self._of(self._sums, gossip), sent)
        total, mixed = heard.unflatten(1, (2, sent.shape[1])).unbind(1)
        return total, mixed

    @property
    def bill(self) -> dict[str, int]:
        """A round of gossip activates every edge of the first graph once, with one vector each way."""
        edges = len(self.graphs[0].edges)
        return {"exchange": edges, "message": edges, "round": 1, "gossip": 1}

    def action_fields(self, dim: int, dtype: str) -> dict[str, spaces.Box]:
        """What a node says, whether it computes, and how many of its vectors it sends."""
        return {
            "query": box((dim,), dtype),
            "message": box((self.channels, dim), dtype),
            "recommendation": box((dim,), dtype),
            "compute": box((1,), "int64", 0, 1),
            "send": box((1,), "int64", 0, self.channels),
        }

    def observation_fields(self, dim: int, dtype: str) -> dict[str, spaces.Box]:
        """Sums over the neighbours, plain and by Metropolis weights (these with the node's own message)."""
        heard = box((self.channels, dim), dtype)
        return {
            "total": heard,
            "mixed": heard,
            "degree": box((1,), dtype, 0.0),
            "time": box((1,), dtype, 0.0),
        }

    def start(self, point: Float[Tensor, "B N d"]) -> dict[str, Tensor]:
        """The first query: the gradients at the start, no message."""
        silence = torch.zeros_like(point).unsqueeze(2).repeat(1, 1, self.channels, 1)
        none = torch.zeros_like(point[..., :1], dtype=torch.int64)
        action = {"query": point, "message": silence, "recommendation": point}
        return action | {"compute": none + 1, "send": none}

    def begin(self, keys: Keys) -> Rounds:
        """Nothing computed, nothing said."""
        nothing = torch.zeros_like(keys)
        return Rounds(computed=nothing, gossiped=nothing, waited=nothing)

    @property
    def first_bill(self) -> dict[str, int]:
        """All nodes compute at the start, and none says anything."""
        return {"exchange": 0, "message": 0, "round": 1, "gossip": 0}

    @property
    def first_computations(self) -> int:
        """Gradients of the first query."""
        return self.graphs[0].nodes

    def serve(self, traffic: Rounds, action: dict[str, Tensor], left: Left) -> Service:
        """One round: what the budget does not pay, the gradients or the gossip, is left out and ends it."""
        computes, count = action["compute"].squeeze(-1) > 0, action["send"]
        batch, nodes = computes.shape
        one, other = (self._of(ends, traffic.gossiped).expand(batch, -1) for ends in self._ends)
        vectors = torch.maximum(count[..., 0].gather(1, one), count[..., 0].gather(1, other))
        vectors = torch.where(one == other, 0, vectors)
        working, speaks = computes.any(-1), (count > 0).flatten(1).any(-1)
        computing = {COMPUTATION: computes.sum(-1), "round": working.long()}
        talking = {"exchange": (vectors > 0).sum(-1), "message": vectors.sum(-1), "gossip": speaks.long()}
        refused = torch.zeros_like(working)
        if left:
            idle, silent = _beyond(computing, left, refused), _beyond(talking, left, refused)
            computes, working = computes & ~idle.unsqueeze(-1), working & ~idle
            count, speaks = torch.where(silent[:, None, None], 0, count), speaks & ~silent
            computing = {kind: torch.where(idle, 0, number) for kind, number in computing.items()}
            talking = {kind: torch.where(silent, 0, number) for kind, number in talking.items()}
            refused = idle | silent
        channel = torch.arange(self.channels, device=count.device)
        sent = torch.where((channel < count).unsqueeze(-1), action["message"], 0.0)
        total, mixed = self._heard(sent, traffic.gossiped)
        computed = traffic.computed + working
        gossiped = traffic.gossiped + speaks
        waited = torch.where(working, 0, traffic.waited + 1)
        time = (computed - 1).to(sent.dtype)  # the query of reset is asked at time 0
        observation = {
            "total": total,
            "mixed": mixed,
            "degree": self._of(self._degree, gossiped).expand(batch, -1, -1),
            "time": time[:, None, None].expand(-1, nodes, 1),
        }
        return Service(
            computes=computes,
            observation=observation,
            traffic=Rounds(computed=computed, gossiped=gossiped, waited=waited),
            calls=talking | {"round": computing["round"]},
            measured=torch.ones_like(speaks),
            time=time,
            ended=(time >= self.t_max) | (waited > self.patience) | refused,
        )


def _first(mask: Bool[Tensor, "B N"], count: Int64[Tensor, "B"]) -> Bool[Tensor, "B N"]:
    """The first ``count`` entries of each row that hold."""
    return mask & (mask.cumsum(-1) <= count.unsqueeze(-1))


def _beyond(wanted: dict[str, Tensor], left: Left, nothing: Bool[Tensor, "B"]) -> Bool[Tensor, "B"]:
    """The rows in which more is wanted of a kind than is left of it."""
    for kind in wanted.keys() & left.keys():
        nothing = nothing | (wanted[kind] > left[kind])
    return nothing

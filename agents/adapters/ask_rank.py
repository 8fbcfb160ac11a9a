"""Objects with ``ask()`` and ``tell()`` that look only at the order of a population, as agents of rankings.

One query is one population, and what is told is the place of each point: 0 for the best; all that are not
named share the place after the last. As in :mod:`agents.adapters.ask_tell` an object is rebuilt from its seed
and its past when a saved state is resumed; along a run that goes on it is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.random import Keys
from optenvs.core.struct import replace, static, struct

from ..core import Agent, Observation
from ..ranking._descent import chosen, places
from .ask_tell import AskTell

_ROOM = 256

Factory = Callable[[np.ndarray, int, int], AskTell]


@struct
class AskRankState:
    """The past of ``B`` objects, from which they can be rebuilt.

    Attributes:
        seed: what each was made with, ``(B,)``.
        start: the first point of its instance.
        asked: the last population, filled up with its first point.
        size: how many points it has, ``(B, 1)``; 0 before the first.
        told: the places told so far.
        sizes: the sizes of the populations so far.
        count: populations so far, ``(B,)``.
        agent: whether a query is a dict with counts and a recommendation.
        named: the points that a query names.
    """

    seed: Int64[Tensor, "B"]
    start: Float[Tensor, "B d"]
    asked: Float[Tensor, "B m d"]
    size: Int64[Tensor, "B 1"]
    told: Int64[Tensor, "B past m"]
    sizes: Int64[Tensor, "B past"]
    count: Int64[Tensor, "B"]
    agent: bool = static()
    named: int = static()


@dataclass(frozen=True, eq=False)
class AskRankAgent(Agent):
    """One object for each instance; it recommends the best of the last population.

    Args:
        factory: makes the object from the instance's first point, an integer seed and the number of points
            that a query holds.
    """

    factory: Factory
    _live: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    adapts = "factory"
    needs = ("ranking",)
    on_host = True

    def init(self, problem: Any, observation: Observation, keys: Keys) -> AskRankState:
        points, horizon = observation["point"], float(observation["N"].max())
        past = max(int(horizon), 1) if math.isfinite(horizon) else _ROOM
        return AskRankState(
            seed=keys & (2**31 - 1),  # what numpy and others take
            start=chosen(points, observation["order"][:, :1]),
            asked=torch.zeros_like(points),
            size=torch.zeros_like(keys).unsqueeze(-1),
            told=keys.new_zeros(len(keys), past, problem.shown),
            sizes=keys.new_zeros(len(keys), past),
            count=torch.zeros_like(keys),
            agent=problem.recommend == "agent",
            named=problem.ranked,
        )

    def act(self, state: AskRankState, observation: Observation) -> tuple[Action, AskRankState]:
        objects, order = self._objects(state), observation["order"]
        room = state.asked.shape[1]
        place = places(order, room)
        told, sizes = state.told, state.sizes
        if int(state.count.max()) > told.shape[1]:  # without a budget the past has no known length
            told, sizes = (
                torch.cat((told, torch.zeros_like(told)), 1),
                torch.cat((sizes, torch.zeros_like(sizes)), 1),
            )
        now = torch.arange(told.shape[1], device=told.device) == state.count.unsqueeze(1) - 1
        told = torch.where(now.unsqueeze(-1), place.unsqueeze(1), told)
        sizes = torch.where(now, state.size, sizes)
        asked, counts = [], []
        for row, live in enumerate(objects):
            if int(state.count[row]):  # the first answer is to the environment's own question
                live.tell(place[row, : int(state.size[row])].cpu().numpy())
            population = live.ask(tuple(state.asked.shape[1:]), state.agent)
            counts.append(len(population))
            asked.append(np.concatenate((population, np.repeat(population[:1], room - len(population), 0))))
        points = torch.from_numpy(np.stack(asked)).to(state.asked)
        size = torch.tensor(counts, device=told.device).unsqueeze(-1)
        after = replace(state, asked=points, size=size, told=told, sizes=sizes, count=state.count + 1)
        self._live.update(told=told, objects=objects)
        if not state.agent:
            return points, after
        best = chosen(observation["point"], order[:, :1])
        keep = size.clamp_max(state.named)
        return {"query": points, "count": size, "keep": keep, "recommendation": best}, after

    def _objects(self, state: AskRankState) -> list[_Live]:
        """The live objects of ``state``: those at hand, or rebuilt."""
        if self._live.get("told") is state.told:
            return self._live.pop("objects")
        return [self._replay(state, row) for row in range(len(state.seed))]

    def _replay(self, state: AskRankState, row: int) -> _Live:
        start = state.start[row].double().cpu().numpy()
        shape = tuple(state.asked.shape[1:])
        live = _Live(self.factory(start, int(state.seed[row]), shape[0]))
        count = int(state.count[row])
        for past in range(count - 1):
            live.ask(shape, state.agent)
            live.tell(state.told[row, past, : int(state.sizes[row, past])].cpu().numpy())
        if count:
            again = torch.from_numpy(live.ask(shape, state.agent)).to(state.asked)
            if not torch.equal(again, state.asked[row, : int(state.size[row])]):
                raise RuntimeError(
                    "from_ask_rank: the object asks something else when it is rebuilt from its seed and told "
                    "the same places; it can be run once, but neither resumed nor branched"
                )
        return live


class _Live:
    """One object and the population that it waits for."""

    def __init__(self, optimizer: AskTell) -> None:
        self._optimizer = optimizer
        self._returned: Any = None

    def ask(self, shape: tuple[int, ...], fewer: bool) -> np.ndarray:
        """The next population."""
        self._returned = self._optimizer.ask()
        points = np.array(self._returned, dtype=np.float64)
        room, dim = shape
        sized = points.ndim == 2 and points.shape[1] == dim
        if not sized or not (2 <= len(points) <= room if fewer else len(points) == room):
            raise ValueError(
                f"ask(): expected {'2 to ' if fewer else ''}{room} points of {dim} coordinates, got shape "
                f"{points.shape}"
            )
        return points

    def tell(self, place: np.ndarray) -> None:
        """The places of the points that :meth:`ask` gave."""
        self._optimizer.tell(self._returned, place.astype(np.float64))


def from_ask_rank(factory: Factory) -> AskRankAgent:
    """The agent of an ask/tell optimizer that needs no values but an order.

    Args:
        factory: ``(start, seed, m) -> object`` with ``ask()`` and ``tell(points, places)``; ``start`` is a
            float64 array ``(d,)``, m the points that a query holds. With pycma, whose steps depend on the
            order of the values only, and which is to draw from a generator of its own (by default all its
            objects share numpy's)::

                def factory(start, seed, m):
                    rng = np.random.default_rng(seed)
                    options = {"randn": lambda *shape: rng.standard_normal(shape), "seed": np.nan}
                    options |= {"popsize": m, "verbose": -9}
                    return cma.CMAEvolutionStrategy(start, 0.5, options)

    Raises:
        TypeError: ``factory`` cannot be called.
    """
    if not callable(factory):
        raise TypeError(f"factory: expected a callable, got {type(factory).__name__}")
    return AskRankAgent(factory)

"""Decentralized optimization: n nodes minimise the sum of their functions by talking to their neighbours.

* State: the functions, the iterate that each node stands behind, the clocks and what is asked of whom next.
* Query: for each node a point, a message, and its iterate (the recommendation). Those of a node are read when
  it is asked, its iterate also right after it was answered; its rows are ignored in between.
* Answer: its own gradient if it computed, its neighbour's message if it exchanged, and what is asked next.
* Bill: local gradients, and activations of edges. The mean squared distance of the iterates to the solution
  is the merit; it is exact, unbilled and no part of an observation.

The problem and its accounting are those of Nabli and Oyallon (2023, "DADAO: Decoupled Accelerated
Decentralized Asynchronous Optimization"). A node sees its own gradient, its own clock, its neighbours'
messages and the global constants; no other node's data reaches its observation.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.env import Action, Answer, Instance, State
from optenvs.core.errors import parts
from optenvs.core.given import check_whole
from optenvs.core.random import Keys, fold_in, keys_from_seed, normal
from optenvs.core.spaces import box
from optenvs.core.struct import tree_map

from .node import NetworkNode, own_agenda, own_rates
from .parts import Draw, Functions, Hidden, Local, Problem, refuse_changed
from .traffic import COMPUTATION, Asynchronous
from .verdict import Judged
from .wiring import Wiring

ORACLES = ("gradient", "conjugate")


@dataclass(frozen=True, eq=False, kw_only=True)
class Network(Wiring):
    """Nodes with private functions on a graph.

    Args:
        dim: the dimension d of an iterate.
        oracle: ``gradient``, or ``conjugate`` for that of the conjugate function, which dual methods need;
            iterates are then dual points, and the merit is measured at the primal ones.
        start_std: standard deviation of the normal starting points.
        start: the starting points of all instances in place of random ones: ``(n, d)``, or ``(d,)`` for all
            nodes.
        nodes, graph, graph_options, rates, rates_check, clock, t_max, report_every, metric, order, channels,
            events: see :class:`optenvs.envs.network.wiring.Wiring`.
        budget, reward, tolerance, device, dtype: see :class:`optenvs.core.OptimizationEnv`; the main oracle
            is the gradient. Rates and clocks need float64, the default.
    """

    dim: int | None = 2
    oracle: str = "gradient"
    start_std: float = 1.0
    start: Any = None
    budget: int | Mapping[str, int] | None = None
    dtype: str = "float64"

    meanings: ClassVar[dict[str, str]] = {
        "point": "where the node's function was asked",
        "gradient": "the answer to the node's query: of its own function, or of its conjugate",
        "query": "where the node's function is to be asked",
        "recommendation": "the iterate that the node stands behind",
        "message": "what is sent to the neighbour, or was heard of it; zero where nothing was",
        "answered": "the event behind this answer: 0 none, 1 a gradient, 2 an exchange",
        "event": "what comes next: 0 nothing, 1 a gradient, 2 an exchange, 3 a report of the iterate",
        "peer": "the neighbour that the coming exchange is with; else the node itself",
        "time": "of the coming event; a node computes once in a unit on average",
        "elapsed": "time since the node's event before it",
        "compute": "1: the node asks for a gradient in this round",
        "send": "how many of its vectors the node sends in this round",
        "total": "the sum of what the neighbours said",
        "mixed": "what the node and its neighbours said, by Metropolis weights",
        "degree": "the number of neighbours in this round",
        "metric time": "of the last report",
        "error": "the mean squared distance of the iterates from the solution",
        "consensus": "the mean squared distance of the iterates from their mean",
        "gap": "of the mean of the iterates: the common objective above its least value",
        "loss": "the common loss, of the mean of the iterates",
        "accuracy": "share of the data that the mean of the iterates gets right",
        "train_accuracy": "share of the training data that the mean of the iterates gets right",
        "test_accuracy": "likewise, of the test data",
    }
    painter = "optenvs.envs.network.picture:network"
    merit_name: ClassVar[str] = "error"
    """The metric that is minimised: another than ``error`` where no solution is known."""
    truths: ClassVar[tuple[str, ...]] = ()
    """Entries of the functions' data that only :meth:`measure` reads, and no node has."""

    # What an author writes ---------------------------------------------------------------------

    @abc.abstractmethod
    def draw(self, keys: Keys) -> Draw:
        """One set of functions a key."""

    @abc.abstractmethod
    def gradient(self, data: Any, x: Float[Tensor, "B N d"], keys: Int64[Tensor, "B N"]) -> Tensor:
        """The gradient of each node's function at its point, ``(B, N, d)``.

        ``keys`` are new for every gradient that a node computes: what is random in one is drawn from them.
        """

    @abc.abstractmethod
    def conjugate(self, data: Any, x: Float[Tensor, "B N d"]) -> Tensor:
        """The gradient of each conjugate function: where f_i has the gradient x_i, ``(B, N, d)``."""

    @property
    def noisy(self) -> bool:
        """Whether a gradient depends on its key; where it does not, none is made."""
        return True

    def measure(self, functions: Functions, x: Float[Tensor, "B d"]) -> dict[str, Tensor]:
        """More metrics, of the mean of the iterates, ``(B,)`` each."""
        return {}

    def begin(self, keys: Keys) -> Float[Tensor, "B N d"]:
        """Where the nodes begin."""
        return self.start_std * normal(keys, "start", (self.agents, self.width), dtype=self.torch_dtype)

    def own(self, data: Any, index: int) -> Any:
        """The part of the functions' data that node ``index`` holds, copied out of the whole."""
        if isinstance(data, dict):
            data = {name: value for name, value in data.items() if name not in self.truths}
        return tree_map(lambda leaf: leaf[:, index : index + 1].clone(), data)

    # What it gets ------------------------------------------------------------------------------

    def __post_init__(self) -> None:
        if self.oracle not in ORACLES:
            raise ValueError(f"oracle: expected one of {', '.join(ORACLES)}, got {self.oracle!r}")
        if not 0 <= self.start_std < math.inf:
            raise ValueError(f"start_std: expected a number >= 0, got {self.start_std!r}")
        check_whole("dim", self.width)
        for names, unused, why in (
            (("start_std", "start"), self.oracle == "conjugate", "oracle='conjugate' begins at 0"),
            (("start_std",), self.start is not None, "start= says where the nodes begin"),
        ):
            if unused:
                refuse_changed(self, names, why)
        _ = self._given_start
        super().__post_init__()

    @property
    def width(self) -> int:
        """The length d of an iterate."""
        return self.dim  # type: ignore[return-value]

    @property
    def judged(self) -> Judged:
        """The functions for which given rates are judged: here of the instance of seed 0."""
        draw = self.draw(keys_from_seed(0, 1, self.torch_device))
        return Judged(float(draw.mu), float(draw.L))

    @cached_property
    def _given_start(self) -> Tensor | None:
        if self.start is None:
            return None
        point = torch.as_tensor(self.start, dtype=self.torch_dtype, device=self.torch_device)
        shapes = (self.width,), (self.agents, self.width)
        if tuple(point.shape) not in shapes or not point.isfinite().all():
            expected = " or ".join(map(str, shapes))
            raise ValueError(f"start: expected finite numbers of shape {expected}, got {self.start!r}")
        return point.expand(shapes[1])

    @property
    def fixed_cost(self) -> bool:
        return False

    @property
    def ends(self) -> bool:
        return True

    @property
    def oracles(self) -> tuple[str, ...]:
        return (self.oracle, self.traffic.oracle)

    @property
    def bill(self) -> dict[str, int]:
        computing = self.agents if self.clock == "rounds" else 1
        return {self.oracle: computing} | self.traffic.bill

    @property
    def first_bill(self) -> dict[str, int]:
        return {self.oracle: self.traffic.first_computations} | self.traffic.first_bill

    @cached_property
    def horizon(self) -> int | None:
        return None  # the clocks end an episode, after a number of steps that they draw

    def agent_action_fields(self) -> dict[str, spaces.Box]:
        return self.traffic.action_fields(self.width, self.dtype)

    def agent_observation_fields(self) -> dict[str, spaces.Box]:
        point = box((self.width,), self.dtype)
        return {"point": point, "gradient": point} | self.traffic.observation_fields(self.width, self.dtype)

    def asked(self, state: State) -> Tensor:
        event = state.observation.get("event")
        return super().asked(state) if event is None else event.squeeze(-1) > 0

    def answered(self, state: State) -> Tensor:
        answered = state.observation.get("answered")
        return super().answered(state) if answered is None else answered.squeeze(-1) > 0

    def sample(self, keys: Keys) -> Instance:
        draw, point = self.draw(keys), self.begin(keys)
        if self.oracle == "conjugate":
            point = torch.zeros_like(point)  # the dual methods begin there
        if self._given_start is not None:
            point = self._given_start.repeat(len(keys), 1, 1)
        nothing = torch.zeros(len(keys), self.agents, dtype=torch.int64, device=keys.device)
        hidden = Hidden(
            functions=draw.functions,
            traffic=self.traffic.begin(keys),
            computed=nothing,
            published=point,
            measured={},
        )
        return Instance(
            problem=self._problem(draw),
            hidden=hidden,
            start=self.traffic.start(point),
            floor=torch.zeros_like(draw.mu),
        )

    @cached_property
    def _constants_of_the_graph(self) -> dict[str, Tensor]:
        values = self.edge_rates.constants | {"t_max": self.t_max}
        return {
            name: torch.tensor(value, dtype=self.torch_dtype, device=self.torch_device)
            for name, value in values.items()
        }

    def _problem(self, draw: Draw) -> Problem:
        batch = len(draw.mu)
        facts = {
            name: value.expand(batch, *value.shape) for name, value in self._constants_of_the_graph.items()
        }
        local = Local(degree=facts.pop("degree"), resistance=facts.pop("resistance"))
        return Problem(mu=draw.mu, L=draw.L, local=local, nodes=self.agents, **facts)

    def answer(self, state: State, action: Action) -> Answer:
        action = parts(self.name, action, ("query",))
        hidden: Hidden = state.hidden
        functions, point = hidden.functions, action["query"]
        left = {kind: limit - state.calls[kind] for kind, limit in self.limits.items()}
        if self.oracle in left:
            left[COMPUTATION] = left.pop(self.oracle)
        service = self.traffic.serve(hidden.traffic, action, left)
        gradient = self._gradient(state, functions, point)
        gradient = torch.where(service.computes.unsqueeze(-1), gradient, 0.0)
        published = self._published(state, action["recommendation"])
        measured = self._measure(functions, published, service.time)
        if self.metric == "synced" and self.clock != "rounds":
            now, last = service.measured, hidden.measured or measured  # the first query is measured, too
            measured = {name: torch.where(now, value, last[name]) for name, value in measured.items()}
        merit = measured[self.merit_name]
        return Answer(
            observation={"point": point, "gradient": gradient} | service.observation,
            merit=merit,
            metrics=measured,
            solved=None if self.tolerance is None else merit <= self.tolerance,
            hidden=Hidden(
                functions=functions,
                traffic=service.traffic,
                computed=hidden.computed + service.computes,
                published=published,
                measured=measured,
            ),
            calls={self.oracle: service.computes.sum(-1)} | service.calls,
            ended=service.ended,
        )

    def _gradient(self, state: State, functions: Functions, point: Tensor) -> Tensor:
        keys = state.hidden.computed
        if self.noisy and self.oracle == "gradient":
            node = torch.arange(self.agents, device=point.device)
            keys = fold_in(fold_in(state.key.unsqueeze(-1), node), keys)
        return self.ask(functions.data, point, keys)

    def ask(self, data: Any, point: Float[Tensor, "B N d"], keys: Int64[Tensor, "B N"]) -> Tensor:
        """The oracle's answer to each node."""
        conjugate = self.oracle == "conjugate"
        return self.conjugate(data, point) if conjugate else self.gradient(data, point, keys)

    def _published(self, state: State, said: Tensor) -> Tensor:
        """What each node stands behind: what it says where it is asked or answered, else as before."""
        event = state.observation.get("event")
        if event is None:
            return said
        return torch.where(event + state.observation["answered"] > 0, said, state.hidden.published)

    def _measure(self, functions: Functions, published: Tensor, time: Tensor) -> dict[str, Tensor]:
        published = self.primal(functions, published)
        mean = published.mean(1)
        consensus = (published - mean.unsqueeze(1)).square().sum((1, 2)) / self.agents
        measured, solution = {}, functions.solution
        if solution is not None:  # the mean of |x_i - x*|^2 is that of |x_i - mean|^2 and |mean - x*|^2
            measured["error"] = consensus + (mean - solution).square().sum(-1)
        return measured | {"consensus": consensus, "time": time} | self.measure(functions, mean)

    def primal(self, functions: Functions, published: Float[Tensor, "B N d"]) -> Tensor:
        """The iterates whose distance to the solution is the merit."""
        return self.conjugate(functions.data, published) if self.oracle == "conjugate" else published

    def recordable(self, state: State) -> dict[str, Tensor]:
        """``recommendation``: the iterate that each node last stood behind, ``(B, N, d)``."""
        return {"recommendation": state.hidden.published}

    def node(self, keys: Keys, index: int) -> NetworkNode:
        traffic = self.traffic
        if not isinstance(traffic, Asynchronous):
            raise TypeError(
                "clock: nodes in processes of their own communicate asynchronously, not in rounds"
            )
        if len(keys) != 1:
            raise ValueError(f"keys: expected one instance, got {len(keys)}")
        if not 0 <= index < self.agents:
            raise ValueError(f"index: expected a node of 0 .. {self.agents - 1}, got {index!r}")
        instance = self.sample(keys)
        assert isinstance(instance.start, dict)
        return NetworkNode(
            ask=self.ask,
            index=index,
            key=keys,
            problem=self.local(instance.problem, index),
            start=instance.start["query"][:, index : index + 1].clone(),
            channels=traffic.channels,
            rates=own_rates(self.edge_rates, index) if self.clock == "poisson" else {},
            bills=(self.oracle, traffic.oracle),
            data=self.own(instance.hidden.functions.data, index),
            agenda=own_agenda(instance.hidden.traffic, index),
        )

    def survey(self, keys: Keys, published: Tensor, time: Tensor) -> dict[str, Tensor]:
        functions = self.sample(keys).hidden.functions
        rows = zip(published.unsqueeze(1), time.unsqueeze(1), strict=True)
        return tree_map(lambda *row: torch.cat(row), *(self._measure(functions, *row) for row in rows))

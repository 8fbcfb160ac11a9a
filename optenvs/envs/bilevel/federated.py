"""Two levels over clients: each has an upper and a lower function of its own, and a server takes means.

    min over x of the mean of F_i(x, y),   y in argmin of the mean of the f_i(x, .)

* State: the clients' data, who takes part in the coming round, what the server holds.
* Query: of each client the places ``x`` (n,), ``y`` (m,), ``inner`` (m,), and ``compute``: 0 nothing, 1 the
  gradient of its f at (x, inner), 2 those of its F and f at (x, y), too; ``message`` (n + 2m,), an x, a y and
  an inner, which it sends to the server where ``send`` is 1. What clients say that do not take part is not
  read.
* Answer: to each client its own gradients, on mini-batches of its own; to all ``mean``, that of the messages
  of the last round, and ``round``, how many there were; ``active``, 1 where the client takes part in the
  coming one.
* Bill: a ``round`` for every step in which somebody sends, an ``upload`` for each message, and the gradients
by kind.

A round ends when a message is sent, in whatever step; then the clients of the next one are drawn. The
server's mean is the recommendation: (x, y) is judged, by :meth:`Federated.measure`, every
``evaluation_period`` queries.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.env import Action, Answer, Instance, State
from optenvs.core.errors import parts
from optenvs.core.evaluations import Evaluations
from optenvs.core.given import check_whole
from optenvs.core.multi import MultiAgentEnv
from optenvs.core.oracles import inside_transform, value_and_gradient
from optenvs.core.random import Keys, bits, fold_in
from optenvs.core.rewards import REWARDS, Progress
from optenvs.core.spaces import box
from optenvs.core.struct import struct, tree_map

GRADIENTS = ("inner_gradient", "upper_gradient", "lower_gradient")
INNER, ALL = 1, 2
"""What ``compute`` may ask for beside nothing: one gradient, or all three."""


@struct
class Shared:
    """What the clients may know: how many there are, and how many take part in a round, ``(B,)`` each."""

    clients: Int64[Tensor, "B"]
    active: Int64[Tensor, "B"]


@struct
class Own:
    """What they may not.

    Attributes:
        data: of the clients, tensors ``(B, N, ...)``.
        mean: what the server holds: x, y and inner, ``(B, n + 2m)``.
        computed: the gradients that each client has computed, ``(B, N)``.
    """

    data: Any
    mean: Float[Tensor, "B w"]
    computed: Int64[Tensor, "B N"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Federated(MultiAgentEnv):
    """Clients with two functions each; see the module for what is asked and answered.

    Args:
        clients: N.
        fraction: the share of them that takes part in a round, one at least, drawn anew for each.
        evaluation_period: queries between two measurements.
        budget: a number counts rounds.
        reward, tolerance, device, dtype: see :class:`optenvs.core.OptimizationEnv`.
    """

    clients: int = 10
    fraction: float = 0.5
    evaluation_period: Evaluations = 10
    budget: int | Mapping[str, int] | None = 100
    dtype: str = "float64"

    agent_name = "client"
    meanings: ClassVar[dict[str, str]] = {
        "x": "the upper variable at which the client's functions are asked",
        "y": "the lower variable, likewise",
        "inner": "a second lower point, at the same x",
        "compute": "0: nothing; 1: the gradient of f at (x, inner); 2: also those of F and f at (x, y)",
        "message": "an x, a y and an inner, for the server",
        "send": "1: the message is sent, which ends the round",
        "upper_gradient": "of the client's F at (x, y), by x then y, on a mini-batch",
        "lower_gradient": "of its f at (x, y), likewise",
        "inner_gradient": "of its f at (x, inner), likewise",
        "active": "1: the client takes part in the coming round",
        "mean": "the mean of the messages of the last round",
        "round": "rounds so far",
    }

    # What a family writes ----------------------------------------------------------------------

    @property
    @abc.abstractmethod
    def sizes(self) -> tuple[int, int]:
        """The numbers n and m."""

    @abc.abstractmethod
    def draw(self, keys: Keys) -> tuple[Any, Float[Tensor, "B n"], Float[Tensor, "B m"]]:
        """The clients' data, ``(B, N, ...)``, and where all of them begin."""

    @abc.abstractmethod
    def batches(self, data: Any, keys: Int64[Tensor, "R"]) -> tuple[Any, Any]:
        """Of ``R`` clients' data, ``(R, ...)``, what one answer of F and one of f uses."""

    @abc.abstractmethod
    def upper(self, batch: Any, x: Float[Tensor, "R n"], y: Float[Tensor, "R m"]) -> Float[Tensor, "R"]:
        """The upper function F of each."""

    @abc.abstractmethod
    def lower(self, batch: Any, x: Float[Tensor, "R n"], y: Float[Tensor, "R m"]) -> Float[Tensor, "R"]:
        """The lower function f of each."""

    @abc.abstractmethod
    def measure(
        self, data: Any, x: Float[Tensor, "B n"], y: Float[Tensor, "B m"]
    ) -> tuple[Float[Tensor, "B"], dict[str, Tensor]]:
        """Merit and metrics at the server's pair."""

    # What it gets ------------------------------------------------------------------------------

    def __post_init__(self) -> None:
        check_whole("clients", self.clients)
        if not 0 < self.fraction <= 1:
            raise ValueError(f"fraction: expected a number in (0, 1], got {self.fraction!r}")
        super().__post_init__()

    @property
    def agents(self) -> int:
        return self.clients

    @property
    def taking_part(self) -> int:
        """How many clients take part in a round."""
        return max(1, math.ceil(self.fraction * self.clients - 1e-9))

    @property
    def fixed_cost(self) -> bool:
        return False

    @property
    def measures_merit(self) -> bool:
        return True

    @property
    def oracles(self) -> tuple[str, ...]:
        return ("round", *GRADIENTS)

    @property
    def bill(self) -> dict[str, int]:
        return {"round": 1} | dict.fromkeys((*GRADIENTS, "upload"), self.taking_part)

    @property
    def first_bill(self) -> dict[str, int]:
        return dict.fromkeys(self.bill, 0)

    @property
    def common(self) -> tuple[str, ...]:
        return ("mean", "round", *self.time_fields)

    @cached_property
    def numbers(self) -> int:
        return self.taking_part * sum(self.sizes)

    def agent_action_fields(self) -> dict[str, spaces.Box]:
        return self._places() | {
            "compute": box((1,), "int64", 0, ALL),
            "message": box((self.width,), self.dtype),
            "send": box((1,), "int64", 0, 1),
        }

    def agent_observation_fields(self) -> dict[str, spaces.Box]:
        slope = box((sum(self.sizes),), self.dtype)
        return self._places() | dict.fromkeys(GRADIENTS, slope) | {"active": box((1,), self.dtype, 0, 1)}

    def team_observation_fields(self) -> dict[str, spaces.Box]:
        return {"mean": box((self.width,), self.dtype), "round": box((1,), self.dtype, 0)}

    @property
    def width(self) -> int:
        """The length of a message."""
        n, m = self.sizes
        return n + 2 * m

    def _places(self) -> dict[str, spaces.Box]:
        n, m = self.sizes
        return {name: box((size,), self.dtype) for name, size in (("x", n), ("y", m), ("inner", m))}

    def asked(self, state: State) -> Bool[Tensor, "B N"]:
        return state.observation["active"].squeeze(-1) > 0

    def unattended(self, state: State) -> Action:
        """Nothing is computed; for the clients who have left, the server sends itself what it holds."""
        places, mean = state.observation, state.hidden.mean
        compute = torch.zeros_like(state.hidden.computed).unsqueeze(-1)
        return {name: places[name] for name in ("x", "y", "inner")} | {
            "compute": compute,
            "message": mean.unsqueeze(1).expand(-1, self.clients, -1),
            "send": torch.ones_like(compute),
        }

    def recordable(self, state: State) -> dict[str, Tensor]:
        """``point``: the server's x and y, ``(B, n + m)``."""
        return {"point": state.hidden.mean[:, : sum(self.sizes)]}

    def sample(self, keys: Keys) -> Instance:
        data, x, y = self.draw(keys)
        batch, clients = len(keys), self.clients
        mean = torch.cat((x, y, y), -1)
        ones = torch.ones_like(keys)
        nothing = torch.zeros(batch, clients, dtype=torch.int64, device=keys.device)
        places = dict(zip(("x", "y", "inner"), (x, y, y), strict=True))
        start = {name: place.unsqueeze(1).repeat(1, clients, 1) for name, place in places.items()}
        start |= {"message": mean.unsqueeze(1).repeat(1, clients, 1)}
        start |= {name: nothing.unsqueeze(-1) for name in ("compute", "send")}
        return Instance(
            problem=Shared(clients=clients * ones, active=self.taking_part * ones),
            hidden=Own(data=data, mean=mean, computed=nothing),
            start=start,
            floor=torch.zeros_like(mean[:, 0]),
        )

    def answer(self, state: State, action: Action) -> Answer:
        action = parts(self.name, action, tuple(self.agent_action_fields()))
        hidden: Own = state.hidden
        active = self._drawn(state.key, state.calls["round"])
        asked = torch.where(active, action["compute"].squeeze(-1), 0)
        least = dict(zip(GRADIENTS, (INNER, ALL, ALL), strict=True))
        paid = {kind: self._paid(state, kind, asked >= least[kind]) for kind in GRADIENTS}
        sends = self._paid(state, "upload", active & (action["send"].squeeze(-1) > 0))
        rounds = sends.any(-1)
        left = self.left(state, "round")
        if left is not None:
            rounds = rounds & (left > 0)
        sends = sends & rounds.unsqueeze(-1)
        weight = sends.unsqueeze(-1).to(hidden.mean.dtype)
        total = (weight * action["message"]).sum(1) / weight.sum(1).clamp_min(1)
        mean = torch.where(rounds.unsqueeze(-1), total, hidden.mean)
        calls = {kind: counted.sum(-1) for kind, counted in paid.items()}
        calls |= {"round": rounds.long(), "upload": sends.sum(-1)}
        done = state.calls["round"] + calls["round"]
        observation = {name: action[name] for name in ("x", "y", "inner")}
        observation |= self._gradients(state, action, active, paid)
        observation["active"] = self._drawn(state.key, done).unsqueeze(-1).to(mean.dtype)
        observation |= {"mean": mean, "round": done.unsqueeze(-1).to(mean.dtype)}
        merit, metrics = state.merit, dict(state.metrics)
        if not metrics or not self.measures_merit:  # else those of the last evaluation stand
            merit, metrics = self._measured(hidden.data, mean)
        computed = hidden.computed + (asked > 0)
        return Answer(
            observation=observation,
            merit=merit,
            metrics=metrics,
            solved=None if self.tolerance is None else merit <= self.tolerance,
            hidden=Own(data=hidden.data, mean=mean, computed=computed),
            calls=calls,
        )

    def _drawn(self, keys: Keys, rounds: Int64[Tensor, "B"]) -> Bool[Tensor, "B N"]:
        """Who takes part in the round after so many."""
        order = bits(keys, "clients of a round", self.clients, rounds).argsort(-1).argsort(-1)
        return order < self.taking_part

    def _paid(self, state: State, kind: str, wanted: Bool[Tensor, "B N"]) -> Bool[Tensor, "B N"]:
        """What the rest of the budget pays, client by client."""
        left = self.left(state, kind)
        return wanted if left is None else wanted & (wanted.cumsum(-1) <= left.unsqueeze(-1))

    def _gradients(
        self, state: State, action: dict[str, Tensor], active: Bool[Tensor, "B N"], paid: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """The answers, zeros where nothing is paid; computed for those alone who take part."""
        count, width = self.taking_part, sum(self.sizes)
        chosen = active.to(torch.int8).argsort(dim=-1, descending=True, stable=True)[:, :count]  # (B, K)

        def rows(leaf: Tensor) -> Tensor:
            index = chosen.reshape(*chosen.shape, *[1] * (leaf.ndim - 2)).expand(-1, -1, *leaf.shape[2:])
            return leaf.gather(1, index).flatten(0, 1)

        keys = rows(fold_in(fold_in(state.key.unsqueeze(-1), self._indices), state.hidden.computed))
        above, below = self.batches(tree_map(rows, state.hidden.data), keys)
        x, y, inner = (rows(action[name]) for name in ("x", "y", "inner"))
        asked = {
            "inner_gradient": (self.lower, below, inner),
            "upper_gradient": (self.upper, above, y),
            "lower_gradient": (self.lower, below, y),
        }
        answers = {}
        for kind, (function, batch, at) in asked.items():
            if _looks(x) and not bool(paid[kind].any()):
                answers[kind] = x.new_zeros(len(chosen), self.clients, width)
                continue
            slopes = value_and_gradient(lambda a, b, f=function, d=batch: f(d, a, b), (x, at))[1]
            found = torch.cat(slopes, -1).unflatten(0, (-1, count))
            whole = torch.zeros(len(chosen), self.clients, width, dtype=found.dtype, device=found.device)
            whole = whole.scatter(1, chosen.unsqueeze(-1).expand(-1, -1, width), found)
            answers[kind] = torch.where(paid[kind].unsqueeze(-1), whole, 0.0)
        return answers

    @property
    def _indices(self) -> Int64[Tensor, "N"]:
        return torch.arange(self.clients, device=self.torch_device)

    def _measured(self, data: Any, mean: Float[Tensor, "B w"]) -> tuple[Tensor, dict[str, Tensor]]:
        n, m = self.sizes
        return self.measure(data, mean[:, :n], mean[:, n : n + m])

    def evaluate(self, state: State) -> State:
        if not self.measures_merit:
            return state
        with torch.no_grad():
            merit, metrics = self._measured(state.hidden.data, state.hidden.mean)
        merit = torch.where(merit.isfinite(), merit, state.merit)
        best = torch.minimum(state.best, merit)
        reward = REWARDS[self.reward](Progress(merit, best, state.best, state.floor))
        return dataclasses.replace(state, metrics=metrics, merit=merit, best=best, reward=reward)


def _looks(like: Tensor) -> bool:
    """Whether the host may look at what is paid, so that the rest is not computed."""
    recorded = like.device.type != "cpu" or inside_transform(like)
    return not recorded and not (torch.is_grad_enabled() and like.requires_grad)

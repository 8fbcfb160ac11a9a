"""A small problem of many agents for the tests: private quadratics, random pairs that exchange messages."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from optenvs.core.env import Action, Answer, Instance, State
from optenvs.core.multi import MultiAgentEnv
from optenvs.core.random import Keys, integers, normal
from optenvs.core.spaces import box
from optenvs.core.struct import struct

IDLE, GRADIENT, EXCHANGE = range(3)


@struct
class Own:
    """What a node may know of itself: its curvature, ``(B, N, 1)``."""

    curvature: Tensor


@struct
class Facts:
    """What a node may know: a rate for all, ``(B, 1)``, and its own."""

    rate: Tensor
    local: Own


@dataclass(frozen=True, eq=False, kw_only=True)
class Gossip(MultiAgentEnv):
    """Node i owns f_i(x) = a_i/2 |x - b_i|^2. An event is a gradient at one node, or an exchange of two.

    Args:
        synchronous: every node is asked for a gradient and exchanges with its partner in every step.
        shared: messages are public, and the nodes propose one recommendation together.
        bound: of the query.
    """

    count: int = 5
    dim: int = 2
    synchronous: bool = False
    shared: bool = False
    bound: float = 50.0

    agent_name = "node"
    oracles = ("gradient",)
    bill = {"gradient": 1}  # noqa: RUF012 (as authors write it)

    @property
    def agents(self) -> int:
        return self.count

    @property
    def public(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("message",) if self.shared else ()

    @property
    def announcement(self) -> tuple[str, ...]:  # type: ignore[override]
        return () if self.synchronous else ("event",)

    @property
    def reply(self) -> tuple[str, ...]:  # type: ignore[override]
        return () if self.synchronous else ("answered", "gradient", "message")

    def agent_action_fields(self) -> dict[str, spaces.Box]:
        return {
            "query": box((self.dim,), self.dtype, -self.bound, self.bound),
            "message": box((self.dim,), self.dtype),
        }

    def agent_observation_fields(self) -> dict[str, spaces.Box]:
        vector, kind = box((self.dim,), self.dtype), box((1,), "int64", 0, EXCHANGE)
        return {"point": vector, "gradient": vector, "message": vector, "answered": kind, "event": kind}

    def team_action_fields(self) -> dict[str, spaces.Box]:
        return {"recommendation": box((self.dim,), self.dtype)} if self.shared else {}

    def asked(self, state: State) -> Tensor:
        return state.observation["event"].squeeze(-1) > 0

    def answered(self, state: State) -> Tensor:
        if self.synchronous:
            return super().answered(state)
        return state.observation["answered"].squeeze(-1) > 0

    def sample(self, keys: Keys) -> Instance:
        size, dtype = (self.count, self.dim), self.torch_dtype
        centre = normal(keys, "centre", size, dtype=dtype)
        curvature = 1 + normal(keys, "curvature", (self.count, 1), dtype=dtype).abs()
        start = normal(keys, "start", size, dtype=dtype)
        action = {"query": start, "message": torch.zeros_like(start)}
        if self.shared:
            action["recommendation"] = start.mean(1)
        facts = Facts(rate=torch.full_like(curvature[:, 0], 0.2), local=Own(curvature=curvature))
        nobody = torch.zeros_like(curvature[..., 0], dtype=torch.int64)
        return Instance(problem=facts, hidden=(centre, nobody, nobody), start=action)

    def _event(self, state: State) -> tuple[Tensor, Tensor]:
        """Kind and partner of every node's part in the event after query k, ``(B, N)`` each."""
        node = torch.arange(self.count).expand(len(state.k), -1)
        first = integers(state.key, "first", 1, self.count, counter=state.k)
        other = (first + 1 + integers(state.key, "other", 1, self.count - 1, counter=state.k)) % self.count
        exchange = integers(state.key, "kind", 1, 2, counter=state.k) == 1
        if self.synchronous:
            return torch.full_like(node, EXCHANGE), (node + 1 + first % (self.count - 1)) % self.count
        ends = (node == first) | ((node == other) & exchange)
        kind = torch.where(ends, torch.where(exchange, EXCHANGE, GRADIENT), IDLE)
        partner = torch.where(node == first, other, first)
        return kind, torch.where(kind == EXCHANGE, partner, node)

    def answer(self, state: State, action: Action) -> Answer:
        centre, kind, partner = state.hidden
        query, said = action["query"], action["message"]
        gradient = state.problem.local.curvature * (query - centre)
        heard = said.gather(1, partner.unsqueeze(-1).expand_as(said))
        computes = kind == GRADIENT
        if self.synchronous:
            computes = torch.ones_like(computes)
        following, with_whom = self._event(state)
        stands = action["recommendation"].unsqueeze(1) if self.shared else query
        merit = (state.problem.local.curvature * (stands - centre).square()).sum(-1).mean(-1) / 2
        observation = {
            "point": query,
            "gradient": torch.where(computes.unsqueeze(-1), gradient, 0.0),
            "message": torch.where((kind == EXCHANGE).unsqueeze(-1), heard, 0.0),
            "answered": kind.unsqueeze(-1),
            "event": following.unsqueeze(-1),
        }
        return Answer(
            observation=observation,
            merit=merit,
            metrics={"value": merit},
            hidden=(centre, following, with_whom),
        )


@dataclass(frozen=True, eq=False)
class Descend:
    """A node's rule: a step along its gradient, the middle between itself and its partner."""

    needs = ("gradient",)

    def init(self, problem: Any, observation: dict[str, Tensor], keys: Keys) -> Any:
        return {"x": observation["point"], "curvature": problem.local.curvature}

    def act(self, state: Any, observation: dict[str, Tensor]) -> tuple[Action, Any]:
        x = state["x"] - 0.2 * observation["gradient"] / state["curvature"]
        met = observation["answered"] == EXCHANGE
        x = torch.where(met, (x + observation["message"]) / 2, x)
        asked_to_talk = observation["event"] == EXCHANGE
        return {"query": x, "message": torch.where(asked_to_talk, x, 0.0)}, state | {"x": x}


MODES: dict[str, dict[str, Any]] = {
    "events": {},
    "rounds": {"synchronous": True},
    "a team's events": {"shared": True},
    "a team's rounds": {"synchronous": True, "shared": True},
}
"""Keywords of the forms that a problem of many agents can have."""

SAID = (
    # what PettingZoo's tests say of dicts and of spaces without bounds, which are so by design
    r"Observation is not a NumPy array",
    r"(Observation|Action) space for each agent probably should be gymnasium\.spaces\.box or",
    r"Agent's (minimum|maximum) action space value is -?infinity\.",
)


@contextlib.contextmanager
def zoo_tests() -> Iterator[None]:
    """Run PettingZoo's tests here: what they print is dropped, and what they say by design is no error."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        for message in SAID:
            warnings.filterwarnings("ignore", message=message)
        yield

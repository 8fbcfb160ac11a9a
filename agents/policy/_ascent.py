"""What policy-search agents share: an estimate d of the gradient of J, and a step along it.

    theta_{t+1} = theta_t + gamma_t d_t, or along d_t / |d_t|,     gamma_t = lr (2 / (t + 2))^power

The iterate theta_t is the recommendation; where trajectories are drawn is the method's own choice. A method
writes :meth:`Ascent.estimate`, and what it asks beside the gradient at the iterate. Where d is 0 it does not
move. A row of which not all that was asked has been answered (the rest of its budget did not pay) has
finished, at the weights that it had.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.errors import check_oracles
from optenvs.core.offer import ANSWERED, WANT, Offer
from optenvs.core.oracles import inside_transform
from optenvs.core.random import Keys, uniform
from optenvs.core.struct import replace, select, struct

from ..core import Agent, Observation, by_row, require

Number = float | Float[Tensor, "B"]
HVP = {"paper": "product", "causal": "causal_product"}
"""The kinds that answer a product of the Hessian, by its form."""


@struct
class Climb:
    """Where a row stands.

    Attributes:
        x, last: theta_t and theta_{t-1}, ``(B, n)``.
        d: the last estimate of the gradient, ``(B, n)``.
        t: steps taken, ``(B, 1)``.
        key: of the agent's own draws.
        asked: what the last query wanted, ``(B, kinds)``.
        finished: rows that could not pay, ``(B,)``.
        own: what the method keeps besides.
        problem: what agents know.
    """

    x: Float[Tensor, "B n"]
    last: Float[Tensor, "B n"]
    d: Float[Tensor, "B n"]
    t: Float[Tensor, "B 1"]
    key: Int64[Tensor, "B"]
    asked: Int64[Tensor, "B kinds"]
    finished: Bool[Tensor, "B"]
    own: Any
    problem: Any


class Estimate(NamedTuple):
    """What a method makes of an answer.

    Attributes:
        d: the estimate of the gradient, ``(B, n)``.
        own: the method's further memory.
        moves: whether the row steps now, ``(B, 1)``; ``None`` for all.
        rate: gamma_t in place of the schedule's, ``(B, 1)``.
        way: along which to step in place of d, ``(B, n)``.
    """

    d: Float[Tensor, "B n"]
    own: Any = None
    moves: Bool[Tensor, "B 1"] | None = None
    rate: Float[Tensor, "B 1"] | None = None
    way: Float[Tensor, "B n"] | None = None


@dataclass(frozen=True, eq=False)
class Ascent(Agent):
    """A method that climbs J.

    Args:
        lr: gamma_0: a number, or a tensor ``(B,)`` with one an instance.
        power: of the step's decay; 0 keeps it constant.
        normalise: whether steps have the length gamma_t.
    """

    lr: Number = 0.1
    power: float = 1.0
    normalise: bool = True

    needs = ("policy_gradient",)

    def __post_init__(self) -> None:
        require(
            self, "lr", bool((torch.as_tensor(self.lr) > 0).all()), "a number > 0, or a tensor (B,) of such"
        )
        require(self, "power", 0 <= self.power < float("inf"), "a number >= 0")

    # What a method writes ----------------------------------------------------------------------

    @abc.abstractmethod
    def estimate(self, state: Climb, seen: Observation) -> Estimate:
        """The direction at ``state.x``, from what was asked there."""

    def ask(self, state: Climb) -> tuple[Mapping[str, bool | Tensor], dict[str, Tensor]]:
        """The kinds wanted next, and the places."""
        return {self.needs[0]: True}, {"x": state.x}

    def begun(self, x: Float[Tensor, "B n"]) -> Any:
        """The method's further memory at first."""
        return None

    # What it gets ------------------------------------------------------------------------------

    def init(self, problem: Any, observation: Observation, keys: Keys) -> Climb:
        offer_of(self, problem)
        x = observation["recommendation"]
        return Climb(
            x=x,
            last=x,
            d=torch.zeros_like(x),
            t=torch.zeros_like(x[:, :1]),
            key=keys,
            asked=torch.zeros_like(observation[ANSWERED]),
            finished=torch.zeros_like(keys, dtype=torch.bool),
            own=self.begun(x),
            problem=problem,
        )

    def act(self, state: Climb, observation: Observation) -> tuple[Action, Climb]:
        told = (observation[ANSWERED] >= state.asked).all(-1)
        after = _rows(told & self._has(state, observation), self._stepped(state, observation), state)
        after = replace(after, finished=state.finished | ~told)
        wanted, places = self.ask(after)
        action = after.problem.menu.query(wanted, **({"recommendation": after.x} | places))
        return action, replace(after, asked=action[WANT])

    def _has(self, state: Climb, observation: Observation) -> Bool[Tensor, "B"]:
        """Whether a row has been answered what the method reads: not by the query of ``reset``, maybe."""
        kinds, asked = state.problem.menu.kinds, state.asked.sum(-1) > 0
        return asked | (observation[ANSWERED][:, kinds.index(self.needs[0])] > 0)

    def _stepped(self, state: Climb, seen: Observation) -> Climb:
        found = self.estimate(state, seen)
        way = found.d if found.way is None else found.way
        way = unit(way) if self.normalise else way
        rate = self.decayed(self.lr, self.power, state) if found.rate is None else found.rate
        x = state.x + rate * way
        after = replace(state, x=x, last=state.x, d=found.d, t=state.t + 1, own=found.own)
        if found.moves is None:
            return after
        waiting = replace(state, d=found.d, own=found.own)
        return _rows(found.moves.squeeze(-1), after, waiting)

    def decayed(
        self, first: Number, power: float, state: Climb, ahead: int = 0, field: str = "lr"
    ) -> Float[Tensor, "B 1"]:
        """``first`` times (2 / (t + 2))^power, at the step of ``state``, or some steps ahead."""
        share = 2 / (state.t + (ahead + 2))
        share = share if power == 1 else share**power
        return share if isinstance(first, float) and first == 1 else by_row(field, first, state.x) * share


@dataclass(frozen=True, eq=False)
class Momentum(Ascent):
    """One with a momentum parameter eta_t = min(1, eta0 (2 / (t + 2))^eta_power).

    Args:
        eta0: a number > 0.
        eta_power: the power of its decay.
    """

    eta0: float = 1.0
    eta_power: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "eta0", self.eta0 > 0, "a number > 0")
        require(self, "eta_power", 0 <= self.eta_power < float("inf"), "a number >= 0")

    def averaged(
        self, state: Climb, old: Float[Tensor, "B n"], g: Float[Tensor, "B n"]
    ) -> Float[Tensor, "B n"]:
        """(1 - eta_t) old + eta_t g; g itself at first."""
        eta = self.eta(state)
        mean = (1 - eta) * old + eta * g
        return mean if self.eta0 >= 1 else torch.where(state.t == 0, g, mean)  # eta_0 = min(1, eta0)

    def eta(self, state: Climb, ahead: int = 0) -> Float[Tensor, "B 1"]:
        """eta_t."""
        return self.decayed(self.eta0, self.eta_power, state, ahead, "eta0").clamp(max=1)


def offer_of(agent: Agent, problem: Any) -> Offer:
    """What can be asked.

    Raises:
        OracleMismatch: a kind is missing.
        TypeError: it is no policy search.
    """
    offer = getattr(problem, "menu", None)
    if not isinstance(offer, Offer) or getattr(problem, "estimator", None) is None:
        raise TypeError(f"problem: expected a policy search, got {type(problem).__name__}")
    check_oracles(type(agent).__name__, agent.needs, "the problem", offer.kinds)
    return offer


def _rows(mask: Bool[Tensor, "B"], yes: Climb, no: Climb) -> Climb:
    """``select``, which costs nothing where the host may see that all rows go one way."""
    if mask.device.type == "cpu" and not inside_transform(mask) and bool(mask.all()):
        return yes
    return select(mask, yes, no)


def unit(d: Float[Tensor, "B n"]) -> Float[Tensor, "B n"]:
    """The way d / |d|, over all weights together; 0 where d is 0."""
    size = torch.linalg.vector_norm(d, dim=-1, keepdim=True)
    return d / torch.where(size > 0, size, 1.0)


def between(state: Climb) -> tuple[Float[Tensor, "B n"], Float[Tensor, "B n"]]:
    """A uniform point between theta_t and theta_{t-1}, one share a row, and theta_t - theta_{t-1}."""
    q = uniform(state.key, "between", 1, state.t.squeeze(-1).long(), state.x.dtype)
    return q * state.x + (1 - q) * state.last, state.x - state.last


def check_form(agent: Agent) -> None:
    """Raise ``ValueError`` unless ``hvp`` is a form of the product."""
    require(agent, "hvp", getattr(agent, "hvp", None) in HVP, " or ".join(map(repr, HVP)))

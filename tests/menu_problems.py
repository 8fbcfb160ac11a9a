"""A constrained program on the menu, with every form of price and place, for the tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from optenvs.core import Instance, State, static, struct
from optenvs.core.menu import Judgement, Kind, MenuEnv, Offer, Query
from optenvs.core.random import Keys, normal, uniform
from optenvs.core.spaces import box

LENGTHS = (3, 8, 5)
"""Tokens of each document."""


@struct
class Known:
    """What the agent may know: that the constraints are to be <= 0, and the menu."""

    lower: Tensor
    menu: Offer = static()


@dataclass(frozen=True, eq=False, kw_only=True)
class Program(MenuEnv):
    """Minimise a x^2 / 2 + x^4 / 12, summed, subject to |x|^2 <= 4 and sum x <= x_1 x_2 - 1.

    Attributes:
        computed: takes the names of the kinds that are computed.
        sizes: takes for how many rows, by kind.
    """

    dim: int = 4
    block: int = 3
    computed: list[str] | None = None
    sizes: dict[str, int] | None = None
    budget: Any = 1000

    def places(self) -> dict[str, Any]:
        return {
            "x": (self.dim,),
            "multipliers": (2,),
            "vector": (self.dim,),
            "block": (self.block, self.dim),
            "document": box((1,), "int64", 0, len(LENGTHS) - 1),
        }

    def menu(self) -> dict[str, Kind]:
        n, m = self.dim, self.block
        return {
            "value": Kind((), self.noted("value", lambda s, x, q: objective(s.hidden, x)), at=("x",)),
            "constraints": Kind((2,), self.noted("constraints", lambda s, x, q: constraints(x)), at=("x",)),
            "gradient": Kind(
                (n,), self.noted("gradient", lambda s, x, q: slope(s.hidden, x)), ("x",), slope_of="value"
            ),
            "jacobian": Kind(
                (2, n), self.noted("jacobian", lambda s, x, q: jacobian(x)), ("x",), slope_of="constraints"
            ),
            "lagrangian": Kind((n,), self.noted("lagrangian", lagrangian), ("x", "multipliers")),
            "product": Kind(
                (n,),
                self.noted("product", product),
                ("x", "multipliers", "vector"),
                slope_of="lagrangian",
                times="vector",
                dear=True,
            ),
            "products": Kind(
                (m, n),
                self.noted("products", lambda s, x, q: (s.hidden + x * x).unsqueeze(1) * q["block"]),
                ("x", "block"),
                bill={"hvp": m},
                slope_of="gradient",
                times="block",
                dear=True,
            ),
            "likelihood": Kind(
                (1,), self.noted("likelihood", likelihood), ("x", "document"), {"tokens": tokens}, least=3
            ),
        }

    def noted(self, name: str, function: Any) -> Any:
        def fn(state: State, query: Query) -> Tensor:
            if self.computed is not None:
                self.computed.append(name)
            if self.sizes is not None:
                self.sizes[name] = len(query["x"])
            return function(state, query["x"], query)

        return fn

    @property
    def bounded_below(self) -> bool:
        return False

    def sample(self, keys: Keys) -> Instance:
        start = normal(keys, "start", self.dim, dtype=self.torch_dtype)
        weights = uniform(keys, "weights", self.dim, dtype=self.torch_dtype, low=0.5, high=2.0)
        problem = Known(lower=torch.zeros_like(start[:, :2]), menu=self.card.offer)
        return Instance(problem=problem, hidden=weights, start=self.card.start(x=start))

    def judge(self, state: State, query: Query) -> Judgement:
        x = query["x"]
        violation = constraints(x).clamp_min(0).square().sum(-1)
        value = objective(state.hidden, x)
        merit = torch.where(violation > 0, 100 + violation, value)
        return Judgement(merit, {"value": value, "violation": violation}, merit < 0.01)


def objective(weights: Tensor, x: Tensor) -> Tensor:
    return (weights * x**2 / 2 + x**4 / 12).sum(-1)


def slope(weights: Tensor, x: Tensor) -> Tensor:
    return weights * x + x**3 / 3


def constraints(x: Tensor) -> Tensor:
    return torch.stack((x.square().sum(-1) - 4, x.sum(-1) - x[:, 0] * x[:, 1] + 1), -1)


def jacobian(x: Tensor) -> Tensor:
    swapped = torch.cat((x[:, 1:2], x[:, :1], torch.zeros_like(x[:, 2:])), -1)
    return torch.stack((2 * x, 1 - swapped), 1)


def lagrangian(state: State, x: Tensor, query: Query) -> Tensor:
    along = (query["multipliers"].unsqueeze(1) @ jacobian(x)).squeeze(1)
    return slope(state.hidden, x) + along


def product(state: State, x: Tensor, query: Query) -> Tensor:
    vector, multipliers = query["vector"], query["multipliers"]
    swapped = torch.cat((vector[:, 1:2], vector[:, :1], torch.zeros_like(vector[:, 2:])), -1)
    return (state.hidden + x**2 + 2 * multipliers[:, :1]) * vector - multipliers[:, 1:] * swapped


def likelihood(state: State, x: Tensor, query: Query) -> Tensor:
    return x.square().mean(-1, keepdim=True) * (1 + query["document"])


def tokens(state: State, query: Query) -> Tensor:
    lengths = torch.tensor(LENGTHS, device=state.k.device)
    return lengths[query["document"].squeeze(-1)]

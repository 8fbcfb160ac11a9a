"""What a family of two levels writes: sizes, instances, the functions of both levels, their slopes."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.env import State
from optenvs.core.menu import MenuEnv
from optenvs.core.offer import Function
from optenvs.core.oracles import hvp, value_and_gradient, vjp
from optenvs.core.random import Keys

from .parts import Draw, Own, Sizes, Solution


@dataclass(frozen=True, eq=False, kw_only=True)
class Levels(MenuEnv):
    """The functions of two levels; how they are asked and judged is :class:`~.base.Bilevel`'s."""

    @property
    @abc.abstractmethod
    def sizes(self) -> Sizes:
        """n, m and p."""

    @abc.abstractmethod
    def draw(self, keys: Keys) -> Draw:
        """One instance a key."""

    @abc.abstractmethod
    def upper(self, own: Own, x: Float[Tensor, "B n"], y: Float[Tensor, "B m"]) -> Float[Tensor, "B"]:
        """The upper objective F."""

    @abc.abstractmethod
    def lower(self, own: Own, x: Float[Tensor, "B n"], y: Float[Tensor, "B m"]) -> Float[Tensor, "B"]:
        """The lower objective f."""

    def constrain(self, own: Own, x: Float[Tensor, "B n"], y: Float[Tensor, "B m"]) -> Float[Tensor, "B p"]:
        """The constraints g; a family with constraints writes it."""
        return y[:, :0]

    @property
    def solvable(self) -> bool:
        """Whether there is :meth:`solve`."""
        return True

    @property
    def answers_solutions(self) -> bool:
        """Whether ``solution`` and ``hypergradient`` are on the menu: not those of a mini-batch."""
        return self.solvable and not self.stochastic

    def solve(self, own: Own, x: Float[Tensor, "B n"]) -> Solution:
        """The exact lower solution."""
        raise NotImplementedError

    def solution_price(self) -> Mapping[str, int | Function] | None:
        """What a solution costs beside its own name: the steps that it takes, by unit."""
        return None

    closed: ClassVar[bool] = False
    """Whether ``measure`` takes no lower solution, so that none is found to be judged."""

    @property
    def optimum_known(self) -> bool:
        """Whether instances know the least Phi."""
        return True

    @property
    def unique(self) -> bool | None:
        """Whether the lower problem has one solution at each x; ``None`` where nobody knows."""
        return None

    def drawn(self, state: State) -> Any:
        """The data that the answers to this query rest on: all, or a mini-batch; metrics rest on all."""
        return state.hidden.data

    @property
    def stochastic(self) -> bool:
        """Whether answers rest on mini-batches."""
        return False

    # What it may write out: slopes are made anew, in memory that is nobody else's -----------------

    def upper_slope(self, own: Own, x: Tensor, y: Tensor) -> tuple[Tensor, Float[Tensor, "B nm"]]:
        """The upper objective and its gradient."""
        value, slopes = value_and_gradient(lambda a, b: self.upper(own, a, b), (x, y))
        return value, torch.cat(slopes, -1)

    def lower_slope(self, own: Own, x: Tensor, y: Tensor) -> tuple[Tensor, Float[Tensor, "B nm"]]:
        """The lower objective and its gradient."""
        value, slopes = value_and_gradient(lambda a, b: self.lower(own, a, b), (x, y))
        return value, torch.cat(slopes, -1)

    def lower_gradient(self, own: Own, x: Tensor, y: Tensor) -> Float[Tensor, "B nm"]:
        """The gradient alone, where nobody wants the value."""
        return self.lower_slope(own, x, y)[1]

    def pull(
        self, own: Own, x: Tensor, y: Tensor, multipliers: Float[Tensor, "B p"]
    ) -> tuple[Float[Tensor, "B p"], Float[Tensor, "B nm"]]:
        """The constraints, and their Jacobian, transposed, by the multipliers."""
        g, parts = vjp(lambda a, b: self.constrain(own, a, b), (x, y), multipliers)
        return g, torch.cat(parts, -1)

    def second(
        self, own: Own, x: Tensor, y: Tensor, multipliers: Float[Tensor, "B p"] | None, vector: Tensor
    ) -> Float[Tensor, "B nm"]:
        """The Hessian of the lower Lagrangian by (x, y), by (0, vector)."""
        n = x.shape[1]

        def lagrangian(both: Tensor) -> Tensor:
            a, b = both[:, :n], both[:, n:]
            value = self.lower(own, a, b)
            if multipliers is None:
                return value
            return value + (multipliers * self.constrain(own, a, b)).sum(-1)

        along = torch.cat((torch.zeros_like(x), vector), -1)
        return hvp(lagrangian, torch.cat((x, y), -1), along)[2]

    def value(self, own: Own, x: Tensor) -> Float[Tensor, "B"]:
        """Phi(x)."""
        return self.upper(own, x, self.solve(own, x).y)

    def hypergradient(self, own: Own, x: Tensor) -> Float[Tensor, "B n"]:
        """The gradient of Phi; inherited where :meth:`solve` is a closed form that torch differentiates."""
        return value_and_gradient(lambda a: self.value(own, a), x)[1]

    def distance(self, own: Own, x: Tensor, y: Tensor, solution: Solution) -> Float[Tensor, "B"]:
        """The distance of y from the set of lower solutions; inherited for sets of one point."""
        return torch.linalg.vector_norm(y - solution.y, dim=-1)

    def values(
        self, own: Own, x: Tensor, solution: Solution
    ) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
        """Phi(x), and the least value of the lower problem there."""
        return self.upper(own, x, solution.y), self.lower(own, x, solution.y)

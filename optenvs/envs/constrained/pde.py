"""Control of a partial differential equation on a square, discretised by five-point differences."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.env import State
from optenvs.core.given import check_finite, check_whole
from optenvs.core.random import Keys, normal, uniform
from optenvs.core.struct import struct

from .base import Constrained
from .given import arrays
from .parts import Draw

DENSE_GRID = 15
"""The finest grid whose Jacobian and Hessians are on the menu."""
EQUATIONS = ("linear", "cubic")
_KAPPA = 0.1 / math.sqrt(15)
_COST = 0.1
_STEPS = 30


@struct
class Target:
    """The state that is wanted, ``(B, N * N)``."""

    state: Float[Tensor, "B m"]


@dataclass(frozen=True, eq=False, kw_only=True)
class ConstrainedPde(Constrained):
    """Find a control z whose state w is near a target: min |w - target|^2 / 2 + |z|^2 / 20 at Laplace w = -z.

    The problem of Hong, Na, Mahoney and Kolar (2023, section 5.3): a grid of N x N inner points of a square
    of side 2, w zero at its edge, h = 2 / (N + 1). The variables are x = (w, z), both column by column: entry
    i + N j is the point (i, j). So n = 2 N^2, m = N^2, the constraints are c = Laplace w + z, and the program
    is quadratic, its solution known. The target is sin(4 + kappa (i - (N + 1) / 2)) + cos(3 + kappa
    (j - (N + 1) / 2)), i and j from 1.

    Up to ``grid=15`` (n = 450) Jacobian and Hessians are on the menu; above it their products alone are
    (``jacobian_product``, ``adjoint_product``, ``hessian_product``), beside value, constraints and gradient.
    The gradients of the constraints never depend on each other.

    Args:
        grid: the number N of inner points a side.
        equation: ``linear``, or ``cubic``: Laplace w - w^3 + z = 0, a semilinear state equation (as in
            Tröltzsch 2010, chapter 4). Its minimum is not known, and above ``grid=15`` the least-squares
            multipliers are those of 30 steps of preconditioned conjugate gradients.
        kappa: the target's curvature; a pair ``(low, high)`` draws one for each instance, uniformly.
        perturbation: standard deviation of a normal perturbation of the start, which is all ones, like the
            multipliers.
        data: another target for all instances, ``{"target": array}`` of shape (N * N,), or (N, N) with entry
            [i, j].
        start, start_multipliers, nan, tolerance, ...: see :class:`optenvs.envs.constrained.base.Constrained`.
    """

    grid: int = 3
    equation: str = "linear"
    kappa: float | tuple[float, float] = _KAPPA
    perturbation: float = 0.0
    data: Any = None

    painter = "optenvs.envs.constrained.picture:control"

    def __post_init__(self) -> None:
        check_whole("grid", self.grid, 1)
        if self.equation not in EQUATIONS:
            raise ValueError(f"equation: expected one of {', '.join(EQUATIONS)}, got {self.equation!r}")
        ends = self.kappa if isinstance(self.kappa, tuple | list) else (self.kappa, self.kappa)
        if len(ends) != 2 or not -math.inf < ends[0] <= ends[1] < math.inf:
            raise ValueError(f"kappa: expected a number or (low, high) with low <= high, got {self.kappa!r}")
        check_finite("perturbation", self.perturbation, 0)
        if self.start is not None and self.perturbation:
            raise ValueError(f"perturbation: {self.perturbation!r} would have no effect beside start=")
        if self.data is not None and self.kappa != _KAPPA:
            raise ValueError(f"kappa: {self.kappa!r} would have no effect beside data=")
        _ = self._given_target
        super().__post_init__()

    @cached_property
    def _given_target(self) -> Tensor | None:
        if self.data is None:
            return None
        target, N = arrays("data", self.data, ("target",))["target"], self.grid
        if tuple(target.shape) not in ((N * N,), (N, N)):
            came = tuple(target.shape)
            raise ValueError(f"data: target: expected shape {(N * N,)} or {(N, N)}, got {came}")
        return target.mT.reshape(-1) if target.ndim == 2 else target

    @property
    def size(self) -> int:
        return 2 * self.grid**2

    @property
    def equality_count(self) -> int:
        return self.grid**2

    @property
    def dense(self) -> bool:
        return self.grid <= DENSE_GRID

    @property
    def linear(self) -> bool:
        """Whether the state equation is."""
        return self.equation == "linear"

    def draw(self, keys: Keys) -> Draw:
        N, dtype, m = self.grid, self.torch_dtype, self.equality_count
        if self._given_target is None:
            kappa = torch.tensor(self.kappa, dtype=dtype, device=keys.device)
            if kappa.ndim:
                kappa = kappa[0] + (kappa[1] - kappa[0]) * uniform(keys, "kappa", 1, dtype=dtype)
            place = torch.arange(1, N + 1, dtype=dtype, device=keys.device) - (N + 1) / 2
            along = kappa * place.expand(len(keys), N)
            target = (torch.cos(3 + along).unsqueeze(-1) + torch.sin(4 + along).unsqueeze(-2)).reshape(-1, m)
        else:
            target = self._given_target.to(keys.device, dtype).expand(len(keys), -1)
        start = torch.ones(len(keys), self.size, dtype=dtype, device=keys.device)
        if self.perturbation:
            start = start + self.perturbation * normal(keys, "start", self.size, dtype=dtype)
        data, optimum = Target(state=target), None
        if self.linear:  # I + L^2 / 10 is diagonal in the sines
            best = self._in_sines(target, lambda waves: 1 / (1 + _COST * waves**2))
            optimum = torch.cat((best, -self._laplace(best)), -1)
        return Draw(
            data=data,
            start=start,
            multipliers=torch.ones(len(keys), m, dtype=dtype, device=keys.device),
            optimum=optimum,
            lowest=None if optimum is None else self.objective(data, optimum),
        )

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """State and control, ``(B, m)`` each."""
        return x[..., : self.equality_count], x[..., self.equality_count :]

    def fields(self, x: Float[Tensor, "B n"]) -> tuple[Float[Tensor, "B N N"], Float[Tensor, "B N N"]]:
        """State and control over the square, entry [j, i] at the point (i, j)."""
        w, z = self._parts(x)
        return w.reshape(-1, self.grid, self.grid), z.reshape(-1, self.grid, self.grid)

    def _laplace(self, w: Float[Tensor, "*B m"]) -> Float[Tensor, "*B m"]:
        """The five-point Laplacian, w zero at the edge."""
        N = self.grid
        field = w.reshape(*w.shape[:-1], N, N)
        edged = torch.nn.functional.pad(field, (1, 1, 1, 1))
        near = edged[..., :-2, 1:-1] + edged[..., 2:, 1:-1] + edged[..., 1:-1, :-2] + edged[..., 1:-1, 2:]
        return ((near - 4 * field) * ((N + 1) / 2) ** 2).reshape(w.shape)

    def _bent(self, w: Tensor, y: Tensor) -> Tensor:
        """The state equation's derivative by w, a symmetric matrix, times ``y``."""
        return self._laplace(y) if self.linear else self._laplace(y) - 3 * w.square() * y

    @cached_property
    def _sines(self) -> tuple[Float[Tensor, "N N"], Float[Tensor, "N N"]]:
        """Eigenvectors of second differences on a line as columns, and the Laplacian's eigenvalues."""
        N = self.grid
        place = torch.arange(1, N + 1, dtype=torch.float64)
        vectors = math.sqrt(2 / (N + 1)) * torch.sin(math.pi * torch.outer(place, place) / (N + 1))
        values = -((N + 1) ** 2) * torch.sin(math.pi * place / (2 * (N + 1))).square()
        both = values.unsqueeze(-1) + values
        return vectors.to(self.torch_device, self.torch_dtype), both.to(self.torch_device, self.torch_dtype)

    def _in_sines(self, y: Float[Tensor, "B m"], factor: Any) -> Float[Tensor, "B m"]:
        """A function of the Laplacian times ``y``; ``factor`` is that function of the eigenvalues."""
        vectors, values = self._sines
        field = vectors @ y.reshape(-1, self.grid, self.grid) @ vectors
        return (vectors @ (factor(values) * field) @ vectors).reshape(y.shape)

    def objective(self, data: Target, x: Tensor) -> Tensor:
        w, z = self._parts(x)
        return (w - data.state).square().sum(-1) / 2 + _COST / 2 * z.square().sum(-1)

    def constraints(self, data: Target, x: Tensor) -> Tensor:
        w, z = self._parts(x)
        return self._laplace(w) + z - (0 if self.linear else w**3)

    def objective_slope(self, data: Target, x: Tensor) -> tuple[Tensor, Tensor]:
        w, z = self._parts(x)
        return self.objective(data, x), torch.cat((w - data.state, _COST * z), -1)

    def constraint_slopes(self, data: Target, x: Tensor) -> tuple[Tensor, Tensor]:
        m = self.equality_count
        own = torch.eye(m, dtype=x.dtype, device=x.device)
        K = self._laplace(own).expand(len(x), m, m)
        if not self.linear:
            K = K - 3 * torch.diag_embed(self._parts(x)[0].square())
        return self.constraints(data, x), torch.cat((K, own.expand(len(x), m, m)), -1)

    def lagrangian_hessian(self, data: Target, x: Tensor, multipliers: Tensor | None) -> Tensor:
        return torch.diag_embed(self._curvature(x, multipliers))

    def _curvature(self, x: Tensor, multipliers: Tensor | None) -> Float[Tensor, "B n"]:
        """The diagonal that the Lagrangian's Hessian is."""
        w, z = self._parts(x)
        bent = torch.ones_like(w)
        if not self.linear and multipliers is not None:
            bent = bent - 6 * w * multipliers
        return torch.cat((bent, torch.full_like(z, _COST)), -1)

    def jacobian_product(self, data: Target, x: Tensor, vector: Tensor) -> Tensor:
        along, beside = self._parts(vector)
        return self._bent(self._parts(x)[0], along) + beside

    def adjoint_product(self, data: Target, x: Tensor, covector: Tensor) -> Tensor:
        return torch.cat((self._bent(self._parts(x)[0], covector), covector), -1)

    def hessian_product(self, data: Target, x: Tensor, multipliers: Tensor, vector: Tensor) -> Tensor:
        return self._curvature(x, multipliers) * vector

    def best_multipliers(
        self, state: State, x: Tensor, seen: dict[str, Tensor]
    ) -> tuple[Tensor, Bool[Tensor, "B"]]:
        w, pull = self._parts(x)[0], seen["gradient"]
        aim = -self.jacobian_product(state.hidden.data, x, pull)
        full = torch.zeros_like(x[:, 0], dtype=torch.bool)
        if self.linear:
            return self._in_sines(aim, lambda waves: 1 / (1 + waves**2)), full
        if self.dense:
            return super().best_multipliers(state, x, seen)[0], full
        return self._conjugate(w, aim), full

    def _conjugate(self, w: Tensor, aim: Float[Tensor, "B m"]) -> Float[Tensor, "B m"]:
        """(K K + I)^-1 aim by conjugate gradients, preconditioned with w^2 at its mean."""
        mean = 3 * w.square().mean(-1)[:, None, None]

        def near(y: Tensor) -> Tensor:
            return self._in_sines(y, lambda waves: 1 / (1 + (waves - mean).square()))

        found, rest = torch.zeros_like(aim), aim
        turned = near(rest)
        along, size = turned, (rest * turned).sum(-1, keepdim=True)
        for _ in range(_STEPS):
            image = self._bent(w, self._bent(w, along)) + along
            bend = (along * image).sum(-1, keepdim=True)
            step = torch.where(bend > 0, size / bend.clamp_min(torch.finfo(bend.dtype).tiny), 0.0)
            found, rest = found + step * along, rest - step * image
            turned = near(rest)
            fresh = (rest * turned).sum(-1, keepdim=True)
            more = torch.where(size > 0, fresh / size.clamp_min(torch.finfo(size.dtype).tiny), 0.0)
            along, size = turned + more * along, fresh
        return found

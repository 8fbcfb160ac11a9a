"""The linear-quadratic regulator with a linear Gaussian policy, whose return has a closed form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.given import check_data, check_whole, given
from optenvs.core.random import Keys, normal, uniform
from optenvs.core.struct import struct
from optenvs.models.dense import Linear
from optenvs.models.policies import Gaussian
from optenvs.models.trajectories import Trajectories

from .task import Counter, Standing, Task, check_number

_DOUBLINGS = 16
"""A sum over time by doubling has 2^16 terms."""
_RICCATI = 1000
_SETTLED = 1e-14
"""The relative change that ends Riccati's iteration."""


@struct
class Plant:
    """Dynamics and costs."""

    A: Float[Tensor, "B n n"]
    B: Float[Tensor, "B n m"]
    Q: Float[Tensor, "B n n"]
    R: Float[Tensor, "B m m"]


@dataclass(frozen=True, kw_only=True)
class Lqr(Task):
    """s' = A s + B u with u ~ N(K s, std^2 I) and s_0 ~ N(0, I) costs s'Qs + u'Ru a step; the weights are K.

    With M = A + B K and P = Q + K'RK + g M'PM: J(K) = -[tr P + std^2 tr(R + g B'PB) / (1 - g)]. It is minus
    infinite where sqrt(g) M is not stable; such a row has diverged. Trajectories are cut after
    ``episode_length`` steps T, which biases their gradients by a share of g^T or so.

    A is normal with the spectral radius uniform in [0.7, 1.1], B normal, Q and R are unit matrices. The start
    is half of the optimal K, or nearer to it where that is not stable.

    Args:
        dim: n, coordinates of the state.
        actions: m, those of the action.
        std: of the actions.
        data: ``{"A": (n, n), "B": (n, m), "Q": (n, n), "R": (m, m), "start": (m * n,)}``.
    """

    episode_length: int = 100
    discount: float = 0.9
    dim: int = 2
    actions: int = 1
    std: float = 0.5

    holds = ("fisher",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("dim", self.dim)
        check_whole("actions", self.actions)
        check_number("std", self.std, 0)
        if self.discount == 1:
            raise ValueError("discount: expected a number in (0, 1) for lqr, whose cost never ends, got 1")
        check_data(self.data, self.shapes)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        n, m = self.dim, self.actions
        return {"A": (n, n), "B": (n, m), "Q": (n, n), "R": (m, m), "start": (m * n,)}

    @cached_property
    def policy(self) -> Gaussian:
        return Gaussian(Linear((self.dim,), self.actions), self.std)

    def draw(self, keys: Keys, dtype: torch.dtype) -> tuple[Plant, Tensor]:
        if self.data is not None:
            A, B, Q, R, start = (given(self.data, name, keys, dtype) for name in self.shapes)
            return Plant(A, B, Q, R), start
        n, m, double = self.dim, self.actions, torch.float64
        A = normal(keys, "A", (n, n), dtype=double)
        radius = _radius(A)
        size = uniform(keys, "radius", 1, dtype=double, low=0.7, high=1.1).squeeze(-1)
        A = A * (size / radius)[:, None, None]
        B = normal(keys, "B", (n, m), dtype=double)
        Q, R = (torch.eye(k, dtype=double, device=keys.device).expand(len(keys), k, k) for k in (n, m))
        plant = Plant(A, B, Q, R)
        gain, share = self.optimal(plant)[0], torch.full_like(size, 0.5)
        for _ in range(8):  # the optimal one is stable
            K = share[:, None, None] * gain
            stable = self.discount * _radius(A + B @ K) ** 2 < 0.95
            share = torch.where(stable, share, (1 + share) / 2)
        start = (share[:, None, None] * gain).flatten(1)
        return Plant(*(part.to(dtype) for part in (A, B, Q, R))), start.to(dtype)

    def play(
        self, world: Plant, x: Tensor, keys: Keys, stream: str, counter: Counter, count: int
    ) -> Trajectories:
        n, m, H = self.dim, self.actions, self.episode_length
        state = normal(keys, f"{stream} start", (count, n), counter, x.dtype)
        luck = self.std * normal(keys, stream, (H, count, m), counter, x.dtype)
        K = x.unflatten(1, (m, n))
        seen, done, costs = [], [], []
        for t in range(H):
            action = state @ K.mT + luck[:, t]
            seen.append(state)
            done.append(action)
            state, cost = self._moved(world, state, action)
            costs.append(cost)
        rewards = -torch.stack(costs, -1)
        states, actions = torch.stack(seen, 2), torch.stack(done, 2)
        return Trajectories(states, actions, rewards, torch.ones_like(rewards, dtype=torch.bool))

    def _moved(self, world: Plant, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """The next state, and what the step costs."""
        cost = (state * (state @ world.Q)).sum(-1) + (action * (action @ world.R)).sum(-1)
        return state @ world.A.mT + action @ world.B.mT, cost

    def begin(
        self, world: Plant, keys: Keys, stream: str, counter: Counter, count: int, dtype: torch.dtype
    ) -> Standing:
        return (normal(keys, f"{stream} start", (count, self.dim), counter, dtype),)

    def seen(self, standing: Standing) -> Tensor:
        return standing[0]

    def step(
        self, world: Plant, standing: Standing, action: Tensor, luck: Tensor
    ) -> tuple[Standing, Tensor, Tensor]:
        state, cost = self._moved(world, standing[0], action)
        return (state,), -cost, luck < 0

    def value(self, world: Plant, x: Tensor) -> Float[Tensor, "B"]:
        K, g = x.unflatten(1, (self.actions, self.dim)), self.discount
        P = _summed(world.Q + K.mT @ world.R @ K, g**0.5 * (world.A + world.B @ K))
        return self._return(world, P)

    def _return(self, world: Plant, P: Tensor) -> Float[Tensor, "B"]:
        g = self.discount
        later = _trace(world.R + g * world.B.mT @ P @ world.B)
        return -_trace(P) - self.std**2 * later / (1 - g)

    def optimal(self, world: Plant) -> tuple[Float[Tensor, "B m n"], Float[Tensor, "B n n"]]:
        """The best K, and its P, by Riccati's equation."""
        A, B, R, g = world.A, world.B, world.R, self.discount
        P, K = world.Q, torch.zeros_like(B.mT)
        goes_on = torch.ones_like(P[:, :1, :1], dtype=torch.bool)
        for _ in range(_RICCATI):
            K = torch.where(goes_on, -torch.linalg.solve_ex(R + g * B.mT @ P @ B, g * B.mT @ P @ A)[0], K)
            after = world.Q + g * A.mT @ P @ (A + B @ K)
            moved = (after - P).abs().amax((-2, -1), keepdim=True)
            P = torch.where(goes_on, after, P)
            # a row that has settled stays, or it would be another one in another batch
            goes_on = goes_on & (moved > _SETTLED * after.abs().amax((-2, -1), keepdim=True))
            if goes_on.device.type == "cpu" and not bool(goes_on.any()):
                break
        return K, P

    def best(self, world: Plant) -> Float[Tensor, "B"]:
        return self._return(world, self.optimal(world)[1])

    def fisher(self, world: Plant, x: Tensor) -> Float[Tensor, "B"]:
        """That of the discounted covariance of the states, divided by std^2."""
        K, g = x.unflatten(1, (self.actions, self.dim)), self.discount
        unit = torch.eye(self.dim, dtype=x.dtype, device=x.device)
        source = (1 - g) * unit + g * self.std**2 * world.B @ world.B.mT
        covariance = _summed(source, g**0.5 * (world.A + world.B @ K).mT)
        finite = covariance.isfinite().all(-1).all(-1)
        usable = torch.where(finite[:, None, None], covariance, unit)
        least = torch.linalg.eigvalsh(usable)[:, 0] / self.std**2
        return torch.where(finite, least, torch.inf)


def _summed(first: Float[Tensor, "B n n"], L: Float[Tensor, "B n n"]) -> Float[Tensor, "B n n"]:
    """The sum over t of (L^t)' first L^t, by doubling; infinite, or no number, where L is not stable."""
    for _ in range(_DOUBLINGS):
        first = first + L.mT @ first @ L
        L = L @ L
    return first


def _trace(matrix: Float[Tensor, "B n n"]) -> Float[Tensor, "B"]:
    return torch.diagonal(matrix, dim1=-2, dim2=-1).sum(-1)


def _radius(matrix: Float[Tensor, "B n n"]) -> Float[Tensor, "B"]:
    """The spectral radius: the limit of |M^(2^k)|^(1 / 2^k), of which no host has to be told."""
    size = torch.linalg.matrix_norm(matrix)
    unit, logarithm = matrix / size[:, None, None], size.log()
    for k in range(1, 41):
        unit = unit @ unit
        size = torch.linalg.matrix_norm(unit).clamp_min(1e-300)
        unit, logarithm = unit / size[:, None, None], logarithm + size.log() / 2**k
    return logarithm.exp()

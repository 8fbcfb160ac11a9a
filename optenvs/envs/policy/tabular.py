"""Random finite decision processes with a softmax policy, whose return has a closed form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.given import check_data, check_whole, given
from optenvs.core.random import Keys, normal, uniform
from optenvs.core.struct import struct
from optenvs.models.dense import Linear
from optenvs.models.policies import Categorical
from optenvs.models.trajectories import Trajectories, units

from .task import Counter, Standing, Task, check_number


@struct
class Mdp:
    """Transition probabilities, rewards, and how it starts."""

    P: Float[Tensor, "B S A S2"]
    r: Float[Tensor, "B S A"]
    rho: Float[Tensor, "B S"]


@dataclass(frozen=True, kw_only=True)
class Tabular(Task):
    """``dim`` states and ``actions``; the weight (a, s) is the logit of action a in state s.

    pi(a | s) = (1 - e) softmax + e / A, with e = ``explore``. J comes of one linear system; trajectories
    are cut after ``episode_length`` steps. Next states of a Garnet process: ``branches`` of them for each
    state and action, with shares between sorted uniform numbers; rewards are uniform in [0, 1), the start is
    uniform, the first weights are 0. J* is the best of all policies of that form: of e = 0 a supremum.

    Args:
        dim: S, the number of states.
        actions: A.
        branches: next states that have a probability.
        explore: e, in [0, 1).
        start_std: of the first weights.
        data: ``{"P": (S, A, S), "r": (S, A), "rho": (S,), "start": (A * S,)}``.
    """

    episode_length: int = 50
    discount: float = 0.9
    dim: int = 5
    actions: int = 3
    branches: int = 2
    explore: float = 0.0
    start_std: float = 0.0

    holds = ("scores",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("dim", self.dim, 2)
        check_whole("actions", self.actions, 2)
        check_whole("branches", self.branches)
        if self.branches > self.dim:
            raise ValueError(f"branches: expected at most dim, {self.dim}, got {self.branches}")
        if self.discount == 1:
            raise ValueError(
                "discount: expected a number in (0, 1) for tabular, whose reward never ends, got 1"
            )
        if self.start_std:
            check_number("start_std", self.start_std, 0)
        _ = self.policy
        check_data(self.data, self.shapes)
        if self.data is not None and not self._distributions:
            raise ValueError("data: P, rho: expected numbers >= 0 that sum to 1 over their last dimension")

    @property
    def _distributions(self) -> bool:
        assert self.data is not None
        given = (torch.as_tensor(self.data[name], dtype=torch.float64) for name in ("P", "rho"))
        return all(bool((p >= 0).all() and ((p.sum(-1) - 1).abs() < 1e-6).all()) for p in given)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        S, A = self.dim, self.actions
        return {"P": (S, A, S), "r": (S, A), "rho": (S,), "start": (A * S,)}

    @cached_property
    def policy(self) -> Categorical:
        return Categorical(Linear((self.dim,), self.actions), self.explore)

    def draw(self, keys: Keys, dtype: torch.dtype) -> tuple[Mdp, Tensor]:
        if self.data is not None:
            P, r, rho, start = (given(self.data, name, keys, dtype) for name in self.shapes)
            return Mdp(P, r, rho), start
        S, A, k, double = self.dim, self.actions, self.branches, torch.float64
        chosen = uniform(keys, "branches", (S, A, S), dtype=double).argsort(-1)[..., :k]
        cuts = uniform(keys, "shares", (S, A, k - 1), dtype=double).sort(-1).values
        ends = torch.nn.functional.pad(torch.nn.functional.pad(cuts, (0, 1), value=1.0), (1, 0))
        P = torch.zeros(len(keys), S, A, S, dtype=double, device=keys.device)
        P = P.scatter(-1, chosen, ends.diff(dim=-1))
        r = uniform(keys, "rewards", (S, A), dtype=double)
        start = self.start_std * normal(keys, "weights", A * S, dtype=double)
        rho = torch.full_like(r[:, :, 0], 1 / S)
        return Mdp(P.to(dtype), r.to(dtype), rho.to(dtype)), start.to(dtype)

    def play(
        self, world: Mdp, x: Tensor, keys: Keys, stream: str, counter: Counter, count: int
    ) -> Trajectories:
        S, A, H = self.dim, self.actions, self.episode_length
        luck = uniform(keys, stream, (H, 2, count), counter, x.dtype)
        ends, rewards = self._ends(world), world.r.flatten(1)
        state = self._first(world, luck[:, 0, 1])
        policy, seen, done, paid = self.policy, [], [], []
        for t in range(H):
            shown = units(state, S, x.dtype)
            action = policy.act(x, shown, luck[:, t, 0])
            seen.append(shown)
            done.append(action)
            place = state * A + action
            paid.append(rewards.gather(1, place))
            if t + 1 < H:
                state = self._next(ends, place, luck[:, t + 1, 1])
        paid = torch.stack(paid, -1)
        mask = torch.ones_like(paid, dtype=torch.bool)
        return Trajectories(torch.stack(seen, 2), torch.stack(done, -1), paid, mask)

    def _ends(self, world: Mdp) -> Float[Tensor, "B SA S1"]:
        """Where the shares of next states end; the last one ends at 1 only to rounding, and is left out."""
        return world.P.flatten(1, 2).cumsum(-1)[..., :-1]

    def _first(self, world: Mdp, luck: Float[Tensor, "B N"]) -> Int64[Tensor, "B N"]:
        return (luck.unsqueeze(-1) >= world.rho.cumsum(-1)[:, None, :-1]).sum(-1)

    def _next(
        self, ends: Float[Tensor, "B SA S1"], place: Int64[Tensor, "B N"], luck: Float[Tensor, "B N"]
    ) -> Int64[Tensor, "B N"]:
        """The state after ``place``, a state and an action, S A of them."""
        shares = ends.gather(1, place.unsqueeze(-1).expand(-1, -1, self.dim - 1))
        return (luck.unsqueeze(-1) >= shares).sum(-1)

    def begin(
        self, world: Mdp, keys: Keys, stream: str, counter: Counter, count: int, dtype: torch.dtype
    ) -> Standing:
        return (self._first(world, uniform(keys, f"{stream} start", count, counter, dtype)),)

    def seen(self, standing: Standing) -> Tensor:
        return units(standing[0], self.dim, torch.float32)

    def step(
        self, world: Mdp, standing: Standing, action: Tensor, luck: Tensor
    ) -> tuple[Standing, Tensor, Tensor]:
        place = standing[0] * self.actions + action
        after = self._next(self._ends(world), place, luck)
        return (after,), world.r.flatten(1).gather(1, place), luck < 0

    def shares(self, x: Float[Tensor, "B n"]) -> Float[Tensor, "B S A"]:
        """pi(a | s)."""
        logits = x.unflatten(1, (self.actions, self.dim)).mT
        return (1 - self.explore) * logits.softmax(-1) + self.explore / self.actions

    def _chain(self, world: Mdp, x: Tensor) -> tuple[Tensor, Tensor]:
        """I - g P_pi, and r_pi."""
        shares = self.shares(x)
        moves = torch.einsum("bsa,bsat->bst", shares, world.P)
        unit = torch.eye(self.dim, dtype=x.dtype, device=x.device)
        return unit - self.discount * moves, (shares * world.r).sum(-1)

    def value(self, world: Mdp, x: Tensor) -> Float[Tensor, "B"]:
        system, reward = self._chain(world, x)
        return (world.rho * torch.linalg.solve_ex(system, reward)[0]).sum(-1)

    def best(self, world: Mdp) -> Float[Tensor, "B"]:
        """By policy iteration, on the process in which an action is carried out with the share 1 - e."""
        e = self.explore
        P = (1 - e) * world.P + e * world.P.mean(2, keepdim=True)
        r = (1 - e) * world.r + e * world.r.mean(2, keepdim=True)
        chosen = r.argmax(-1)
        unit, values = torch.eye(self.dim, dtype=r.dtype, device=r.device), r[..., 0]
        for _ in range(2 * self.dim * self.actions):  # it settles after a few
            taken = units(chosen, self.actions, r.dtype)
            system = unit - self.discount * torch.einsum("bsa,bsat->bst", taken, P)
            values = torch.linalg.solve_ex(system, (taken * r).sum(-1))[0]
            ahead = r + self.discount * torch.einsum("bsat,bt->bsa", P, values)
            better = ahead.amax(-1) > ahead.gather(-1, chosen.unsqueeze(-1)).squeeze(-1) + 1e-12
            chosen = torch.where(better, ahead.argmax(-1), chosen)
        return (world.rho * values).sum(-1)

    def fisher(self, world: Mdp, x: Tensor) -> Float[Tensor, "B"]:
        """0 to rounding, ``explore`` or not: a number added to all logits of a state changes nothing."""
        system, _ = self._chain(world, x)
        visits = (1 - self.discount) * torch.linalg.solve_ex(system.mT, world.rho)[0]
        soft = x.unflatten(1, (self.actions, self.dim)).mT.softmax(-1)
        shares, slope = self.shares(x), (1 - self.explore)
        jacobian = slope * (torch.diag_embed(soft) - soft.unsqueeze(-1) * soft.unsqueeze(-2))
        blocks = jacobian @ (jacobian / shares.clamp_min(1e-300).unsqueeze(-1))
        return (visits * torch.linalg.eigvalsh(blocks)[..., 0]).amin(-1)

"""Hidden nodes that climb the energy of features, each on its sphere, and collect irreps together.

* State: the N points on the unit sphere of R^2M where the nodes are, and the pairs that are known.
* Query: a point for every node; what counts is its direction. A point without one (0) leaves its node where
  it is.
* Answer: the points on the sphere, the energy E of each, and its gradient, before it is projected.
* Bill: an ``ascent`` (energy and gradient) a node.

The team's merit is what is missing of the irreps, conjugates together and without the trivial one: of each
the share of power that its best node has not. A node holds an irrep with 90 % of its power. To collect them
is a coupon collector's problem (theorem 8), which Muon, moving all nodes together, shortens.

Tian 2025 (arXiv 2509.21519), theorems 1, 2, 7 and 8, with the energies corrected: see
:mod:`~optenvs.envs.grokking.energy`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.env import Action, Answer, Instance, State
from optenvs.core.errors import only_part
from optenvs.core.given import check_choice, check_data, check_whole, is_number, numbers
from optenvs.core.multi import MultiAgentEnv
from optenvs.core.random import Keys, normal, permutation
from optenvs.core.spaces import box
from optenvs.core.struct import struct

from .base import tables_of
from .energy import Tables, exact, sampled, shares
from .groups import Group, group_of
from .network import ACTIVATIONS

HELD = 0.9
"""The share of a node's power with which it holds an irrep."""
_PIECE = 1 << 22  # numbers of a table of nodes x M x M at once


@struct
class Problem:
    """What an agent may know: M, a row an instance.

    Attributes:
        order: of the group, ``(B, 1)``.
    """

    order: Int64[Tensor, "B 1"]


@struct
class Hidden:
    """The numbers a M + b of the pairs that are known, ``(B, n)``; empty where all are, with x^2."""

    pairs: Int64[Tensor, "B n"]


@dataclass(frozen=True, eq=False, kw_only=True)
class FeatureEnergy(MultiAgentEnv):
    """N nodes that climb E(w) = |Y~' sigma(X w)|^2 / 2 on the unit sphere. One query: a point a node.

    Args:
        group: a name or a table, see :mod:`~optenvs.envs.grokking.groups`.
        nodes: N.
        activation: ``square``, ``relu``, ``silu``, ``relu_squared`` or ``tanh``.
        fraction: the share of the M^2 pairs that E is summed over, drawn by each instance, (0, 1].
        fitted: numbers of irreps (orbits, from 1 on, as ``env.algebra.irreps.orbits`` lists them) that other
            nodes have fitted: E is what the rest of z has, and only the others can be
            missing.
        data: ``None``, or a mapping with ``start``, the nodes' first points ``(N, 2M)``.
        budget, reward, tolerance, device, dtype: see :class:`optenvs.core.OptimizationEnv`; the tolerance is
            how much of the irreps may be missing.
    """

    group: Any = "Z7"
    nodes: int = 16
    activation: str = "square"
    fraction: float = 1.0
    fitted: tuple[int, ...] = ()
    data: Mapping[str, Any] | None = None
    budget: int | Mapping[str, int] | None = 64_000
    tolerance: float | None = 0.01
    dtype: str = "float64"

    agent_name: ClassVar[str] = "node"
    public: ClassVar[tuple[str, ...]] = ("point", "energy")  # like nodes repel each other
    oracles: ClassVar[tuple[str, ...]] = ("energy", "ascent")  # type: ignore[assignment]
    meanings: ClassVar[dict[str, str]] = {
        "action": "a point for each node; its direction counts",
        "query": "a point for the node; its direction counts",
        "point": "where the node is, on the unit sphere",
        "energy": "E at the node",
        "ascent": "the gradient of E at the node",
        "metric energy": "the mean over the nodes of E / M",
        "value": "what is missing of the irreps: of each the share of power that its best node has not",
        "gap": "the same",
        "covered": "irreps that some node holds",
        "purity": "mean over the nodes of the largest share of one irrep in a node's power",
        "reached": "share of the nodes within 1 % of the largest energy of their irrep",
    }
    painter = "optenvs.envs.grokking.picture:energies"

    def __post_init__(self) -> None:
        check_whole("nodes", self.nodes)
        check_choice("activation", self.activation, tuple(ACTIVATIONS))
        if not (is_number(self.fraction) and 0 < self.fraction <= 1):
            raise ValueError(f"fraction: expected a share in (0, 1], got {self.fraction!r}")
        super().__post_init__()  # the device, before anything goes there
        orbits, order = self.algebra.irreps.orbits, self.algebra.order
        if order < 2 or math.floor(self.fraction * order**2 + 1e-9) < 1:
            raise ValueError(
                f"group, fraction: {self.group!r}, {self.fraction!r} leave no pair of two elements"
            )
        fitted = self.fitted
        fits = isinstance(fitted, tuple | list) and all(
            type(k) is int and 0 < k < len(orbits) for k in fitted
        )
        if not fits or len(set(fitted)) < len(fitted) or len(fitted) > len(orbits) - 2:
            raise ValueError(
                f"fitted: expected different numbers in 1 .. {len(orbits) - 1}, not all of them, "
                f"got {fitted!r}"
            )
        check_data(self.data, {"start": (self.nodes, 2 * order)})
        if self.data is not None and not (np.abs(numbers(self.data["start"])).max(1) > 0).all():
            raise ValueError("data: start: expected nodes other than 0")

    @cached_property
    def algebra(self) -> Group:
        """The group."""
        return group_of(self.group)

    @cached_property
    def tables(self) -> Tables:
        """The group as tensors."""
        return tables_of(self.algebra, self.torch_dtype, self.torch_device)

    @cached_property
    def _rest(self) -> Float[Tensor, "M M"] | None:
        """The projector of z onto what is not fitted."""
        if not self.fitted:
            return None
        kept = self.tables.basis * (1 - self.tables.owners[list(self.fitted)].sum(0))
        return kept @ self.tables.basis.mT

    @cached_property
    def _left(self) -> list[int] | None:
        """Places, without the trivial one, of the irreps that are not fitted; ``None`` for all."""
        every = range(1, len(self.algebra.irreps.orbits))
        return [k - 1 for k in every if k not in self.fitted] if self.fitted else None

    @property
    def _exact(self) -> bool:
        return self.fraction == 1 and self.activation == "square"

    @property
    def agents(self) -> int:
        return self.nodes

    @property
    def bill(self) -> dict[str, int]:
        return {"ascent": self.nodes, "energy": self.nodes}

    @cached_property
    def numbers(self) -> int:
        return max(super().numbers, self.nodes * self.algebra.order**2)

    def agent_action_fields(self) -> spaces.Box:
        return box((2 * self.algebra.order,), self.dtype)

    def agent_observation_fields(self) -> dict[str, spaces.Box]:
        point = box((2 * self.algebra.order,), self.dtype)
        return {"point": point, "energy": box((1,), self.dtype), "ascent": point}

    def sample(self, keys: Keys) -> Instance:
        order, dtype = self.algebra.order, self.torch_dtype
        shape = (self.nodes, 2 * order)
        if self.data is None:
            start = normal(keys, "nodes", shape, dtype=dtype)
        else:
            start = torch.tensor(numbers(self.data["start"]), dtype=dtype, device=keys.device)
            start = start.expand(len(keys), *shape).clone()
        every = permutation(keys, "split", order**2)
        pairs = every[:, :0] if self._exact else every[:, : math.floor(self.fraction * order**2 + 1e-9)]
        return Instance(
            problem=Problem(order=torch.full_like(keys, order).unsqueeze(1)),
            hidden=Hidden(pairs=pairs),
            start=start,
            floor=torch.zeros_like(start[:, 0, 0]),
        )

    def answer(self, state: State, action: Action) -> Answer:
        points = only_part(self.name, action)
        size = torch.linalg.vector_norm(points, dim=-1, keepdim=True)
        before = state.observation.get("point", points)
        nodes = torch.where(size == 0, before, points / torch.where(size == 0, 1.0, size))
        energy, ascent = self._ask(state.hidden, nodes)
        held = shares(self.tables, nodes)
        share, owner = held.max(-1)
        best = held[..., 1:].amax(1)  # of each irrep, over the nodes
        best = best if self._left is None else best[:, self._left]
        missing = (1 - best).clamp_min(0).sum(-1)
        missing = torch.where(energy.isfinite().all(-1), missing, torch.nan)
        covered = (best > HELD).to(nodes.dtype).sum(-1)
        metrics = {"value": missing, "gap": missing, "covered": covered, "purity": share.mean(-1)}
        metrics["energy"] = energy.mean(-1) / self.algebra.order
        if self._exact and not self.fitted:
            metrics["reached"] = (energy > 0.99 * self.tables.largest[owner]).to(nodes.dtype).mean(-1)
        return Answer(
            observation={"point": nodes, "energy": energy.unsqueeze(-1), "ascent": ascent},
            merit=missing,
            metrics=metrics,
            solved=None if self.tolerance is None else missing <= self.tolerance,
        )

    def _ask(self, hidden: Hidden, nodes: Float[Tensor, "B N w"]) -> tuple[Tensor, Tensor]:
        """Energy and gradient."""
        order = self.algebra.order
        if self._exact:
            pieces = nodes.flatten(0, 1).split(max(1, _PIECE // order**2))
            energies, slopes = zip(*(exact(self.tables, piece, self._rest) for piece in pieces), strict=True)
            return torch.cat(energies).view(nodes.shape[:2]), torch.cat(slopes).view_as(nodes)
        pairs = torch.stack((hidden.pairs // order, hidden.pairs % order), -1)
        targets = self.tables.table.flatten()[hidden.pairs]
        return sampled(nodes, pairs, targets, self.activation, self._rest)

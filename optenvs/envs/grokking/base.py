"""What the problems of group arithmetic share: the group, the network, the split, and what is measured."""

from __future__ import annotations

import abc
import dataclasses
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

from optenvs.core.env import Instance, OptimizationEnv, State
from optenvs.core.evaluations import Evaluations
from optenvs.core.given import check_finite, check_whole, is_number, numbers
from optenvs.core.random import Keys, permutation
from optenvs.core.spaces import box
from optenvs.core.struct import static, struct
from optenvs.models import Part

from . import expressions
from .energy import Tables
from .groups import Group, group_of
from .measures import measure, names_of
from .network import ACTIVATIONS, PRODUCT, GroupNetwork
from .objective import GroupObjective

CRITICAL = 2.7482
"""The official code's constant: it trains on the share ``ratio * 2.7482 ln(M)/M`` of all pairs."""
_MOST = 1 << 20  # tuples of operands
_ELEMENTS = 1 << 23  # hidden numbers of an evaluation at once


@struct
class Problem:
    """What an agent may know: the model as a pure function over a flat vector, and the loss.

    Attributes:
        objective: model and loss on any :class:`~optenvs.models.Part` of the tuples.
        ridge: eta of a top layer that the problem solves for itself; 0 where it is a parameter.
    """

    objective: GroupObjective = static()
    ridge: float = static(default=0.0)

    @property
    def model(self) -> GroupNetwork:
        """The model as a pure function."""
        model = self.objective.model
        assert isinstance(model, GroupNetwork)
        return model

    @property
    def fixed(self) -> None:
        """No slots of the model are frozen."""
        return None

    def loss(self, point: Tensor, inputs: Tensor, targets: Tensor) -> Float[Tensor, "B"]:
        """Loss of ``point`` ``(B, D)`` on tuples ``(B, m, operands)`` with products ``(B, m)``."""
        return self.objective.value(point, Part(inputs, targets))


@struct
class Hidden:
    """An instance's own parts, numbers of tuples, and the last evaluation."""

    train: Int64[Tensor, "B n"]
    test: Int64[Tensor, "B m"]
    evaluation: dict[str, Tensor]


@dataclass(frozen=True, eq=False, kw_only=True)
class Arithmetic(OptimizationEnv):
    """A network that learns a group's product from some of the pairs.

    Args:
        group: a name (``Z23``, ``Z4xZ7``, ``D5``, ``Q8``, ``S4``, ``A5``, ``Z7:Z3``) or a table ``(M, M)``:
            see :mod:`~optenvs.envs.grokking.groups`.
        width: K, the number of hidden nodes.
        activation: ``square``, ``relu``, ``silu``, ``relu_squared`` or ``tanh``.
        fraction: the share p of the M^2 pairs that an instance trains on, (0, 1]; the rest tests.
        ratio: in place of ``fraction``: p = ratio * 2.7482 ln(M)/M, at most 1, times max d_k / 2 where some
            irrep has a dimension d_k above 2 (the official code's choice; the theorem's factor is d_k^2).
        data: ``None``, or a mapping with ``train``, the numbers a M + b of the training pairs, ``weights``,
            the first query, or both; they are those of all instances.
        goal: the test accuracy above which an episode ends, at the query after the evaluation that finds it;
            ``None`` for never.
        evaluation_period: queries between two evaluations, or the numbers of the queries that they follow.
        budget, reward, tolerance, device, dtype: see :class:`optenvs.core.OptimizationEnv`.
    """

    group: Any = "Z23"
    width: int = 256
    activation: str = "square"
    fraction: float = 0.8
    ratio: float | None = None
    data: Mapping[str, Any] | None = None
    goal: float | None = None
    evaluation_period: Evaluations = 10
    budget: int | Mapping[str, int] | None = 3000
    dtype: str = "float64"

    meanings: ClassVar[dict[str, str]] = {
        "point": "the parameters at which it was answered",
        "value": "the loss on the training pairs",
        "gradient": "its gradient by the parameters",
        "loss": "the loss on the training pairs",
        "train_accuracy": "share of the training pairs that are got right, as last measured",
        "test_loss": "the loss on the other pairs, as last measured",
        "test_accuracy": "share of the other pairs that are got right, as last measured",
        "purity": "mean over the nodes of the largest share of one irrep in a node's power",
        "irreps": "irreps (conjugates together) that are the largest in some node",
        "energy": "median over the nodes of E(w) / M at the normalised node, all pairs, x^2",
        "signal": "|G_F|, of what the hidden activations are pulled to",
        "alignment": "cosine of G_F and Y~ Y~' F~",
        "off_diagonal": "mean off-diagonal over mean diagonal, in size, of F~' F~",
    }
    painter = "optenvs.envs.grokking.picture:grokking"

    # What an author writes ---------------------------------------------------------------------

    @property
    @abc.abstractmethod
    def network(self) -> GroupNetwork:
        """The model as a pure function."""

    @property
    @abc.abstractmethod
    def objective(self) -> GroupObjective:
        """Model and loss."""

    @abc.abstractmethod
    def whole(self, state: State, some: slice) -> tuple[Tensor, Tensor | None]:
        """All parameters of some instances, V among them, and what is added to the outputs, ``(B, 1, M)``."""

    @property
    def operands(self) -> int:
        """How many elements are multiplied."""
        return 2

    @property
    def expression(self) -> str | None:
        """What is computed modulo M in place of a product."""
        return None

    # What it gets ------------------------------------------------------------------------------

    def __post_init__(self) -> None:
        check_whole("width", self.width)
        check_whole("operands", self.operands, 2)
        known = (*ACTIVATIONS, PRODUCT) if hasattr(self, "complex_weights") else tuple(ACTIVATIONS)
        if self.activation not in known:
            raise ValueError(f"activation: expected one of {', '.join(known)}, got {self.activation!r}")
        self._check_share()
        if self.goal is not None and not (is_number(self.goal) and 0 <= self.goal < 1):
            raise ValueError(f"goal: expected a test accuracy in [0, 1) or None, got {self.goal!r}")
        super().__post_init__()  # the device, before anything goes there
        if self.algebra.order < 2:
            raise ValueError(f"group: expected at least two elements, got {self.group!r}")
        if self.algebra.order**self.operands > _MOST:
            raise ValueError(
                f"operands: expected at most {_MOST} tuples, got {self.algebra.order} ** {self.operands}"
            )
        if self.train_count < 1:
            raise ValueError(f"fraction: {self.share:.3g} of {self.total} pairs leaves none to train on")
        _ = self.objective, self.tuples, self._given

    def _check_share(self) -> None:
        if not (is_number(self.fraction) and 0 < self.fraction <= 1):
            raise ValueError(f"fraction: expected a share in (0, 1], got {self.fraction!r}")
        if self.ratio is not None:
            check_finite("ratio", self.ratio)
            if self.ratio <= 0:
                raise ValueError(f"ratio: expected a number > 0 or None, got {self.ratio!r}")
            if self.fraction != type(self).fraction:
                raise ValueError(
                    f"fraction: {self.fraction!r} would have no effect beside ratio={self.ratio!r}"
                )

    @cached_property
    def algebra(self) -> Group:
        """The group."""
        return group_of(self.group)

    @property
    def total(self) -> int:
        """The number of all tuples."""
        return self.algebra.order**self.operands

    @cached_property
    def share(self) -> float:
        """p, the share of the tuples that train."""
        if self.ratio is None:
            return float(self.fraction)
        order = self.algebra.order
        factor = 1.0 if self.algebra.abelian else max(1.0, float(self.algebra.irreps.dims.max()) / 2)
        return min(1.0, self.ratio * factor * CRITICAL * math.log(order) / order)

    @property
    def train_count(self) -> int:
        """n, the number of training tuples."""
        train = self._given.get("train")
        # a product that a decimal share misses by rounding is meant
        return math.floor(self.share * self.total + 1e-9) if train is None else len(train)

    @cached_property
    def tuples(self) -> Part:
        """All tuples and their products, shared by all instances: ``(1, M^operands, operands)``."""
        order = self.algebra.order
        grids = np.meshgrid(*[np.arange(order)] * self.operands, indexing="ij")
        every = np.stack([grid.ravel() for grid in grids], 1)
        if self.expression is not None:
            found = expressions.evaluate(self.expression, every, order)
        else:
            found = every[:, 0]
            for column in every.T[1:]:
                found = self.algebra.table[found, column]
        inputs, targets = (
            torch.tensor(x, dtype=torch.int64, device=self.torch_device) for x in (every, found)
        )
        return Part(inputs.unsqueeze(0), targets.unsqueeze(0))

    @cached_property
    def tables(self) -> Tables:
        """The group as tensors, for what is measured."""
        return tables_of(self.algebra, self.torch_dtype, self.torch_device)

    @cached_property
    def _given(self) -> dict[str, Tensor]:
        """What ``data`` gives, checked."""
        if self.data is None:
            return {}
        known = ("train", "weights")
        if not isinstance(self.data, Mapping) or not self.data or not {*self.data} <= {*known}:
            came = sorted(map(str, self.data)) if isinstance(self.data, Mapping) else self.data
            raise ValueError(f"data: expected a mapping of {' and '.join(known)}, got {came!r}")
        found = {}
        if "train" in self.data:
            if self.ratio is not None or self.fraction != type(self).fraction:
                raise ValueError("data: train: would leave fraction and ratio without effect")
            train = numbers(self.data["train"])
            fits = train.ndim == 1 and len(train) and len(np.unique(train)) == len(train)
            if not fits or not (np.isin(train, np.arange(self.total))).all():
                raise ValueError(f"data: train: expected different whole numbers in 0 .. {self.total - 1}")
            found["train"] = torch.tensor(train, dtype=torch.int64, device=self.torch_device)
        if "weights" in self.data:
            weights, size = numbers(self.data["weights"]), self.network.size
            if weights.shape != (size,) or not np.isfinite(weights).all():
                came = f"shape {weights.shape}" if weights.shape != (size,) else "some that are not"
                raise ValueError(f"data: weights: expected {size} finite numbers, got {came}")
            found["weights"] = torch.tensor(weights, dtype=self.torch_dtype, device=self.torch_device)
        return found

    @property
    def oracles(self) -> tuple[str, ...]:
        return ("value", "gradient")

    @property
    def bill(self) -> dict[str, int]:
        return {"gradient": 1, "value": 1}

    @cached_property
    def numbers(self) -> int:
        return max(super().numbers, self.train_count * self.width)

    def action_fields(self) -> spaces.Box:
        return box((self.network.size,), self.dtype)

    def observation_fields(self) -> dict[str, spaces.Space]:
        size = (self.network.size,)
        point = box(size, self.dtype)
        return {"point": point, "value": box((1,), self.dtype), "gradient": point}

    def sample(self, keys: Keys) -> Instance:
        batch, train, weights = len(keys), self._given.get("train"), self._given.get("weights")
        if train is None:
            order = permutation(keys, "split", self.total)
        else:
            rest = torch.ones(self.total, dtype=torch.bool, device=keys.device)
            rest[train] = False
            order = torch.cat((train, rest.nonzero().squeeze(1))).expand(batch, -1)
        drawn = self.network.draw(keys, self.torch_dtype)
        start = drawn if weights is None else weights.expand_as(drawn).clone()
        nothing = torch.full_like(start[:, 0], torch.nan)
        return Instance(
            problem=self.told(),
            hidden=Hidden(
                train=order[:, : self.train_count],
                test=order[:, self.train_count :],
                evaluation=dict.fromkeys(names_of(self.network, self.expression is None), nothing),
            ),
            start=start,
            floor=torch.zeros_like(nothing),
        )

    def told(self) -> Problem:
        """What agents may know."""
        return Problem(objective=self.objective)

    def part(self, index: Int64[Tensor, "B n"]) -> Part:
        """Tuples by number."""
        inputs, targets = self.tuples.inputs[0], self.tuples.targets[0]
        chosen = inputs.index_select(0, index.flatten()).view(*index.shape, self.operands)
        return Part(chosen, targets[index])

    def solved(self, state: State, loss: Float[Tensor, "B"]) -> Tensor | None:
        """Whether the loss is within the tolerance, or the goal was reached when last measured."""
        solved = None if self.tolerance is None else loss <= self.tolerance
        if self.goal is None:
            return solved
        reached = state.hidden.evaluation["test_accuracy"] > self.goal
        return reached if solved is None else solved | reached

    def evaluate(self, state: State) -> State:
        hidden: Hidden = state.hidden
        at_once = max(1, _ELEMENTS // (self.total * max(self.width, self.algebra.order)))
        found = []
        with torch.no_grad():
            for first in range(0, len(state.k), at_once):
                some = slice(first, first + at_once)
                point, added = self.whole(state, some)
                parts = self.part(hidden.train[some]), self.part(hidden.test[some])
                exact = self.expression is None
                found.append(measure(self.full, point.detach(), parts, self.tables, exact, added))
        evaluation = {name: torch.cat([group[name] for group in found]) for name in found[0]}
        return dataclasses.replace(
            state,
            metrics=state.metrics | evaluation,
            hidden=dataclasses.replace(hidden, evaluation=evaluation),
        )

    @property
    def full(self) -> GroupObjective:
        """The objective whose model has V, for what is measured."""
        return self.objective


def tables_of(group: Group, dtype: torch.dtype, device: torch.device) -> Tables:
    """A group as tensors."""
    irreps = group.irreps
    owners = irreps.owners == np.arange(len(irreps.orbits))[:, None]

    def whole(x: np.ndarray) -> Tensor:
        return torch.tensor(x, dtype=torch.int64, device=device)

    def real(x: np.ndarray) -> Tensor:
        return torch.tensor(x, dtype=dtype, device=device)

    return Tables(
        table=whole(group.table),
        shifted=whole(group.table[group.inverse]),
        inverse=whole(group.inverse),
        basis=real(irreps.basis),
        owners=real(owners),
        largest=real(irreps.largest_energies),
    )

"""What a surrogate problem is made of, apart from how it is asked."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.struct import static, struct

WORST = 1e30
"""The value of a point that has none; a finite number in both precisions."""


@dataclass(frozen=True)
class Task(abc.ABC):
    """Network, objective and constraints of a family of instances, as pure functions.

    A subclass is a frozen dataclass of plain numbers, so that a state which names it can be saved. What
    differs between instances is in their data, and in their ``aim``: what objective and constraints need
    to know (a target, a path), which is no secret; ``None`` where they need nothing.
    """

    unused: ClassVar[tuple[int, ...]] = ()
    """Outputs of the network on which the objective does not depend."""
    piecewise_linear: ClassVar[bool] = False
    """Whether the network is layers ``data.weight``, ``data.bias`` with ReLU between them, and the objective
    its one output."""

    @property
    @abc.abstractmethod
    def outputs(self) -> int:
        """The number p of the network's outputs."""

    @property
    def constraint_count(self) -> int:
        """The number q of constraints."""
        return 0

    @abc.abstractmethod
    def network(self, data: Any, x: Float[Tensor, "B m n"]) -> Float[Tensor, "B m p"]:
        """Phi."""

    @abc.abstractmethod
    def objective(self, y: Float[Tensor, "*B p"], aim: Any = None) -> Float[Tensor, "*B"]:
        """The function f of the outputs, which is maximised."""

    @abc.abstractmethod
    def slope(self, y: Float[Tensor, "*B p"], aim: Any = None) -> Float[Tensor, "*B p"]:
        """The gradient of f."""

    def constraints(
        self, x: Float[Tensor, "B m n"], y: Float[Tensor, "B m p"], aim: Any = None
    ) -> Float[Tensor, "B m q"]:
        """The functions c, satisfied where <= 0."""
        return x[..., :0]

    def active(self, penalised: bool) -> Bool[Tensor, "p"]:
        """The outputs that matter: not the network's ``unused`` ones."""
        used = torch.ones(self.outputs + (self.constraint_count if penalised else 0), dtype=torch.bool)
        used[list(self.unused)] = False
        return used


def beside(row: Float[Tensor, "B r"], y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """One row an instance, ``(B, r)``, or ``(B, 1, r)`` where ``y`` is ``(B, m, p)``."""
    return row if row.ndim == y.ndim else row.unsqueeze(-2)


@struct
class Draw:
    """One instance a key.

    Attributes:
        data: the network's weights and whatever else differs between instances; leading dimension ``B``.
        start: the first point, ``(B, n)``.
        lower, upper: the box in which to search, ``(B, n)`` each.
        best_known: the least value known, ``(B,)``, or ``None``.
        aim: what objective and constraints know of the instance, or ``None``.
    """

    data: Any
    start: Float[Tensor, "B n"]
    lower: Float[Tensor, "B n"]
    upper: Float[Tensor, "B n"]
    best_known: Float[Tensor, "B"] | None = None
    aim: Any = None


@struct
class Memory:
    """What the environment keeps: the best point so far with its merit, and the instance's data.

    The data are ``None`` where the agent is handed them.
    """

    data: Any
    best_point: Float[Tensor, "B n"]
    best_merit: Float[Tensor, "B"]


@struct
class Problem:
    """What an agent may know.

    Attributes:
        lower, upper: the box in which to search, ``(B, n)`` each.
        active: 1 for the outputs that matter, ``(B, p)``.
        aim: what objective and constraints know of the instance, or ``None``.
        weights: the instance's data where the network is a white box, else ``None``.
        task: the objective on outputs and its gradient; with ``weights`` also the network.
        penalised: whether the outputs end with the violated constraints.
        boxed: whether no query may leave the box.
    """

    lower: Float[Tensor, "B n"]
    upper: Float[Tensor, "B n"]
    active: Float[Tensor, "B p"]
    aim: Any
    weights: Any
    task: Task = static()
    penalised: bool = static()
    boxed: bool = static()

    def slope(self, outputs: Float[Tensor, "B p"]) -> Float[Tensor, "B p"]:
        """The gradient, by the outputs, of what is *maximised*: of f, and of f - |z|^2 with the penalty."""
        if not self.penalised:
            return self.task.slope(outputs, self.aim)
        raw, violated = outputs[..., : self.task.outputs], outputs[..., self.task.outputs :]
        return torch.cat((self.task.slope(raw, self.aim), -2 * violated), -1)

    def outputs(self, x: Float[Tensor, "B m n"]) -> Float[Tensor, "B m p"]:
        """The outputs at ``x`` of a white box; with the penalty the violated constraints too.

        Raises:
            ValueError: it is none.
        """
        if self.weights is None:
            raise ValueError("white_box: the network of this problem is hidden; make it with white_box=True")
        raw = self.task.network(self.weights, x)
        if not self.penalised:
            return raw
        return torch.cat((raw, self.task.constraints(x, raw, self.aim).clamp_min(0.0)), -1)


@struct
class Seen:
    """What the network says of m points, and what follows from it, ``(B, m)`` and ``(B, m, ...)``.

    Attributes:
        outputs: ``(B, m, p)``.
        constraints: ``(B, m, q)``, satisfied where <= 0.
        value: what is minimised in this formulation.
        violation: the sum of the squared violated constraints.
        failed: whether an output is no finite number; such a point is infeasible, and never a best.
    """

    outputs: Float[Tensor, "B m p"]
    constraints: Float[Tensor, "B m q"]
    value: Float[Tensor, "B m"]
    violation: Float[Tensor, "B m"]
    failed: Bool[Tensor, "B m"]

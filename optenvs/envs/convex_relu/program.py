"""Convex programs of two layers of rectified units, asked at a point.

* State: the point asked last, and the instance: inputs, targets, activation patterns, weight decay.
* Query: a point ``(2, P, d)``, the v then the w, and which kinds are wanted there.
* Answer: of what is wanted the objective, the loss, its gradient, the violation of the cones, the cost of the
  network that the point stands for.
* Bill: one of each kind answered, and ``columns``: vectors multiplied with X or its transpose, n d
  multiplications and additions each. What an agent computes by itself (the data are public) is on its own
  ledger.

The merit is |C(U) - p| / p + the largest violation of a cone over max(1, |X|), with p the optimum over the
patterns. That is found when an episode is drawn, by an interior-point method of our own to about ten digits
in some twenty to sixty steps, and proved by a dual point: the metric ``certificate`` is the share of p that
the proof leaves open. (The method of multipliers, which the paper is about, needs thousands of iterations
for as much, and a conic solver a package.) The cost of the recovered network is no merit: units of an
infeasible point leave the sampled patterns, and cost less than p may.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.env import Instance, State
from optenvs.core.given import check_choice, check_finite, check_whole, is_number
from optenvs.core.menu import Judgement, Kind, MenuEnv, Query
from optenvs.core.random import Keys
from optenvs.core.struct import replace, struct, tree_map
from optenvs.models.relu import (
    LOSSES,
    Gated,
    losses,
    network_cost,
    norms,
    outputs,
    pulled,
    recovered,
    slopes,
    violation,
)

from . import interior
from .instances import distinct, drawn, sizes_of, told

_LEAST = 1e-12


@struct
class Known:
    """The optimum of each instance, and the share of it that its proof leaves open, ``(B,)`` each."""

    value: Float[Tensor, "B"]
    open: Float[Tensor, "B"]


@dataclass(frozen=True, eq=False, kw_only=True)
class ConvexRelu(MenuEnv):
    """The training of two layers of rectified units as a convex program over sampled activation patterns.

    Bai, Gautam, Sojoudi, "Efficient Global Optimization of Two-Layer ReLU Networks", arXiv 2201.01965.
    Episodes begin at 0. See the module's docstring for what a query is and what it costs.

    Args:
        samples: n, of instances that are drawn: standard normal inputs, the outputs of a network of three
            units with noise for targets, or their signs for labels.
        dim: d; a drawn instance has no column of ones.
        patterns: P, gates drawn; of those that have one pattern the first counts, the others' blocks stay 0.
        noise: standard deviation of the targets' noise.
        beta: the weight decay.
        loss: ``squared``, ``logistic`` or ``hinge``, see :mod:`optenvs.models.relu`; sums over the samples.
        data: one instance given: ``{"X": (n, d), "y": (n,), "gates": (P, d)}``; it gives the sizes, and gates
            with the pattern of an earlier one are left out.
        tolerance: the merit at which an episode is solved.
        budget, reward, device, dtype: see :class:`optenvs.core.OptimizationEnv`; a number counts values.

    Raises:
        ValueError: data of other shapes, labels other than -1 and 1, no gate, or one on its cone's boundary.
    """

    samples: int = 20
    dim: int = 3
    patterns: int = 20
    noise: float = 0.1
    beta: float = 0.1
    loss: str = "squared"
    data: Mapping[str, Any] | None = None
    tolerance: float | None = 1e-6
    dtype: str = "float64"

    first = ("value", "gradient")
    unit = "value"
    painter = "optenvs.envs.convex_relu.picture:program"
    meanings: ClassVar[dict[str, str]] = {
        "point": "v_1 to v_P, then w_1 to w_P",
        "value": "the convex objective: loss and beta times the norms",
        "loss": "the loss alone",
        "gradient": "of the loss alone, by each block",
        "violation": "the largest violation of a cone, over max(1, |X|)",
        "network": "the cost of the network that the point stands for, weight decay included",
        "metric value": "the convex objective, feasible or not",
        "metric violation": "the largest violation of a cone, over max(1, |X|)",
        "metric network": "the cost of the network that the point stands for, no less than the global one",
        "gap": "|objective - optimum| / optimum, plus the violation: the merit",
        "optimum": "the least objective over the patterns",
        "certificate": "the share of the optimum that its dual proof leaves open",
        "units": "blocks that are not 0",
    }

    def __post_init__(self) -> None:
        check_choice("loss", self.loss, LOSSES)
        for name in ("samples", "dim", "patterns"):
            check_whole(name, getattr(self, name))
        check_finite("noise", self.noise, 0)
        if not (is_number(self.beta) and 0 < self.beta < float("inf")):
            raise ValueError(f"beta: expected a number > 0, got {self.beta!r}")
        if self.data is not None:
            for name in ("samples", "dim", "patterns", "noise"):
                if getattr(self, name) != getattr(type(self), name):
                    raise ValueError(f"{name}: {getattr(self, name)!r} would have no effect beside data=")
            sizes_of(self.data, self.loss)
        super().__post_init__()

    @cached_property
    def sizes(self) -> tuple[int, int, int]:
        """n, d and P."""
        if self.data is None:
            return self.samples, self.dim, self.patterns
        n, d, _ = sizes_of(self.data, self.loss)
        return n, d, len(distinct(self.data))

    def places(self) -> dict[str, Any]:
        _, d, P = self.sizes
        return {"point": (2, P, d)}

    def menu(self) -> dict[str, Kind]:
        _, d, P = self.sizes
        return {
            "value": Kind((1,), self._value, bill={"columns": P}),
            "gradient": Kind((2, P, d), self._gradient, bill={"columns": 2 * P}, slope_of="loss"),
            "loss": Kind((1,), self._loss, bill={"columns": P}),
            "violation": Kind((1,), lambda s, q: violation(s.problem, q["point"]), bill={"columns": 2 * P}),
            "network": Kind((1,), self._network, bill={"columns": 2 * P}),
        }

    def draw(self, keys: Keys) -> Gated:
        """One program a key, in float64."""
        if self.data is not None:
            return told(self.data, keys, self.beta, self.loss)
        n, d, P = self.sizes
        return drawn(keys, n, d, P, self.beta, self.loss, self.noise)

    def sample(self, keys: Keys) -> Instance:
        program = self.draw(keys)
        known = self._known(program)
        program = tree_map(lambda x: x.to(self.torch_dtype), program)
        _, d, P = self.sizes
        point = program.X.new_zeros(len(keys), 2, P, d)
        return Instance(
            problem=replace(program, menu=self.card.offer),
            hidden=tree_map(lambda x: x.to(self.torch_dtype), known),
            start=self.card.start(point=point),
            floor=torch.zeros_like(point[:, 0, 0, 0]),
        )

    @cached_property
    def _optimum(self) -> interior.Optimum:
        """Of data that are given: one instance, whatever the batch."""
        return interior.solve(self.draw(torch.zeros(1, dtype=torch.int64, device=self.torch_device)))

    def _known(self, program: Gated) -> Known:
        found = interior.solve(program) if self.data is None else self._optimum
        value, bound = (x.expand(len(program.beta)) for x in (found.value, found.bound))
        return Known(value, (value - bound) / value)

    # What is answered --------------------------------------------------------------------------

    def _outputs(self, state: State, query: Query) -> Float[Tensor, "B n"]:
        program = state.problem
        return query.once("outputs", lambda: outputs(program.X, program.D, query["point"]))

    def _loss(self, state: State, query: Query) -> Float[Tensor, "B"]:
        return losses(self.loss, self._outputs(state, query), state.problem.y)

    def _value(self, state: State, query: Query) -> Float[Tensor, "B"]:
        return self._loss(state, query) + state.problem.beta * norms(query["point"]).sum((-2, -1))

    def _gradient(self, state: State, query: Query) -> Float[Tensor, "B 2 P d"]:
        program = state.problem
        return pulled(program.X, program.D, slopes(self.loss, self._outputs(state, query), program.y))

    def _network(self, state: State, query: Query) -> Float[Tensor, "B"]:
        return network_cost(state.problem, *recovered(query["point"]))

    def judge(self, state: State, query: Query) -> Judgement:
        known, value = state.hidden, self._value(state, query)
        broken = violation(state.problem, query["point"])
        merit = (value - known.value).abs() / known.value.clamp_min(_LEAST) + broken
        metrics = {
            "value": value,
            "violation": broken,
            "network": self._network(state, query),
            "gap": merit,
            "optimum": known.value,
            "certificate": known.open,
            "units": (norms(query["point"]) > 0).sum((1, 2)).to(merit),
        }
        return Judgement(merit, metrics, None if self.tolerance is None else merit <= self.tolerance)

    def recordable(self, state: State) -> dict[str, Tensor]:
        """The point asked."""
        return {"point": state.observation["point"]}

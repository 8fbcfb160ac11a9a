"""Surrogates: maximise f(Phi(x)) subject to c(x, Phi(x)) <= 0, where Phi is a neural network.

* State: the network and the data of the instance, the best design so far.
* Query: one point; or up to m points, of which the oracle answers as far as the first success
  (an opportunistic poll), and a base point with a cotangent for a vector-Jacobian product.
* Answer: for each point answered the value (minimised: -f, or the penalty -(f - |z|^2)), the constraints,
  the network's outputs; the product.
* Bill: ``value``: points answered, the paper's cost; ``forward``: points that went through the network, all
  of a poll; ``vjp`` or ``jacobian``.

The problem and its two formulations are those of Bouchet and Vidal (2025, "Optimization by Directional
Attacks"). Everything is minimised here, so values have the sign opposite to the paper's.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.env import Action, Answer, Instance, OptimizationEnv, State
from optenvs.core.oracles import jvp, vjp
from optenvs.core.random import Keys
from optenvs.core.spaces import box

from .parts import WORST, Draw, Memory, Problem, Seen, Task

ORACLES = ("value", "vjp", "jacobian")
FORMULATIONS = ("penalty", "constraints")


@dataclass(frozen=True, eq=False, kw_only=True)
class Surrogate(OptimizationEnv):
    """A constrained problem on a network.

    Args:
        points: the most points m of a query, which is then a dict; ``None``: a query is one point, a Box.
        oracle: ``value``; ``vjp``: also the product of a cotangent with the Jacobian at a base point;
            ``jacobian``: the whole of it. The latter two need ``points``.
        formulation: ``penalty``: the merit f - |z|^2, where z are the violated constraints, appended to the
            network's outputs (the paper's reformulation); ``constraints``: f and the constraints apart.
        white_box: whether the agent is handed the network.
        start: a starting point in place of the instance's own, within the box that no query may leave.
        budget, reward, tolerance, device, dtype: see :class:`optenvs.core.OptimizationEnv`.

    With ``points`` a query has these fields:

    * ``points`` (m, n), of which the first ``count`` are asked, in order;
    * ``threshold``: the first point whose value is less (and, with constraints, whose violation is at most
      ``allowance``) is a success: the points after it are neither answered nor billed as values;
    * with another oracle ``base`` (n) and, for a product, ``cotangent`` (p); a zero cotangent asks nothing.
    """

    points: int | None = None
    oracle: str = "value"
    formulation: str = "penalty"
    white_box: bool = False
    start: Any = None
    budget: Any = 5000
    dtype: str = "float64"

    meanings: ClassVar[dict[str, str]] = {
        "point": "where the network was asked; the first so many, where a query has several points",
        "points": "the points asked, in order",
        "count": "how many of the points are asked",
        "threshold": "a point with a value below it is a success, after which nothing more is answered",
        "allowance": "the violation up to which a success may go",
        "base": "where the derivative is taken",
        "cotangent": "what the Jacobian is multiplied by from the left; zero asks for no product",
        "value": "the objective, at each point",
        "violation": "the squares of the violated constraints, summed",
        "constraints": "the constraints; positive is violated",
        "outputs": "what the network says, then with the penalty formulation the violated constraints",
        "failed": "1 where the network's answer is not a number that can be used",
        "evaluated": "1 for the points that were answered",
        "vjp": "the cotangent's product with the Jacobian",
        "jacobian": "the Jacobian at the base",
        "metric value": "the best merit of this query",
        "best": "the best merit so far",
        "feasible": "1 where the best point so far violates no constraint",
        "metric failed": "points of this query whose answer could not be used",
    }

    # What an author writes ---------------------------------------------------------------------

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """The number n of inputs."""

    @property
    @abc.abstractmethod
    def task(self) -> Task:
        """Network, objective and constraints as pure functions."""

    @abc.abstractmethod
    def draw(self, keys: Keys) -> Draw:
        """One instance a key."""

    @property
    def box_limits(self) -> tuple[float, float]:
        """The ends of the box that no query may leave; infinite where the box is a constraint like others."""
        return -float("inf"), float("inf")

    @property
    def ceiling(self) -> float:
        """A number that no feasible value exceeds: the merit of infeasible points begins there."""
        return 0.0

    def measure(self, data: Any, point: Float[Tensor, "B n"]) -> dict[str, Tensor]:
        """More metrics, of the best point so far, ``(B,)`` each."""
        return {}

    # What it gets ------------------------------------------------------------------------------

    def __post_init__(self) -> None:
        count = 1 if self.points is None else self.points
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"points: expected a whole number >= 1 or None, got {self.points!r}")
        if self.oracle not in ORACLES:
            raise ValueError(f"oracle: expected one of {', '.join(ORACLES)}, got {self.oracle!r}")
        if self.oracle != "value" and self.points is None:
            raise ValueError(f"points: oracle={self.oracle!r} needs a number of points a query, got None")
        if self.formulation not in FORMULATIONS:
            known = ", ".join(FORMULATIONS)
            raise ValueError(f"formulation: expected one of {known}, got {self.formulation!r}")
        if self.tolerance is not None and not self.bounded_below:
            why = f"no least value of {self.name} is known"
            raise ValueError(f"tolerance: {self.tolerance!r} would have no effect: {why}")
        super().__post_init__()
        _ = self.fixed_start  # what does not fit is an error now, not at the first reset

    @cached_property
    def fixed_start(self) -> Float[Tensor, "n"] | None:
        """Where every instance begins; ``None`` where each has a start of its own."""
        if self.start is None:
            return None
        try:
            point = torch.as_tensor(self.start, dtype=self.torch_dtype, device=self.torch_device)
        except (TypeError, ValueError, RuntimeError):
            point = torch.empty(0)  # words, or rows of several lengths
        if tuple(point.shape) != (self.size,) or not (point.isfinite().all() and self._inside(point)):
            where = f"numbers within {self.box_limits}" if self._boxed else "finite numbers"
            raise ValueError(f"start: expected {self.size} {where}, got {self.start!r}")
        return point

    @property
    def penalised(self) -> bool:
        """Whether violated constraints are outputs, and their squares part of the value."""
        return self.formulation == "penalty"

    @property
    def oracles(self) -> tuple[str, ...]:
        asked = ("value",) if self.points is None else ("value", "poll")
        return asked if self.oracle == "value" else (*asked, self.oracle)

    @property
    def bill(self) -> dict[str, int]:
        count = self.points or 1
        bill = {"value": count, "forward": count}
        if self.points is not None:
            bill["poll"] = 1
        return bill if self.oracle == "value" else bill | {self.oracle: 1}

    @property
    def fixed_cost(self) -> bool:
        return self.points is None

    @property
    def first_bill(self) -> dict[str, int]:
        kinds = dict.fromkeys(self.bill, 1)
        return kinds if self.oracle == "value" else kinds | {self.oracle: int(self.oracle == "jacobian")}

    def action_fields(self) -> spaces.Box | dict[str, spaces.Space]:
        low, high = self.box_limits
        if self.points is None:
            return box((self.size,), self.dtype, low, high)
        fields: dict[str, spaces.Space] = {
            "points": box((self.points, self.size), self.dtype, low, high),
            "count": box((1,), "int64", 0, self.points),
            "threshold": box((1,), self.dtype, -WORST, WORST),
        }
        if not self.penalised:
            fields["allowance"] = box((1,), self.dtype, 0.0, WORST)
        if self.oracle != "value":
            fields["base"] = box((self.size,), self.dtype, low, high)
        if self.oracle == "vjp":
            fields["cotangent"] = box((self.output_count,), self.dtype)
        return fields

    @property
    def output_count(self) -> int:
        """The number p of outputs: the network's, and with the penalty those of the constraints."""
        return self.task.outputs + (self.task.constraint_count if self.penalised else 0)

    def observation_fields(self) -> dict[str, spaces.Space]:
        count = () if self.points is None else (self.points,)
        real = self.dtype
        fields: dict[str, spaces.Space] = {
            "point": box((*count, self.size), real),
            "value": box(count or (1,), real),
            "outputs": box((*count, self.output_count), real),
            "failed": box(count or (1,), "int64", 0, 1),
        }
        if not self.penalised:
            fields["constraints"] = box((*count, self.task.constraint_count), real)
        if self.points is not None:
            fields["evaluated"] = box(count, "int64", 0, 1)
        if self.oracle == "vjp":
            fields["vjp"] = box((self.size,), real)
        if self.oracle == "jacobian":
            fields["jacobian"] = box((self.output_count, self.size), real)
        return fields

    def sample(self, keys: Keys) -> Instance:
        draw = self.draw(keys)
        fixed = self.fixed_start
        start = draw.start if fixed is None else fixed.repeat(len(keys), 1)
        worst = torch.full_like(start[:, 0], WORST)
        problem = Problem(
            lower=draw.lower,
            upper=draw.upper,
            active=self.task.active(self.penalised).to(start).expand(len(keys), -1),
            aim=draw.aim,
            weights=draw.data if self.white_box else None,
            task=self.task,
            penalised=self.penalised,
            boxed=self._boxed,
        )
        secret = None if self.white_box else draw.data
        memory = Memory(data=secret, best_point=start, best_merit=worst)
        query: Action = start
        if self.points is not None:
            query = {
                "points": start.unsqueeze(1).repeat(1, self.points, 1),
                "count": torch.ones(len(keys), 1, dtype=torch.int64, device=start.device),
                "threshold": -worst.unsqueeze(-1),
            }
            if not self.penalised:
                query["allowance"] = torch.zeros_like(worst).unsqueeze(-1)
            if self.oracle != "value":
                query["base"] = start
            if self.oracle == "vjp":
                query["cotangent"] = torch.zeros_like(problem.active)
        return Instance(problem=problem, hidden=memory, start=query, floor=draw.best_known)

    def look(self, data: Any, points: Float[Tensor, "B m n"], aim: Any = None) -> Seen:
        """What the network says of ``points``."""
        task = self.task
        raw = task.network(data, points)
        constraints = task.constraints(points, raw, aim)
        violated = constraints.clamp_min(0.0)
        violation = violated.square().sum(-1)
        value = -task.objective(raw, aim)
        outputs = raw
        if self.penalised:
            outputs, value = torch.cat((raw, violated), -1), value + violation
        worst = torch.finfo(points.dtype).max
        failed = ~((value.abs() <= worst) & (violation <= worst) & raw.isfinite().all(-1))
        lost = failed.unsqueeze(-1)
        return Seen(
            outputs=torch.where(lost, 0.0, outputs),
            constraints=torch.where(lost, WORST, constraints),
            value=torch.where(failed, WORST, value.clamp(max=WORST)),
            violation=torch.where(failed, WORST, violation.clamp(max=WORST)),
            failed=failed,
        )

    def answer(self, state: State, action: Action) -> Answer:
        memory: Memory = state.hidden
        data = state.problem.weights if self.white_box else memory.data
        if isinstance(action, dict):
            points, count = action["points"], action["count"]
        else:
            points, count = action.unsqueeze(1), torch.ones_like(state.k).unsqueeze(-1)
        for kind in ("value", "forward"):  # points that the rest does not pay are not answered
            left = None if self.points is None else self.left(state, kind)
            count = count if left is None else torch.minimum(count, left.unsqueeze(-1))
        seen = self.look(data, points, state.problem.aim)
        place = torch.arange(points.shape[1], device=points.device)
        answered = place < count
        if isinstance(action, dict):
            success = answered & (seen.value < action["threshold"]) & ~seen.failed
            if not self.penalised:
                success = success & (seen.violation <= action["allowance"])
            # all up to the first success, and it
            answered = answered & ((success.cumsum(-1) - success.long()) == 0)
        merit = self._merit(seen)
        credited = answered  # points outside of the box are answered and billed, and earn no credit
        if self._boxed:
            credited = answered & self._inside(points)
        least, index = torch.where(credited, merit, torch.inf).min(-1)
        best = points.gather(1, index[:, None, None].expand(-1, 1, self.size)).squeeze(1)
        better = least < memory.best_merit
        best_point = torch.where(better.unsqueeze(-1), best, memory.best_point)
        best_merit = torch.where(better, least, memory.best_merit)
        observation = self._observe(points, seen, answered)
        calls = {"value": answered.sum(-1), "forward": count.squeeze(-1)}
        if isinstance(action, dict):
            calls["poll"] = torch.ones_like(calls["value"])
            if self.oracle != "value":
                observation[self.oracle], calls[self.oracle] = self._derivative(state.problem, data, action)
        # a query of a derivative alone leaves the merit where it was
        if self._boxed:  # the truth where none earns credit
            least = torch.where(least < torch.inf, least, torch.where(answered, merit, torch.inf).amin(-1))
        merit_now = torch.where(least < torch.inf, least, best_merit)
        metrics = {"value": merit_now, "best": best_merit}
        if not self.penalised:
            metrics["feasible"] = (best_merit <= self.ceiling).to(points.dtype)
        metrics["failed"] = (seen.failed & answered).sum(-1).to(points.dtype)
        metrics |= self.measure(data, best_point)
        solved = None
        if state.floor is not None:
            metrics["gap"] = best_merit - state.floor
            if self.tolerance is not None:
                solved = metrics["gap"] <= self.tolerance
        return Answer(
            observation=observation,
            merit=merit_now,
            metrics=metrics,
            solved=solved,
            hidden=Memory(data=memory.data, best_point=best_point, best_merit=best_merit),
            calls=calls,
            outside=answered.any(-1) & ~credited.any(-1),
        )

    def recordable(self, state: State) -> dict[str, Tensor]:
        """``best_point``: the best design so far, ``(B, n)``."""
        return {"best_point": state.hidden.best_point}

    @property
    def _boxed(self) -> bool:
        return math.isfinite(self.box_limits[0])

    def _inside(self, points: Float[Tensor, "*B n"]) -> Bool[Tensor, "*B"]:
        low, high = self.box_limits
        return ((points >= low) & (points <= high)).all(-1)

    def _merit(self, seen: Seen) -> Float[Tensor, "B m"]:
        """Of each point: the value where it is feasible; else above the ceiling, the more it violates."""
        if self.penalised:
            return seen.value
        above = self.ceiling + seen.violation / (1 + seen.violation)
        return torch.where(seen.violation > 0, above, seen.value)

    def _observe(self, points: Tensor, seen: Seen, answered: Bool[Tensor, "B m"]) -> dict[str, Tensor]:
        def shown(rows: Tensor) -> Tensor:
            mask = answered if rows.ndim == 2 else answered.unsqueeze(-1)
            return torch.where(mask, rows, torch.zeros_like(rows))

        fields = {"point": points, "value": shown(seen.value), "outputs": shown(seen.outputs)}
        fields["failed"] = shown(seen.failed.long())
        if not self.penalised:
            fields["constraints"] = shown(seen.constraints)
        if self.points is not None:
            return fields | {"evaluated": answered.long()}
        single = {name: rows.squeeze(1) for name, rows in fields.items() if rows.ndim == 3}
        return fields | single

    def _derivative(self, problem: Problem, data: Any, action: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The product or the Jacobian that the query asks for, and how many are billed."""
        base = action["base"]

        def outputs(x: Tensor) -> Tensor:
            return self.look(data, x, problem.aim).outputs

        if self.oracle == "vjp":
            cotangent = action["cotangent"]
            asked = (cotangent != 0).any(-1)
            _, product = vjp(lambda x: outputs(x.unsqueeze(1)).squeeze(1), base, cotangent)
            return torch.nan_to_num(product), asked.long()
        # a column is a directional derivative: all at once, as those of n equal points
        directions = torch.eye(self.size, dtype=base.dtype, device=base.device).expand(len(base), -1, -1)
        bases = base.unsqueeze(1).repeat(1, self.size, 1)
        _, columns = jvp(outputs, bases, directions.clone())
        return torch.nan_to_num(columns.mT), torch.ones_like(action["count"].squeeze(-1))

"""Bio-diesel: how long to run a reactor, and at which power (Bouchet and Vidal 2025, section 5.4).

Triglycerides become diglycerides, monoglycerides and glycerol, with an ester each time; the power heats the
reactor, and the rates of reaction grow with the temperature:

    k_j = A_j + E_j (T - T_m)           mCp T' = e Q + c1 T + c2
    r1 = k1 TG - k2 DG ME     r2 = k3 DG - k4 MG ME     r3 = k5 MG - k6 G ME
    TG' = -r1    DG' = r1 - r2    MG' = r2 - r3    G' = r3    ME' = r1 + r2 + r3

The design is (t, Q), a time in seconds and a power in watts, as x = (t / 120, Q / 20). The network gives the
five concentrations and the temperature at N = 100 times, t i / N.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from optenvs.core.random import Keys, uniform
from optenvs.core.struct import struct
from optenvs.data.weights import load_weights

from .base import Surrogate
from .parts import Draw, Task

TIMES = 100
"""The number N of times at which the network is read."""
LONGEST, STRONGEST, MOST_ENERGY = 120.0, 20.0, 500.0
COLDEST, HOTTEST = 20.0, 65.0
STARTS = ("paper", "random")
SCALE = 1000.0
"""The factor on every constraint."""

INTERCEPT = (0.088750, 0.042906, 0.118455, 0.074234, 0.090785, 0.0060746)
SLOPE = (0.0050188, 0.0023354, 0.0060857, 0.0028189, 0.0046087, 0.0)
REFERENCE = 48.367
HEATING, COOLING, LOSS, CAPACITY = 0.36612, -0.012494, -0.44145, 11.1
FIRST = (0.62, 0.04, 0.002, 0.0, 0.0)
FIRST_TEMPERATURE = 33.6
CHANGE = ((-1, 1, 0, 0, 1), (0, -1, 1, 0, 1), (0, 0, -1, 1, 1))
"""What each reaction makes of TG, DG, MG, G and ME."""
_FIELDS = 6  # TG, DG, MG, G, ME, T


@struct
class Kinetics:
    """What differs between reactors: constants of the rates, ``(B, 6)`` each, and the first mixture."""

    intercept: Float[Tensor, "B 6"]
    slope: Float[Tensor, "B 6"]
    first: Float[Tensor, "B 5"]


@struct
class Perceptron:
    """A tanh network: weights ``(B, out, in)`` and biases ``(B, out)`` of each layer."""

    weight: tuple[Tensor, ...]
    bias: tuple[Tensor, ...]


@dataclass(frozen=True)
class Reactor(Task):
    """Objective and constraints of the reactor, whatever stands for it."""

    unused: ClassVar[tuple[int, ...]] = tuple(i for i in range(TIMES * _FIELDS) if i % _FIELDS in (3, 5))

    @property
    def outputs(self) -> int:
        return TIMES * _FIELDS

    @property
    def constraint_count(self) -> int:
        return 5 + 7 * TIMES

    def objective(self, y: Tensor, aim: None = None) -> Tensor:
        glycerides, ester = self._parts(y)
        return (ester / glycerides).mean(-1)

    def slope(self, y: Tensor, aim: None = None) -> Tensor:
        glycerides, ester = self._parts(y)
        down = -ester / glycerides.square()
        columns = [down, down, down, torch.zeros_like(down), 1 / glycerides, torch.zeros_like(down)]
        return torch.stack(columns, -1).flatten(-2) / TIMES

    def _parts(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The glycerides that are left, and the ester, at each time."""
        series = y.unflatten(-1, (TIMES, _FIELDS))
        return series[..., :3].sum(-1), series[..., 4]

    def constraints(self, x: Tensor, y: Tensor, aim: None = None) -> Tensor:
        time, power = design(x)
        series = y.unflatten(-1, (TIMES, _FIELDS))
        heat = series[..., 5]
        first = torch.stack(
            (-time, time - LONGEST, -power, power - STRONGEST, time * power - MOST_ENERGY), -1
        )
        later = (-series[..., :5]).flatten(-2)
        return SCALE * torch.cat((first, later, COLDEST - heat, heat - HOTTEST), -1)


@dataclass(frozen=True)
class ReactorEquations(Reactor):
    """The differential equation itself, by one step of Runge and Kutta's fourth order for each output."""

    def network(self, data: Kinetics, x: Tensor) -> Tensor:
        time, power = (part.unsqueeze(-1) for part in design(x))  # (B, m, 1)
        batch, step = x.shape[:-1], time / TIMES
        # the temperature does not depend on the mixture: all rates of all half steps, at once, times the step
        settled = -(HEATING * power + LOSS) / COOLING
        halves = torch.arange(2 * TIMES + 1, dtype=x.dtype, device=x.device) / 2
        heat = settled + (FIRST_TEMPERATURE - settled) * torch.exp(COOLING / CAPACITY * step * halves)
        intercept, slope = data.intercept[:, None, None], data.slope[:, None, None]
        rate = step.unsqueeze(-1) * (intercept + slope * (heat.unsqueeze(-1) - REFERENCE))
        forward = rate[..., 0::2].flatten(0, 1).unbind(1)  # (B m, 3) for each half step
        back = rate[..., 1::2].flatten(0, 1).unbind(1)
        change = torch.tensor(CHANGE, dtype=x.dtype, device=x.device)

        def reactions(mixture: Tensor, half: int) -> Tensor:
            """What each of the three would turn over in a step at the present speed."""
            back_pairs = mixture[:, 1:4] * mixture[:, 4:]
            return torch.addcmul(forward[half] * mixture[:, :3], back[half], back_pairs, value=-1)

        mixture = data.first.unsqueeze(1).expand(*batch, -1).flatten(0, 1)
        rows = []
        for i in range(0, 2 * TIMES, 2):
            one = reactions(mixture, i)
            two = reactions(torch.addmm(mixture, one, change, alpha=0.5), i + 1)
            three = reactions(torch.addmm(mixture, two, change, alpha=0.5), i + 1)
            four = reactions(torch.addmm(mixture, three, change), i + 2)
            mixture = torch.addmm(mixture, one + four + 2 * (two + three), change, alpha=1 / 6)
            rows.append(mixture)
        series = torch.stack(rows, 1).unflatten(0, batch)
        return torch.cat((series, heat[..., 2::2].unsqueeze(-1)), -1).flatten(-2)


@dataclass(frozen=True)
class ReactorNetwork(Reactor):
    """A trained network of the time passed and the power, read at the N times."""

    def network(self, data: Perceptron, x: Tensor) -> Tensor:
        share = torch.arange(1, TIMES + 1, dtype=x.dtype, device=x.device) / TIMES
        time = x[..., :1] * share
        series = torch.stack((time, x[..., 1:].expand_as(time)), -1)  # (B, m, N, 2)
        return mixtures(data, series.flatten(1, 2)).view(*x.shape[:-1], -1)


def design(x: Float[Tensor, "*B 2"]) -> tuple[Float[Tensor, "*B"], Float[Tensor, "*B"]]:
    """The time in seconds and the power in watts that ``x`` means."""
    return LONGEST * x[..., 0], STRONGEST * x[..., 1]


def mixtures(data: Perceptron, x: Float[Tensor, "B m 2"]) -> Float[Tensor, "B m 6"]:
    """Concentrations, which a softplus keeps above 0, and temperature: tanh between the layers."""
    last = len(data.weight) - 1
    for place, (weight, bias) in enumerate(zip(data.weight, data.bias, strict=True)):
        x = torch.baddbmm(bias.unsqueeze(1), x, weight.mT)
        x = x if place == last else x.tanh()
    return torch.cat((softplus(x[..., :5]), 45 + 15 * x[..., 5:]), -1)


@dataclass(frozen=True, eq=False, kw_only=True)
class Biodiesel(Surrogate):
    """The yield of a bio-diesel reactor, by a network or by its equations.

    Metrics: ``true_objective`` is the paper's f, the mean over time of ester over glycerides left, of the
    best design so far by the equations of the instance; ``true_violation`` its violated constraints.

    The optimum under the equations is the corner t = 120 s, Q = 25/6 W, where t Q = 500 J meets the longest
    time. The penalty formulation leaves the design free, with the box among its constraints.

    Args:
        surrogate: ``network``: a tanh network 2-64-64-64-6 trained on the equations and shipped with the
            project; ``ode``: the equations themselves.
        jitter: how far, relatively, constants of reaction and first mixture of an instance may be from the
            printed ones, uniformly; for ``ode`` only.
        start: ``paper``: t = 40 s and Q = 6 W; ``random``: uniform among designs with t Q < 500 J; or
            a point.
        points, oracle, formulation, ...: see :class:`optenvs.envs.surrogate.base.Surrogate`.
    """

    surrogate: str = "network"
    jitter: float = 0.0
    start: Any = "paper"

    meanings: ClassVar[dict[str, str]] = {
        "true_objective": "the objective of the best design so far by the equations, not by the network",
        "true_violation": "its violated constraints by the equations, their squares summed",
    }

    def __post_init__(self) -> None:
        if self.surrogate not in ("network", "ode"):
            raise ValueError(f"surrogate: expected network or ode, got {self.surrogate!r}")
        if isinstance(self.start, str) and self.start not in STARTS:
            raise ValueError(f"start: expected {', '.join(STARTS)} or a point, got {self.start!r}")
        if not 0 <= self.jitter < 1:
            raise ValueError(f"jitter: expected a share in [0, 1), got {self.jitter!r}")
        if self.jitter and self.surrogate == "network":
            raise ValueError("jitter: the network is of the printed constants; use surrogate='ode'")
        super().__post_init__()

    @property
    def size(self) -> int:
        return 2

    @cached_property
    def fixed_start(self) -> Float[Tensor, "n"] | None:
        return None if isinstance(self.start, str) else super().fixed_start

    @property
    def task(self) -> Reactor:
        return ReactorNetwork() if self.surrogate == "network" else ReactorEquations()

    @property
    def box_limits(self) -> tuple[float, float]:
        return super().box_limits if self.penalised else (0.0, 1.0)

    @property
    def bounded_below(self) -> bool:
        return False

    @cached_property
    def _weights(self) -> list[tuple[Tensor, Tensor]]:
        tensors = load_weights("biodiesel")
        count = len(tensors) // 2
        return [
            tuple(
                tensors[f"{name}.{i}"].to(self.torch_device, self.torch_dtype) for name in ("weight", "bias")
            )
            for i in range(count)
        ]  # type: ignore[misc]

    def kinetics(self, keys: Keys) -> Kinetics:
        """The reactors of ``keys``."""
        columns = []
        for name, printed in (("intercept", INTERCEPT), ("slope", SLOPE), ("first", FIRST)):
            value = torch.tensor(printed, dtype=self.torch_dtype, device=keys.device).expand(len(keys), -1)
            if self.jitter:
                options: dict[str, Any] = {
                    "low": 1 - self.jitter,
                    "high": 1 + self.jitter,
                    "dtype": value.dtype,
                }
                value = value * uniform(keys, f"jitter {name}", value.shape[1], **options)
            columns.append(value)
        return Kinetics(intercept=columns[0], slope=columns[1], first=columns[2])

    def draw(self, keys: Keys) -> Draw:
        batch, dtype, device = len(keys), self.torch_dtype, keys.device
        if self.surrogate == "ode":
            data: Any = self.kinetics(keys)
        else:
            weight, bias = zip(*self._weights, strict=True)
            data = Perceptron(
                weight=tuple(w.expand(batch, -1, -1) for w in weight),
                bias=tuple(b.expand(batch, -1) for b in bias),
            )
        if self.start != "random":
            start = torch.tensor([40 / LONGEST, 6 / STRONGEST], dtype=dtype, device=device).expand(batch, 2)
        else:
            # uniform below the hyperbola x y < c: the time by the inverse of its distribution, then the power
            c = MOST_ENERGY / (LONGEST * STRONGEST)
            chance = uniform(keys, "start", 2, dtype=dtype)
            area = chance[:, 0] * c * (1 - math.log(c))
            time = torch.where(area < c, area, c * torch.exp(area / c - 1))
            start = torch.stack((time, chance[:, 1] * (c / time.clamp_min(c))), -1)
        return Draw(data=data, start=start, lower=torch.zeros_like(start), upper=torch.ones_like(start))

    def measure(self, data: Any, point: Tensor) -> dict[str, Tensor]:
        equations = ReactorEquations()
        if not isinstance(data, Kinetics):
            constants = (INTERCEPT, SLOPE, FIRST)
            rows = [torch.tensor(c, dtype=point.dtype, device=point.device) for c in constants]
            intercept, slope, first = (row.expand(len(point), -1) for row in rows)
            data = Kinetics(intercept=intercept, slope=slope, first=first)
        y = equations.network(data, point.unsqueeze(1))
        violated = equations.constraints(point.unsqueeze(1), y).clamp_min(0.0)
        return {
            "true_objective": equations.objective(y).squeeze(1),
            "true_violation": violated.square().sum(-1).squeeze(1),
        }

"""NNAdam: an LSTM a tensor moves Adam's hyper-parameters (Metz et al. 2020; the authors' library, "NNAdam").

Every tensor has its own learning rate, betas and epsilon, in logarithms over ten (``z``), and its own memory:

    m <- b1 m + (1 - b1) g,  v <- b2 v + (1 - b2) g^2               g clipped to +-1000
    x <- x - lr (1 + eps) / (eps + sqrt(v + 1e-10)) * m
    u, h <- LSTM([19 statistics of the tensor's p, g, m, v, and z], h)
    z <- z + output_scale * W u, held where the four are in their ranges

W begins at 0, so that an untrained rule is this Adam, without a correction of bias. The factor 1 + eps lets a
large epsilon turn the second moment off without a large learning rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from optenvs.core.features import spread, tensor_means
from optenvs.core.random import Keys
from optenvs.core.struct import static, struct

from ..core import Observation, require
from ._tensors import Shapes, signs, sizes_of, tensor_shapes
from .base import Affine, LearnedAgent, Numbers
from .lstm import LSTMCell

FEATURES = 19
"""Of a tensor: what its LSTM sees."""
_LOW = (math.log(1e-8) / 10, -1.0, -1.0, math.log(1e-11) / 10)
_HIGH = (math.log(1e3) / 10, 0.0, 0.0, math.log(1e4) / 10)
"""Ranges of log(lr), log(1 - beta1), log(1 - beta2) and log(eps), each over ten."""
_CLIP = 1e3


@struct
class NNAdamState:
    """What each tensor remembers.

    Attributes:
        mu, nu: first and second moment, ``(B, n)``.
        controls: ``log(lr)``, ``log(1 - beta1)``, ``log(1 - beta2)``, ``log(eps)`` over ten, ``(B, t, 4)``.
        h, c: hidden and cell state, ``(B, t, hidden)``.
        shapes: of the tensors.
    """

    mu: Float[Tensor, "B n"]
    nu: Float[Tensor, "B n"]
    controls: Float[Tensor, "B t 4"]
    h: Float[Tensor, "B t H"]
    c: Float[Tensor, "B t H"]
    shapes: Shapes = static()

    second_axis: ClassVar[dict[str, str]] = dict.fromkeys(("controls", "h", "c"), "tensors")


class NNAdamNet(nn.Module):
    """The LSTM and what it moves; where all of it starts."""

    def __init__(self, hidden: int, starts: list[float], dtype: torch.dtype) -> None:
        super().__init__()
        self.cell = LSTMCell(FEATURES, hidden, dtype)
        self.moves = Affine(hidden, 4, dtype, zero=True)
        zeros = torch.zeros(hidden)
        self.starts = Numbers(dtype, {"controls": starts, "h": zeros, "c": zeros})

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h, c = self.cell(x, h, c)
        return self.moves(h), h, c


@dataclass(frozen=True, eq=False)
class NNAdam(LearnedAgent):
    """Adam whose hyper-parameters an LSTM sets, tensor by tensor.

    Where the problem names the layout of its parameters (``problem.model.layout``), its tensors are meant;
    otherwise the point is one tensor.

    Args:
        hidden: units of the LSTM.
        output_scale: the factor on its output, which moves the hyper-parameters.
        initial_lr, initial_betas, initial_eps: those that the weights begin with; ``net`` brings its own.
        seed, dtype, net, weights: see :class:`agents.learned.base.LearnedAgent`.
    """

    hidden: int = 32
    output_scale: float = 0.01
    initial_lr: float = 1e-4
    initial_betas: tuple[float, float] = (0.9, 0.999)
    initial_eps: float = 1e-8

    def __post_init__(self) -> None:
        require(self, "hidden", self.hidden >= 1, "a whole number >= 1")
        require(self, "output_scale", 0 < self.output_scale < math.inf, "a number > 0")
        for name, low, high in (("initial_lr", 1e-8, 1e3), ("initial_eps", 1e-11, 1e4)):
            require(self, name, low <= getattr(self, name) <= high, f"a number in [{low:g}, {high:g}]")
        betas = self.initial_betas
        top = 1 - math.exp(10 * _LOW[1])
        fits = len(betas) == 2 and all(0 <= beta <= top for beta in betas)
        require(self, "initial_betas", fits, f"two numbers in [0, {top:.5f}]")
        super().__post_init__()

    def build(self) -> NNAdamNet:
        beta1, beta2 = self.initial_betas
        logs = (
            math.log(self.initial_lr),
            math.log1p(-beta1),
            math.log1p(-beta2),
            math.log(self.initial_eps),
        )
        return NNAdamNet(self.hidden, [log / 10 for log in logs], self.torch_dtype)

    def init(self, problem: Any, observation: Observation, keys: Keys) -> NNAdamState:
        point = observation["point"]
        shapes = tensor_shapes(problem, point.shape[1])

        def start(name: str) -> Tensor:
            return self.own(f"starts.{name}", point).unsqueeze(1).expand(len(point), len(shapes), -1)

        zero = torch.zeros_like(point)
        return NNAdamState(zero, zero, held(start("controls")), start("h"), start("c"), shapes=shapes)

    def act(self, state: NNAdamState, observation: Observation) -> tuple[Tensor, NNAdamState]:
        point, gradient = observation["point"], observation["gradient"].clamp(-_CLIP, _CLIP)
        sizes = sizes_of(state.shapes)
        rate, rest1, rest2, eps = spread((10 * state.controls).exp(), sizes).unbind(-1)
        mu = state.mu + rest1 * (gradient - state.mu)
        nu = state.nu + rest2 * (gradient.square() - state.nu)
        action = point - rate * (1 + eps) / (eps + (nu + 1e-10).sqrt()) * mu
        seen = statistics(point, gradient, mu, nu, state.controls, state.shapes)
        moves, h, c = self.run(seen, state.h, state.c)
        low, high = (torch.tensor(ends, dtype=point.dtype, device=point.device) for ends in (_LOW, _HIGH))
        controls = torch.clamp(state.controls + self.output_scale * moves, low, high)
        return action, NNAdamState(mu, nu, controls, h, c, shapes=state.shapes)


def held(controls: Float[Tensor, "B t 4"]) -> Float[Tensor, "B t 4"]:
    """Each within its range."""
    low, high = (torch.tensor(x, dtype=controls.dtype, device=controls.device) for x in (_LOW, _HIGH))
    return torch.clamp(controls, low, high)


def statistics(
    point: Float[Tensor, "B n"],
    gradient: Float[Tensor, "B n"],
    mu: Float[Tensor, "B n"],
    nu: Float[Tensor, "B n"],
    controls: Float[Tensor, "B t 4"],
    shapes: Shapes,
) -> Float[Tensor, "B t 19"]:
    """What the LSTM of a tensor sees, by the names of the library in the order of the alphabet."""
    sizes = sizes_of(shapes)
    all_four = torch.stack((gradient, mu, point, nu), -1)
    means = tensor_means(all_four, sizes)
    variances = tensor_means((all_four - spread(means, sizes)).square(), sizes)
    absolute = tensor_means(all_four.abs(), sizes)
    steepness = absolute[..., :1]
    pairs = torch.stack((clipped_log(means) / 2, signs(means, absolute)), -1).flatten(2)
    kinds = [[1.0 if len(shape) == rank else -1.0 for rank in (1, 0)] for shape in shapes]
    kind = torch.tensor(kinds, dtype=point.dtype, device=point.device).expand(len(point), -1, -1)
    lr, beta1, beta2, eps = (controls.clamp(-5, 5) / 5).split(1, -1)
    parts = (beta1, beta2, eps, kind, lr)
    parts += (pairs[..., :2], clipped_log(steepness) / 2, pairs[..., 2:], clipped_log(variances) / 2)
    return torch.cat(parts, -1)


def clipped_log(x: Tensor) -> Tensor:
    """``log(1e-8 + |x|)`` between -5 and 5."""
    return torch.log(1e-8 + x.abs()).clamp(-5, 5)

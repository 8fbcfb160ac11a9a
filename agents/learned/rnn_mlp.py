"""RNN-MLP: an LSTM a tensor beside an MLP a parameter (Metz et al. 2020, arXiv 2009.11243).

"Tasks, stability, architecture, and compute: training more effective learned optimizers, and using them to
train themselves"; as in "RNNMLPLOpt" of the authors' library. A step, with g clipped at ten times a running
mean of its size:

    averages of g and g^2 with five decays
    u, h <- LSTM([18 statistics of the tensor and the loss, a, b], h)     a, b of the step before
    d, s, A = MLP([37 features of the parameter, W1 u])
    a <- mean of W2 u over tensors,  b <- mean of A over the tensor's parameters
    x <- x - step_multiplier * d * exp(exp_multiplier * s)

The library may also be shown validation losses; observations have none, and that input is as where none has
come.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from optenvs.core.features import TIMES, second_moment_normalise, spread, tensor_means
from optenvs.core.random import Keys
from optenvs.core.struct import static, struct

from ..core import Observation, require
from ..gradient._moments import PLAIN, damped_root
from ..gradient.sgd import descend
from ._tensors import Shapes, signs, sizes_of, tensor_shapes
from .base import Affine, LearnedAgent, Numbers, perceptron
from .lstm import LSTMCell
from .nn_adam import clipped_log

DECAYS = (0.5, 0.9, 0.99, 0.999, 0.9999)
OF_TENSORS, OF_PARAMETERS = 18, 37
_LOSS_DECAY, _NORM_DECAY, _NORMS = 0.9, 0.99, 10.0
_AXES = 4


@struct
class RNNMLPState:
    """What is remembered.

    Attributes:
        momenta, squares: averages of the gradient and of its square, ``(B, n, 5)``.
        h, c: hidden and cell state of each tensor, ``(B, t, lstm_hidden)``.
        from_mlp: what each tensor's parameters have sent, ``(B, t, M)``.
        from_lstm: what all tensors have sent, ``(B, L)``.
        loss, variance: averages of the loss, ``(B, 1)``.
        norm: an average of the root mean square of gradients, ``(B, 1)``.
        count: steps so far, ``(B, 1)``.
        shapes: of the tensors.
    """

    momenta: Float[Tensor, "B n 5"]
    squares: Float[Tensor, "B n 5"]
    h: Float[Tensor, "B t H"]
    c: Float[Tensor, "B t H"]
    from_mlp: Float[Tensor, "B t M"]
    from_lstm: Float[Tensor, "B L"]
    loss: Float[Tensor, "B 1"]
    variance: Float[Tensor, "B 1"]
    norm: Float[Tensor, "B 1"]
    count: Float[Tensor, "B 1"]
    shapes: Shapes = static()

    second_axis: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("h", "c", "from_mlp"), "tensors"),
        **dict.fromkeys(("from_lstm", "loss", "variance", "norm", "count"), "whole"),
    }


class RNNMLPNet(nn.Module):
    """Both networks, what they send each other, and where that starts."""

    def __init__(self, agent: RNNMLP, dtype: torch.dtype) -> None:
        super().__init__()
        width, sent, told = agent.lstm_hidden, agent.from_mlp, agent.from_lstm
        self.cell = LSTMCell(OF_TENSORS + told + sent, width, dtype)
        self.to_mlp = Affine(width, agent.to_mlp, dtype)
        self.to_lstm = Affine(width, told, dtype)
        self.mlp = perceptron(OF_PARAMETERS + agent.to_mlp, agent.hidden, agent.layers, 2 + sent, dtype)
        widths = {"from_mlp": sent, "from_lstm": told, "h": width, "c": width}
        bounds = {name: math.sqrt(3 / widths[name]) for name in ("from_mlp", "from_lstm")}
        self.starts = Numbers(dtype, {name: torch.zeros(size) for name, size in widths.items()}, bounds)

    def forward(
        self, x: Tensor, h: Tensor, c: Tensor, seen: Tensor, sizes: tuple[int, ...]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        h, c = self.cell(x, h, c)
        answer = self.mlp(torch.cat((seen, spread(self.to_mlp(h), sizes)), -1))
        return answer, self.to_lstm(h).mean(1), h, c


@dataclass(frozen=True, eq=False)
class RNNMLP(LearnedAgent):
    """An MLP for each parameter that an LSTM for each tensor, which sees the loss, talks to.

    Where the problem names the layout of its parameters (``problem.model.layout``), its tensors are meant;
    otherwise the point is one tensor. 35,799 weights.

    Args:
        hidden, layers: units of a layer of the MLP, and its hidden layers.
        lstm_hidden: units of the LSTM.
        from_mlp: how many numbers parameters send to the LSTM of their tensor, one step later.
        from_lstm: how many numbers the LSTMs send to all of them, one step later.
        to_mlp: how many numbers an LSTM sends to its parameters.
        step_multiplier: the factor on the step.
        exp_multiplier: the factor on its log-magnitude.
        seed, dtype, net, weights: see :class:`agents.learned.base.LearnedAgent`.
    """

    hidden: int = 32
    layers: int = 2
    lstm_hidden: int = 64
    from_mlp: int = 16
    from_lstm: int = 18
    to_mlp: int = 17
    step_multiplier: float = 1e-3
    exp_multiplier: float = 1e-3

    needs: ClassVar[tuple[str, ...]] = ("gradient", "value")

    def __post_init__(self) -> None:
        for name in ("hidden", "layers", "lstm_hidden", "from_mlp", "from_lstm", "to_mlp"):
            require(self, name, getattr(self, name) >= 1, "a whole number >= 1")
        for name in ("step_multiplier", "exp_multiplier"):
            require(self, name, 0 < getattr(self, name) < math.inf, "a number > 0")
        super().__post_init__()

    def build(self) -> RNNMLPNet:
        return RNNMLPNet(self, self.torch_dtype)

    def init(self, problem: Any, observation: Observation, keys: Keys) -> RNNMLPState:
        point = observation["point"]
        shapes = tensor_shapes(problem, point.shape[1])
        zero, empty = torch.zeros_like(point[:, :1]), point.new_zeros(*point.shape, len(DECAYS))

        def start(name: str) -> Tensor:
            return self.own(f"starts.{name}", point).unsqueeze(1).expand(len(point), len(shapes), -1)

        return RNNMLPState(
            momenta=empty,
            squares=empty,
            h=start("h"),
            c=start("c"),
            from_mlp=start("from_mlp"),
            from_lstm=start("from_lstm")[:, 0],
            loss=zero,
            variance=zero,
            norm=zero + (1 - _NORM_DECAY),
            count=zero,
            shapes=shapes,
        )

    def act(self, state: RNNMLPState, observation: Observation) -> tuple[Tensor, RNNMLPState]:
        point, sizes, count = observation["point"], sizes_of(state.shapes), state.count + 1
        most = _NORMS * state.norm / _risen(_NORM_DECAY, count)
        gradient = torch.clamp(observation["gradient"], -most, most)
        square = tensor_means(gradient.square(), sizes).mean(1, keepdim=True)
        norm = _NORM_DECAY * state.norm + (1 - _NORM_DECAY) * (1e-8 + square).sqrt()
        rests = torch.tensor([1 - b for b in DECAYS], dtype=point.dtype, device=point.device)
        momenta = state.momenta + rests * (gradient.unsqueeze(-1) - state.momenta)
        squares = state.squares + rests * (gradient.square().unsqueeze(-1) - state.squares)
        loss = torch.lerp(state.loss, observation["value"], 1 - _LOSS_DECAY)
        variance = torch.lerp(state.variance, (loss - observation["value"]).square(), 1 - _LOSS_DECAY)
        scale = 1 / (_risen(_LOSS_DECAY, count) + 1e-8)

        def placed(value: Tensor) -> Tensor:
            """A loss among those so far."""
            return ((value - scale * loss) * torch.rsqrt(scale * variance + 1e-8)).clamp(-5, 5)

        losses = torch.cat((placed(observation["value"]), placed(torch.zeros_like(loss))), -1)
        tensors = of_tensors(point, gradient, momenta, squares, losses, state.shapes)
        sent = state.from_lstm.unsqueeze(1).expand(-1, len(sizes), -1)
        inputs = torch.cat((sent, state.from_mlp, tensors), -1)
        seen = of_parameters(point, gradient, momenta, squares, observation["k"], sizes)
        answer, from_lstm, h, c = self.run(inputs, state.h, state.c, seen, sizes)
        step = answer[..., 0] * torch.exp(self.exp_multiplier * answer[..., 1])
        after = RNNMLPState(
            momenta=momenta,
            squares=squares,
            h=h,
            c=c,
            from_mlp=tensor_means(answer[..., 2:], sizes),
            from_lstm=from_lstm,
            loss=loss,
            variance=variance,
            norm=norm,
            count=count,
            shapes=state.shapes,
        )
        return descend(point, step, self.step_multiplier), after


def of_tensors(
    point: Float[Tensor, "B n"],
    gradient: Float[Tensor, "B n"],
    momenta: Float[Tensor, "B n 5"],
    squares: Float[Tensor, "B n 5"],
    losses: Float[Tensor, "B 2"],
    shapes: Shapes,
) -> Float[Tensor, "B t 18"]:
    """What the LSTM of a tensor sees, by the names of the library in the order of the alphabet."""
    sizes = sizes_of(shapes)
    logs, directions, variances = [], [], []
    for x in (momenta, squares, point.unsqueeze(-1)):  # over entries and decays
        mean = tensor_means(x, sizes).mean(-1, keepdim=True)
        variances.append(clipped_log(tensor_means((x - spread(mean, sizes)).square(), sizes).mean(-1)))
        logs.append(clipped_log(mean.squeeze(-1)))
        absolute = tensor_means(x.abs(), sizes).mean(-1)
        directions.append(signs(mean.squeeze(-1), absolute))
    kinds = [[1.0 if not shape else -1.0, *map(_centred_log, _four(shape))] for shape in shapes]
    scalar, *axes = (
        torch.tensor(kinds, dtype=point.dtype, device=point.device).expand(len(point), -1, -1).unbind(-1)
    )
    pairs = [column for pair in zip(logs, directions, strict=True) for column in pair]
    slope, size = (clipped_log(norms(x, sizes)) for x in (gradient, point))
    told = [x.expand(-1, len(sizes)) for x in losses.split(1, -1)]
    return torch.stack((slope, scalar, *pairs, size, *axes, *told, *variances), -1)


def of_parameters(
    point: Float[Tensor, "B n"],
    gradient: Float[Tensor, "B n"],
    momenta: Float[Tensor, "B n 5"],
    squares: Float[Tensor, "B n 5"],
    k: Float[Tensor, "B 1"],
    sizes: tuple[int, ...],
) -> Float[Tensor, "B n 37"]:
    """What the MLP of a parameter sees, beside what the LSTM of its tensor sends."""
    root = torch.rsqrt(squares + 1e-6)
    slope = torch.stack((gradient, point, torch.log(point.abs() + 1e-8)), -1)
    moments = torch.cat((slope, momenta, squares, momenta * root, root), -1)
    waves = torch.sin(k / (math.pi * torch.tensor(TIMES, dtype=k.dtype, device=k.device)))
    counts = [[math.log(len(sizes)) - 1, math.log(size)] for size in sizes]
    count = torch.tensor(counts, dtype=point.dtype, device=point.device).expand(len(point), -1, -1)
    length = torch.log(norms(point, sizes) + 1e-8).unsqueeze(-1)
    shared = torch.cat((count[..., :1], length, count[..., 1:]), -1)
    return torch.cat(
        (
            second_moment_normalise(moments, sizes),
            waves.unsqueeze(1).expand(-1, point.shape[1], -1),
            spread(shared, sizes),
        ),
        -1,
    )


def norms(x: Float[Tensor, "B n"], sizes: tuple[int, ...]) -> Float[Tensor, "B t"]:
    """The Euclidean norm of each tensor, whose slope is taken as 0 at 0."""
    counts = torch.tensor(sizes, dtype=x.dtype, device=x.device)
    return damped_root(tensor_means(x.square(), sizes) * counts, 0.0, PLAIN)


def _risen(decay: float, count: Tensor) -> Tensor:
    """``1 - decay ** count``."""
    return -torch.expm1(count * math.log(decay))


def _four(shape: tuple[int, ...]) -> list[int]:
    """The shape as four numbers: with ones behind it, or the rest of its axes as one."""
    padded = [*shape, *[1] * _AXES]
    return [*padded[: _AXES - 1], math.prod(padded[_AXES - 1 :])]


def _centred_log(size: int) -> float:
    return math.log(size) - 1

"""VeLO: an LSTM a tensor that mixes the weights of its parameters' MLP (Metz et al. 2022, arXiv 2211.09760).

"VeLO: Training versatile learned optimizers by scaling up"; as in "HyperV2" of the authors' library:

    g <- g clipped to +-1000
    y = W1 f + max over tensors of relu(W2 f)       f: 30 features of the tensor, the loss and the time
    u, h <- LSTM(y, h)
    c, l = W3 u, W4 u                               256 controls, and a learning rate
    W = 100 mean_i c_i B_i                          of a bank of 256 sets of weights of an MLP
    d, s, _ = MLP_W(30 features of the parameter, normalised tensor by tensor)
    x <- x - step_multiplier * l * d * exp(exp_multiplier * s) * (root mean square of the tensor)

The library's LSTM adds 1 to its forget gate: with its weights, add it to that bias. Features of tensors are
those of averages before this gradient; the variance of squares is about the mean of momenta, as trained.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from optenvs.core.features import second_moment_normalise, spread, tensor_means
from optenvs.core.oracles import inside_transform
from optenvs.core.random import Keys
from optenvs.core.struct import struct
from optenvs.core.tracing import tracing

from ..core import Observation, require
from ._pieces import Layers, Sight, answers
from ._tensors import Averages, Shapes, parts_of, sizes_of
from .base import Affine, LearnedAgent, Numbers
from .lolv2 import in_pieces
from .lstm import LSTMCell
from .nn_adam import clipped_log

FEATURES = (
    "gradient",
    "clipped_gradient",
    "parameter",
    "momenta",
    "squares",
    "scaled_momenta",
    "root",
    "factored_gradient",
    "scaled_gradient",
    "rows",
    "columns",
    "row_roots",
    "column_roots",
    "factored_momenta",
)
"""Of a parameter, in the order of the inputs: 30 with the decays below."""
MOMENTUM, SQUARES, FACTORS = (0.9, 0.99, 0.999), (0.999,), (0.9, 0.99, 0.999)
OF_TENSORS, OF_PARAMETERS, OUTPUTS = 30, 30, 3
SHARES = (0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1)
"""Shares of the training about which its features change."""
_LOSSES, _RANKS = 10, 5
_HUGE, _CLIP, _SMALL_CLIP = 999999999999.0, 1e3, 0.1


@struct
class Losses:
    """Ten running means of the loss, with half-lives from 10 steps to all of them.

    Attributes:
        means: not yet corrected, ``(B, 10)``.
        least: the least of each so far, corrected, ``(B, 10)``.
        count: steps so far, ``(B, 1)``.
    """

    means: Float[Tensor, "B 10"]
    least: Float[Tensor, "B 10"]
    count: Float[Tensor, "B 1"]

    second_axis: ClassVar[dict[str, str]] = dict.fromkeys(("means", "least", "count"), "whole")

    def updated(self, loss: Float[Tensor, "B 1"], steps: Float[Tensor, "B 1"]) -> Losses:
        """With a loss, of a training of so many steps."""
        rates, count = half_rates(steps), self.count + 1
        risen = -torch.expm1(-rates * count)  # 1 - decay ** count
        most = (self.means / risen).amax(1, keepdim=True).abs() * 2
        loss = torch.where(self.count == 0, loss, torch.minimum(loss, most))
        means = self.means - torch.expm1(-rates) * (loss - self.means)
        return Losses(means=means, least=torch.minimum(self.least, means / risen), count=count)

    def features(self, steps: Float[Tensor, "B 1"]) -> Float[Tensor, "B 9"]:
        """Where each mean lies between its least and the next slower mean, less 1; 0 for two steps."""
        mean = self.means / -torch.expm1(-half_rates(steps) * self.count)
        least = self.least[:, :-1]
        width = (mean[:, 1:] - least).clamp_min(1e-8)
        placed = ((mean[:, :-1] - least) / width - 1).clamp(-1, 1)
        return torch.where(self.count <= 2, 0.0, placed)


def half_rates(steps: Float[Tensor, "B 1"]) -> Float[Tensor, "B 10"]:
    """One over the half-lives: 10 to ``steps``, evenly in their logarithms."""
    place = torch.arange(_LOSSES, dtype=steps.dtype, device=steps.device) / (_LOSSES - 1)
    return 10 ** -(1 + (torch.log10(steps) - 1) * place)


@struct
class VeLOState:
    """``averages`` of gradients, ``losses``, and the LSTM's ``h`` and ``c``, ``(B, t, hidden)``."""

    averages: Averages
    losses: Losses
    h: Float[Tensor, "B t H"]
    c: Float[Tensor, "B t H"]

    second_axis: ClassVar[dict[str, str]] = {"h": "tensors", "c": "tensors"}


class VeLONet(nn.Module):
    """The LSTM with what stands before and behind it, and the bank."""

    def __init__(self, agent: VeLO, dtype: torch.dtype) -> None:
        super().__init__()
        width = agent.lstm_hidden
        self.mix = Affine(OF_TENSORS, width, dtype)
        self.enter = Affine(OF_TENSORS, width, dtype)
        self.cell = LSTMCell(width, width, dtype)
        self.controls = Affine(width, agent.bank, dtype)
        self.rate = Affine(width, 1, dtype)
        self.starts = Numbers(dtype, {"h": torch.zeros(width), "c": torch.zeros(width)})
        starts, bounds = {}, {}
        widths = [OF_PARAMETERS] + [agent.hidden] * agent.layers + [OUTPUTS]
        for layer, (inputs, outputs) in enumerate(pairwise(widths)):
            starts[f"weight{layer}"] = torch.zeros(agent.bank, outputs, inputs)
            starts[f"bias{layer}"] = torch.zeros(agent.bank, outputs)
            bounds[f"weight{layer}"] = math.sqrt(3 / inputs)
        self.bank = Numbers(dtype, starts, bounds)
        self.layers = len(widths) - 1

    def forward(
        self, x: Tensor, h: Tensor, c: Tensor, seen: Tensor, sizes: tuple[int, ...]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        layers, rate, h, c = self.mixed(x, h, c)
        answers = []
        for tensor, part in enumerate(seen.split(sizes, 1)):
            for layer, (weight, bias) in enumerate(layers):
                part = torch.relu(part) if layer else part
                part = torch.baddbmm(bias[:, tensor].unsqueeze(1), part, weight[:, tensor].mT)
            answers.append(part)
        return torch.cat(answers, 1), rate, h, c

    def mixed(
        self, x: Tensor, h: Tensor, c: Tensor
    ) -> tuple[list[tuple[Tensor, Tensor]], Tensor, Tensor, Tensor]:
        """Weights ``(B, t, out, in)`` and biases of each layer, learning rates, and the LSTM's next state."""
        pooled = torch.relu(self.mix(x)).amax(1, keepdim=True)
        h, c = self.cell(self.enter(x) + pooled, h, c)
        controls = self.controls(h)
        layers = [
            (self._mixed(controls, f"weight{layer}", 2), self._mixed(controls, f"bias{layer}", 1))
            for layer in range(self.layers)
        ]
        return layers, self.rate(h).squeeze(-1), h, c

    def _mixed(self, controls: Float[Tensor, "B t K"], name: str, axes: int) -> Float[Tensor, "B t *shape"]:
        """``100 mean_i c_i B_i`` for each tensor."""
        held = getattr(self.bank, name)  # a tensor, where each row has its own
        flat = held.flatten(-axes)  # (K, numbers), or one bank a row
        return (100 / held.shape[-1 - axes] * (controls @ flat)).unflatten(-1, held.shape[-axes:])


@dataclass(frozen=True, eq=False)
class VeLO(LearnedAgent):
    """A hypernetwork over all tensors, that knows how long it will train.

    Where the problem names the layout of its parameters (``problem.model.layout``), its tensors are meant;
    otherwise the point is one tensor. The default sizes are those of the released weights. The number of
    steps N is a real hyper-parameter of this rule.

    Args:
        lstm_hidden: units of the LSTM.
        bank: sets of weights that are mixed.
        hidden, layers: units of a layer of the MLP, and its hidden layers.
        steps: N; ``None`` for the horizon of the observation, which must then be finite.
        bugged_loss_features: means of the loss as if N were 10, as the released weights were trained.
        bugged_lstm_state: begin every step with the LSTM's first state, as some checkpoints were trained.
        step_multiplier: the factor on the step.
        exp_multiplier: the factor on its log-magnitude.
        seed, dtype, net, weights: see :class:`agents.learned.base.LearnedAgent`.
    """

    lstm_hidden: int = 512
    bank: int = 256
    hidden: int = 4
    layers: int = 2
    steps: int | None = None
    bugged_loss_features: bool = False
    bugged_lstm_state: bool = False
    step_multiplier: float = 1e-3
    exp_multiplier: float = 1e-3

    needs: ClassVar[tuple[str, ...]] = ("gradient", "value")

    def __post_init__(self) -> None:
        for name in ("lstm_hidden", "bank", "hidden", "layers"):
            require(self, name, getattr(self, name) >= 1, "a whole number >= 1")
        require(self, "steps", self.steps is None or self.steps >= 1, "a whole number >= 1 or None")
        for name in ("step_multiplier", "exp_multiplier"):
            require(self, name, 0 < getattr(self, name) < math.inf, "a number > 0")
        super().__post_init__()

    def build(self) -> VeLONet:
        return VeLONet(self, self.torch_dtype)

    def init(self, problem: Any, observation: Observation, keys: Keys) -> VeLOState:
        """Raise ``ValueError`` where the number of steps is not known."""
        point, horizon = observation["point"], observation["N"]
        blind = self.steps is not None or tracing() or inside_transform(horizon)
        if not blind and not bool(horizon.isfinite().all()):
            raise ValueError(
                "VeLO: steps: expected the number of steps N, which this problem does not end after; give "
                "VeLO(steps=N), or the problem a budget (to_torch: steps=N)"
            )
        averages = Averages.begin(problem, point, (len(MOMENTUM), len(SQUARES), len(FACTORS)))
        means = point.new_zeros(len(point), _LOSSES)
        losses = Losses(means=means, least=means + _HUGE, count=means[:, :1])
        h, c = self._start(point, len(averages.shapes))
        return VeLOState(averages=averages, losses=losses, h=h, c=c)

    def _start(self, point: Tensor, tensors: int) -> list[Tensor]:
        own = (self.own(f"starts.{name}", point).unsqueeze(1) for name in ("h", "c"))
        return [start.expand(len(point), tensors, -1) for start in own]

    def act(self, state: VeLOState, observation: Observation) -> tuple[Tensor, VeLOState]:
        point, gradient = observation["point"], observation["gradient"].clamp(-_CLIP, _CLIP)
        shapes = state.averages.shapes
        sizes, steps = sizes_of(shapes), observation["N"]
        if self.steps is not None:
            steps = torch.full_like(steps, float(self.steps))
        horizon = torch.full_like(steps, 10.0) if self.bugged_loss_features else steps
        losses = state.losses.updated(observation["value"], horizon)
        share = observation["k"] / steps
        seen = of_tensors(state.averages, point, share, losses.features(horizon))

        def constant(decays: tuple[float, ...]) -> Tensor:
            return torch.tensor([[1 - b for b in decays]], dtype=point.dtype, device=point.device)

        averages = state.averages.updated(gradient, tuple(map(constant, (MOMENTUM, SQUARES, FACTORS))))  # type: ignore[arg-type]
        if self.weights is None and in_pieces(point) and next(self.net.parameters()).dtype == point.dtype:
            layers, rate, h, c = self.net.mixed(seen, state.h, state.c)

            def own(row: int, tensor: int) -> Layers:
                return [(weight[row, tensor], bias[row, tensor]) for weight, bias in layers]

            sight = Sight(FEATURES, epsilon=0.0, clip=_SMALL_CLIP)
            answer = answers(averages, point, gradient, sight, own, OUTPUTS)
        else:
            known = averages.features(point, gradient, epsilon=0.0)
            known["clipped_gradient"] = known["gradient"].clamp(-_SMALL_CLIP, _SMALL_CLIP)
            inputs = second_moment_normalise(torch.cat([known[name] for name in FEATURES], -1), sizes)
            answer, rate, h, c = self.run(seen, state.h, state.c, inputs, sizes)
        if self.bugged_lstm_state:
            h, c = state.h, state.c
        size = (tensor_means(point.square(), sizes) + 1e-9).sqrt()
        step = answer[..., 0] * torch.exp(self.exp_multiplier * answer[..., 1])
        action = point - self.step_multiplier * spread(rate * size, sizes) * step
        return action, VeLOState(averages=averages, losses=losses, h=h, c=c)


def of_tensors(
    averages: Averages, point: Float[Tensor, "B n"], share: Float[Tensor, "B 1"], losses: Float[Tensor, "B 9"]
) -> Float[Tensor, "B t 30"]:
    """What the LSTM of a tensor sees, by the names of the library in the order of the alphabet."""
    shapes: Shapes = averages.shapes
    sizes = sizes_of(shapes)
    unit = torch.rsqrt(tensor_means(point.square(), sizes).clamp_min(1e-9))
    scale = spread(unit, sizes).unsqueeze(-1)
    momenta, squares = averages.momenta * scale, averages.squares * scale
    mean = tensor_means(momenta, sizes)
    about = spread(mean, sizes)
    of_momenta, of_squares = (tensor_means((x - about).square(), sizes) for x in (momenta, squares))
    level = tensor_means(squares, sizes)
    clock = torch.tanh(10 * (share - torch.tensor(SHARES, dtype=share.dtype, device=share.device)))
    ranks = [min(sum(axis > 1 for axis in part.shape), _RANKS) for part in parts_of(shapes)]
    one_hot = [[float(rank == place) for place in range(_RANKS)] for rank in ranks]
    kind = torch.tensor(one_hot, dtype=point.dtype, device=point.device).expand(len(point), -1, -1)
    told = torch.cat((clock, losses), -1).unsqueeze(1).expand(-1, len(sizes), -1)
    logs = [clipped_log(10 * x) / 2 for x in (level, of_momenta, of_squares)]
    return torch.cat((told, logs[0], kind, logs[1], logs[2]), -1)

"""L2O: the coordinate-wise LSTM of Andrychowicz et al. (2016).

"Learning to learn by gradient descent by gradient descent", arXiv 1606.04474. Every coordinate of the point
is a sequence of its own: the same network, its own hidden state.

    u_k, h_{k+1} = LSTM(features of the gradient, h_k)            (eq. 2)
    x_{k+1} = x_k + scale * u_k
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from optenvs.core.features import log_and_sign
from optenvs.core.random import Keys
from optenvs.core.struct import struct

from ..core import Observation, require
from .base import Affine, LearnedAgent

_PREPROCESS = {"log_sign": 2, "raw": 1}


@struct
class LSTMState:
    """``h``, ``c``: hidden and cell states, one pair a layer, ``(B, n, hidden)`` each."""

    h: tuple[Float[Tensor, "B n H"], ...]
    c: tuple[Float[Tensor, "B n H"], ...]


class LSTMCell(nn.Module):
    """One LSTM layer for one step, of plain operations: fused ones neither vmap nor differentiate twice."""

    def __init__(self, inputs: int, hidden: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.gates = Affine(inputs + hidden, 4 * hidden, dtype)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        gates = self.gates(torch.cat((x, h), -1))
        hidden = h.shape[-1]
        forget, enter, leave = torch.sigmoid(gates[..., : 3 * hidden]).chunk(3, -1)
        c = torch.addcmul(forget * c, enter, torch.tanh(gates[..., 3 * hidden :]))
        return leave * torch.tanh(c), c


class LSTMNet(nn.Module):
    """Stacked cells and a linear output, applied to every coordinate."""

    def __init__(self, inputs: int, hidden: int, layers: int, dtype: torch.dtype) -> None:
        super().__init__()
        widths = [inputs] + [hidden] * (layers - 1)
        self.cells = nn.ModuleList(LSTMCell(width, hidden, dtype) for width in widths)
        self.out = Affine(hidden, 1, dtype)

    def forward(self, x: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        pairs = []
        for cell, h, c in zip(self.cells, state.h, state.c, strict=True):
            pairs.append(cell(x, h, c))
            x = pairs[-1][0]
        h, c = zip(*pairs, strict=True)
        return self.out(x).squeeze(-1), LSTMState(h=h, c=c)


@dataclass(frozen=True, eq=False)
class LSTMOptimizer(LearnedAgent):
    """L2O: two LSTM layers of 20 units, shared by all coordinates (section 2.1).

    Untrained it walks at random: train it through :func:`optenvs.unroll_windows`, see
    ``examples/meta_train_lstm.py``, or :meth:`load` trained weights.

    Args:
        hidden: units of a layer.
        layers: LSTM layers.
        preprocess: ``log_sign`` (appendix A, k = 5) or ``raw``, the gradient itself.
        scale: the factor on the network's output: in the authors' code 0.01 for networks, 1 for
            quadratics.
        seed, dtype, net, weights: see :class:`agents.learned.base.LearnedAgent`.
    """

    hidden: int = 20
    layers: int = 2
    preprocess: str = "log_sign"
    scale: float = 0.01

    def __post_init__(self) -> None:
        for name in ("hidden", "layers"):
            require(self, name, getattr(self, name) >= 1, "a whole number >= 1")
        require(self, "preprocess", self.preprocess in _PREPROCESS, f"one of {', '.join(_PREPROCESS)}")
        require(self, "scale", 0 < self.scale < float("inf"), "a number > 0")
        super().__post_init__()

    def build(self) -> LSTMNet:
        inputs = _PREPROCESS[self.preprocess]
        return LSTMNet(inputs, self.hidden, self.layers, self.torch_dtype)

    def init(self, problem: Any, observation: Observation, keys: Keys) -> LSTMState:
        point = observation["point"]
        zeros = tuple(point.new_zeros(*point.shape, self.hidden) for _ in range(self.layers))
        return LSTMState(h=zeros, c=zeros)

    def act(self, state: LSTMState, observation: Observation) -> tuple[Tensor, LSTMState]:
        gradient = observation["gradient"]
        seen = log_and_sign(gradient) if self.preprocess == "log_sign" else gradient.unsqueeze(-1)
        update, state = self.run(seen, state)
        return torch.add(observation["point"], update, alpha=self.scale), state

"""OPEN, a learned optimizer for reinforcement learning (Goldie et al. 2024, arXiv 2407.07082).

"Can Learned Optimization Make Reinforcement Learning Less Difficult?" One step, of every parameter by itself:

    m_i <- b_i m_i + (1 - b_i) g                                  six decays b_i, before they are read
    f = [x, sign and log of m_1 .. m_6 and of g] normalised tensor by tensor, and the shares below
    h <- GRU(f, h),    d, e, s = MLP(h)
    u = step_multiplier (d exp(exp_multiplier e) + s z),          z standard normal, of the actor alone
    x <- x - (u - mean of u over all parameters)

The shares: of the training that is done, of the layers before this one, of the passes through a batch that
are done, and how active the parameter's unit is (1 as the mean of its layer; 0 is dormant). The architecture,
the order of the inputs and all constants are those of the authors' code; how weights begin is this suite's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from optenvs.core.features import (
    DECAYS,
    empty_momenta,
    second_moment_normalise,
    spread,
    update_momenta,
)
from optenvs.core.random import Keys, normal
from optenvs.core.struct import static, struct

from ..core import Observation, require
from ._tensors import Shapes, sizes_of, tensor_shapes
from .base import Affine, LearnedAgent, Numbers

FEATURES = 1 + 2 * len(DECAYS) + 2 + 4
"""Inputs of a parameter: 19."""
_FLOOR = 1e-13
"""Beside a magnitude in its logarithm."""
_ACTIVE = 1e-11
"""Beside the activity of a unit, so that a layer without any is active alike."""
_NORM = 1e-6
"""Beside the variance in a layer normalisation."""


@struct
class OPENState:
    """What each parameter remembers, and what is known of the tensors.

    Attributes:
        momenta: ``(B, n, 6)``.
        carry: of the GRU, ``(B, n, memory)``.
        key: of the noise, ``(B,)``.
        shapes: of the tensors.
        layers: the number of each tensor's layer, from 0.
        noisy: whether each tensor gets noise.
    """

    momenta: Float[Tensor, "B n 6"]
    carry: Float[Tensor, "B n H"]
    key: Int64[Tensor, "B"]
    shapes: Shapes = static()
    layers: tuple[int, ...] = static()
    noisy: tuple[bool, ...] = static()


class OPENNet(nn.Module):
    """A GRU, and a perceptron with two normalised layers."""

    def __init__(self, memory: int, hidden: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.enter = Affine(FEATURES, 3 * memory, dtype)
        one = torch.ones(hidden)
        starts = {"carry": torch.zeros(3 * memory, memory), "new_bias": torch.zeros(memory)}
        starts |= {"scale0": one, "shift0": 0 * one, "scale1": one, "shift1": 0 * one}
        bound = 1 / math.sqrt(memory)
        self.numbers = Numbers(dtype, starts, {"carry": bound, "new_bias": bound})
        widths = (memory, hidden, hidden)
        self.layers = nn.ModuleList(Affine(width, hidden, dtype) for width in widths[:-1])
        self.out = Affine(hidden, 3, dtype)

    def forward(self, x: Float[Tensor, "B n F"], carry: Float[Tensor, "B n H"]) -> tuple[Tensor, Tensor]:
        width, own = carry.shape[-1], self._own
        entering, kept = self.enter(x), carry @ own("carry").mT
        reset, update = torch.sigmoid((entering + kept)[..., : 2 * width]).chunk(2, -1)
        bent = kept[..., 2 * width :] + own("new_bias").unsqueeze(-2)
        new = torch.tanh(entering[..., 2 * width :] + reset * bent)
        carry = new + update * (carry - new)
        seen = carry
        for i, layer in enumerate(self.layers):
            scale, shift = (own(f"{name}{i}").unsqueeze(-2) for name in ("scale", "shift"))
            seen = layer(seen)
            centred = seen - seen.mean(-1, keepdim=True)
            seen = centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + _NORM)
            seen = torch.relu(scale * seen + shift)
        return self.out(seen), carry

    def _own(self, name: str) -> Tensor:
        return getattr(self.numbers, name)  # a tensor, where each row has its own


@dataclass(frozen=True, eq=False)
class OPEN(LearnedAgent):
    """A recurrent network for each parameter that knows where it stands, and may explore. 1211 weights.

    Where the problem names the layout of its parameters (``problem.model.layout``), features are normalised
    tensor by tensor, tensors whose names agree before the last dot are a layer, and the units of a layer lie
    along the first axis of its tensors, as in torch; otherwise the point is one tensor of one layer. Of what
    the authors' training of an actor and a critic shows and an optimization problem does not, ``epochs``,
    ``minibatches``, ``activity`` and ``noise`` say what stands in its place. The mean of a step is 0: a point
    of one number does not move, unless ``centred=False``.

    Args:
        memory, hidden: units of the GRU and of each layer; the authors' "larger" form has 16 and 32.
        step_multiplier: the factor on the step.
        exp_multiplier: the factor on its log-magnitude.
        epochs, minibatches: how often the problem shows the same data, and in how many parts: with 4 and 2,
            queries 0 to 7 are of the first batch. By default every query is of data of its own, and the share
            of the passes is 0.
        activity: where the activity of units is from: ``gradient``, the mean magnitude of a unit's gradient
            over that of its layer (0 where a rectifier is dead), in the place of its output; or ``none``, 1.
            An observation with a field ``activity`` ``(B, n)`` tells it itself.
        noise: which tensors get noise: ``True`` for all, ``False``, or names, or beginnings of names such as
            ``("actor",)``, as in the paper.
        centred: whether the mean of a step over all parameters is taken from it.
        seed, dtype, net, weights: see :class:`agents.learned.base.LearnedAgent`.
    """

    memory: int = 8
    hidden: int = 16
    step_multiplier: float = 1e-3
    exp_multiplier: float = 1e-3
    epochs: int = 1
    minibatches: int = 1
    activity: str = "gradient"
    noise: bool | tuple[str, ...] = True
    centred: bool = True

    def __post_init__(self) -> None:
        for name in ("memory", "hidden", "epochs", "minibatches"):
            require(self, name, getattr(self, name) >= 1, "a whole number >= 1")
        for name in ("step_multiplier", "exp_multiplier"):
            require(self, name, 0 < getattr(self, name) < math.inf, "a number > 0")
        require(self, "activity", self.activity in ("gradient", "none"), "'gradient' or 'none'")
        names = isinstance(self.noise, tuple | list) and all(isinstance(name, str) for name in self.noise)
        require(self, "noise", names or isinstance(self.noise, bool), "True, False or names of tensors")
        super().__post_init__()

    def build(self) -> OPENNet:
        return OPENNet(self.memory, self.hidden, self.torch_dtype)

    def init(self, problem: Any, observation: Observation, keys: Keys) -> OPENState:
        """Raise ``ValueError`` where ``noise`` names a tensor that there is not."""
        point = observation["point"]
        shapes = tensor_shapes(problem, point.shape[1])
        layout = getattr(getattr(problem, "model", None), "layout", ())
        names = [slot.name for slot in layout] or [""]
        if isinstance(self.noise, bool):
            noisy = [self.noise] * len(names)
        else:
            for begin in self.noise:
                known = any(name.startswith(begin) for name in names)
                require(self, "noise", known, f"names or beginnings of {', '.join(names)}")
            noisy = [name.startswith(tuple(self.noise)) for name in names]
        return OPENState(
            momenta=empty_momenta(point),
            carry=point.new_zeros(*point.shape, self.memory),
            key=keys,
            shapes=shapes,
            layers=layers_of(names),
            noisy=tuple(noisy),
        )

    def act(self, state: OPENState, observation: Observation) -> tuple[Tensor, OPENState]:
        point, gradient, k = observation["point"], observation["gradient"], observation["k"]
        momenta = update_momenta(state.momenta, gradient)
        told = torch.cat((momenta, gradient.unsqueeze(-1)), -1)
        signs, logs = torch.sign(told), torch.log(told.abs() + _FLOOR)
        moments = (point.unsqueeze(-1), signs[..., :-1], logs[..., :-1], signs[..., -1:], logs[..., -1:])
        seen = second_moment_normalise(torch.cat(moments, -1), sizes_of(state.shapes))
        answer, carry = self.run(torch.cat((seen, self.shares(state, observation)), -1), state.carry)
        direction, magnitude, spread_ = answer.unbind(-1)
        step = direction * torch.exp(self.exp_multiplier * magnitude)
        if any(state.noisy):
            luck = normal(state.key, "noise", point.shape[1], k[:, 0].long(), point.dtype)
            step = step + spread_ * luck * _by_tensor(state.noisy, state.shapes, point)
        if self.centred:
            step = step - step.mean(1, keepdim=True)
        after = OPENState(momenta, carry, state.key, state.shapes, state.layers, state.noisy)
        return point - self.step_multiplier * step, after

    def shares(self, state: OPENState, observation: Observation) -> Float[Tensor, "B n 4"]:
        """Of training, layers and passes done, and how active the unit of each parameter is."""
        k, steps, like = observation["k"], observation["N"], observation["point"]
        turns = self.epochs * self.minibatches
        trained = (k / turns).floor() / ((steps / turns).floor() - 1).clamp_min(1)
        passed = (k / self.minibatches).floor().remainder(self.epochs) / max(self.epochs - 1, 1)
        last = max(state.layers[-1], 1)
        depth = _by_tensor([layer / last for layer in state.layers], state.shapes, like)
        active = observation.get("activity")
        if active is None:
            alike = self.activity == "none"
            active = torch.ones_like(like) if alike else activity(observation["gradient"], state)
        return torch.stack([part.expand_as(like) for part in (trained, depth, passed, active)], -1)


def layers_of(names: Sequence[str]) -> tuple[int, ...]:
    """The number of each tensor's layer: neighbours whose names agree before the last dot share one."""
    found: list[int] = []
    for i, name in enumerate(names):
        same = i > 0 and name.rpartition(".")[0] == names[i - 1].rpartition(".")[0]
        found.append(found[-1] + (not same) if found else 0)
    return tuple(found)


def activity(gradient: Float[Tensor, "B n"], state: OPENState) -> Float[Tensor, "B n"]:
    """The mean magnitude of the gradient of each parameter's unit, over the mean of its layer's units."""
    unit, layer, sizes, widths = _units(state.shapes, state.layers, gradient.device)
    zeros = gradient.new_zeros(len(gradient), len(sizes))
    units = zeros.index_add(1, unit, gradient.abs()) / sizes.to(gradient) + _ACTIVE
    sums = gradient.new_zeros(len(gradient), len(widths)).index_add(1, layer, units)
    return (units * (widths.to(gradient) / sums)[:, layer])[:, unit]


@lru_cache(maxsize=64)
def _units(shapes: Shapes, layers: tuple[int, ...], device: torch.device) -> tuple[Tensor, ...]:
    """The unit of each entry, the layer of each unit, entries of each unit, and units of each layer.

    Tensors of a layer with as many numbers along the first axis have the same units.
    """
    first: dict[tuple[int, int], int] = {}
    of_entries, of_units, count = [], [], 0
    for shape, layer in zip(shapes, layers, strict=True):
        wide = shape[0] if shape else 1
        if (layer, wide) not in first:
            first[layer, wide] = count
            of_units.append(torch.full((wide,), len(first) - 1))
            count += wide
        own = torch.arange(first[layer, wide], first[layer, wide] + wide)
        of_entries.append(own.repeat_interleave(math.prod(shape) // max(wide, 1)))
    with torch.inference_mode(False):  # a cached tensor must be usable in any mode
        unit, layer_of = torch.cat(of_entries), torch.cat(of_units)
        found = (unit, layer_of, unit.bincount(minlength=count), layer_of.bincount())
        return tuple(part.clone().to(device) for part in found)


def _by_tensor(values: Sequence[float], shapes: Shapes, like: Float[Tensor, "B n"]) -> Float[Tensor, "B n"]:
    """A number a tensor, at each of its entries."""
    told = torch.tensor([values], dtype=like.dtype, device=like.device)
    return spread(told.expand(len(like), -1), sizes_of(shapes))

"""Functions of one number with a known infimum and their exact slopes, one an instance.

* ``quadratic``: ``a (x - c)^2``, with a in [0.5, 2] and c in [-2, 2].
* ``polynomial``: of degree 4, by its three stationary points: ``f' = a (x - p) (x - q) (x - r)`` with p in
  [-3, -1], q in [-0.5, 0.5], r in [1, 3] and a in [0.05, 0.2]: two valleys, the lower one is the minimum.
* ``sigmoid``: ``1 / (1 + exp(-s (x - c)))``, with s in [0.5, 2] and c in [-2, 2]: the infimum 0 is at minus
  infinity, and the slopes vanish on the way.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.random import Keys, uniform
from optenvs.core.struct import static, struct

KINDS = ("quadratic", "polynomial", "sigmoid")
_RANGES = {
    "quadratic": ((0.5, 2.0), (-2.0, 2.0)),
    "polynomial": ((0.05, 0.2), (-3.0, -1.0), (-0.5, 0.5), (1.0, 3.0)),
    "sigmoid": ((0.5, 2.0), (-2.0, 2.0)),
}


@struct
class Scalar:
    """``B`` functions.

    Attributes:
        numbers: a, c or a, p, q, r or s, c, ``(B, _)``.
        least: the infimum, ``(B, 1)``.
        kind: one of :data:`KINDS`.
    """

    numbers: Float[Tensor, "B c"]
    least: Float[Tensor, "B 1"]
    kind: str = static()

    def value_and_slope(self, x: Float[Tensor, "B m"]) -> tuple[Float[Tensor, "B m"], Float[Tensor, "B m"]]:
        """Values and slopes at ``m`` points each."""
        return _at(self.kind, self.numbers, x)


def draw(kind: str, keys: Keys, dtype: torch.dtype) -> Scalar:
    """One function a key."""
    ranges = _RANGES[kind]
    unit = uniform(keys, kind, len(ranges), dtype=dtype)
    low, high = (torch.tensor(ends, dtype=dtype, device=keys.device) for ends in zip(*ranges, strict=True))
    numbers = low + (high - low) * unit
    least = torch.zeros_like(numbers[:, :1])
    if kind == "polynomial":
        least = _at(kind, numbers, numbers[:, 1::2])[0].amin(1, keepdim=True)
    return Scalar(numbers=numbers, least=least, kind=kind)


def _at(kind: str, numbers: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    first, *rest = numbers.split(1, 1)
    if kind == "quadratic":
        away = x - rest[0]
        return first * away * away, 2 * first * away
    if kind == "sigmoid":
        height = torch.sigmoid(first * (x - rest[0]))
        return height, first * height * (1 - height)
    p, q, r = rest
    slope = first * (x - p) * (x - q) * (x - r)
    linear, constant = p * q + p * r + q * r, p * q * r
    value = x * (x * (x * (x / 4 - (p + q + r) / 3) + linear / 2) - constant)
    return first * value, slope

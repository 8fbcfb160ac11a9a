"""Counter-based randomness: every draw is a pure function of (key, stream, counter).

The generator is SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number
generators"): word ``j`` of the sequence with seed ``s`` is ``mix(s + (j + 1) * GOLDEN)``. It needs no
state, so a draw is the same at every batch size, on every call and on every device. One key an instance,
as ``int64`` (torch has no arithmetic on ``uint64``; two's complement wraps in the same way).

A *stream* is a name for what is drawn ("start", "noise"), so that a new draw never shifts another; a
*counter* is the time of the draw (a step, an epoch), an integer or an ``int64`` tensor ``(B,)``.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from .blocks import row_blocks

Keys = Int64[Tensor, "B"]
ManyKeys = Int64[Tensor, "*B"]
"""Keys of any shape: one an instance, or one for each agent of each instance."""
Shape = int | tuple[int, ...]


def _signed(word: int) -> int:
    word &= (1 << 64) - 1
    return word - (1 << 64) if word >> 63 else word


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)
_COUNTER = _signed(0xD1342543DE82EF95)  # an odd constant unlike GOLDEN, so that counters are not words
_LOW32 = 0xFFFFFFFF
# Factors of an index. As tensors, or a compiled function has the overflow of a loop's index in C++, where
# it is undefined: g++ concludes that the loop is short and writes beyond the end.
_GOLDEN_WORD = torch.tensor(_GOLDEN)
_COUNTER_WORD = torch.tensor(_COUNTER)


def _mix(z: Tensor) -> Tensor:
    """SplitMix64's finalizer. A right shift of int64 copies the sign, hence the masks."""
    z = (z >> 30).bitwise_and_((1 << 34) - 1).bitwise_xor_(z).mul_(_FIRST)
    z = (z >> 27).bitwise_and_((1 << 37) - 1).bitwise_xor_(z).mul_(_SECOND)
    return (z >> 31).bitwise_and_((1 << 33) - 1).bitwise_xor_(z)


def _offset(counter: int | Tensor) -> int | Tensor:
    # Python's integers do not wrap by themselves
    return counter * _COUNTER_WORD if isinstance(counter, Tensor) else _signed(counter * _COUNTER)


@lru_cache(maxsize=1024)
def _stream(name: str) -> int:
    return _signed(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little"))


@lru_cache(maxsize=64)
def _steps(count: int, device: torch.device) -> Tensor:
    return torch.arange(1, count + 1, device=device, dtype=torch.int64) * _GOLDEN_WORD


def _size(shape: Shape) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, int) else tuple(shape)


def as_seed(seed: Any) -> int:
    """``seed`` as Python's integer: the one rule for seeds, on every face and in every function.

    Raises:
        ValueError: no whole number (numpy's count, ``True`` does not) or one outside ``[0, 2**63)``.
    """
    whole = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
    if not whole or not 0 <= seed < 1 << 63:
        raise ValueError(f"seed: expected a whole number in [0, 2**63), got {seed!r}")
    return int(seed)


def keys_from_seed(seed: int, batch: int, device: torch.device | str = "cpu", first: int = 0) -> Keys:
    """The keys of instances ``first .. first + batch - 1`` of ``seed``; key i ignores ``batch``.

    Raises:
        ValueError: a seed that is none, see :func:`as_seed`, or an empty batch.
    """
    if batch < 1:
        raise ValueError(f"batch: expected at least 1 instance, got {batch}")
    device = torch.device(device)
    base = torch.full((1,), as_seed(seed), dtype=torch.int64, device=device)
    index = torch.arange(first + 1, first + batch + 1, device=device, dtype=torch.int64)
    return _mix(_mix(base) + index * _GOLDEN_WORD)


def fold_in(keys: ManyKeys, data: int | Tensor) -> Int64[Tensor, "..."]:
    """New keys, one for each key and each value of ``data`` (an episode number, an agent's index).

    The shapes of the two are broadcast: keys ``(B, 1)`` and indices ``(N,)`` give ``(B, N)``.
    """
    return _mix(_mix(keys) + _offset(data))


def bits(keys: ManyKeys, stream: str, shape: Shape, counter: int | Tensor | None = None) -> Tensor:
    """Random 64-bit words, int64 ``(B, *shape)``."""
    size = _size(shape)
    seed = _mix(keys ^ _stream(stream))
    if counter is not None:
        seed = _mix(seed + _offset(counter))
    words = _mix(seed.unsqueeze(-1) + _steps(math.prod(size), keys.device))
    return words if len(size) == 1 else words.reshape(keys.shape + size)


def uniform_at(
    keys: Keys, stream: str, index: Int64[Tensor, "B m"], dtype: torch.dtype = torch.float32
) -> Float[Tensor, "B m"]:
    """The entries ``index`` of ``uniform(keys, stream, n, dtype=dtype)``, without drawing the others."""
    seed = _mix(keys ^ _stream(stream)).unsqueeze(-1)
    return _unit(_mix(seed + (index + 1) * _GOLDEN), dtype)


def _unit(words: Tensor, dtype: torch.dtype) -> Tensor:
    kept = 53 if dtype == torch.float64 else 24
    return (words >> (64 - kept)).bitwise_and_((1 << kept) - 1).to(dtype) * 2.0**-kept


def uniform(
    keys: ManyKeys,
    stream: str,
    shape: Shape,
    counter: int | Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    low: float | Tensor = 0.0,
    high: float | Tensor = 1.0,
) -> Float[Tensor, "..."]:
    """Uniform numbers in ``[low, high)``, ``(B, *shape)``; 53 random bits in float64, else 24."""
    unit = _unit(bits(keys, stream, shape, counter), dtype)
    if isinstance(low, float | int) and isinstance(high, float | int) and (low, high) == (0.0, 1.0):
        return unit
    return low + (high - low) * unit


def normal(
    keys: ManyKeys,
    stream: str,
    shape: Shape,
    counter: int | Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "..."]:
    """Standard normal numbers, ``(B, *shape)``, two a word by Box and Muller's transform.

    Each uses 32 bits, so that ``|x| < 6.76``: the two tails beyond hold a share of 1.4e-11.
    """
    size = _size(shape)
    count = math.prod(size)
    blocks = row_blocks(keys, math.prod(keys.shape[1:]) * count * dtype.itemsize)
    if len(blocks) == 1:
        return _normal(keys, stream, count, counter, dtype).reshape(keys.shape + size)
    drawn = keys.new_empty((*keys.shape, count), dtype=dtype)
    for rows in blocks:
        now = counter[rows] if isinstance(counter, Tensor) and counter.ndim else counter
        drawn[rows] = _normal(keys[rows], stream, count, now, dtype)
    return drawn.reshape(keys.shape + size)


def _normal(
    keys: ManyKeys, stream: str, count: int, counter: int | Tensor | None, dtype: torch.dtype
) -> Float[Tensor, "..."]:
    words = bits(keys, stream, (count + 1) // 2, counter)
    radius = (words >> 32).bitwise_and_(_LOW32).to(dtype).add_(0.5).mul_(2.0**-32)
    radius = radius.log_().mul_(-2.0).sqrt_()
    angle = (words & _LOW32).to(dtype).mul_(2.0 * math.pi * 2.0**-32)
    # a complex number is a pair in memory: an eighth of the time of stacking, a quarter where compiled
    sine, cosine = angle.sin().mul_(radius), angle.cos_().mul_(radius)
    return torch.view_as_real(torch.complex(cosine, sine)).flatten(-2)[..., :count]


def integers(
    keys: ManyKeys, stream: str, shape: Shape, high: int, counter: int | Tensor | None = None
) -> Int64[Tensor, "..."]:
    """Integers uniform on ``0 .. high - 1`` (``high <= 2**31``; bias below ``high / 2**32``)."""
    if not 1 <= high <= 1 << 31:
        raise ValueError(f"high: expected 1 to 2**31, got {high}")
    word = (bits(keys, stream, shape, counter) >> 32).bitwise_and_(_LOW32)
    return (word * high) >> 32


def rademacher(
    keys: ManyKeys,
    stream: str,
    shape: Shape,
    counter: int | Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "..."]:
    """Signs -1 and +1 with equal probability, ``(B, *shape)``."""
    positive: Bool[Tensor, "..."] = bits(keys, stream, shape, counter) >= 0
    return positive.to(dtype) * 2 - 1


def permutation(
    keys: Keys, stream: str, count: int, counter: int | Tensor | None = None
) -> Int64[Tensor, "B n"]:
    """One uniform permutation of ``0 .. count - 1`` a key: the order of random words."""
    return bits(keys, stream, count, counter).argsort(-1)


def orthogonal(
    keys: Keys, stream: str, dim: int, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "B n n"]:
    """Haar-distributed orthogonal matrices, by QR with the signs of R's diagonal put right."""
    q, r = torch.linalg.qr(normal(keys, stream, (dim, dim), dtype=torch.float64))
    return (q * torch.diagonal(r, dim1=-2, dim2=-1).sign().unsqueeze(-2)).to(dtype)

"""Sketch and project (Gower and Richtarik 2015): systems A z = b by random projections, a batch at once.

    z <- z - A'S (S'A A'S)^+ S' (A z - b)

projects z onto the solutions of S'A z = S'b. What the k-th of some successive sketches s_1, s_2, ... sees
is the residual less the steps before it, s_k'r - sum_j<k t_j s_k'A A's_j: they are one triangular system,

    tril(S' A A' S) t = S' r,     z <- z - A' S t.

A block of columns that projects at once is first turned into columns with orthonormal A's, so that it is
successive sketches, too; directions in which A' is singular are dropped (the pseudo-inverse).

The loop looks at the residual, computed anew, after each chunk, on the host. A row is done at its aim, or
where rounding is all that is left of the residual; such rows are frozen, and left out once they are half of
all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.random import Keys, normal, uniform_at
from optenvs.core.struct import replace, rows, select, struct

from .gmres import length_of

KINDS = ("gaussian", "kaczmarz")
WEIGHTS = ("uniform", "norms")
_ROOM = 1 << 17  # numbers in a triangular system, of all rows together: what a processor's cache holds
_WIDEST = 256  # sketches in a triangular system: beyond it the gathering of their products takes over
_AHEAD = 1 << 13  # row numbers picked at once, of all rows together


@dataclass(frozen=True)
class Sketches:
    """How sketches are drawn.

    Args:
        kind: ``gaussian``, S is standard normal; or ``kaczmarz``, S picks rows of A, but none of zeros.
        block: how many columns S has.
        weights: of Kaczmarz's rows: ``uniform``, or in proportion to the squares of their ``norms``.
        chunk: sketches between two looks at the residual: the loop may go so many beyond its aim.
        wrong_start: whether the first sketch of a loop that begins at 0 takes the residual to be +b, and goes
            the wrong way, as the published code does.

    Raises:
        ValueError: another kind or weight, or no whole number >= 1.
    """

    kind: str = "gaussian"
    block: int = 1
    weights: str = "uniform"
    chunk: int = 256
    wrong_start: bool = False

    def __post_init__(self) -> None:
        for field, value, known in (("kind", self.kind, KINDS), ("weights", self.weights, WEIGHTS)):
            if value not in known:
                raise ValueError(f"{field}: expected {' or '.join(known)}, got {value!r}")
        for field in ("block", "chunk"):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{field}: expected a whole number >= 1, got {value!r}")


class Sketched(NamedTuple):
    """Where a loop has stopped.

    Attributes:
        z: ``(B, N)``.
        residual: the norm of A z - b, ``(B,)``.
        sketches: how many were made, ``(B,)``.
    """

    z: Float[Tensor, "B N"]
    residual: Float[Tensor, "B"]
    sketches: Int64[Tensor, "B"]


@struct
class _Loop:
    """The rows that sketch.

    Attributes:
        A, b: the systems.
        gram: A A'.
        z, residual: where they are, and A z - b.
        target: the aim; infinite where all of A is 0.
        size: the norm of A.
        shares: the weights of the rows of A, summed up to 1.
        keys, first: of the draws.
    """

    A: Float[Tensor, "B N N"]
    b: Float[Tensor, "B N 1"]
    gram: Float[Tensor, "B N N"]
    z: Float[Tensor, "B N 1"]
    residual: Float[Tensor, "B N 1"]
    target: Float[Tensor, "B"]
    size: Float[Tensor, "B"]
    shares: Float[Tensor, "B N"]
    keys: Keys
    first: Int64[Tensor, "B"]

    @property
    def unmet(self) -> Bool[Tensor, "B"]:
        rounding = 2 * torch.finfo(self.z.dtype).eps * self.size * length_of(self.z.squeeze(-1))
        return length_of(self.residual.squeeze(-1)) > torch.maximum(self.target, rounding)


def sketch_and_project(
    A: Float[Tensor, "B N N"],
    b: Float[Tensor, "B N"],
    z: Float[Tensor, "B N"],
    target: Float[Tensor, "B"],
    *,
    keys: Keys,
    cap: int,
    first: Int64[Tensor, "B"] | None = None,
    active: Bool[Tensor, "B"] | None = None,
    sketches: Sketches = Sketches(),
) -> Sketched:
    """Sketch until the norm of the residual is at most ``target``, or ``cap`` sketches are made.

    Args:
        A: the matrices, neither symmetric nor regular of necessity.
        b: the right-hand sides.
        z: where the loop begins.
        target: the aim, by row.
        keys: of the draws.
        first: the number of the first draw: how many sketches were made before.
        cap: the most sketches.
        active: the rows that are wanted, all of them by default; the others stay as they are.
        sketches: how they are drawn.
    """
    made = torch.zeros_like(keys)
    loop = _begin(A, b, z, target, keys, made if first is None else first, sketches)
    z, residual = loop.z, loop.residual
    going = loop.unmet if active is None else active & loop.unmet
    place, done, picks = torch.arange(len(keys), device=keys.device), 0, _Picks(sketches)
    while done < cap and (count := int(going.sum())):
        if 2 * count <= len(place):
            z, residual = z.index_copy(0, place, loop.z), residual.index_copy(0, place, loop.residual)
            kept = going.nonzero().squeeze(-1)
            loop, place, going = rows(loop, kept), place[kept], going[kept]
            picks.keep(kept)
        size = min(sketches.chunk, cap - done)
        after = _chunk(loop, sketches, picks, done, size)
        loop = after if count == len(place) else select(going, after, loop)
        done, on = done + size, going & loop.unmet
        if done >= cap or not bool(on.equal(going)):  # the others have made as many
            made = made.index_copy(0, place, torch.where(going, done, made[place]))
        going = on
    z, residual = z.index_copy(0, place, loop.z), residual.index_copy(0, place, loop.residual)
    return Sketched(z.squeeze(-1), length_of(residual.squeeze(-1)), made)


def _begin(
    A: Tensor, b: Tensor, z: Tensor, target: Tensor, keys: Keys, first: Tensor, sketches: Sketches
) -> _Loop:
    gram, b, z = A @ A.mT, b.unsqueeze(-1), z.unsqueeze(-1)
    square = gram.diagonal(dim1=-2, dim2=-1)
    shares = (square if sketches.weights == "norms" else (square > 0).to(square)).cumsum(-1)
    total = shares[:, -1:]
    target = torch.where(total.squeeze(-1) > 0, target, torch.inf)
    residual = torch.baddbmm(b, A, z, beta=-1)
    return _Loop(A, b, gram, z, residual, target, length_of(A.flatten(1)), shares / total, keys, first)


class _Picks:
    """The numbers of the rows that Kaczmarz's sketches pick, some time ahead."""

    def __init__(self, sketches: Sketches) -> None:
        self._block, self._sketches = sketches.block, sketches
        self._begin = self._end = 0
        self._picked: Tensor = torch.empty(0)

    def keep(self, kept: Tensor) -> None:
        """Go on with these rows alone."""
        self._picked = self._picked[kept] if self._end else self._picked

    def of(self, loop: _Loop, done: int, size: int) -> Int64[Tensor, "B C"]:
        """Those of ``size`` sketches after ``done``."""
        begin, end = done * self._block, (done + size) * self._block
        if end > self._end:
            self._begin, self._end = begin, max(end, begin + _AHEAD // len(loop.keys))
            index = torch.arange(self._begin, self._end, device=loop.z.device)
            index = index + self._block * loop.first.unsqueeze(-1)
            share = uniform_at(loop.keys, "sketches", index, loop.z.dtype)
            last = loop.shares.shape[1] - 1
            self._picked = torch.searchsorted(loop.shares, share, right=True).clamp_max(last)
        return self._picked[:, begin - self._begin : end - self._begin]


def _chunk(loop: _Loop, sketches: Sketches, picks: _Picks, done: int, size: int) -> _Loop:
    """``size`` sketches more, after ``done``, as triangular systems that fit a processor's cache."""
    z, residual, block = loop.z, loop.residual, sketches.block
    width = block * max(1, min(_WIDEST, int((_ROOM / len(z)) ** 0.5)) // block)
    along_rows = sketches.kind == "kaczmarz" and block == 1
    drawn = picks.of(loop, done, size) if along_rows else _columns(loop, sketches, picks, done, size)
    for start in range(0, size * block, width):
        flip = sketches.wrong_start and done + start == 0
        now = drawn[:, start : start + width]
        step = (_along_rows if along_rows else _along_columns)(loop, now, residual, flip)
        z = torch.baddbmm(z, loop.A.mT, step, alpha=-1)
        residual = torch.baddbmm(loop.b, loop.A, z, beta=-1)
    return replace(loop, z=z, residual=residual)


def _columns(loop: _Loop, sketches: Sketches, picks: _Picks, done: int, size: int) -> Float[Tensor, "B C N"]:
    """The columns of S, a row each; those of a block turned so that A's of them are orthonormal."""
    n, block = loop.z.shape[1], sketches.block
    if sketches.kind == "kaczmarz":
        S = torch.nn.functional.one_hot(picks.of(loop, done, size), n).to(loop.z.dtype)
    else:
        S = normal(loop.keys, "sketches", (size * block, n), loop.first + done, loop.z.dtype)
    if block == 1:
        return S
    S = S.unflatten(1, (size, block))
    values, vectors = torch.linalg.eigh(S @ loop.gram.unsqueeze(1) @ S.mT)
    least = block * torch.finfo(S.dtype).eps * values[..., -1:]
    scale = torch.where(values > least, values, torch.inf).rsqrt()
    return (scale.unsqueeze(-1) * (vectors.mT @ S)).flatten(1, 2)


def _along_rows(loop: _Loop, picked: Int64[Tensor, "B C"], residual: Tensor, flip: bool) -> Tensor:
    """S t of successive sketches that pick a row each."""
    (batch, size), n = picked.shape, residual.shape[1]
    columns = loop.gram.gather(2, picked.unsqueeze(1).expand(-1, n, -1))  # (B, N, C)
    # then whole rows, which are copied at once: several times faster than number by number
    rows_of = picked + n * torch.arange(batch, device=picked.device).unsqueeze(-1)
    gram = columns.flatten(0, 1).index_select(0, rows_of.flatten()).unflatten(0, (batch, size))
    place = picked.unsqueeze(-1)
    t = _successive(gram, residual.gather(1, place), flip)
    return torch.zeros_like(residual).scatter_add(1, place, t)


def _along_columns(loop: _Loop, S: Float[Tensor, "B C N"], residual: Tensor, flip: bool) -> Tensor:
    """S t of successive sketches with any columns; those that A' takes to 0 do nothing."""
    gram, seen = S @ loop.gram @ S.mT, S @ residual
    square = gram.diagonal(dim1=-2, dim2=-1)
    none = square <= 0
    square += none  # `gram` is ours
    return S.mT @ _successive(gram, seen.masked_fill(none.unsqueeze(-1), 0.0), flip)


def _successive(gram: Float[Tensor, "B C C"], seen: Float[Tensor, "B C 1"], flip: bool) -> Tensor:
    """The solution t."""
    if flip:
        seen = torch.cat((-seen[:, :1], seen[:, 1:]), 1)
    return torch.linalg.solve_triangular(gram, seen, upper=False)

"""What rules see of tensors: averages of gradients, also factored as in Adafactor, at every entry.

A parameter vector consists of tensors. Of one with two or more axes the mean squares of its gradient are kept
by row and by column, along its two largest axes (Shazeer and Stern 2018); of others, entry by entry:

    R <- b R + (1 - b) mean of (g^2 + 1e-30) over the largest axis          rows
    C <- b C + (1 - b) the same over the second largest                      columns
    r = max(R / (mean of R over the second largest + 1e-9), 1e-9)^(-1/2),  c = max(C, 1e-9)^(-1/2)

so that ``g r c`` is g over the root of the rank-one estimate of its second moment.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.struct import static, struct

Shapes = tuple[tuple[int, ...], ...]
_NOISE = 256.0
"""Rounding of a mean, in units of the last place."""
LEAST = 1e-24
"""Below it a reciprocal root has no slope that float32 can hold."""


def tensor_shapes(problem: Any, count: int) -> Shapes:
    """Shapes of the tensors in a parameter vector of ``count`` entries, from ``problem.model.layout``.

    A problem without a layout has one tensor with one axis.
    """
    layout = getattr(getattr(problem, "model", None), "layout", None)
    return ((count,),) if layout is None else tuple(tuple(map(int, slot.shape)) for slot in layout)


class Part(NamedTuple):
    """One tensor of a parameter vector.

    Attributes:
        shape: of the tensor.
        own, rows, columns: its places among entries, kept rows and kept columns.
        second, largest: its two largest axes; ``None`` where nothing is factored.
    """

    shape: tuple[int, ...]
    own: slice
    rows: slice
    columns: slice
    second: int | None = None
    largest: int | None = None

    def without(self, axis: int) -> tuple[int, ...]:
        """The shape without an axis."""
        return self.shape[:axis] + self.shape[axis + 1 :]


@lru_cache(maxsize=64)
def parts_of(shapes: Shapes) -> tuple[Part, ...]:
    """The tensors of a parameter vector, in its order."""
    found, own, rows, columns = [], 0, 0, 0
    for shape in shapes:
        size, wide, high = math.prod(shape), math.prod(shape), 0
        axes: tuple[int, ...] = ()
        if len(shape) >= 2:
            axes = tuple(sorted(range(len(shape)), key=shape.__getitem__)[-2:])
            wide, high = (size // shape[axis] for axis in reversed(axes))
        places = slice(own, own + size), slice(rows, rows + wide), slice(columns, columns + high)
        found.append(Part(shape, *places, *axes))
        own, rows, columns = own + size, rows + wide, columns + high
    return tuple(found)


def sizes_of(shapes: Shapes) -> tuple[int, ...]:
    """Entries of each tensor."""
    return tuple(map(math.prod, shapes))


def signs(means: Float[Tensor, "*shape"], sizes: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The signs of means, of numbers of such mean size; 0 where a mean is no more than rounding.

    The gradients of a classifier's last layer sum to 0, and the sign of what is left would be luck.
    """
    return torch.where(means.abs() > _NOISE * torch.finfo(means.dtype).eps * sizes, means.sign(), 0.0)


@struct
class Averages:
    """Running averages of gradients.

    Attributes:
        momenta: of the gradient, ``(B, n, M)``, one a decay.
        squares: of its square, ``(B, n, S)``.
        rows, columns: of its square, by row and by column of each tensor, side by side: ``(B, R, F)`` and
            ``(B, C, F)``. Entries of tensors with less than two axes are rows by themselves.
        shapes: of the tensors.
    """

    momenta: Float[Tensor, "B n M"]
    squares: Float[Tensor, "B n S"]
    rows: Float[Tensor, "B R F"]
    columns: Float[Tensor, "B C F"]
    shapes: Shapes = static()

    second_axis: ClassVar[dict[str, str]] = {"rows": "rows", "columns": "columns"}

    @classmethod
    def begin(cls, problem: Any, point: Float[Tensor, "B n"], counts: tuple[int, int, int]) -> Averages:
        """Before the first gradient, with so many decays of momenta, squares and factors."""
        shapes = tensor_shapes(problem, point.shape[1])
        last = parts_of(shapes)[-1]
        widths = (point.shape[1], point.shape[1], last.rows.stop, last.columns.stop)
        kinds = (*counts, counts[-1])
        zeros = [point.new_zeros(len(point), *form) for form in zip(widths, kinds, strict=True)]
        return cls(*zeros, shapes=shapes)

    def updated(self, gradient: Float[Tensor, "B n"], rests: tuple[Tensor, Tensor, Tensor]) -> Averages:
        """With a gradient; ``rests``: the ``1 - decay`` of momenta, squares and factors, ``(_, count)``."""
        new, square = gradient.unsqueeze(-1), gradient.square()
        of_momenta, of_squares, of_factors = (rest.unsqueeze(1) for rest in rests)
        floored, rows, columns = square + 1e-30, [], []
        for part in parts_of(self.shapes):
            own = floored[:, part.own]
            if part.largest is None or part.second is None:
                rows.append(own)
                continue
            own = own.unflatten(1, part.shape)
            rows.append(own.mean(1 + part.largest).flatten(1))
            columns.append(own.mean(1 + part.second).flatten(1))
        seen = torch.cat(rows, 1).unsqueeze(-1)
        high = torch.cat(columns, 1).unsqueeze(-1) if columns else self.columns
        return Averages(
            momenta=self.momenta + of_momenta * (new - self.momenta),
            squares=self.squares + of_squares * (square.unsqueeze(-1) - self.squares),
            rows=self.rows + of_factors * (seen - self.rows),
            columns=self.columns + of_factors * (high - self.columns),
            shapes=self.shapes,
        )

    def features(
        self, point: Float[Tensor, "B n"], gradient: Float[Tensor, "B n"], epsilon: float
    ) -> dict[str, Float[Tensor, "B n _"]]:
        """What Metz et al. (2022) show of each entry, by name; ``epsilon`` where momenta are not factored."""
        rows, columns, scale, of_momenta = (
            torch.cat(x, 1) for x in zip(*self._factors(epsilon), strict=True)
        )
        root = torch.rsqrt(self.squares + 1e-6)
        slope = gradient.unsqueeze(-1)
        return {
            "gradient": slope,
            "parameter": point.unsqueeze(-1),
            "momenta": self.momenta,
            "squares": self.squares,
            "scaled_momenta": self.momenta * root,
            "root": root,
            "scaled_gradient": slope * root,
            "factored_gradient": slope * scale,
            "rows": rows,
            "columns": columns,
            "row_roots": torch.rsqrt(rows + 1e-8),
            "column_roots": torch.rsqrt(columns + 1e-8),
            "factored_momenta": self.momenta * of_momenta,
        }

    def _factors(self, epsilon: float) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Of each tensor, at its entries: rows, columns, and what scales gradients and momenta."""
        found = []
        for part in parts_of(self.shapes):
            rows, columns = self.rows[:, part.rows], self.columns[:, part.columns]
            if part.largest is None or part.second is None:
                plain = (rows + epsilon).clamp_min(LEAST)
                found.append((rows, rows, torch.rsqrt(rows + 1e-9), torch.rsqrt(plain)))
                continue
            rows = rows.unflatten(1, part.without(part.largest))
            columns = columns.unflatten(1, part.without(part.second))
            reduced = part.second - (part.second > part.largest)
            mean = rows.mean(1 + reduced, keepdim=True)
            row = torch.rsqrt((rows / (mean + 1e-9)).clamp_min(1e-9)).unsqueeze(1 + part.largest)
            column = torch.rsqrt(columns.clamp_min(1e-9)).unsqueeze(1 + part.second)
            scale = (row * column).flatten(1, -2)
            spread = [
                values.unsqueeze(1 + axis).expand(-1, *part.shape, -1).flatten(1, -2)
                for values, axis in ((rows, part.largest), (columns, part.second))
            ]
            found.append((*spread, scale, scale))
        return found

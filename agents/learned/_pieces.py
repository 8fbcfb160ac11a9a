"""Large points in pieces: what is made of a piece of a tensor, thirty numbers an entry, stays in the cache.

The features are those of :meth:`agents.learned._tensors.Averages.features`, with entries last: then what
broadcasts along rows and columns is copied and never gathered, a layer is one product with a short and wide
matrix, and what normalises a tensor is folded into the first layer's weights. Each piece is made twice, for
the mean squares of its features and for the network: a step on a million entries takes a third of the time of
``adafac_mlp``, and half that of ``velo``, as ``examples/benchmarks/to_torch.py`` measures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from . import lolv2
from ._tensors import LEAST, Averages, Part, parts_of

Layers = list[tuple[Tensor, Tensor]]
"""Weight ``(out, in)`` and bias ``(out,)`` of each layer; between them are rectifiers."""


@dataclass(frozen=True)
class Sight:
    """What a rule sees of an entry.

    Attributes:
        names: of the features, in order.
        epsilon: where momenta are not factored, see ``Averages.features``.
        clip: where a ``clipped_gradient`` is clipped.
    """

    names: tuple[str, ...]
    epsilon: float
    clip: float = 0.0


def answers(
    averages: Averages,
    point: Float[Tensor, "B n"],
    gradient: Float[Tensor, "B n"],
    sight: Sight,
    layers: Callable[[int, int], Layers],
    outputs: int,
) -> Float[Tensor, "B n outputs"]:
    """What networks answer of the normalised features of each entry.

    Args:
        averages: with this gradient.
        point: as the features see it.
        gradient: likewise.
        sight: which features.
        layers: of the network of a row and a tensor. The first one's inputs are the features alone: what else
            it sees is the same for all entries of a tensor, and in its bias.
        outputs: of the networks.
    """
    found = point.new_empty(*point.shape, outputs)
    for row in range(len(point)):
        for number, part in enumerate(parts_of(averages.shapes)):
            size = part.own.stop - part.own.start
            if not size:
                continue
            view = _View(averages, point, gradient, sight, row, part)
            sums = sum((seen.square_().sum(1) for seen, _ in view.pieces()), point.new_zeros(()))
            (weight, bias), *rest = layers(row, number)
            weight = weight * torch.rsqrt(1e-5 + sums / size)
            for seen, place in view.pieces():
                value = torch.addmm(bias.unsqueeze(1), weight, seen)
                for inner, offset in rest:
                    value = torch.addmm(offset.unsqueeze(1), inner, value.relu_())
                found[row, place] = value.T
    return found


class _View:
    """The features of one tensor of one row."""

    def __init__(
        self,
        averages: Averages,
        point: Tensor,
        gradient: Tensor,
        sight: Sight,
        row: int,
        part: Part,
    ) -> None:
        own = part.own
        self._part, self._sight = part, sight
        self._gradient, self._point = gradient[row, own], point[row, own]
        self._momenta, self._squares = averages.momenta[row, own].T, averages.squares[row, own].T
        rows, columns = averages.rows[row, part.rows].T, averages.columns[row, part.columns].T
        if part.largest is None or part.second is None:
            plain = (rows + sight.epsilon).clamp_min(LEAST)
            ends = {"rows": rows, "columns": rows}
            self._scales = {"scale": (torch.rsqrt(rows + 1e-9),), "of_momenta": (torch.rsqrt(plain),)}
        else:
            rows = rows.unflatten(1, part.without(part.largest))
            columns = columns.unflatten(1, part.without(part.second))
            mean = rows.mean(1 + part.second - (part.second > part.largest), keepdim=True)
            row_scale = torch.rsqrt((rows / (mean + 1e-9)).clamp_min(1e-9))
            column_scale = torch.rsqrt(columns.clamp_min(1e-9))

            def spread(values: Tensor, axis: int | None) -> Tensor:
                assert axis is not None
                return values.unsqueeze(1 + axis).expand(-1, *part.shape)

            ends = {"rows": spread(rows, part.largest), "columns": spread(columns, part.second)}
            both = spread(row_scale, part.largest), spread(column_scale, part.second)
            self._scales = {"scale": both, "of_momenta": both}
        self._ends = ends

    def pieces(self) -> Iterator[tuple[Tensor, slice]]:
        """The features of each piece, ``(F, p)``, in one piece of memory, and its place in the point."""
        shape = self._part.shape or (1,)
        inner = max((self._part.own.stop - self._part.own.start) // shape[0], 1)
        lead = max(lolv2.PIECE // inner, 1)
        memory = self._point.new_empty(0)
        for first in range(0, shape[0], lead):
            last = min(first + lead, shape[0])
            own = slice(first * inner, last * inner)
            made = self._made(slice(first, last), own)
            width = sum(len(values) for values in made)
            if memory.shape != (width, own.stop - own.start):
                memory = self._point.new_empty(width, own.stop - own.start)
            torch.cat(made, out=memory)
            start = self._part.own.start
            yield memory, slice(start + own.start, start + own.stop)

    def _made(self, lead: slice, own: slice) -> list[Tensor]:
        """Each feature of a piece, ``(_, p)``."""
        gradient, momenta = self._gradient[own].unsqueeze(0), self._momenta[:, own]
        squares = self._squares[:, own]
        root = torch.rsqrt(squares + 1e-6)

        def flat(values: Tensor) -> Tensor:
            return values.flatten(1)[:, own] if values.ndim < 3 else values[:, lead].flatten(1)

        def scale(name: str) -> Tensor:
            first, *rest = (values if values.ndim < 3 else values[:, lead] for values in self._scales[name])
            return (first[:, own] if first.ndim < 3 else first * rest[0]).flatten(1)

        make: dict[str, Callable[[], Tensor]] = {
            "gradient": lambda: gradient,
            "clipped_gradient": lambda: gradient.clamp(-self._sight.clip, self._sight.clip),
            "parameter": lambda: self._point[own].unsqueeze(0),
            "momenta": lambda: momenta,
            "squares": lambda: squares,
            "scaled_momenta": lambda: momenta * root,
            "root": lambda: root,
            "scaled_gradient": lambda: gradient * root,
            "factored_gradient": lambda: gradient * scale("scale"),
            "rows": lambda: flat(self._ends["rows"]),
            "columns": lambda: flat(self._ends["columns"]),
            "row_roots": lambda: torch.rsqrt(flat(self._ends["rows"]) + 1e-8),
            "column_roots": lambda: torch.rsqrt(flat(self._ends["columns"]) + 1e-8),
            "factored_momenta": lambda: momenta * scale("of_momenta"),
        }
        return [make[name]() for name in self._sight.names]

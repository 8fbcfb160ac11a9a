"""Rows of numbers that grow to the right: what a memory has shown of them stays as it is."""

from __future__ import annotations

from jaxtyping import Shaped
from torch import Tensor

_ROOM = 64


class Tape:
    """Columns that are written once, into room that doubles: an answer costs its own size, not the past's.

    Args:
        begun: the columns so far, ``(B, width)``, which are copied.
    """

    def __init__(self, begun: Shaped[Tensor, "B width"]) -> None:
        self._room = begun.new_empty(_ROOM, len(begun))
        self._width = 0
        self.append(begun)

    @property
    def view(self) -> Shaped[Tensor, "B width"]:
        """All columns so far; later ones do not change it."""
        return self._room[: self._width].mT

    def append(self, columns: Shaped[Tensor, "B more"]) -> None:
        """Write columns to the right of those there."""
        end = self._width + columns.shape[1]
        if end > len(self._room):
            larger = self._room.new_empty(2 * end, self._room.shape[1])
            larger[: self._width] = self._room[: self._width]
            self._room = larger
        self._room[self._width : end] = columns.mT
        self._width = end

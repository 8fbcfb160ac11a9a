"""How an instance is asked, as a solver that calls back needs to know it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.offer import Offer

MULTIPLIERS = "multipliers"
"""The place of the constraints' multipliers, where a problem has it."""
_SHOWN = ("value", "gradient", "constraints", "jacobian", "hvp")


@dataclass(frozen=True)
class Form:
    """How an instance is asked.

    Attributes:
        offer: places and kinds. Where it is no menu, one query answers all kinds.
        menu: whether a query says which kinds it wants.
        place: the name of the point's place.
        dtype: of the point.
        size, count: the numbers n of coordinates and m of constraints.
        equalities: how many of the constraints are equations; the others are satisfied where <= 0.
        program: whether it is a program, whose box is part of it, and no place to search alone.
    """

    offer: Offer
    menu: bool
    place: str
    dtype: str
    size: int
    count: int
    equalities: int
    program: bool = False

    @classmethod
    def of(cls, owner: str, problem: Any, observation: Mapping[str, Tensor]) -> Form:
        """The form of what ``problem`` and its first answer, ``(B, ...)``, show.

        Raises:
            TypeError: the problem is asked by something else than one point, or answers no value.
        """
        menu = getattr(problem, "menu", None)
        if isinstance(menu, Offer):
            if "value" not in menu.kinds:
                raise TypeError(f"{owner}: the menu has no value, but {', '.join(menu.kinds)}")
            where = menu.at[menu.kinds.index("value")]
            shapes = {name: (shape, dtype) for name, shape, dtype in menu.places}
            if len(where) != 1 or len(shapes[where[0]][0]) != 1:
                raise TypeError(f"{owner}: expected values at a place (n,), got places {', '.join(where)}")
            (size,), dtype = shapes[where[0]]
            offer, place = menu, where[0]
        else:
            if "value" not in observation:
                raise TypeError(f"{owner}: needs values, and is shown {', '.join(observation)}")
            point = observation.get("point")
            if point is None or point.ndim != 2:
                raise TypeError(f"{owner}: expected an environment of one point a query")
            place, size, dtype = "point", point.shape[1], str(point.dtype).removeprefix("torch.")
            kinds = tuple(kind for kind in _SHOWN if kind in observation)
            places = [(place, (size,), dtype)] + [("vector", (size,), dtype)] * ("hvp" in kinds)
            at = tuple((place, "vector") if kind == "hvp" else (place,) for kind in kinds)
            offer = Offer(tuple(places), kinds, at)
        count = observation["constraints"].shape[-1] if "constraints" in offer.kinds else 0
        equalities = int(getattr(problem, "equalities", 0)) if count else 0
        program = hasattr(problem, "equalities")
        return cls(offer, isinstance(menu, Offer), place, dtype, size, count, equalities, program)

    def at(self, kind: str) -> tuple[str, ...]:
        """The places that a kind depends on."""
        return self.offer.at[self.offer.kinds.index(kind)]

    @property
    def places(self) -> tuple[str, ...]:
        """The names of all places."""
        return tuple(name for name, *_ in self.offer.places)

    def along(self, kind: str) -> str:
        """The place of the vector that a kind is multiplied with."""
        return next(name for name in self.at(kind) if name not in (self.place, MULTIPLIERS))

    @property
    def lagrangian(self) -> bool:
        """Whether the Hessian is that of the Lagrangian."""
        return "hessian" in self.offer.kinds and MULTIPLIERS in self.at("hessian")

    @property
    def product(self) -> str | None:
        """The kind that is the Hessian's product with a vector."""
        return next((kind for kind in ("hessian_product", "hvp") if kind in self.offer.kinds), None)


def known_of(form: Form, problem: Any, start: Float[Tensor, "B n"]) -> dict[str, Tensor]:
    """What a batch of instances begins with: ``start``, ``lower``, ``upper`` and ``multipliers``.

    A box of another shape than the point's is no box of points.

    Args:
        form: how an instance is asked.
        problem: what is known of them.
        start: their first points.
    """
    found: dict[str, Tensor] = {"start": start}
    for name, field, size, default in (
        ("lower", "lower", form.size, -torch.inf),
        ("upper", "upper", form.size, torch.inf),
        ("multipliers", "lambda0", form.count, 0.0),
    ):
        part = getattr(problem, field, None)
        if not isinstance(part, Tensor) or tuple(part.shape) != (len(start), size):
            part = start.new_full((len(start), size), default)
        found[name] = part
    return found


def row_of(known: Mapping[str, Tensor], row: int) -> dict[str, np.ndarray]:
    """One instance of a batch, in float64 on the host."""
    return {name: part[row].double().cpu().numpy() for name, part in known.items()}

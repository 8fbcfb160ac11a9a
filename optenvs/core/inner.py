"""An environment that is built on another one: what it does not take from that one is refused, by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from .env import OptimizationEnv


def refuse_unused(
    field: str, inner: OptimizationEnv, outer: OptimizationEnv, used: Mapping[str, Any] | None = None
) -> None:
    """Refuse keywords of ``inner`` in whose place ``outer`` puts its own, where they say something else.

    Args:
        field: the keyword of ``outer`` that holds ``inner``.
        inner: the environment inside.
        outer: the one around it.
        used: what is used in the place of more keywords than budget, reward, tolerance, device and dtype.

    Raises:
        ValueError: one of them is neither its default, nor ``None``, nor what is used.
    """
    effective = {name: getattr(outer, name) for name in ("budget", "reward", "tolerance", "device", "dtype")}
    effective |= used or {}
    for part in dataclasses.fields(inner):
        value = getattr(inner, part.name)
        said = value is not None and value != part.default  # None asks for nothing
        if part.name in effective and said and value != effective[part.name]:
            raise ValueError(
                f"{field}: {part.name}={value!r} of {inner.name} would have no effect; {outer.name} has "
                f"{part.name}={effective[part.name]!r} of its own"
            )

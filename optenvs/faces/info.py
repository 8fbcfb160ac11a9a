"""What ``info`` says, and its two forms: one rule for every face.

``nested``, the default, has one dict for the ledger and one for the metrics. ``flat`` has one level of
numbers, ``calls_gradient`` and ``metrics_gap``, for clients that stack what they find there into arrays
(TorchRL's PettingZoo wrapper, ``VecMonitor``'s ``info_keywords``).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from optenvs.core.env import State

FORMS = ("nested", "flat")


def check_form(form: str) -> str:
    """``form`` if it is one of :data:`FORMS`.

    Raises:
        ValueError: it is none.
    """
    if form not in FORMS:
        raise ValueError(f"info: expected one of {', '.join(map(repr, FORMS))}, got {form!r}")
    return form


def shaped(form: str, info: dict[str, Any]) -> dict[str, Any]:
    """``info`` in this form; the parts of a part are named after both."""
    if form == "nested":
        return info
    flat: dict[str, Any] = {}
    for name, value in info.items():
        if isinstance(value, dict) and name in ("calls", "metrics"):
            flat |= {f"{name}_{part}": number for part, number in value.items()}
        else:
            flat[name] = value
    return flat


def information(state: State, form: str = "nested") -> dict[str, Any]:
    """What ``info`` says of an episode (a batch of one)."""
    counts = state.calls.counts.tolist()[0]
    info = {
        "calls": dict(zip(state.calls.kinds, counts, strict=True)),
        "metrics": {name: value.item() for name, value in state.metrics.items()},
        "key": state.key.item(),
        "diverged": state.diverged.item(),
    }
    if form == "nested":
        return info
    # numpy's numbers: TorchRL's reader of infos asks each for its dtype
    return {name: np.asarray(value)[()] for name, value in shaped(form, info).items()}

"""Neural networks that stand for a simulation: optimize over their inputs, under constraints.

``relu_optimum`` is the exact optimum of a small ReLU box, ``surrogate_from_module`` makes a surrogate of a
module.
"""

from __future__ import annotations

from typing import Any

from optenvs.core.named import named

_PUBLIC = {
    "relu_optimum": "exact",
    "surrogate_from_module": "module",
}
__all__ = [
    "relu_optimum",
    "surrogate_from_module",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return named(f"{__name__}.{_PUBLIC[name]}:{name}")

"""Decentralized optimization over a network of nodes.

What a user of graphs and rates needs is reachable here: ``make_network`` (graphs), ``edge_rates``,
``communications`` (the count of edge activations in a unit of time), ``mean_square_exponent`` (of DADAO) and
``averaging_exponent`` (of gossip alone); and ``network_from_functions``.
"""

from __future__ import annotations

from typing import Any

from optenvs.core.named import named

_PUBLIC = {
    "averaging_exponent": "exponent",
    "communications": "spectra",
    "edge_rates": "rates",
    "make_network": "graphs",
    "mean_square_exponent": "exponent",
    "network_from_functions": "functions",
}
__all__ = [
    "averaging_exponent",
    "communications",
    "edge_rates",
    "make_network",
    "mean_square_exponent",
    "network_from_functions",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return named(f"{__name__}.{_PUBLIC[name]}:{name}")

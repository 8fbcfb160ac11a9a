"""What a network is made of: its functions, what its nodes may know, and what they may not."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.struct import static, struct


@struct
class Functions:
    """The functions f_i of an instance, which no node knows but its own.

    Attributes:
        data: whatever the family needs; tensors ``(B, N, ...)``.
        solution: the minimiser of the sum, ``(B, d)``; ``None`` where nobody knows it.
    """

    data: Any
    solution: Any


@struct
class Draw:
    """What a key stands for: functions, and the constants that the nodes are told.

    Attributes:
        functions: the functions.
        mu: the least strong convexity of a node's function, ``(B,)``.
        L: the greatest smoothness of one, ``(B,)``.
    """

    functions: Functions
    mu: Float[Tensor, "B"]
    L: Float[Tensor, "B"]


@struct
class Local:
    """What one node knows of its place in the network.

    Attributes:
        degree: its number of neighbours, ``(B, N)``.
        resistance: the effective resistance of the edge to each node, in the Laplacian of the rates; 0 where
            there is no edge, ``(B, N, N)``. Of a list of graphs, the first one's.
    """

    degree: Float[Tensor, "B N"]
    resistance: Float[Tensor, "B N M"]


@struct
class Problem:
    """What the agents may know: constants of functions and graph, given before the start, ``(B,)`` each.

    Attributes:
        mu: strong convexity of every node's function.
        L: smoothness of every node's function.
        chi1, chi2: the constants of the Laplacian of the exchange rates; the worst of a list of graphs.
        rate: exchanges of all edges in a unit of time.
        largest, smallest: the extreme positive eigenvalues of the plain Laplacian with the worst ratio.
        radii: the largest eigenvalue of the plain Laplacian of each of the K graphs in turn, ``(B, K)``.
        edges: number of edges.
        t_max: when the episode ends.
        local: what each node knows of its place.
        nodes: number of nodes.
    """

    mu: Float[Tensor, "B"]
    L: Float[Tensor, "B"]
    chi1: Float[Tensor, "B"]
    chi2: Float[Tensor, "B"]
    rate: Float[Tensor, "B"]
    largest: Float[Tensor, "B"]
    smallest: Float[Tensor, "B"]
    radii: Float[Tensor, "B K"]
    edges: Float[Tensor, "B"]
    t_max: Float[Tensor, "B"]
    local: Local
    nodes: int = static()


@struct
class Hidden:
    """What they may not.

    Attributes:
        functions: the functions, and the solution.
        traffic: the events to come.
        computed: gradients computed so far.
        published: the iterate that each node last stood behind.
        measured: the metrics of the last report.
    """

    functions: Functions
    traffic: Any
    computed: Int64[Tensor, "B N"]
    published: Float[Tensor, "B N d"]
    measured: dict[str, Tensor]


def refuse_changed(env: Any, names: Iterable[str], why: str) -> None:
    """Refuse keywords that differ from their defaults where something else leaves them without effect."""
    for field in dataclasses.fields(env):
        value = getattr(env, field.name)
        if field.name in names and value is not field.default and value != field.default:
            raise ValueError(f"{field.name}: {value!r} would have no effect: {why}")

"""Pictures of a network: who is how far from the solution, who talks to whom, and what it has cost."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int64

from optenvs.core.picture import new_figure, to_array

from .events import EXCHANGE, GRADIENT
from .graphs import Graph

if TYPE_CHECKING:
    from optenvs.core.env import State

    from .base import Network

_LEAST = 1e-300
_GREY, _BLUE, _ORANGE = "#B0B0B0", "#0072B2", "#D55E00"
_ROUND = ("star", "complete", "cycle", "exponential")


def network(core: Network, states: list[State]) -> np.ndarray:
    """The graph with its nodes' errors at the last state, beside the error against both kinds of cost."""
    figure = new_figure(10.0, 4.4)
    left, right = figure.subplots(1, 2, width_ratios=(1.1, 1.0))
    draw_graph(left, core, states)
    draw_progress(right, core, states)
    return to_array(figure)


def draw_graph(axes: Any, core: Network, states: list[State]) -> None:
    """Nodes coloured by their squared distance to the solution, on a log scale.

    Thick orange edges exchange in the events that are asked for now (in rounds: did so in the last round);
    nodes with an orange ring compute. The colours span from the largest error at the start to the decade of
    the smallest one now, and at least four decades.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.colors import LogNorm

    state = states[-1]
    graph = active_graph(core, state)
    edges, computes = activity(core, states)
    place = layout(graph)
    axes.add_collection(LineCollection(list(place[graph.pairs]), colors=_GREY, linewidths=0.8, zorder=1))
    axes.add_collection(LineCollection(list(place[edges]), colors=_ORANGE, linewidths=3.0, zorder=2))
    error = errors(core, state)
    top = max(float(errors(core, states[0]).max()), 1e-12)
    low = min(float(error.min()), 1e-4 * top)
    low = 10.0 ** math.floor(math.log10(max(low, _LEAST)))
    size = min(260.0, 6000.0 / len(error))
    shown = axes.scatter(
        *place.T,
        c=error.clip(low, top),
        norm=LogNorm(low, top),
        cmap="viridis_r",
        s=size,
        zorder=3,
        edgecolors=np.where(computes, _ORANGE, "black"),
        linewidths=np.where(computes, 2.5, 0.6),
    )
    target = "solution" if core.merit_name == "error" else "mean"
    axes.figure.colorbar(shown, ax=axes, label=f"squared distance to the {target}", fraction=0.05)
    if len(error) <= 30:
        for index, (x, y) in enumerate(place):
            axes.annotate(str(index), (x, y), ha="center", va="center", fontsize=7, color="white", zorder=4)
    axes.set_title(f"{graph.name}, time {float(now(state)):.1f}", fontsize=10)
    axes.set_axis_off()
    middle = (place.min(0) + place.max(0)) / 2
    half = max(float(np.ptp(place, axis=0).max()) * 0.57, 0.5)  # a flat layout needs room for its nodes
    axes.set(xlim=middle[0] + np.array((-half, half)), ylim=middle[1] + np.array((-half, half)))
    axes.set_aspect("equal")


def draw_progress(axes: Any, core: Network, states: list[State]) -> None:
    """The mean squared error against gradients, and against exchanges of an edge."""
    values = [max(float(state.metrics[core.merit_name][0]), _LEAST) for state in states]
    for kind, colour in ((core.oracle, _BLUE), ("exchange", _ORANGE)):
        calls = [int(state.calls[kind][0]) for state in states]
        axes.plot(calls, values, color=colour, linewidth=1.8, label=f"{kind}s")
    if all(map(math.isfinite, values)):
        axes.set_yscale("log")
    axes.set_xlabel("calls")
    solved = core.merit_name == "error"
    axes.set_ylabel("mean squared distance to the solution" if solved else core.merit_name)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)


def errors(core: Network, state: State) -> Float[np.ndarray, " N"]:
    """Squared distance of each node's last published iterate to the solution, or to the mean without one."""
    hidden = state.hidden
    point = core.primal(hidden.functions, hidden.published)[0]
    solution = hidden.functions.solution
    away = point - (point.mean(0) if solution is None else solution[0])
    return away.square().sum(-1).detach().cpu().double().nan_to_num(nan=torch.inf).numpy()


def now(state: State) -> Any:
    """The time of the latest event asked for, or of the round."""
    return state.observation["time"][0].max()


def active_graph(core: Network, state: State) -> Graph:
    """The graph whose turn it is."""
    if core.clock == "rounds":
        turn = max(int(state.hidden.traffic.gossiped[0]) - 1, 0)
    else:
        turn = math.floor(float(now(state)) * core.edge_rates.switch_rate) if len(core.graphs) > 1 else 0
    return core.graphs[turn % len(core.graphs)]


def activity(core: Network, states: list[State]) -> tuple[Int64[np.ndarray, "E 2"], np.ndarray]:
    """The edges that exchange and the nodes that compute."""
    state = states[-1]
    if core.clock == "rounds":
        before = states[-2].calls if len(states) > 1 else None
        spoke = int(state.calls["gossip"][0]) > (0 if before is None else int(before["gossip"][0]))
        computed = int(state.calls["round"][0]) > (0 if before is None else int(before["round"][0]))
        pairs = active_graph(core, state).pairs if spoke else np.zeros((0, 2), np.int64)
        return pairs, np.full(core.agents, computed)
    event = state.observation["event"][0, :, 0].cpu().numpy()
    peer = state.observation["peer"][0, :, 0].cpu().numpy()
    first = np.flatnonzero((event == EXCHANGE) & (np.arange(len(event)) < peer))
    return np.stack((first, peer[first]), -1), event == GRADIENT


@lru_cache(maxsize=64)
def layout(graph: Graph) -> Float[np.ndarray, "n 2"]:
    """A point of the plane for each node: as given, by the family's shape, by springs, or on a circle."""
    count = graph.nodes
    if graph.positions is not None:
        return np.array(graph.positions)
    if graph.name == "grid":
        side = math.isqrt(count)
        return np.stack((np.arange(count) % side, -(np.arange(count) // side)), -1).astype(float)
    if graph.name in _ROUND or count < 3:
        return _circle(count, graph.name == "star")
    try:
        import networkx
    except ImportError:
        return _circle(count, False)
    drawn = networkx.Graph(graph.edges)
    # lengths of paths first: springs alone fold a long path
    if count <= 60:
        place = networkx.kamada_kawai_layout(drawn, pos=dict(enumerate(_circle(count, False))))
    else:
        place = networkx.spring_layout(drawn, seed=0)
    return np.array([place[node] for node in range(count)])


def _circle(count: int, centre: bool) -> Float[np.ndarray, "n 2"]:
    around = count - centre
    angle = math.pi / 2 - 2 * math.pi * np.arange(around) / max(around, 1)
    ring = np.stack((np.cos(angle), np.sin(angle)), -1)
    return np.concatenate((np.zeros((1, 2)), ring)) if centre else ring

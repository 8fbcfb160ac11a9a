"""Does the graph matter? DADAO and ADOM+ on six graphs, and DADAO at equal and at optimal edge rates.

    python examples/dadao_topologies.py --out topologies.png

Linear regression, m = 100 samples a node, d = 2, 10 nodes (the grid: 9), 200 units of time, in each of which
a node computes one gradient: on average in DADAO, exactly in ADOM+. The slope is that of ln(error) by time,
least squares on a grid of 1 over the last 60 %, where the error is the mean squared distance to the solution;
it and the communications are means over 4 instances. The theorem promises DADAO sqrt(mu/L) / (8 sqrt 2).
ADOM+ with multi-consensus (M.-C.) gossips as often a round as its graph needs. The optimal rates need the
extra "sdp", the picture the extra "plot".

    slope, communications   DADAO            ADOM+            ADOM+ M.-C.
    complete           -0.1059    1,263    -0.0880    9,000    -0.0880    9,000
    cycle              -0.1069    3,044    -0.0245    2,000    -0.0472   16,000
    star               -0.1040    1,786    -0.0258    1,800    -0.0472   12,600
    path               -0.1077    5,736    -0.0064    1,800    -0.0472   50,400
    grid               -0.1079    2,006    -0.0380    2,400    -0.0477   12,000
    barbell            -0.1081    7,684    -0.0116    4,200    -0.0472   67,200
    barbell, uniform   -0.1081    7,684
    barbell, optimal   -0.1077    3,594
    promised to DADAO  -0.0646

The rate of DADAO is that of no graph; the optimal rates reach it with 47 % of the barbell's communications.
On one core of a busy machine the whole takes about 90 seconds.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.lines import Line2D
from torch import Tensor

import agents
import optenvs
from agents.network.dadao import rate_bound
from optenvs.core.picture import new_figure
from optenvs.core.rollout import Run

GRAPHS = {
    "complete": (10, "#000000"),
    "cycle": (10, "#0072B2"),
    "star": (10, "#D55E00"),
    "path": (10, "#CC79A7"),
    "grid": (9, "#009E73"),
    "barbell": (10, "#E69F00"),
}
"""Nodes and color of each graph."""
METHODS = {
    "DADAO": ("poisson", agents.make("dadao")),
    "ADOM+": ("rounds", agents.make("adom_plus")),
    "ADOM+ M.-C.": ("rounds", agents.make("adom_plus", multi_consensus=True)),
}
"""Clock and agent of each method."""
LINES = ("-", ":", "--")
"""How each method is drawn."""


@dataclass(frozen=True)
class Curves:
    """Error and communications of each instance at the times 0, 1, 2, ..., ``(T, B)`` each."""

    errors: Tensor
    exchanges: Tensor
    bound: float

    @property
    def slope(self) -> float:
        """Of ln(error) by time, over the last 60 %, the mean of the instances."""
        first = int(0.4 * (len(self.errors) - 1))
        values = self.errors[first:].log()
        away = torch.arange(len(values), dtype=values.dtype).unsqueeze(-1) - (len(values) - 1) / 2
        return float(((away * values).sum(0) / (away**2).sum()).mean())


def curves(graph: str, method: str, t_max: float, batch: int, rates: Any = None) -> Curves:
    """Run a method on a graph."""
    clock, agent = METHODS[method]
    options = {"nodes": GRAPHS[graph][0], "graph": graph, "rates": rates, "clock": clock, "t_max": t_max}
    run: Run = optenvs.rollout(optenvs.make("optenvs/NetworkLinear-v0", **options), agent, batch=batch)
    time, error = run.metrics["time"], run.metrics["error"]
    # the last entry up to each full unit of time; a network reports at these, or has a round at each
    grid = torch.arange(int(t_max) + 1, dtype=time.dtype)
    last = torch.searchsorted(time.T.contiguous(), (grid + 1e-9).repeat(batch, 1), right=True) - 1
    facts = run.state.problem
    return Curves(
        errors=error.gather(0, last.T),
        exchanges=run.calls["exchange"].gather(0, last.T),
        bound=sum(map(rate_bound, facts.mu.tolist(), facts.L.tolist())) / batch,
    )


def row(name: str, found: list[Curves]) -> str:
    """A line of the table: slope and communications of each."""
    cells = [f"{c.slope:8.4f} {float(c.exchanges[-1].double().mean()):8,.0f}" for c in found]
    return f"    {name:18s}" + "   ".join(cells)


def draw(axes: Any, x: Tensor, curve: Curves, **style: Any) -> None:
    """The error of the first instance, from time 1 on."""
    axes.semilogy(x[1:].numpy(), curve.errors[1:, 0].numpy(), **style)


def main() -> None:
    """Print the table and draw the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("topologies.png"))
    parser.add_argument("--t-max", type=float, default=200.0)
    parser.add_argument("--batch", type=int, default=4)
    options = parser.parse_args()
    figure = new_figure(12.0, 4.4)
    by_time, by_exchange, by_rates = figure.subplots(1, 3)
    print("    slope, communications   " + "            ".join(METHODS))
    for graph, (_, color) in GRAPHS.items():
        found = {method: curves(graph, method, options.t_max, options.batch) for method in METHODS}
        print(row(graph, list(found.values())), flush=True)
        for method, style in zip(METHODS, LINES, strict=True):
            curve = found[method]
            look = {"color": color, "linestyle": style, "linewidth": 1.3 if method == "DADAO" else 0.9}
            label = {"label": graph} if method == "DADAO" else {}
            draw(by_time, torch.arange(len(curve.errors)), curve, **look, **label)
            if method != "ADOM+":
                draw(by_exchange, curve.exchanges[:, 0], curve, **look)
    promised = 0.0
    for rates, style in (("uniform", "-"), ("optimal", "--")):
        curve = curves("barbell", "DADAO", options.t_max, options.batch, rates)
        print(row(f"barbell, {rates}", [curve]))
        promised = curve.bound
        draw(by_rates, curve.exchanges[:, 0], curve, color="#E69F00", linestyle=style, label=f"{rates} rates")
    print(f"    promised to DADAO  {-promised:.4f}")
    by_time.set(title="six graphs, by gradients", xlabel="gradients a node")
    by_exchange.set(title="six graphs, by communications", xlabel="communications", xscale="log")
    by_rates.set(title="DADAO on the barbell", xlabel="communications")
    by_time.set_ylabel("mean squared distance to the solution")
    by_rates.legend(fontsize=8, loc="upper right")
    # below the panels, where it covers no line: colors are graphs, styles are methods
    colors, labels = by_time.get_legend_handles_labels()
    names = ("DADAO", "ADOM+ (left panel only)", "ADOM+ with multi-consensus")
    styles = [Line2D([], [], color="0.3", linestyle=style) for style in LINES]
    place = {"loc": "outside lower center", "ncols": len(colors) + len(styles), "fontsize": 8}
    figure.legend([*colors, *styles], [*labels, *names], **place)
    for axes in (by_time, by_exchange, by_rates):
        axes.grid(alpha=0.3)
    figure.savefig(options.out, dpi=85)
    print("wrote", options.out)


if __name__ == "__main__":
    main()

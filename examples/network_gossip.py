"""Who finds the classifier of all data, if a node sees one class? DADAO against A2CiD2 on breast cancer.

    python examples/network_gossip.py --out network.png

Ten nodes hold the cases sorted by class: nodes 0 to 2 malignant ones, node 3 both, the others benign ones.
One edge joins nodes 0 to 4 to nodes 5 to 9 (a barbell). All compute gradients and exchange vectors at random
times. DADAO goes on to the solution; A2CiD2 with its constant step stays at some distance. Needs the extras
"data" and "plot", and networkx for where the nodes are drawn.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import agents
import optenvs
from optenvs.core import State
from optenvs.core.picture import new_figure
from optenvs.envs.network.base import Network
from optenvs.envs.network.picture import draw_graph, draw_progress


def episode(env: Network, agent: Any) -> list[State]:
    """The states of one run, to the end of its time."""
    states: list[State] = []
    optenvs.rollout(env, agent, on_step=lambda _, state: states.append(state))
    return states


def main() -> None:
    """Run both methods on one instance and the same events, and draw what they reach."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("network.png"))
    parser.add_argument(
        "--time", type=float, default=300.0, help="units of time; a node computes once in one"
    )
    options = parser.parse_args()
    env = optenvs.make(
        "optenvs/NetworkLogistic-v0", data="breast_cancer", split="class", graph="barbell", t_max=options.time
    )
    assert isinstance(env, Network)
    figure = new_figure(11.0, 8.0)
    methods = {"DADAO": agents.make("dadao"), "A2CiD2": agents.make("a2cid2")}
    for axes, (name, agent) in zip(figure.subplots(2, 2), methods.items(), strict=True):
        states = episode(env, agent)
        last = states[-1]
        metrics = {metric: float(value[0]) for metric, value in last.metrics.items()}
        calls = {kind: int(last.calls[kind][0]) for kind in env.bill}
        print(
            f"{name:7s} {calls}, squared distance {metrics['error']:.1e}, accuracy {metrics['accuracy']:.3f}"
        )
        draw_graph(axes[0], env, states)
        draw_progress(axes[1], env, states)
        axes[1].set_title(f"{name}: accuracy on the test part {metrics['accuracy']:.1%}", fontsize=10)
    figure.savefig(options.out)
    print("wrote", options.out)


if __name__ == "__main__":
    main()

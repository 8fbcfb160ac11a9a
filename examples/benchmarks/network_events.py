"""Events a second of DADAO: waves over a batch, against the authors' code on the same events.

    python examples/benchmarks/network_events.py --official FOLDER [--compile] [--threads 1]

FOLDER is a checkout of the repository AdelNabli/DADAO (it needs networkx and scikit-learn); without it only
the figures of this project are printed. Linear regression with m = 100, d = 2:

    batch   256 instances of a cycle of 10 nodes, against one after the other
    star    one instance of a star of 300 nodes: every exchange is one of node 0, so a wave holds two events

Both sides begin at one point, have the same data and the same list of events, and end at the same iterates;
their drawing is not timed. Ours is :func:`optenvs.rollout`, which measures error, consensus and gap of the
iterates as last published at every wave and keeps them; theirs is a loop over the ``step`` of their
optimizer, which measures nothing. ``--compile`` adds the same rollout with ``compile=4``: four waves a call,
compiled before the clock starts (about 20 seconds a case).

Measured (2 quiet cores, torch 2.13 CPU, one thread, median of 7 rounds in turns; events a second, and how
many times theirs):

            waves             compiled            theirs   goal
    batch   651,441   262x    1,488,700   598x    2,490    200x
    star    3,860     2.4x    30,201      18x     1,637    10x

The star is bound by the cost of starting some 150 small operations a wave: it reaches its goal compiled only.
With two threads a compiled wave of it waits for the second one: 13,007, 8.5x.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from timing import interleave, machine, ratio

import agents
import optenvs
from optenvs.core.random import keys_from_seed
from optenvs.core.rollout import rollout
from optenvs.envs.network.linear import NetworkLinear

CASES = {
    "batch": (256, {"nodes": 10, "graph": "cycle", "t_max": 20.0}, 200),
    "star": (1, {"nodes": 300, "graph": "star", "t_max": 3.0}, 10),
}
"""Instances, keywords of the environment, and the goal."""
SEED = 0
Events = list[tuple[float, int, int | None]]


def events(env: NetworkLinear) -> Events:
    """Time, node and other end of the events of instance 0, in the order of time."""
    agenda = env.reset(keys_from_seed(SEED, 1)).hidden.traffic.agenda
    found = {}
    for node, place in enumerate(agenda.first[0].tolist()):
        for number, other, kind, time in agenda.entry[0, place:].tolist():
            if kind == 0:  # the node's last entry
                break
            if kind != 3:  # no report
                found[number] = (time, node, int(other) if kind == 2 else None)
    return [found[number] for number in sorted(found)]


@dataclass
class Official:
    """The authors' optimizer with the data of instance 0."""

    folder: str
    env: NetworkLinear

    def __post_init__(self) -> None:
        if self.folder not in sys.path:
            sys.path.insert(0, self.folder)
        self.events = events(self.env)
        keys = keys_from_seed(SEED, 1)
        self.inputs, self.targets = self.env.table(keys)
        self.state = self.env.reset(keys)
        self.run()

    def run(self) -> None:
        """All events."""
        functions = importlib.import_module("cvx_functions")
        optimizers = importlib.import_module("optimizers")
        problem, nodes = self.state.problem, self.env.agents
        loss = functions.linear_regression(self.env.width, nodes, self.env.samples)
        loss.theta_i.data = self.state.observation["point"][0].clone().unsqueeze(-1)
        self.optimizer: Any = optimizers.DADAO_optimizer(
            loss,
            self.inputs[0],
            self.targets[0].unsqueeze(-1),
            chi_1_star=float(problem.chi1),
            lamb_mix=float(problem.rate),
            n_nodes=nodes,
            mu=float(problem.mu),
            L=float(problem.L),
        )
        for time, node, other in self.events:
            if other is None:
                self.optimizer.step(True, time, None, node)
            else:
                self.optimizer.step(False, time, (node, other), None)

    def iterates(self) -> torch.Tensor:
        """All x at the end of time."""
        for node in range(self.env.agents):
            self.optimizer.update_params_i_after_ode(self.optimizer.t_last_event[node], self.env.t_max, node)
        return self.optimizer.X


def measure(
    case: str, folder: str | None = None, repeats: int = 7, compile: bool = False, **changes: Any
) -> dict[str, float]:
    """Events a second of each side, and how many times more ours are."""
    batch, keywords, _ = CASES[case]
    batch = changes.pop("batch", batch)
    env = NetworkLinear(metric="stale", **(keywords | changes))  # type: ignore[arg-type]
    agent = agents.make("dadao")
    start = rollout(env, agent, seed=SEED, batch=batch, steps=0)
    end = rollout(env, agent, resume=start)
    total = int(end.calls.counts[-1].sum())
    candidates: dict[str, Callable[[], Any]] = {"waves": lambda: rollout(env, agent, resume=start)}
    if compile:
        candidates["compiled"] = lambda: rollout(env, agent, resume=start, compile=4)
        run = candidates["compiled"]()
        torch.testing.assert_close(run.metrics["error"][-1], end.metrics["error"][-1], rtol=1e-6, atol=0)
    count = dict.fromkeys(candidates, total)
    if folder is not None:
        official = Official(folder, env)
        ours = end.agent_state.variables["x"][0]
        gap = float((official.iterates() - ours).abs().max() / ours.abs().max())
        if gap > 1e-5:  # their matrix is rounded to float32
            raise RuntimeError(f"the two sides disagree: {gap:.1e} relative")
        candidates["official"], count["official"] = official.run, len(official.events)
    seconds = interleave(candidates, repeats)
    each = {name: [s / count[name] for s in all_] for name, all_ in seconds.items()}
    found = {name: 1 / statistics.median(all_) for name, all_ in each.items()}
    found["events a wave"] = total / batch / (len(end.merit) - 1)
    for name in ("waves", "compiled"):
        if "official" in each and name in each:
            found[f"{name} / official"] = ratio(each["official"], each[name])
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--official", metavar="FOLDER", help="a checkout of AdelNabli/DADAO")
    parser.add_argument("--compile", action="store_true", help="also with compile=4")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{machine()}, optenvs {optenvs.__version__}")
    for case, (_, _, goal) in CASES.items():
        print(f"{case} (goal {goal}x)")
        for name, value in measure(case, options.official, compile=options.compile).items():
            print(f"  {name:20s} {value:14,.1f}")
    if options.official is None:
        print("no comparison: --official FOLDER was not given")


if __name__ == "__main__":
    main()

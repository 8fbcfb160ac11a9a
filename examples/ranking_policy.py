"""Can a swimmer learn from an order? Linear policies on Swimmer-v5, five returns ranked at a time.

    python examples/ranking_policy.py

ZO-RankSGD shows five policies, of which it is told the order, then x and four steps along the direction. As a
yardstick CMA-ES with populations of five gets the same orders. All policies of a query meet one episode; the
table is of the mean return over four episodes that no query shows. Needs MuJoCo (gymnasium[mujoco]), and for
CMA-ES the package cma.

Median returns of 5 instances over whole episodes of 1,000 steps (MuJoCo 3.3.7), and those of each after 200
rankings, which show 1,001 policies (a quarter of an hour a method and more, on one thread):

    rankings       0     50    100    200
    ZO-RankSGD  -1.6    323    338    351    349.7, 357.4, 357.9, 349.3, 350.7
    CMA-ES      -1.6    345    349    356    349.6, 355.8, 358.4, 348.8, 357.2

CMA-ES is ahead early on; in the end the medians are within two per cent.
"""

from __future__ import annotations

import argparse
import importlib.util
from typing import Any

import agents
import optenvs


def main(arguments: list[str] | None = None) -> None:
    """Run both methods on the same instances and print their returns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="Swimmer-v5")
    parser.add_argument("--rounds", type=int, default=200, help="rankings")
    parser.add_argument("--length", type=int, default=1000, help="steps of an episode")
    parser.add_argument("--batch", type=int, default=5, help="instances")
    options = parser.parse_args(arguments)
    env = optenvs.make(
        "optenvs/RankingPolicy-v0", task=options.task, episode_length=options.length, shown=5,
        start_std=0.0, budget=None,
    )  # fmt: skip
    methods: dict[str, Any] = {"ZO-RankSGD": agents.ZORankSGD(mu=0.1, lr=1.0)}
    if importlib.util.find_spec("cma") is None:
        print("CMA-ES is left out: pip install cma")
    else:
        methods["CMA-ES"] = agents.CMA(std=0.5, bounded=False)
    for name, agent in methods.items():
        run = optenvs.rollout(env, agent, batch=options.batch, steps=options.rounds)
        returns = run.metrics["return"]
        for step in sorted({0, options.rounds // 4, options.rounds // 2, options.rounds}):
            each = ", ".join(f"{value:.1f}" for value in returns[step].tolist())
            shown = int(run.calls["points"][step, 0])
            print(
                f"{name:12s} {step:4d} rankings, {shown:5d} policies: "
                f"median {float(returns[step].median()):.1f} of {each}",
                flush=True,
            )


if __name__ == "__main__":
    main()

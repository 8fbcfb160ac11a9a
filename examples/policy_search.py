"""Fifteen methods of policy search at equal trajectories: the bandit, the regulator, a random finite process.

    python examples/policy_search.py                     # the bandit
    python examples/policy_search.py --task cartpole     # episodes in torch; slower

Each method has its own grid of step sizes, which run as one batch with all instances; of each the best one by
the median of the last merit is shown, on the instances on which it was chosen. The merit is J* - J, exact; of
simulated tasks minus the mean return of held-out episodes.

The bandit, 50 instances, medians of J* - J, which begins at 0.44 (means in brackets; float64, one thread):

                 lr   100 trajectories, 300, 600
    vanilla_pg    0.3  0.0206 (0.041), 0.00878 (0.0113), 0.00528 (0.00699)
    reinforce    0.03  0.0562 (0.0731), 0.0198 (0.0262), 0.0186 (0.0244)
    n_mpg         0.3  0.0879 (0.106), 0.0166 (0.0253), 0.00602 (0.00906)
    n_pg_igt      0.3  0.0826 (0.104), 0.0116 (0.0233), 0.00647 (0.00896)
    harpg         0.3  0.0737 (0.157), 0.0382 (0.0901), 0.0086 (0.0603)
    n_harpg       0.3  0.136 (0.174), 0.0272 (0.0578), 0.00855 (0.022)
    sharp         0.1  0.21 (0.219), 0.0492 (0.0591), 0.0103 (0.0157)
    storm_pg     0.03  0.0696 (0.087), 0.0138 (0.0241), 0.0178 (0.0283)
    svrpg        0.03  0.185 (0.191), 0.0171 (0.0247), 0.0264 (0.0297)
    srvr_pg      0.03  0.179 (0.19), 0.0157 (0.0253), 0.0308 (0.0297)
    is_mbpg       0.3  0.237 (0.363), 0.0797 (0.279), 0.0271 (0.255)
    ha_mbpg       0.3  0.297 (0.393), 0.119 (0.312), 0.0583 (0.282)
    hapg         0.03  0.19 (0.189), 0.0179 (0.0247), 0.02 (0.0255)
    npg           0.1  0.251 (0.252), 0.0332 (0.0397), 0.0149 (0.0204)
    npg_hm       0.03  0.293 (0.299), 0.0717 (0.077), 0.0125 (0.0165)

Few trajectories of one step favour the plain gradient with a decaying step; the order is another one
after ten thousand, see tests/papers. Importance weights and adaptive steps leave some rows far away: their
means are large where their medians are small.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch

import agents
import optenvs
from optenvs.core.random import keys_from_seed

METHODS = (
    "vanilla_pg", "reinforce", "n_mpg", "n_pg_igt", "harpg", "n_harpg", "sharp", "storm_pg", "svrpg",
    "srvr_pg", "is_mbpg", "ha_mbpg", "hapg", "npg", "npg_hm",
)  # fmt: skip
RATES = (0.03, 0.1, 0.3, 1.0)
# a Fisher matrix of one step has rank one, and what lies outside of it is divided by the damping
SETTINGS: dict[str, dict[str, float]] = {"npg": {"damping": 1.0}, "npg_hm": {"damping": 1.0}}


def main(arguments: list[str] | None = None) -> None:
    """Run all methods on the same instances and print their merits by trajectories bought."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="gauss_bandit")
    parser.add_argument("--budget", type=int, default=600, help="trajectories")
    parser.add_argument("--batch", type=int, default=50, help="instances")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    options = parser.parse_args(arguments)
    env = optenvs.make("optenvs/PolicySearch-v0", task=options.task, budget=options.budget)
    # the same instances for each step size
    keys = keys_from_seed(0, options.batch).repeat(len(RATES))
    rates = torch.tensor(RATES).repeat_interleave(options.batch)
    moments = [options.budget // 6, options.budget // 2, options.budget]
    print(f"{options.task:12s} step  merit at {', '.join(map(str, moments))} trajectories: median (mean)")
    for name in options.methods:
        run = optenvs.rollout(env, agents.make(name, lr=rates, **SETTINGS.get(name, {})), keys=keys)
        print(f"{name:12s} {_line(run, options.batch, moments)}", flush=True)


def _line(run: Any, batch: int, moments: list[int]) -> str:
    """The best step size, and the merits at the last query that each number of trajectories paid."""
    bought, merit = run.calls["trajectories"], run.merit
    found = []
    for most in moments:
        last = (bought <= most).sum(0) - 1
        found.append(merit.gather(0, last.unsqueeze(0)).view(len(RATES), batch))
    best = int(found[-1].median(1).values.argmin())
    each = ", ".join(f"{float(m[best].median()):.3g} ({float(m[best].mean()):.3g})" for m in found)
    return f"{RATES[best]:4g}  {each}"


if __name__ == "__main__":
    main()

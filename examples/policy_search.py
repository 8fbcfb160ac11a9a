"""Fifteen methods of policy search at equal trajectories; and Stable-Baselines3 at equal transitions.

    python examples/policy_search.py                     # the bandit
    python examples/policy_search.py --task cartpole     # episodes in torch; slower
    python examples/policy_search.py --task tabular --transitions 3000 --batch 2 --models ppo a2c trpo
    python examples/policy_search.py --task HalfCheetah-v5 --batch 5 --transitions 1000000 --methods n_pg_igt

The last, with --rates 0.03 0.1 0.3, beside vanilla_pg with --rates 0.01 0.1 1, is the setting of the paper's
experiments: 1000 transitions an iteration, as two episodes of 500, and 1000 iterations. It needs MuJoCo
(gymnasium[mujoco]) and hours, and has not been run whole.

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

Models of Stable-Baselines3 (TRPO: sb3-contrib, the extra ``contrib``) learn with the search's own policy as
their actor, from its first weights, and are judged by its merit; four values of the learning rate, of TRPO of
the target divergence, are tried, with 20 updates in all (A2C: one every 20 transitions). The bandit again,
4 instances, medians (means) at equal transitions, which of a bandit are trajectories:

                 step  at 100, 300, 600 transitions
    vanilla_pg    0.3  0.0231 (0.0436), 0.00878 (0.00891), 0.00411 (0.00613)
    reinforce    0.03  0.0316 (0.0612), 0.0116 (0.0236), 0.0298 (0.0294)
    n_mpg           1  0.111 (0.153), 0.00169 (0.00844), 0.00477 (0.0117)
    n_pg_igt      0.3  0.0629 (0.0675), 0.0026 (0.012), 0.00739 (0.00933)
    harpg         0.3  0.052 (0.057), 0.02 (0.0382), 0.00512 (0.00806)
    n_harpg       0.3  0.0837 (0.114), 0.0286 (0.0436), 0.0073 (0.0126)
    sharp         0.1  0.173 (0.17), 0.0296 (0.054), 0.0142 (0.0157)
    storm_pg     0.03  0.124 (0.144), 0.0109 (0.0248), 0.0097 (0.0213)
    svrpg        0.03  0.202 (0.202), 0.00634 (0.0117), 0.00792 (0.0235)
    srvr_pg      0.03  0.212 (0.208), 0.0108 (0.0125), 0.0108 (0.024)
    is_mbpg         1  0.0576 (0.358), 0.137 (0.437), 0.0291 (0.221)
    ha_mbpg       0.3  0.253 (0.498), 0.0638 (0.428), 0.0304 (0.415)
    hapg         0.03  0.219 (0.209), 0.0182 (0.0202), 0.00443 (0.0209)
    npg           0.1  0.223 (0.244), 0.0582 (0.062), 0.00819 (0.0255)
    npg_hm       0.03  0.289 (0.325), 0.0983 (0.115), 0.00592 (0.0244)
    ppo          0.01  0.271 (0.29), 0.0257 (0.0318), 0.0007 (0.00283)
    a2c          0.03  0.261 (0.298), 0.0919 (0.227), 0.0391 (0.071)
    trpo         0.01  0.317 (0.32), 0.0648 (0.0751), 0.00132 (0.00167)

A random finite process of 5 states and 3 actions, 2 instances (of which the median is the better one):

                 step  at 500, 1500, 3000 transitions
    vanilla_pg      1  1.52 (2.9), 1.4 (2.86), 1.27 (2.79)
    reinforce     0.3  0.704 (1.17), 0.271 (1.55), 0.575 (2)
    n_mpg           1  1.49 (2.18), 1.5 (1.94), 1.43 (1.83)
    n_pg_igt        1  1.29 (2.05), 1.36 (1.84), 1.21 (1.61)
    harpg         0.3  1.53 (2.32), 0.673 (1.13), 0.607 (1.15)
    n_harpg       0.3  1.77 (2.51), 1.72 (2.45), 1.66 (2.38)
    sharp         0.3  1.74 (2.49), 1.76 (2.36), 1.58 (2.24)
    storm_pg        1  1.88 (2.49), 1.21 (2.36), 1.21 (2.36)
    svrpg         0.3  1.88 (2.49), 1.29 (2.05), 0.656 (1.05)
    srvr_pg         1  1.88 (2.49), 1.21 (2.36), 1.21 (2.36)
    is_mbpg         1  0.943 (2.22), 0.725 (2.16), 0.724 (2.29)
    ha_mbpg       0.3  1.86 (2.55), 1.32 (2.28), 1.22 (1.73)
    hapg            1  1.88 (2.49), 1.1 (2.3), 1.1 (2.3)
    npg           0.3  1.34 (1.59), 0.887 (1.06), 0.896 (0.931)
    npg_hm          1  1.62 (1.77), 1.24 (1.42), 1.25 (1.42)
    ppo          0.03  1.08 (1.63), 0.129 (0.146), 0.0353 (0.0404)
    a2c          0.03  0.684 (1.3), 0.247 (0.421), 0.152 (0.188)
    trpo          0.1  1.22 (1.56), 0.0924 (0.13), 0.013 (0.0167)

So where steps are many and episodes long, a critic and several passes over what was bought win by far: PPO.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from typing import Any

import torch

import agents
import optenvs
from optenvs.core.random import keys_from_seed

METHODS = (
    "vanilla_pg", "reinforce", "n_mpg", "n_pg_igt", "harpg", "n_harpg", "sharp", "storm_pg", "svrpg",
    "srvr_pg", "is_mbpg", "ha_mbpg", "hapg", "npg", "npg_hm",
)  # fmt: skip
RATES = [0.03, 0.1, 0.3, 1.0]
# a Fisher matrix of one step has rank one, and what lies outside of it is divided by the damping
SETTINGS: dict[str, dict[str, float]] = {"npg": {"damping": 1.0}, "npg_hm": {"damping": 1.0}}
MODELS: dict[str, tuple[str, str, str, tuple[float, ...]]] = {
    "ppo": ("stable_baselines3", "PPO", "learning_rate", (1e-3, 3e-3, 1e-2, 3e-2)),
    "a2c": ("stable_baselines3", "A2C", "learning_rate", (1e-3, 3e-3, 1e-2, 3e-2)),
    "trpo": ("sb3_contrib", "TRPO", "target_kl", (3e-3, 1e-2, 3e-2, 1e-1)),
}
"""Models of Stable-Baselines3: package, class, what is tuned, and its grid."""
WALKERS, UPDATES = 4, 20
"""Walkers of a model side by side, and its updates in all, of which A2C makes one every five steps."""


def main(arguments: list[str] | None = None) -> None:
    """Run all methods on the same instances and print their merits by what was bought."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="gauss_bandit")
    parser.add_argument("--budget", type=int, default=600, help="trajectories")
    parser.add_argument("--transitions", type=int, help="a budget of transitions in place of trajectories")
    parser.add_argument("--batch", type=int, default=50, help="instances")
    parser.add_argument("--methods", nargs="*", default=METHODS)
    parser.add_argument("--rates", nargs="+", type=float, default=RATES, help="step sizes of the methods")
    parser.add_argument("--models", nargs="*", default=(), choices=MODELS, help="with --transitions")
    options = parser.parse_args(arguments)
    unit = "trajectories" if options.transitions is None else "transitions"
    if options.models and unit == "trajectories":
        parser.error("--models are paid in transitions: --transitions")
    most = options.budget if options.transitions is None else options.transitions
    env = optenvs.make("optenvs/PolicySearch-v0", task=options.task, budget={unit: most})
    # the same instances for each step size
    keys = keys_from_seed(0, options.batch)
    moments = [most // 6, most // 2, most]
    print(f"{options.task:12s} step  merit at {', '.join(map(str, moments))} {unit}: median (mean)")
    for name in options.methods:
        rates = torch.tensor(options.rates).repeat_interleave(options.batch)
        agent = agents.make(name, lr=rates, **SETTINGS.get(name, {}))
        run = optenvs.rollout(env, agent, keys=keys.repeat(len(options.rates)))
        found = _reached(run, unit, moments, options.batch)
        print(f"{name:12s} {_line(options.rates, found)}", flush=True)
    for name in options.models:
        print(f"{name:12s} {_line(MODELS[name][3], _trained(env, name, keys.tolist(), moments))}", flush=True)


def _reached(run: Any, unit: str, moments: list[int], batch: int) -> torch.Tensor:
    """The merits at the last query that each moment paid, (moments, rates, instances)."""
    bought, merit = run.calls[unit], run.merit
    # what the first query costs is paid by all
    last = [((bought <= most).sum(0) - 1).clamp_min(0) for most in moments]
    merit = torch.where(run.diverged, torch.inf, merit)  # a row that is lost keeps the merit that it had
    return torch.stack([merit.gather(0, at.unsqueeze(0)).view(-1, batch) for at in last])


def _trained(env: Any, name: str, keys: list[int], moments: list[int]) -> torch.Tensor:
    """The merits of a model's weights by then, one model a step size and instance; likewise."""
    from optenvs.envs.policy.sb3 import search_by_sb3

    package, cls, tuned, grid = MODELS[name]
    algorithm = getattr(importlib.import_module(package), cls)
    steps = max(2, moments[-1] // (UPDATES * WALKERS))
    options: dict[str, Any] = {"n_steps": min(steps, 5) if name == "a2c" else steps}
    if name != "a2c":
        options["batch_size"] = min(steps * WALKERS, 64)
        options["n_steps"] = steps if steps * WALKERS < 64 else steps // 16 * 16
    found = []
    for value in grid:
        for seed, key in enumerate(keys):
            course = search_by_sb3(
                env, algorithm, transitions=moments[-1], key=key, seed=seed, walkers=WALKERS, at=moments,
                **{tuned: value}, **options,
            )  # fmt: skip
            found.append(course.merit)
    return torch.stack(found, 1).view(len(moments), len(grid), -1)


def _line(grid: Sequence[float], found: torch.Tensor) -> str:
    """The best step size by the last median, and what it reached."""
    best = int(found[-1].median(1).values.argmin())
    each = ", ".join(f"{float(m[best].median()):.3g} ({float(m[best].mean()):.3g})" for m in found)
    return f"{grid[best]:4g}  {each}"


if __name__ == "__main__":
    main()

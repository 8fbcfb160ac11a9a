"""Can a policy trained by PPO choose gamma better than the search of the paper?

Stable-Baselines3's PPO is trained on ``optenvs/GnsControl-v0``: it sees eight numbers about the last trial
of a regularised Newton step, and names log2 of the next gamma. A rejected trial moves nothing. Every
episode is another LogSumExp (n = 10, 20 rows, mu = 0.1); the reward is the decades by which the gap falls.
Then policy, search and every fixed gamma of a grid meet instances that neither has seen, at the same number
of trials.

    python examples/ppo_gns.py                       # short
    python examples/ppo_gns.py --iterations 60

On 64 held-out instances, 40 trials at most; trials until the gap is below 1e-8 (median, mean), the share
solved, and the decades by which the gap fell down to that level:

    gamma by                  trials    mean   solved  decades
    PPO, 12 iterations            26    26.2     1.00     8.34
    search (gns_search)           32    32.1     0.91     8.16
    the best fixed, 2^0           40    33.8     0.39     4.55

So the policy needs fewer trials than the search, which spends every other one on asking whether twice gamma
would do. The price: it met 15,360 trials before.

Needs the extra ``bench``.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor

import agents
import optenvs
from optenvs.core import OptimizationEnv, Run
from optenvs.faces.sb3 import SB3VecEnv

HELD_OUT = 1_000_001  # seed of the comparison
EPISODES = 32  # trained on at once
GRID = torch.arange(-8, 5)  # log2 of the fixed gammas


class OnlyFeatures(BaseFeaturesExtractor):
    """The policy sees ``features``, which hold the time too."""

    def __init__(self, observation_space: spaces.Dict) -> None:
        super().__init__(observation_space, features_dim=spaces.flatdim(observation_space["features"]))

    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        return observation["features"].float()


def control(trials: int, mu: float) -> OptimizationEnv:
    """The environment: gamma between 2^-10 and 2^6, ``trials`` trials an episode."""
    return optenvs.make(
        "GnsControl",
        landscape="LogSumExp",
        mu=mu,
        low=-10.0,
        high=6.0,
        budget=trials + 1,  # one is the query of reset
        reward="log_improvement",
        tolerance=1e-8,
    )


def train(env: OptimizationEnv, trials: int, iterations: int, seed: int) -> PPO:
    """PPO on ``iterations`` batches of whole episodes."""
    model = PPO(
        "MultiInputPolicy",
        SB3VecEnv(env, EPISODES),
        n_steps=trials,
        batch_size=EPISODES * trials // 4,
        n_epochs=10,
        learning_rate=1e-3,
        gamma=1.0,
        policy_kwargs={
            "features_extractor_class": OnlyFeatures,
            "net_arch": [32, 32],
            "log_std_init": -1.0,
        },
        seed=seed,
        device="cpu",
    )
    return model.learn(EPISODES * trials * iterations)


def fixed(low: float, high: float, power: float) -> Any:
    """An agent that always names the same gamma."""
    action = 2 * (power - low) / (high - low) - 1
    return agents.from_function(
        lambda observation: torch.full_like(observation["features"][:, :1], action), needs=("trial",)
    )


def report(name: str, run: Run) -> str:
    """Trials until solved (all of them, where not), the share solved, and the decades of the gap."""
    trials = run.calls["trial"][-1].double() - 1
    gap = run.metrics["gap"]
    decades = -(gap.cummin(0).values[-1].clamp_min(1e-8) / gap[0]).log10()
    solved = run.state.terminated.double().mean()
    return (
        f"{name:24}{float(trials.median()):8.0f}{float(trials.mean()):8.1f}{float(solved):9.2f}"
        f"{float(decades.mean()):9.2f}"
    )


def main(arguments: list[str] | None = None) -> None:
    """Train, compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--iterations", type=int, default=12, help=f"of PPO, {EPISODES} episodes each")
    parser.add_argument("--trials", type=int, default=40, help="of an episode")
    parser.add_argument("--mu", type=float, default=0.1, help="the smoothing of LogSumExp")
    parser.add_argument("--instances", type=int, default=64, help="held out")
    parser.add_argument("--seed", type=int, default=0, help="of PPO and of the instances it is trained on")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # the networks are small: threads would cost more than they give
    env = control(options.trials, options.mu)
    model = train(env, options.trials, options.iterations, options.seed)
    print(f"{'gamma by':24}{'trials':>8}{'mean':>8}{'solved':>9}{'decades':>9}")
    meet = {"seed": HELD_OUT, "batch": options.instances}
    print(report("PPO", optenvs.rollout(env, agents.from_sb3(model), **meet)))
    print(report("search (gns_search)", optenvs.rollout(env, agents.GnsSearch(), **meet)))
    runs = {int(p): optenvs.rollout(env, fixed(-10.0, 6.0, float(p)), **meet) for p in GRID}
    best = min(runs, key=lambda power: float(runs[power].calls["trial"][-1].double().mean()))
    print(report(f"the best fixed, 2^{best}", runs[best]))
    print(f"trials before the comparison: PPO {EPISODES * options.trials * options.iterations:,}")


if __name__ == "__main__":
    main()

"""Can a policy trained by PPO choose SGD's learning rate better than a tuned constant?

Stable-Baselines3's PPO is trained on step-size control of a small network on handwritten digits
(``optenvs/TrainDigits-v0``: an MLP 64-32-10, 220 minibatches of 32): every 11 minibatches it sees eight
scale-free numbers (level and change of the loss, size, growth and cosine of the gradients, the last rate,
the time) and names a learning rate between 10^-2.5 and 10^0.5. Every episode is another network, other
data order. The reward is the decades by which the best minibatch loss fell (``log_improvement``).

Then policy and SGD meet seeds that neither has seen, at the same 221 gradients a run. SGD's rate, constant
or on a cosine, is the best of a grid of 13 for the mean final training loss on seeds of their own.

    python examples/ppo_step_size.py --iterations 150 --seed 0 --out results/ppo

Measured on 64 held-out seeds, median and quartiles (90 CPU seconds, two minutes on a shared machine):

    optimizer                   final training loss           test accuracy
    PPO, seed 0                 0.0410 (0.0385 to 0.0433)     0.983 (0.978 to 0.986)
    PPO, seed 1                 0.0475 (0.0428 to 0.0532)     0.978 (0.972 to 0.983)
    PPO, seed 2                 0.0422 (0.0393 to 0.0460)     0.981 (0.978 to 0.986)
    SGD (lr 0.681)              0.0446 (0.0387 to 0.0619)     0.972 (0.964 to 0.983)
    SGD, cosine (lr 0.681)      0.0575 (0.0543 to 0.0606)     0.981 (0.978 to 0.983)

So the policy is as good as a tuned constant in the median (better with two seeds of three), and steadier: its
upper quartile is lower with every seed. What it has found is a decay from about 0.6 to between 0.2 and
0.4. The price: PPO met 1,060,800 gradients before the comparison, a grid 45,968.

The command above made the weights that ship: ``agents.make("step_size_policy", pretrained="digits")``.

Needs the extras ``bench`` and ``data`` (for tqdm, matplotlib and the digits).
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

import against_tuned
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor
from tqdm import tqdm

import agents
import optenvs
from optenvs.core import OptimizationEnv, Run, keys_from_seed
from optenvs.core.picture import new_figure
from optenvs.faces.sb3 import SB3VecEnv
from optenvs.wrappers import StepSizeControl

NAME = "digits"
HELD_OUT, TUNING = 1_000_001, 1_000_002  # seeds of the comparison, and of the choice of SGD's rate
GRID = torch.logspace(-1.5, 0.5, 13)
EPISODES = 32  # trained on at once
METRICS = ("train_loss", "test_accuracy")


class OnlyFeatures(BaseFeaturesExtractor):
    """The policy sees ``features``, which hold the time too; the raw ``k`` and ``N`` are left out."""

    def __init__(self, observation_space: spaces.Dict) -> None:
        super().__init__(observation_space, features_dim=spaces.flatdim(observation_space["features"]))

    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        return observation["features"]


class Progress(BaseCallback):
    """A progress bar over PPO's iterations, with the mean return of the last episodes."""

    def __init__(self, iterations: int) -> None:
        super().__init__()
        self.bar = tqdm(total=iterations, desc="PPO", unit="iteration")

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        returns = self.model.rollout_buffer.rewards.sum(0)  # type: ignore[attr-defined]
        self.bar.set_postfix(decades=f"{returns.mean():.2f}")
        self.bar.update()

    def _on_training_end(self) -> None:
        self.bar.close()


def train(env: StepSizeControl, iterations: int, seed: int) -> PPO:
    """PPO on ``iterations`` batches of whole episodes, each instance met once."""
    assert env.horizon is not None
    model = PPO(
        "MultiInputPolicy",
        SB3VecEnv(env, EPISODES),
        n_steps=env.horizon,
        batch_size=EPISODES * env.horizon // 4,
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
    return model.learn(EPISODES * env.horizon * iterations, callback=Progress(iterations))


def sgd(core: OptimizationEnv, schedule: Any, seeds: int) -> tuple[float, Run]:
    """SGD at the best rate of the grid: that rate, and its run on the held-out seeds."""
    keys = keys_from_seed(TUNING, 16).repeat_interleave(len(GRID))
    tuning = optenvs.rollout(core, agents.SGD(lr=GRID.repeat(16), schedule=schedule), keys=keys)
    final = tuning.metrics["train_loss"][-1].reshape(16, len(GRID)).mean(0)
    lr = GRID[final.nan_to_num(torch.inf).argmin()].item()
    return lr, optenvs.rollout(core, agents.SGD(lr=lr, schedule=schedule), seed=HELD_OUT, batch=seeds)


def table(runs: dict[str, Run]) -> str:
    """Median and quartiles over the held-out seeds of what each optimizer ends with."""
    lines = [f"{'optimizer':34}{'gradients':>10}" + "".join(f"{m + ': median (IQR)':>34}" for m in METRICS)]
    for name, run in runs.items():
        cells = []
        for metric in METRICS:
            low, middle, high = np.quantile(run.metrics[metric][-1].numpy(), [0.25, 0.5, 0.75])
            cells.append(f"{f'{middle:.4f} ({low:.4f} to {high:.4f})':>34}")
        lines.append(f"{name:34}{int(run.calls['gradient'][-1].max()):10d}" + "".join(cells))
    return "\n".join(lines)


def plot(runs: dict[str, Run], rates: Tensor, path: Path) -> None:
    """Training loss against gradients, and the rates that the policy chose."""
    figure = new_figure(10, 4)
    left, right = figure.subplots(1, 2)
    for name, run in runs.items():
        calls, loss = run.calls["gradient"][:, 0], run.metrics["train_loss"]
        # the training loss is measured once an epoch: keep the queries at which it was
        new = torch.cat((torch.tensor([True]), (loss[1:] != loss[:-1]).any(1)))
        low, middle, high = loss[new].quantile(torch.tensor([0.25, 0.5, 0.75]), dim=1)
        (line,) = left.plot(calls[new], middle, marker="o", label=name)
        left.fill_between(calls[new], low, high, alpha=0.2, color=line.get_color())
    left.set(yscale="log", xlabel="gradients", ylabel="training loss, median and quartiles")
    left.legend()
    low, middle, high = rates.quantile(torch.tensor([0.25, 0.5, 0.75]), dim=1)
    right.plot(middle)
    right.fill_between(range(len(rates)), low, high, alpha=0.3)
    right.set(yscale="log", xlabel="action", ylabel="learning rate that the policy chose")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(path)


def main(arguments: list[str] | None = None) -> None:
    """Train, tune, compare, save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--iterations", type=int, default=150, help=f"of PPO, {EPISODES} episodes each")
    parser.add_argument("--seeds", type=int, default=64, help="held-out seeds of the comparison")
    parser.add_argument("--per-tensor", action="store_true", help="one rate for each weight and bias")
    parser.add_argument("--no-table", action="store_true", help="leave out the last comparison")
    parser.add_argument("--seed", type=int, default=0, help="of PPO and its training episodes")
    parser.add_argument("--out", type=Path, default=Path("results/ppo_step_size"))
    options = parser.parse_args(arguments)

    torch.set_num_threads(1)  # the networks are small: threads would cost more than they give
    core = optenvs.make("optenvs/TrainDigits-v0", reward="log_improvement")
    env = StepSizeControl(core, agents.SGD(), per_tensor=options.per_tensor, low=-2.5, high=0.5, repeat=11)
    model = train(env, options.iterations, options.seed)
    controlled = optenvs.rollout(
        env, agents.from_sb3(model), seed=HELD_OUT, batch=options.seeds, record=("features",)
    )
    runs = {"PPO step-size control": controlled}
    for name, schedule in (("SGD", None), ("SGD, cosine", agents.schedules.Cosine())):
        lr, run = sgd(core, schedule, options.seeds)
        runs[f"{name} (lr {lr:.3g})"] = run
    print(table(runs))
    spent = EPISODES * options.iterations * int(controlled.calls["gradient"][-1, 0])
    print(f"gradients before the comparison: PPO {spent:,}, each grid {16 * len(GRID) * 221:,}")

    options.out.mkdir(parents=True, exist_ok=True)
    if not options.per_tensor:  # an agent has one rate in all, and no pickles, which a zip of SB3's holds
        policy = agents.StepSizePolicy.from_sb3(model, low=env.low, high=env.high, repeat=env.repeat)
        file = options.out / f"step_size_policy-{NAME}.safetensors"
        policy.save(file)
        print(f"{file}: SHA-256 {hashlib.sha256(file.read_bytes()).hexdigest()}")
        if not options.no_table:
            columns = against_tuned.COLUMNS[NAME]
            print(against_tuned.table(columns, against_tuned.compare(columns, policy, "policy")))
    chosen = controlled.recorded["features"][1:, :, -len(env.sizes) :].mean(-1)
    plot(runs, env.rate(chosen), options.out / "step_sizes.png")
    print(f"weights and curves are in {options.out}")


if __name__ == "__main__":
    main()

"""Which estimator of the meta-gradient trains a learned optimizer best, at an equal bill of inner gradients?

Meta-trains LOLv2 (Metz et al. 2020) on random least squares ``|W x - y|^2`` in five dimensions
(``optenvs/MetaTraining-v0``), by Adam on the gradient of an estimator, or by OpenAI's evolution strategies on
whole lifetimes, until its budget of inner gradients is spent. Lifetimes last 40 steps, windows 5. Then the
best weights of the run, by the 16 held-out tasks that it was judged on, meet 512 tasks that no one has seen,
there and for 200 steps, beside SGD and Adam whose rates are the best of a grid on those very tasks.

    python examples/meta_train.py --estimator pes
    python examples/meta_train.py --estimator all --out results/meta_train

Measured (seed 0, 20,000 inner gradients; 20 to 200 seconds an estimator on two cores that were shared by a
dozen programs), mean loss over the steps:

    trained by        queries  held out   unseen  200 steps
    truncated_bptt        243     0.528    0.678      0.285
    bptt                   30     1.339    1.761      0.643
    truncated_es          162     2.614    3.042      1.312
    full_es                30     8.378    7.998     35.512
    pes                   243     3.320    3.750      3.029
    noise_reuse_es        244     2.498    2.882      1.436
    open_es                30     4.228    4.455      2.927
    untrained                              15.127    71.771
    SGD (lr 0.03)                           1.170     0.624
    Adam (lr 0.3)                           0.887     0.296

One run each, at one rate, and a small bill: evolution strategies have by far not converged. Truncated
backpropagation alone has passed what is tuned by hand, for 200 steps by a hair. A step back through an inner
step is billed apart (``backward``), and is not in these 20,000.

Needs the extra ``plot`` (for matplotlib).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch

import agents
import optenvs
from optenvs.core.rollout import Run

ESTIMATORS = ("truncated_bptt", "bptt", "truncated_es", "full_es", "pes", "noise_reuse_es", "open_es")
LENGTH, WINDOW, PARTICLES = 40, 5, 16
UNSEEN = 2_000_003  # seed of the final comparison
TASKS: dict[str, Any] = {"tasks": "optenvs/LeastSquares-v0", "dim": 5}
RULE = {"name": "lolv2", "hidden": 16, "step_multiplier": 0.1}
RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
HEAD = f"{'trained by':22}{'queries':>9}{'seconds':>9}{'held out':>10}{'unseen':>9}{'200 steps':>11}"


def problem(estimator: str, budget: int) -> optenvs.OptimizationEnv:
    """Meta-training by one estimator."""
    own: dict[str, Any] = {"estimator": estimator, "std": 0.03}
    if estimator == "open_es":
        own = {"oracle": "fitness"}
    elif estimator.endswith("bptt"):
        own = {"estimator": estimator, "clip": 1.0}
    if estimator not in ("bptt", "full_es", "open_es"):
        own["window"] = WINDOW
    common = {"particles": PARTICLES, "length": LENGTH, "worst": 100.0, "budget": budget}
    return optenvs.make("optenvs/MetaTraining-v0", **TASKS, rule=RULE, **common, **own)


def searcher(estimator: str) -> agents.Agent:
    """Who asks."""
    if estimator == "open_es":
        return agents.OpenES(lr=0.01, std=0.03)
    return agents.Adam(lr=3e-3)


def best_weights(run: Run) -> torch.Tensor:
    """Those of the least held-out loss."""
    return run.recorded["recommendation"][run.merit[:, 0].argmin(), 0]


def score(agent: agents.Agent, steps: int = LENGTH, tasks: int = 512) -> float:
    """The mean loss over the steps on unseen tasks; what diverges has 100, as in training."""
    env = optenvs.make(TASKS["tasks"], dim=TASKS["dim"], tolerance=None, budget=None, dtype="float64")
    run = optenvs.rollout(env, agent, seed=UNSEEN, batch=tasks, steps=steps)
    losses = torch.where(run.diverged, 100.0, run.merit[1:].nan_to_num(100.0).clamp(max=100.0))
    return losses.mean().item()


def learned(weights: torch.Tensor) -> agents.LOLv2:
    """The rule with these weights."""
    rule = agents.LOLv2(hidden=16, step_multiplier=0.1, dtype="float64")
    torch.nn.utils.vector_to_parameters(weights, rule.parameters())
    return rule


def train(estimator: str, budget: int, seed: int) -> tuple[str, Run]:
    """A row of the table, and the run."""
    start = time.perf_counter()
    run = optenvs.rollout(
        problem(estimator, budget), searcher(estimator), seed=seed, record=("recommendation",)
    )
    seconds, rule = time.perf_counter() - start, learned(best_weights(run))
    numbers = f"{len(run.merit):9}{seconds:9.0f}{run.merit.min().item():10.3f}"
    return f"{estimator:22}{numbers}{score(rule):9.3f}{score(rule, 5 * LENGTH):11.3f}", run


def baselines() -> list[str]:
    """The rows of what is tuned by hand, the rule as it was made, and a step of nothing."""
    told = [("untrained", learned(agents.LOLv2(hidden=16, dtype="float64").flat.detach()))]
    for cls in (agents.SGD, agents.Adam):
        tried = {lr: score(cls(lr=lr)) for lr in RATES}
        rate = min(tried, key=lambda lr, tried=tried: tried[lr])
        told.append((f"{cls.__name__} (lr {rate:g})", cls(lr=rate)))
    return [f"{name:50}{score(agent):9.3f}{score(agent, 5 * LENGTH):11.3f}" for name, agent in told]


def plot(runs: dict[str, Run], path: Path) -> None:
    """The best held-out loss so far against the bill."""
    from optenvs.core.picture import new_figure

    figure = new_figure(7, 4.4)
    axes = figure.subplots()
    for name, run in runs.items():
        axes.plot(run.calls["inner"][:, 0], run.best[:, 0], label=name)
    axes.set(xlabel="inner gradients", ylabel="held-out loss", yscale="log")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path)


def main(arguments: list[str] | None = None) -> None:
    """Train, compare, save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--estimator", choices=(*ESTIMATORS, "all"), default="pes")
    parser.add_argument("--budget", type=int, default=20_000, help="inner gradients")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/meta_train"))
    options = parser.parse_args(arguments)

    runs = {}
    print(HEAD)
    for estimator in ESTIMATORS if options.estimator == "all" else (options.estimator,):
        row, runs[estimator] = train(estimator, options.budget, options.seed)
        print(row, flush=True)
    print("\n".join(baselines()))
    options.out.mkdir(parents=True, exist_ok=True)
    plot(runs, options.out / "held_out.png")
    print(f"the courses are in {options.out}")


if __name__ == "__main__":
    main()

"""How is each estimator of a meta-gradient asked, and what does a minute of it train?

LOLv2 (Metz et al. 2020, 16 hidden units) is trained on random least squares ``|W x - y|^2`` in five
dimensions, lifetimes of 40 steps, by Adam on the answers of ``optenvs/MetaTraining-v0``. Before and after, it
meets 512 tasks that it has not been trained on. Each function below is one estimator: what it does, what it
costs, when to take it, and the keywords that say so. ``meta_train.py`` compares them at one bill; here each
has about a minute.

    python examples/meta_estimators.py pes
    python examples/meta_estimators.py all

Measured, seed 0, mean loss over the 40 steps on the unseen tasks and over 200 (seconds of processor time on a
machine with thirty busy processes; SGD tuned on those very tasks has 1.170 and 0.624, Adam 0.887 and 0.296):

    estimator         queries    inner  seconds   before   after  200 steps
    truncated_bptt        101     8299        4   15.127   0.797      0.332
    bptt                   21    13776        4   15.127   1.761      0.643
    full_es                21    27552        2   15.127   7.079     23.147
    truncated_es          101    24865        4   15.127   3.784      2.516
    pes                   101    16598        3   15.127   4.926      4.923
    noise_reuse_es        101    16540        2   15.127   4.286      3.311
    truncated_bptt       1001    82096       33   15.127   0.614      0.234
    pes                  1601   262592       38   15.127   0.780      0.354

The last two rows are what the defaults take; the others are a few seconds each (``--queries 100``, or 20 of
whole lifetimes), and their minute has not been measured.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch

import agents
import optenvs

DIM, LENGTH = 5, 40
UNSEEN = 2_000_003  # the seed of before and after
HEAD = f"{'estimator':16}{'queries':>9}{'inner':>9}{'seconds':>9}{'before':>9}{'after':>8}{'200 steps':>11}"


def truncated_bptt() -> dict[str, Any]:
    """Backpropagation through a window of 5 steps; the state before it is a constant.

    The cheapest gradient, and of little variance. What a step does to later windows it does not see: it
    favours rules that are greedy. Take it first, with windows as long as memory and ``clip`` allow.
    """
    return {"estimator": "truncated_bptt", "window": 5, "particles": 16, "clip": 1.0}


def bptt() -> dict[str, Any]:
    """Backpropagation through whole lifetimes: exact, and of as much memory as they have steps.

    Long lifetimes explode: each particle's gradient is cut off at a norm, one that is no number counts as 0.
    """
    return {"estimator": "bptt", "particles": 16, "clip": 1.0}


def full_es() -> dict[str, Any]:
    """Evolution strategies on whole lifetimes: pairs at weights plus and minus a perturbation.

    No way back, so tasks need no gradient by weights, and the loss may be the last value, a test error, or
    anything. It is the gradient of a loss smoothed by ``std``. Dear: one number for each lifetime.
    """
    return {"estimator": "full_es", "particles": 32, "std": 0.03}


def truncated_es() -> dict[str, Any]:
    """Evolution strategies on a window, both members of a pair from the same state.

    An update for each window in place of each lifetime; biased as truncated backpropagation is.
    """
    return {"estimator": "truncated_es", "window": 5, "particles": 32, "std": 0.03}


def pes() -> dict[str, Any]:
    """Persistent evolution strategies: fresh noise in each window, credited to all later ones of its episode.

    An update for each window, without that bias. The price is variance, which grows with the windows of a
    lifetime, and a memory of all weights for each member.
    """
    return {"estimator": "pes", "window": 5, "particles": 32, "std": 0.03}


def noise_reuse_es() -> dict[str, Any]:
    """One perturbation for a whole lifetime, an update for each window.

    Unbiased, and of the variance of whole lifetimes at most; nothing to remember, as noise is drawn again.
    """
    return {"estimator": "noise_reuse_es", "window": 5, "particles": 32, "std": 0.03}


# what each does in a minute: queries, and Adam's rate
ESTIMATORS: dict[str, tuple[Callable[[], dict[str, Any]], int, float]] = {
    "truncated_bptt": (truncated_bptt, 1000, 3e-3),
    "bptt": (bptt, 250, 3e-3),
    "full_es": (full_es, 500, 3e-3),
    "truncated_es": (truncated_es, 1200, 3e-3),
    "pes": (pes, 1600, 3e-3),
    "noise_reuse_es": (noise_reuse_es, 1600, 3e-3),
}


def rule(weights: torch.Tensor | None = None) -> agents.LOLv2:
    """What is trained; with these weights."""
    made = agents.LOLv2(hidden=16, step_multiplier=0.1, dtype="float64")
    if weights is not None:
        torch.nn.utils.vector_to_parameters(weights, made.parameters())
    return made


def problem(keywords: dict[str, Any]) -> optenvs.OptimizationEnv:
    """The meta-training; the rule is judged on 16 held-out tasks every 20 queries."""
    return optenvs.make(
        "MetaTraining",
        tasks=optenvs.make("LeastSquares", dim=DIM),
        rule=rule(),
        length=LENGTH,
        worst=100.0,  # what a lifetime that diverges counts as
        evaluation_period=20,
        budget=None,
        **keywords,
    )


def score(agent: agents.Agent, steps: int = LENGTH, tasks: int = 512) -> float:
    """The mean loss over the steps on unseen tasks; what diverges has 100."""
    env = optenvs.make("LeastSquares", dim=DIM, tolerance=None, budget=None, dtype="float64")
    run = optenvs.rollout(env, agent, seed=UNSEEN, batch=tasks, steps=steps)
    losses = torch.where(run.diverged, 100.0, run.merit[1:].nan_to_num(100.0).clamp(max=100.0))
    return losses.mean().item()


def train(name: str, queries: int | None = None, seed: int = 0) -> str:
    """A row of the table: train, and keep the weights of the least held-out loss."""
    keywords, usual, rate = ESTIMATORS[name]
    start = time.process_time()
    run = optenvs.rollout(
        problem(keywords()),
        agents.Adam(lr=rate),
        seed=seed,
        steps=usual if queries is None else queries,
        record=("recommendation",),
    )
    seconds = time.process_time() - start
    best = run.recorded["recommendation"][run.merit[:, 0].argmin(), 0]
    inner = int(run.calls["inner"][-1, 0])
    numbers = f"{len(run.merit):9}{inner:9}{seconds:9.0f}{score(rule()):9.3f}{score(rule(best)):8.3f}"
    return f"{name:16}{numbers}{score(rule(best), 5 * LENGTH):11.3f}"


def main(arguments: list[str] | None = None) -> None:
    """Train by one estimator, or by all of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("estimator", choices=(*ESTIMATORS, "all"))
    parser.add_argument("--queries", type=int, help="as many as a minute takes by default")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    print(HEAD)
    for name in ESTIMATORS if options.estimator == "all" else (options.estimator,):
        print(train(name, options.queries, options.seed), flush=True)


if __name__ == "__main__":
    main()

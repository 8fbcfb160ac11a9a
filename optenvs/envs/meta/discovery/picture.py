"""Pictures of discovery, and of one learner's life."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from optenvs.core.env import State
from optenvs.core.picture import new_figure, to_array
from optenvs.dynamics.grid_picture import paint

if TYPE_CHECKING:
    from optenvs.core.env import OptimizationEnv


def discovery(env: OptimizationEnv, states: list[State]) -> np.ndarray:
    """What learners earn by lifetimes, on held-out levels too, beside the optimum; and what the rule does."""
    figure = new_figure(9.0, 4.2)
    left, right = figure.subplots(1, 2)
    lives = [int(s.calls["lifetimes"][0]) for s in states]
    for name, colour, label in (
        ("return", "#999999", "of the query's learners"),
        ("held_out", "#0072B2", "on held-out levels"),
        ("optimum", "#009E73", "the optimum there"),
    ):
        left.plot(lives, [float(s.metrics[name][0]) for s in states], color=colour, label=label)
    left.set_ylabel("mean return" if env.oracles[1] == "swarm" else "mean return, or reward of a step")
    left.legend()
    for name, colour, label in (
        ("push", "#D55E00", r"size of $\hat\pi$"),
        ("entropy", "#CC79A7", "entropy of policies"),
    ):
        right.plot(lives, [float(s.metrics[name][0]) for s in states], color=colour, label=label)
    right.legend()
    for axes in (left, right):
        axes.set_xlabel("lifetimes")
        axes.grid(alpha=0.3)
    left.set_title(env.name)
    right.set_title(f"after {len(states) - 1} queries")
    return to_array(figure)


def lifetime(env: OptimizationEnv, states: list[State]) -> np.ndarray:
    """What the policy earns by updates, beside the optimum; and the level, with the first worker."""
    figure = new_figure(9.0, 4.2)
    left, right = figure.subplots(1, 2)
    updates = range(len(states))
    left.plot(updates, [float(s.metrics["value"][0]) for s in states], color="#0072B2", label="of the policy")
    left.axhline(float(states[-1].metrics["optimum"][0]), color="#009E73", label="the optimum")
    left.set_xlabel("updates")
    left.set_ylabel("expected return")
    left.set_title(env.name)
    left.grid(alpha=0.3)
    left.legend()
    hidden = states[-1].hidden
    right.imshow(paint(hidden.level, hidden.life.workers))
    right.set_axis_off()
    right.set_title(f"after {len(states) - 1} updates")
    return to_array(figure)

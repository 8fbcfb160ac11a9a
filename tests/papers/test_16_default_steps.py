"""LV-HBA's default steps (spec of its step sizes): the projected gradient falls 100-fold on every problem.

The table at 256 instances and the problems' own sizes is in ``examples/bilevel_residual.py``.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lv_hba_course import Course
from torch import Tensor

import agents
import optenvs
from optenvs.core.random import keys_from_seed
from optenvs.envs.bilevel.reformulation import Place, Reformulation

pytestmark = pytest.mark.paper

BATCH = 2
CASES: dict[str, tuple[str, dict[str, Any], int]] = {
    "toy": ("BilevelToy", {"dim": 6}, 150),
    "strong": ("BilevelStrong", {"dim": 8, "equations": 4, "upper_equations": 3}, 400),
    "inequality": ("BilevelInequality", {}, 300),
    "svm": ("BilevelSvm", {}, 300),
    "cleaning": ("BilevelCleaning", {"train": 20, "validation": 15}, 400),
}


def residual(course: Course, memory: Any) -> Tensor:
    at = memory.settings
    form = Reformulation(course.env, course.own, at["gamma1"], at["gamma2"], at["r"], at["unit"])
    return form.residual(Place(memory.x, memory.y, memory.z), at["c"] * memory.k ** at["power"])


@pytest.mark.parametrize("case", CASES)
def test_the_projected_gradient_falls_100_fold(case: str) -> None:
    name, keywords, iterations = CASES[case]
    env: Any = optenvs.make(name, budget=None, tolerance=None, **keywords)
    state = env.reset(keys_from_seed(0, BATCH), evaluate=False)
    course = Course(env, agents.LVHBA(), state.observation["x"], state.observation["y"])
    first, left = residual(course, course(0)), residual(course, course(iterations))
    if name not in ("BilevelToy", "BilevelInequality"):  # there all instances have the same functions
        assert len(course.memory.settings["alpha"].unique()) == BATCH
    assert (left <= first / 100).all(), (left / first).tolist()


def test_the_saddle_is_stationary_and_its_multipliers_are_clipped() -> None:
    env: Any = optenvs.make("BilevelSvm", train=20, validation=15)
    state = env.reset(keys_from_seed(0, BATCH), evaluate=False)
    own, x, y = env.own(state), state.observation["x"], state.observation["y"]
    r = torch.full_like(x[:, :1], 0.02)
    z = 0.01 * torch.ones_like(x)
    form = Reformulation(env, own, 2.0, 0.5, r, 3.0)
    theta, lam = form.saddle(Place(x, y - 1, z))
    assert lam.min() >= 0 and lam.max() == 0.02 and ((lam > 0) & (lam < 0.02)).any()
    pulled = env.pull(own, x, theta, lam / 3)[1][:, 20:]
    slope = env.lower_slope(own, x, theta)[1][:, 20:] + pulled + (theta - y + 1) / 2
    torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-10)
    up = env.constrain(own, x, theta) / 3 - (lam - z) / 0.5
    inside = (lam > 0) & (lam < 0.02)
    assert up[inside].abs().max() < 1e-10
    assert up[lam == 0].max() <= 0 and up[lam == 0.02].min() >= 0

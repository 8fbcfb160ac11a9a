"""Temporally-aware discovery of reinforcement learning (Jackson et al., ICLR 2024): the grid worlds."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from optenvs.core.random import keys_from_seed
from optenvs.dynamics import grid
from optenvs.dynamics.grid_levels import LEVELS, find_levels, level_from, log_integer
from optenvs.dynamics.grid_value import best_policy, optimum, policy_value
from optenvs.envs.meta.discovery.learner import born, judge
from optenvs.envs.meta.discovery.life import live
from optenvs.models.lpg import LPG
from optenvs.models.tabular.rules import Optimiser, Reinforce

pytestmark = pytest.mark.paper
DOUBLE = torch.float64


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


# B1: the closed form of a corridor -------------------------------------------------------------


def corridor(p_term: float, steps: int, workers: int) -> Tensor:
    """Returns of right, right, right and then stay, with an object three cells away that always returns."""
    level = level_from(
        DOUBLE,
        size=4,
        start=0,
        cells=(3,),
        reward=(1.0,),
        p_term=(p_term,),
        p_respawn=(1.0,),
        max_steps=steps,
    )
    everyone = grid.begin(level, workers)
    earned = torch.zeros(1, workers, dtype=DOUBLE)
    alive = torch.ones_like(earned, dtype=torch.bool)
    for t, luck in enumerate(grid.draw_luck(keys_from_seed(1, 1), level, steps, workers).by_step()):
        move = torch.full((1, workers), 3 if t < 3 else 4)
        everyone, step = grid.step(level, everyone, move, luck)
        earned = earned + alive * step.reward
        alive = alive & ~step.over
    assert not alive.any()
    return earned


@pytest.mark.parametrize(("steps", "collected"), [(3, 1), (4, 1), (10, 4), (11, 5)])
def test_b1_what_is_collected_without_an_end(steps: int, collected: int) -> None:
    assert corridor(0.0, steps, 3).tolist() == [[collected] * 3]


def test_b1_what_is_collected_on_average() -> None:
    expected = (1 - 0.7**5) / 0.3
    assert expected == pytest.approx(2.7731, abs=1e-4)
    assert abs(float(corridor(0.3, 11, 20_000).mean()) - expected) < 0.03


# B2: dynamic programming -----------------------------------------------------------------------

SHORT = find_levels({"base": "tiny", "max_steps": (5, 10)})


def errors(returns: Tensor) -> Tensor:
    """Standard errors of the mean, by level."""
    return returns.std(1) / math.sqrt(returns.shape[1])


def test_b2_the_optimum_is_above_any_policy_and_that_of_the_best() -> None:
    level = SHORT.draw(keys_from_seed(3, 20), DOUBLE)
    best = optimum(level, 10)
    for seed in range(10):
        table = 3 * normal(seed, 20, 5, level.states + 1)
        assert (policy_value(level, table, 10) <= best + 1e-12).all()
        if seed < 2:  # the exact value against episodes that were played
            played, _ = judge(level, table, keys_from_seed(seed, 20), 4_000, 10)
            exact = policy_value(level, table, 10)
            assert (played - exact).abs().max() < 0.06
    moves = best_policy(level, 10)  # (L, T, M, C)
    workers = 100_000 // 20
    rounds = []
    for part in range(20):
        everyone = grid.begin(level, workers)
        earned = torch.zeros(20, workers, dtype=DOUBLE)
        alive = torch.ones_like(earned, dtype=torch.bool)
        for t, luck in enumerate(grid.draw_luck(keys_from_seed(part, 20), level, 10, workers).by_step()):
            move = moves[:, t].flatten(1).gather(1, grid.index(level, everyone))
            everyone, step = grid.step(level, everyone, move, luck)
            earned = earned + alive * step.reward
            alive = alive & ~step.over
        rounds.append(earned)
    returns = torch.cat(rounds, 1)
    assert ((returns.mean(1) - best).abs() <= 4 * errors(returns) + 1e-12).all()


# The distribution of the minute-long discovery (section 6) -------------------------------------


def test_the_small_set_up_has_the_published_baselines() -> None:
    """A random policy 0.200 to 0.231, REINFORCE 0.647 to 0.685, the optimum 0.705: 512 levels."""
    levels, rows = LEVELS["tiny"], 512
    keys = keys_from_seed(0, rows)
    level = levels.draw(keys, DOUBLE)
    best = optimum(level, levels.longest)
    chance = policy_value(level, born(level, 1).actor, levels.longest)
    whole = torch.full((rows,), 30)
    lived = live(
        Reinforce(),
        torch.zeros(rows, 0, dtype=DOUBLE),
        level,
        whole,
        keys,
        workers=8,
        steps=10,
        most=30,
        longest=levels.longest,
        optimiser=Optimiser(),
    )
    assert float(best.mean()) == pytest.approx(0.705, abs=0.04)
    assert float(chance.mean()) == pytest.approx(0.21, abs=0.03)
    assert float(lived.fitness.mean()) == pytest.approx(0.66, abs=0.05)
    exact = policy_value(level, lived.learner.actor, levels.longest)
    assert float(lived.fitness.mean() - exact.mean()) == pytest.approx(0, abs=0.02)
    assert (exact <= best + 1e-9).all()
    assert LPG(4, 4, 8, timed=True).size == 454 and LPG(4, 4, 8).size == 406
    assert int(log_integer(keys, "life", levels.lifetime).max()) <= 30

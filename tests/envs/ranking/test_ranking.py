"""The ranking oracle: what is shown and named, what is billed, whose recommendation is judged."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import InvalidAction
from torch import Tensor

import optenvs
from optenvs.core.env import OptimizationEnv, State
from optenvs.core.random import keys_from_seed
from optenvs.envs.landscapes.classic import Rastrigin

KEYS = keys_from_seed(0, 3)
LINE = torch.tensor([[3.0, 0.0], [1.0, 0.0], [0.5, 0.0], [2.0, 0.0]])  # by value: 2, 1, 3, 0


def ranking(**keywords: Any) -> OptimizationEnv:
    square = {"objective": Rastrigin(dim=2, amplitude=0.0), "shown": 4, "tolerance": None}
    return optenvs.make("Ranking", **(square | keywords))


def query(count: int, keep: int, points: Tensor = LINE, stands: Tensor | None = None) -> dict[str, Tensor]:
    batch = len(KEYS)
    stands = torch.tensor([0.1, 0.2]) if stands is None else stands
    return {
        "query": points.expand(batch, *points.shape),
        "count": torch.full((batch, 1), count),
        "keep": torch.full((batch, 1), keep),
        "recommendation": stands.expand(batch, 2),
    }


def asked(env: OptimizationEnv, action: Any) -> State:
    return env.step(env.reset(KEYS), action)


@pytest.mark.parametrize(
    ("count", "keep", "order"),
    [(4, 4, [2, 1, 3, 0]), (4, 1, [2, -1, -1, -1]), (2, 2, [1, 0, -1, -1]), (3, 2, [2, 1, -1, -1]),
     (2, 4, [1, 0, -1, -1]), (1, 1, [0, -1, -1, -1])],
)  # fmt: skip
def test_so_many_are_shown_and_so_many_named(count: int, keep: int, order: list[int]) -> None:
    state = asked(ranking(), query(count, keep))
    assert state.observation["order"].tolist() == [order] * 3
    assert state.calls["points"].tolist() == [1 + count] * 3
    assert state.calls["ranking"].tolist() == [2] * 3
    least = float((LINE[:count, 0] ** 2).min())
    assert torch.equal(state.metrics["best_shown"], torch.full((3,), least).minimum(first_value()))


def first_value() -> Tensor:
    return ranking().reset(KEYS).metrics["value"]


def test_the_first_query_shows_the_start_alone() -> None:
    for recommend in ("agent", "top"):
        state = ranking(recommend=recommend).reset(KEYS)
        assert state.observation["order"].tolist() == [[0, -1, -1, -1]] * 3
        assert state.calls["points"].tolist() == [1] * 3
        assert torch.equal(state.metrics["best_shown"], state.metrics["value"])


def test_the_agents_recommendation_is_judged_or_the_one_ranked_first() -> None:
    state = asked(ranking(), query(4, 4))
    assert torch.allclose(state.merit, torch.full((3,), 0.05))
    top = asked(ranking(recommend="top", ranked=1), LINE.expand(3, 4, 2))
    assert torch.allclose(top.merit, torch.full((3,), 0.25))
    assert top.observation["order"].tolist() == [[2]] * 3
    assert top.calls["points"].tolist() == [5] * 3


def test_a_mistaken_judge_may_recommend_worse() -> None:
    env = ranking(recommend="top", noise="thurstone", noise_scale=1e3)
    state = env.step(env.reset(keys_from_seed(0, 200)), LINE.expand(200, 4, 2))
    assert len(state.merit.unique()) == 4


def test_what_is_no_number_is_never_best() -> None:
    points = LINE.clone()
    points[2] = torch.nan
    state = asked(ranking(), query(4, 4, points))
    assert state.observation["order"].tolist() == [[1, 3, 0, 2]] * 3
    assert state.metrics["best_shown"].isfinite().all()
    shown = asked(ranking(recommend="top"), torch.full((3, 4, 2), torch.nan))
    assert shown.diverged.all()


def test_the_budget_counts_the_points_shown() -> None:
    env = ranking(budget=7)
    state = asked(env, query(4, 1))
    assert not state.truncated.any()
    assert env.step(state, query(2, 1)).truncated.all()


def test_values_stay_hidden() -> None:
    state = asked(ranking(reward="none"), query(4, 4))
    assert sorted(state.observation) == ["N", "k", "order", "point", "spent"]
    assert not state.observation["order"].is_floating_point()
    assert (state.reward == 0).all()


def test_two_queries_of_one_order_look_alike() -> None:
    # the same points, on a function ten thousand times as steep
    steep = optenvs.from_function(lambda x: 1e4 * x.square().sum(-1), dim=2, batched=True)
    one = asked(ranking(reward="none", start_std=1.0), query(4, 4))
    other = asked(ranking(objective=steep, reward="none", start_std=1.0), query(4, 4))
    for name, value in one.observation.items():
        assert torch.equal(value, other.observation[name])
    assert not torch.equal(one.merit, other.merit)


def test_a_gaussian_start() -> None:
    env = ranking(start_std=2.0)
    start = env.reset(keys_from_seed(0, 20_000)).observation["point"][:, 0]
    assert float(start.std()) == pytest.approx(2.0, rel=0.03)
    bounded = ranking(objective=Rastrigin(dim=2, bounds=(-1.0, 1.0)), start_std=2.0)
    assert float(bounded.reset(keys_from_seed(0, 50)).observation["point"].abs().max()) == 1.0


@pytest.mark.parametrize(
    ("message", "keywords"),
    [
        ("ranked: expected at most the 4 points shown, got 5", {"ranked": 5}),
        ("ranked: expected a whole number >= 1, got 0", {"ranked": 0}),
        ("shown: expected a whole number >= 2, got 1", {"shown": 1}),
        ("shown: expected a whole number >= 2, got True", {"shown": True}),
        ("recommend: expected agent or top, got 'best'", {"recommend": "best"}),
        ("noise: expected one of none, thurstone", {"noise": "gauss"}),
        ("start_std: expected a number >= 0 or None, got -1", {"start_std": -1.0}),
        ("objective: expected one without noise", {"objective": Rastrigin(dim=2, noise=0.1)}),
    ],
)
def test_it_says_what_is_wrong(message: str, keywords: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=message):
        ranking(**keywords)


def test_an_objective_that_is_none() -> None:
    with pytest.raises(TypeError, match="objective: expected a Landscape"):
        ranking(objective=3)


@pytest.mark.parametrize(("field", "value"), [("count", 5), ("count", 0), ("keep", 0), ("keep", 3)])
def test_a_query_that_shows_or_names_too_many_is_invalid(field: str, value: int) -> None:
    square = {"objective": "Rastrigin", "dim": 2, "shown": 4, "ranked": 2}
    env = gym.make("optenvs/Ranking-v0", **square)
    env.reset(seed=0)
    action = {
        "query": LINE.numpy(),
        "count": np.array([4]),
        "keep": np.array([2]),
        "recommendation": np.ones(2, np.float32),
    }
    env.step(action)
    with pytest.raises(InvalidAction, match=field):
        env.step(action | {field: np.array([value])})

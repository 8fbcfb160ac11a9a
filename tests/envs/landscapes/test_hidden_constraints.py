"""Landscapes that have no value somewhere: an episode's end, or a constraint that an answer shows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import agents
import optenvs
from optenvs.core import keys_from_seed


def root(x: Tensor) -> Tensor:
    """Has no value where x[0] < -1; its minimum is on that edge, at (-1, 0)."""
    return (x[0] + 1.0).sqrt() + x[1] ** 2


def made(nan: str, **keywords: Any) -> Any:
    keywords = {"start": (1.0, 1.0), **keywords}
    return optenvs.from_function(root, dim=2, minimum=0.0, bounds=(-4.0, 4.0), nan=nan, **keywords)


def test_a_value_that_is_no_number_ends_the_episode_or_is_a_constraint() -> None:
    outside = torch.tensor([[-2.0, 0.0]])
    keys = keys_from_seed(0, 1)
    env = made("diverge")
    assert env.step(env.reset(keys), outside).diverged.item()
    env = made("infeasible")
    before = env.reset(keys)
    after = env.step(before, outside)
    assert not after.diverged.item() and not after.done.item() and after.reward.item() == 0
    assert after.observation["value"].item() == float("inf")
    assert after.observation["gradient"].tolist() == [[0.0, 0.0]] and after.metrics["gap"].item() == float(
        "inf"
    )
    assert torch.equal(after.best, before.best) and after.calls["value"].item() == 2
    back = env.step(after, torch.tensor([[0.0, 0.0]]))
    assert back.reward.item() == pytest.approx(before.best.item() - 1.0)


def test_a_start_that_is_infeasible_earns_no_infinite_reward() -> None:
    for reward in ("improvement", "negative_value", "log_improvement"):
        env = made("infeasible", reward=reward).replace(start=(-3.0, 0.0))
        state = env.reset(keys_from_seed(0, 2))
        assert not state.diverged.any() and state.reward.tolist() == [0, 0]
        state = env.step(state, torch.zeros(2, 2))
        assert state.reward.isfinite().all() and state.best.tolist() == [1.0, 1.0]


def test_a_direct_search_finds_the_edge() -> None:
    env = optenvs.make(
        "Particles", landscape=made("infeasible", start=None), particles=50, recommend="best", budget=10_000
    )
    run = optenvs.rollout(env, agents.PSO(), batch=4)
    assert not run.diverged.any() and (run.best[-1] < 0.1).all()
    assert not optenvs.rollout(made("infeasible"), agents.SGD(lr=0.5), batch=3, steps=30).diverged.any()


def test_the_menu_knows_them_too() -> None:
    env = made("infeasible", oracle="hessian")
    before = env.reset(keys_from_seed(0, 1))
    want = torch.ones_like(env.sample(keys_from_seed(0, 1)).start["want"])
    places = {"point": torch.tensor([[-2.0, 0.0]]), "vector": torch.ones(1, 2)}
    after = env.step(before, {**places, "want": want})
    assert not after.diverged.item() and after.observation["value"].item() == float("inf")
    assert after.observation["hessian"].abs().sum() == 0
    with pytest.raises(ValueError, match="nan: expected one of diverge, infeasible, got 'ignore'"):
        optenvs.make("Rosenbrock", nan="ignore")


def test_a_hidden_constraint_keeps_the_contract() -> None:
    assert optenvs.check(optenvs.make("Rosenbrock", nan="infeasible"), steps=2).ok  # far outside it overflows

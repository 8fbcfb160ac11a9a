"""What may stand where a problem is wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import pytest
import torch
from gymnasium.wrappers import FlattenObservation, TimeLimit
from torch.utils import _pytree

import agents
import optenvs
from optenvs.core.problems import as_problem
from optenvs.wrappers import Wrapper

ID = "optenvs/Quadratic-v0"
BOX: dict[str, Any] = {"dim": 2, "bounds": (-4.0, 4.0)}
MADE: dict[str, Callable[[], Any]] = {
    "core": lambda: optenvs.make(ID, **BOX),
    "gym.make": lambda: gym.make(ID, **BOX),
    "gym.make unwrapped": lambda: gym.make(ID, **BOX).unwrapped,
    "make_vec": lambda: gym.make_vec(ID, 3, **BOX),
    "numpy": lambda: gym.make_vec(ID, 3, to="numpy", **BOX),
    "sb3": lambda: optenvs.make_sb3(ID, 3, **BOX),
}
TAKERS: dict[str, Callable[[Any], Any]] = {
    "rollout": lambda env: optenvs.rollout(env, agents.SGD(), steps=2).state.problem.lower.shape[1],
    "unroll": lambda env: optenvs.unroll(env, agents.SGD(), steps=2).state.problem.lower.shape[1],
    "windows": lambda env: next(
        optenvs.unroll_windows(env, agents.SGD(), steps=2, truncation=1)
    ).state.problem.lower.shape[1],
    "as_function": lambda env: len(optenvs.as_function(env).start),
    "make_sb3": lambda env: optenvs.make_sb3(env, 2).action_space.shape[0],
    "Wrapper": lambda env: optenvs.rollout(Wrapper(env), agents.SGD(), steps=2).state.problem.lower.shape[1],
    "GymEnv": lambda env: optenvs.GymEnv(env).action_space.shape[0],  # type: ignore[index]
    "TorchVectorEnv": lambda env: optenvs.TorchVectorEnv(env, 2).single_action_space.shape[0],  # type: ignore[index]
}


@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize("taker", TAKERS)
def test_what_was_made_is_taken(taker: str, made: str) -> None:
    assert TAKERS[taker](MADE[made]()) == 2


@pytest.mark.parametrize("taker", TAKERS)
def test_ids_are_taken(taker: str) -> None:
    assert TAKERS[taker]("Quadratic") == 10


def test_the_run_is_that_of_the_problem() -> None:
    runs = [optenvs.rollout(MADE[name](), agents.SGD(), seed=3, steps=5) for name in MADE]
    for run in runs[1:]:
        assert torch.equal(run.merit, runs[0].merit)


def test_checks_and_faces_of_many_agents() -> None:
    assert optenvs.check(gym.make(ID, dim=2)).ok
    many = optenvs.parallel_env("NetworkQuadratic", nodes=3)
    assert optenvs.aec_env(many).possible_agents == many.possible_agents
    assert as_problem(many) is many.core


@pytest.mark.parametrize("taker", TAKERS)
def test_anything_else_says_what_to_give(taker: str) -> None:
    for wrong in (None, 3, object(), agents.SGD(), gym.make("CartPole-v1")):
        with pytest.raises(
            TypeError, match=r"expected a problem .* an id, or an environment of optenvs|is around"
        ):
            TAKERS[taker](wrong)


def test_what_the_problem_inside_does_not_have() -> None:
    for env, word in (
        (TimeLimit(gym.make(ID), 3), "TimeLimit is around"),
        (FlattenObservation(gym.make(ID)), "FlattenObservation is around"),
        (gym.make_vec(ID, 2, max_episode_steps=3), "max_episode_steps=3 is not the problem's own"),
        (optenvs.parallel_env("NetworkQuadratic", max_cycles=3), "max_cycles=3"),
    ):
        with pytest.raises(TypeError, match=word):
            as_problem(env)


def test_a_missing_metric_says_which_there_are() -> None:
    run = optenvs.rollout("Quadratic", agents.SGD(), steps=2, record=("point",))
    with pytest.raises(KeyError, match="no 'gpa'; there are value, gap"):
        run.metrics["gpa"]
    with pytest.raises(KeyError, match="no 'gradient'; there are point"):
        run.recorded["gradient"]
    with pytest.raises(KeyError, match="no 'gpa'; there are value, gap"):
        optenvs.as_function("Quadratic").metrics["gpa"]
    mapped = _pytree.tree_map(lambda x: x, run)
    assert {*mapped.metrics} == {*run.metrics} and torch.equal(mapped.metrics["gap"], run.metrics["gap"])

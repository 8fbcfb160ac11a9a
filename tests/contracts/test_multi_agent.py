"""What every registered environment of many agents is held to, through PettingZoo's faces."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gossip import zoo_tests
from gymnasium import spaces
from pettingzoo.test import (
    api_test,
    max_cycles_test,
    parallel_api_test,
    parallel_seed_test,
    render_test,
    seed_test,
)

import optenvs
from optenvs.core.snapshot import load, save
from optenvs.core.struct import replace, tree_map

MANY = optenvs.list_envs(multi_agent=True)
SMALL: dict[str, dict[str, Any]] = {
    "bilevel": {"clients": 4, "widths": (3,), "solve_steps": 2},
    "grokking": {"group": "Z7", "nodes": 3, "tolerance": None, "budget": 75},
    "network": {"nodes": 4, "t_max": 20.0},
    "particles": {"particles": 5},
}
"""Keywords that make the problems of a family small."""
TURNS = 60


class Problem:
    """A registered environment of many agents: it makes its faces."""

    def __init__(self, env_id: str) -> None:
        self.id = env_id
        self.family = next(f for f in SMALL if env_id in optenvs.list_envs(f))

    def env(self, **options: Any) -> Any:
        return optenvs.aec_env(self.id, **SMALL[self.family], **options)

    def parallel_env(self, **options: Any) -> Any:
        return optenvs.parallel_env(self.id, **SMALL[self.family], **options)


@pytest.fixture(params=MANY)
def problem(request: pytest.FixtureRequest) -> Problem:
    """Each registered environment of many agents in turn."""
    return Problem(request.param)


def test_there_are_some() -> None:
    assert {Problem(env_id).family for env_id in MANY} == set(SMALL)


def test_pettingzoos_tests_of_turns(problem: Problem) -> None:
    with zoo_tests():
        api_test(problem.env(), num_cycles=20)
        seed_test(problem.env, num_cycles=20)


def test_pettingzoos_tests_of_the_parallel_face(problem: Problem) -> None:
    with zoo_tests():
        parallel_api_test(problem.parallel_env(), num_cycles=20)
        parallel_seed_test(problem.parallel_env, num_cycles=20)


def test_pettingzoos_tests_of_cycles_and_pictures(problem: Problem) -> None:
    with zoo_tests():
        max_cycles_test(SimpleNamespace(env=problem.env, parallel_env=problem.parallel_env))
        if problem.id == optenvs.list_envs(problem.family, multi_agent=True)[0]:  # a family has one picture
            render_test(problem.env)


def drawn(space: spaces.Space, rng: np.random.Generator) -> Any:
    """A random action that lies well inside of its space."""
    if isinstance(space, spaces.Dict):
        return {name: drawn(part, rng) for name, part in space.items()}
    assert isinstance(space, spaces.Box) and space.dtype is not None
    if space.dtype.kind == "f":
        return np.clip(rng.normal(size=space.shape), space.low, space.high).astype(space.dtype)
    return rng.integers(space.low, space.high, endpoint=True, dtype=space.dtype.type)


def other(action: Any, space: spaces.Space) -> Any:
    """Another action of the same space; whole numbers stay, because they choose what is done."""
    if isinstance(space, spaces.Dict):
        return {name: other(action[name], part) for name, part in space.items()}
    assert isinstance(space, spaces.Box)
    return (
        np.clip(action + 0.5, space.low, space.high).astype(space.dtype)
        if action.dtype.kind == "f"
        else action
    )


def views(env: Any) -> dict[str, dict[str, np.ndarray]]:
    return {name: env.observe(name) for name in env.possible_agents}


def differing(here: dict[str, np.ndarray], there: dict[str, np.ndarray]) -> set[str]:
    return {name for name in here if not np.array_equal(here[name], there[name], equal_nan=True)}


def test_an_agent_sees_nothing_that_another_has_not_told_it(problem: Problem) -> None:
    """Two runs of one episode that differ in what agent 1 says, and in nothing else."""
    env, twin, rng = problem.env(), problem.env(), np.random.default_rng(0)
    env.reset(seed=0)
    twin.reset(seed=0)
    told, heard_from = False, dict.fromkeys(env.agents, "")
    for _ in range(TURNS):
        assert env.agent_selection == twin.agent_selection
        here, there = views(env), views(twin)
        for i, name in enumerate(env.agents):
            for field in differing(here[name], there[name]):
                assert here[name][field].shape == there[name][field].shape
                if field.startswith("all_"):  # public: the row of who said it
                    changed = (here[name][field] != there[name][field]).reshape(len(env.agents), -1).any(1)
                    assert changed.tolist() == [j == 1 for j in range(len(env.agents))]
                elif field != "mean" and i != 1:  # the mean is what the server tells all clients
                    assert field == "message" and heard_from[name] == env.agents[1], (name, field)
                told |= i != 1
        agent = env.agent_selection
        action = drawn(env.action_space(agent), rng)
        announced = {n: view for n, view in here.items() if "event" in view and view["event"][0] > 0}
        k = int(env.get_state().state.k)
        env.step(action)
        twin.step(other(action, env.action_space(agent)) if agent == env.agents[1] else action)
        if int(env.get_state().state.k) > k:
            partners = {n: env.possible_agents[int(v["peer"][0])] for n, v in announced.items()}
            heard_from = {name: partners.get(name, "") for name in env.possible_agents}
    assert told, "what agent 1 says is heard by somebody"


@pytest.mark.parametrize("env_id", optenvs.list_envs("network"))
def test_a_nodes_data_are_its_own(env_id: str) -> None:
    """Two runs with the same actions that differ in the function of node 1: nobody else sees it."""
    problem, rng = Problem(env_id), np.random.default_rng(0)
    env, twin = problem.env(), problem.env()
    env.reset(seed=0)
    twin.reset(seed=0)
    forked = twin.get_state()
    hidden = forked.state.hidden
    nodes = len(env.agents)

    def changed(leaf: torch.Tensor) -> torch.Tensor:
        if leaf.ndim < 2 or leaf.shape[1] != nodes or not leaf.is_floating_point():
            return leaf
        row = (torch.arange(nodes) == 1).view(1, nodes, *[1] * (leaf.ndim - 2))
        return torch.where(row, leaf * 1.5 + 0.1, leaf)

    functions = hidden.functions
    functions = replace(functions, data=tree_map(changed, functions.data))
    twin.set_state(replace(forked, state=replace(forked.state, hidden=replace(hidden, functions=functions))))
    own = 0
    for _ in range(TURNS):
        assert env.agent_selection == twin.agent_selection
        here, there = views(env), views(twin)
        for i, name in enumerate(env.agents):
            different = differing(here[name], there[name])
            assert different <= ({"gradient"} if i == 1 else set()), name
            own += len(different)
        action = drawn(env.action_space(env.agent_selection), rng)
        env.step(action)
        twin.step(action)
    assert own > 0, "node 1 sees its own gradient"


def test_an_episode_is_forked_in_the_midst_of_its_turns(problem: Problem, tmp_path: Path) -> None:
    env, fork, rng = problem.env(), problem.env(), np.random.default_rng(0)
    env.reset(seed=1)
    space = env.action_space(env.agents[0])
    for _ in range(13):
        env.step(drawn(space, rng))
    fork.set_state(load(save(tmp_path / "face", env.get_state())))
    for _ in range(20):
        assert env.agent_selection == fork.agent_selection
        here, there = views(env), views(fork)
        assert not any(differing(here[name], there[name]) for name in here)
        assert env.last(observe=False)[1:4] == fork.last(observe=False)[1:4]
        assert np.array_equal(env.state(), fork.state())
        action = drawn(space, rng)
        env.step(action)
        fork.step(action)


def test_the_parallel_face_is_the_core(problem: Problem) -> None:
    face, rng = problem.parallel_env(), np.random.default_rng(0)
    core = face.core
    shown, _ = face.reset(seed=2)
    state = face.get_state().state
    for _ in range(4):
        for i, name in enumerate(face.agents):
            assert shown[name] in face.observation_space(name)
            for field in core.agent_observation_fields():
                assert np.array_equal(shown[name][field], state.observation[field][0, i].numpy()), field
        actions = {name: drawn(face.action_space(name), rng) for name in face.agents}
        first = actions[face.agents[0]]
        if isinstance(first, dict):
            rows = {f: np.stack([action[f] for action in actions.values()]) for f in first}
            query: Any = {
                f: torch.from_numpy(v.mean(0) if f in core.team_action_fields() else v)[None]
                for f, v in rows.items()
            }
        else:
            query = torch.from_numpy(np.stack(list(actions.values())))[None]
        shown, rewards, *_ = face.step(actions)
        state, before = face.get_state().state, state
        after = core.step(before, query)
        assert float(after.merit) == pytest.approx(float(state.merit), rel=1e-5)
        assert set(rewards.values()) == {state.reward.item()}

"""Rules that hold on every face."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from every_face import FACES, POINT, Face
from gymnasium.error import InvalidAction, ResetNeeded

import agents
import optenvs
from optenvs.core.random import keys_from_seed

NO_SEED = {"text": "3", "fraction": 1.5, "negative": -1, "large": 2**63, "larger": 2**64, "bool": True}
NO_SEED |= {"numpy's fraction": np.float64(3), "bytes": b"3", "numpy's bool": np.True_}
SEEDS = [0, 3, 2**32 + 1, 2**63 - 1]


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> Face:
    return FACES[request.param]


@pytest.mark.parametrize("bad", NO_SEED)
def test_what_is_no_seed(face: Face, bad: str) -> None:
    env = face.make()
    with pytest.raises(ValueError, match=r"seed: expected a whole number in \[0, 2\*\*63\), got"):
        face.reset(env, seed=NO_SEED[bad])


@pytest.mark.parametrize("kind", [int, np.int64, np.uint64])
def test_seeds_name_the_same_instances(face: Face, kind: type) -> None:
    env, keys = face.make(), []
    for seed in SEEDS:
        keys = face.reset(env, seed=kind(seed))
        assert keys == keys_from_seed(seed, len(keys)).tolist()
    assert face.reset(env, seed=np.int8(3)) == keys_from_seed(3, len(keys)).tolist()
    assert len(face.reset(env, seed=None)) == len(keys), "no seed is the next episode"


CALLS = {
    "rollout": lambda seed: optenvs.rollout(optenvs.make("Quadratic"), agents.SGD(), seed=seed, steps=1),
    "unroll": lambda seed: optenvs.unroll(optenvs.make("Quadratic"), agents.SGD(), seed=seed, steps=1),
    "as_function": lambda seed: optenvs.as_function("Quadratic", seed=seed),
    "check": lambda seed: optenvs.check(optenvs.make("Quadratic"), seed=seed),
    "learned": lambda seed: agents.make("lstm_optimizer", seed=seed),
}


@pytest.mark.parametrize("bad", NO_SEED)
@pytest.mark.parametrize("call", CALLS)
def test_functions_have_the_same_rule(call: str, bad: str) -> None:
    with pytest.raises(Exception, match=r"seed: expected a whole number in \[0, 2\*\*63\), got"):
        CALLS[call](NO_SEED[bad])


def test_functions_take_numpys_seeds() -> None:
    for call in ("rollout", "unroll"):
        assert torch.equal(CALLS[call](np.int64(3)).state.key, keys_from_seed(3, 1))
    assert torch.equal(CALLS["as_function"](np.uint64(3)).state.key, keys_from_seed(3, 1))


@pytest.mark.parametrize("bad", [1.5, "5", True, 2**63, -(2**63) - 1, np.uint64(2**63), torch.tensor(0.5)])
def test_what_is_no_instance(face: Face, bad: Any) -> None:
    with pytest.raises(ValueError, match="instance: expected a whole number of 64 bits"):
        face.reset(face.make(), options={"instance": bad})


@pytest.mark.parametrize("key", [5, -(2**63), np.int64(5), torch.tensor(5), np.array(5)])
def test_instances_by_key(face: Face, key: Any) -> None:
    keys = face.reset(face.make(), options={"instance": key})
    assert keys == [int(key)] * len(keys)


def test_other_options_are_left_to_wrappers(face: Face) -> None:
    keys = face.reset(face.make(), seed=3, options={"of a wrapper": 1})
    assert keys == keys_from_seed(3, len(keys)).tolist()


def test_nothing_works_before_a_reset(face: Face) -> None:
    for options in ({}, {"render_mode": "rgb_array"}):
        env = face.make(**options)
        with pytest.raises(ResetNeeded, match="reset"):
            env.render()
        with pytest.raises(ResetNeeded, match="reset"):
            face.step(env, face.query)
        base = getattr(env, "unwrapped", env)
        for name in ("last", "agent_iter", "state", "get_state"):
            if hasattr(type(base), name):  # those that this kind of face has
                with pytest.raises(ResetNeeded, match="reset"):
                    getattr(base, name)()
        face.reset(env, seed=0)
        face.step(env, face.query)


def _graph() -> torch.Tensor:
    return torch.zeros(2, requires_grad=True)


NO_QUERY: dict[str, tuple[Any, str]] = {
    "sparse": (torch.zeros(2).to_sparse(), "expected a dense tensor"),
    "bool": (np.array([True, False]), "dtype bool is no number"),
    "bool tensor": (torch.tensor([True, False]), "torch.bool cannot be cast"),
    "bools": ([True, False], "dtype bool is no number"),
    "masked": (np.ma.masked_array(np.zeros(2, np.float32), [False, True]), "1 of its 2 entries are masked"),
    "far too large": (np.broadcast_to(np.float32(0), (10**9, 10)), "expected shape"),
    "complex": (np.zeros(2, complex), "dtype complex128 is no number"),
    "NaN": (np.array([0.0, np.nan], np.float32), r"nan at index 1 \(1 of 2 entries are wrong\)"),
}


def _of_one(query: Any, wrong: Any) -> Any:
    return query | {"message": wrong} if isinstance(query, dict) else wrong


@pytest.mark.parametrize("bad", NO_QUERY)
def test_what_is_no_query(bad: str) -> None:
    wrong, message = NO_QUERY[bad]
    for name in ("single", "gym.make", "parallel", "aec"):
        face = FACES[name]
        env = face.make()
        face.reset(env, seed=0)
        state = getattr(env, "unwrapped", env).get_state().state
        query = _of_one(face.query, wrong)
        if name == "parallel":  # of one agent among others
            query = dict.fromkeys(env.possible_agents, face.query) | {"node_1": query}
        with pytest.raises(InvalidAction, match=message):
            getattr(env, "unwrapped", env).step(query)
        assert getattr(env, "unwrapped", env).get_state().state is state


BATCHES: dict[str, tuple[Any, str]] = {
    "sparse": (torch.zeros(2, 2).to_sparse(), "expected a dense tensor"),
    "bool": (np.zeros((2, 2), bool), "dtype bool is no number"),
    "masked": (np.ma.masked_array(np.zeros((2, 2)), np.eye(2, dtype=bool)), "2 of its 4 entries are masked"),
    "far too large": (np.broadcast_to(np.float32(0), (10**9, 10)), "expected shape"),
    "list with a graph": ([_graph(), _graph()], "cannot be cast"),
    "fields": ({1: 0.0, None: 0.0, "point": 0.0}, "action: "),
    "infinite": (np.array([[0.0, 0.0], [np.inf, 0.0]]), "inf at index 0 .* for instance 1"),
}


@pytest.mark.parametrize("bad", BATCHES)
@pytest.mark.parametrize("name", ["vector", "numpy vector", "sb3"])
def test_what_is_no_query_of_a_batch(name: str, bad: str) -> None:
    env = FACES[name].make()
    FACES[name].reset(env, seed=0)
    state = env.get_state()
    with pytest.raises(InvalidAction, match=BATCHES[bad][1]):
        env.step(BATCHES[bad][0])
    assert env.get_state() is state


def test_odd_names_of_fields() -> None:
    env = optenvs.GymEnv(optenvs.make("Quadratic", dim=2, oracle="hvp"))
    env.reset(seed=0)
    with pytest.raises(InvalidAction, match=r"expected a dict with .* got \['1', 'None', 'point'\]"):
        env.step({1: POINT, None: POINT, "point": POINT})


def test_a_graph_ends_at_a_face() -> None:
    for name in ("single", "parallel", "aec"):
        face = FACES[name]
        env = face.make()
        face.reset(env, seed=0)
        face.step(env, _of_one(face.query, _graph()))
        assert not env.get_state().state.observation["point"].requires_grad


def test_flat_infos_have_one_level_of_numbers(face: Face) -> None:
    nested, flat = face.make(), face.make(info="flat")
    assert face.reset(nested, seed=0) == face.reset(flat, seed=0)
    compared = 0
    for _ in range(4):  # a budget of five, so that Stable-Baselines3's infos say how it ended, too
        for deep, level in zip(face.step(nested, face.query), face.step(flat, face.query), strict=True):
            expected = {f"calls_{kind}": count for kind, count in deep.get("calls", {}).items()}
            expected |= {f"metrics_{name}": value for name, value in deep.get("metrics", {}).items()}
            expected |= {name: value for name, value in deep.items() if name not in ("calls", "metrics")}
            assert {k: v for k, v in level.items() if k != "terminal_observation"} == {
                k: v for k, v in expected.items() if k != "terminal_observation"
            }
            compared += "calls" in deep
    assert compared
    with pytest.raises(ValueError, match="info: expected one of 'nested', 'flat', got 'dict'"):
        face.make(info="dict")

"""PettingZoo's parallel face."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gossip import MODES, Facts, Gossip, Own, zoo_tests
from gymnasium import spaces
from gymnasium.error import InvalidAction, ResetNeeded
from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test
from pettingzoo.utils import parallel_to_aec

import optenvs
from optenvs.core.random import keys_from_seed
from optenvs.core.snapshot import load, save
from optenvs.core.struct import tensors
from optenvs.faces.parallel import ParallelFace
from optenvs.faces.single import FaceState


def made(max_cycles: int | None = None, **keywords: Any) -> ParallelFace:
    return optenvs.parallel_env(Gossip(**{"budget": 40, **keywords}), max_cycles=max_cycles)


def same(one: Any, other: Any) -> bool:
    """Whether two nested dicts of arrays and numbers are equal, bit for bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    return np.array_equal(one, other)


def sampled(env: ParallelFace, rng: np.random.Generator, scale: float = 1.0) -> dict[str, Any]:
    """One random action an agent."""
    space = env.action_space(env.agents[0])
    assert isinstance(space, spaces.Dict)
    return {
        name: {
            field: (scale * rng.normal(size=part.shape)).astype(part.dtype) for field, part in space.items()
        }
        for name in env.agents
    }


@pytest.mark.parametrize("mode", MODES)
def test_pettingzoos_tests(mode: str) -> None:
    with zoo_tests():
        parallel_api_test(made(**MODES[mode]), num_cycles=50)
        parallel_seed_test(lambda: made(**MODES[mode]), num_cycles=50)
        api_test(parallel_to_aec(made(**MODES[mode])), num_cycles=20)


@pytest.mark.parametrize("mode", MODES)
def test_it_is_the_core_row_by_row(mode: str) -> None:
    env, rng = made(**MODES[mode]), np.random.default_rng(0)
    core = env.core
    shown, infos = env.reset(seed=5)
    state = core.reset(keys_from_seed(5, 1))
    assert env.agents == [f"node_{i}" for i in range(5)] == list(shown) == list(infos)
    for t in range(6):
        for i, name in enumerate(env.agents):
            assert shown[name] in env.observation_space(name)
            for field in core.agent_observation_fields():
                assert np.array_equal(shown[name][field], state.observation[field][0, i].numpy()), field
            for field in core.common:
                assert np.array_equal(shown[name][field], state.observation[field][0].numpy()), field
            for field in core.public:
                assert np.array_equal(shown[name][f"all_{field}"], state.observation[field][0].numpy())
            assert infos[name]["calls"] == {"gradient": t + 1}
            assert infos[name]["metrics"] == {"outside": 0.0, "value": float(state.merit)}
            assert infos[name]["key"] == int(state.key)
        actions = sampled(env, rng)
        query = {
            field: torch.from_numpy(np.stack([a[field] for a in actions.values()]))[None]
            for field in ("query", "message")
        }
        if core.shared:
            said = np.stack([a["recommendation"] for a in actions.values()])
            query["recommendation"] = torch.from_numpy(said.astype(np.float64).mean(0)[None]).float()
        state = core.step(state, query)
        shown, rewards, terminations, truncations, infos = env.step(actions)
        assert rewards == dict.fromkeys(env.agents, float(state.reward))
        assert terminations == truncations == dict.fromkeys(env.agents, False)


def test_rows_are_the_callers_and_what_all_see_is_one_array() -> None:
    env = made(shared=True)
    shown, infos = env.reset(seed=0)
    before = env.get_state().state.observation
    kept = {name: value.clone() for name, value in before.items()}
    one, other = shown["node_0"], shown["node_1"]
    untouched = other["point"].copy()
    one["point"][:] = 7
    assert np.array_equal(other["point"], untouched)
    assert all(torch.equal(before[name], kept[name]) for name in kept)
    for field in ("all_message", "k", "N"):
        assert one[field] is other[field]
        with pytest.raises(ValueError, match="read-only"):
            one[field][:] = 7
    infos["node_0"]["mine"] = 1
    assert "mine" not in infos["node_1"]
    assert infos["node_0"]["metrics"] is infos["node_1"]["metrics"]
    action = sampled(env, np.random.default_rng(0))
    env.step(action)
    asked = env.get_state().state.observation["point"].clone()
    action["node_0"]["query"][:] = 9
    assert torch.equal(env.get_state().state.observation["point"], asked)


def test_an_action_that_is_no_dict() -> None:
    env = optenvs.parallel_env("Particles", landscape="Rastrigin", particles=4, recommend="best", budget=100)
    shown, _ = env.reset(seed=0)
    assert isinstance(env.action_space("particle_0"), spaces.Box)
    env.step({name: shown[name]["point"] / 2 for name in env.agents})
    points = env.get_state().state.observation["point"][0].numpy()
    assert np.array_equal(points, np.stack([view["point"] for view in shown.values()]) / 2)
    with pytest.raises(InvalidAction, match=r"particle_2: action: expected shape \(2,\), got \(3,\)"):
        env.step({name: np.zeros(2 + (name == "particle_2")) for name in env.agents})


def test_actions_of_other_forms_mean_the_same() -> None:
    env = made(**MODES["a team's rounds"])
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    start, actions = env.get_state(), sampled(env, rng)
    expected = env.step(actions)
    forms: list[Any] = [lambda a: a.tolist(), np.float64, torch.from_numpy]
    for form in forms:
        env.set_state(start)
        found = env.step({n: {f: form(v) for f, v in a.items()} for n, a in actions.items()})
        assert same(found[0], expected[0]) and found[1] == expected[1]
    env.set_state(start)
    mixed = {n: {f: forms[i % 3](v) for f, v in a.items()} for i, (n, a) in enumerate(actions.items())}
    assert same(env.step(mixed)[0], expected[0])


GOOD = np.zeros(2, np.float32)
BAD: dict[str, tuple[Any, str]] = {
    "shape": ({"query": np.zeros(3), "message": GOOD}, r"node_3: query: expected shape \(2,\), got \(3,\)"),
    "a row too many": ({"query": np.zeros((1, 2)), "message": GOOD}, r"node_3: query: expected shape"),
    "NaN": ({"query": GOOD, "message": [np.nan, 0]}, r"node_3: message: expected finite numbers"),
    "infinite": ({"query": GOOD, "message": [0, np.inf]}, r"node_3: message: expected finite numbers"),
    "outside": (
        {"query": [0, 51.0], "message": GOOD},
        r"node_3: query: .* in \[-50.0, 50.0\], got \[ 0. 51.\]: 51 at index 1",
    ),
    "complex": (
        {"query": np.zeros(2, complex), "message": GOOD},
        r"node_3: query: cannot be cast to float32",
    ),
    "text": ({"query": "go", "message": GOOD}, r"node_3: query: cannot be cast"),
    "nothing": (
        None,
        r"node_3: action: expected a dict with the fields \['message', 'query'\], got NoneType",
    ),
    "no dict": (GOOD, r"node_3: action: expected a dict with the fields .*, got ndarray"),
    "no message": ({"query": GOOD}, r"node_3: action: expected a dict with the fields .*, got \['query'\]"),
    "another field": ({"query": GOOD, "massage": GOOD}, r"node_3: action: .*, got \['massage', 'query'\]"),
    "a field more": ({"query": GOOD, "message": GOOD, "x": GOOD}, r"node_3: action: expected a dict"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_action_is_named_and_leaves_the_episode_as_it_was(bad: str) -> None:
    env = made()
    env.reset(seed=0)
    before, (action, message) = env.get_state(), BAD[bad]
    good = {name: {"query": GOOD, "message": GOOD} for name in env.agents}
    with pytest.raises(InvalidAction, match=message):
        env.step(good | {"node_3": action})
    assert env.get_state() is before
    env.step(good)


def test_missing_and_unknown_agents() -> None:
    env = made()
    env.reset(seed=0)
    before = env.get_state()
    good = {name: {"query": GOOD, "message": GOOD} for name in env.agents}
    with pytest.raises(InvalidAction, match="node_5: is no agent of this episode"):
        env.step(good | {"node_5": good["node_0"]})
    del good["node_2"]
    with pytest.raises(InvalidAction, match="node_2: its action is missing"):
        env.step(good)
    with pytest.raises(InvalidAction, match="actions: expected a dict by agent, got list"):
        env.step(list(good.values()))  # type: ignore[arg-type]
    assert env.get_state() is before
    for ask in (env.observation_space, env.action_space):
        with pytest.raises(KeyError, match="no agent 'node_9'; they are node_0, ..., node_4"):
            ask("node_9")


def test_what_is_the_teams_is_checked_agent_by_agent() -> None:
    env = made(**MODES["a team's rounds"])
    env.reset(seed=0)
    actions = sampled(env, np.random.default_rng(0))
    actions["node_1"]["recommendation"] = np.array([np.nan, 0.0])
    with pytest.raises(InvalidAction, match="node_1: recommendation: expected finite numbers"):
        env.step(actions)


def test_the_end_is_told_to_all_and_needs_a_reset() -> None:
    env, rng = made(budget=4), np.random.default_rng(0)
    with pytest.raises(ResetNeeded, match="no episode has begun"):
        env.step({})
    env.reset(seed=0)
    for _ in range(3):
        agents = env.agents
        _, _, terminations, truncations, _ = env.step(sampled(env, rng))
    assert truncations == dict.fromkeys(agents, True)
    assert terminations == dict.fromkeys(agents, False)
    assert env.agents == []
    before = env.get_state()
    with pytest.raises(ResetNeeded, match="the episode is over"):
        env.step({})
    env.set_state(before)
    assert env.agents == []
    env.reset()
    assert env.agents == env.possible_agents


def test_max_cycles() -> None:
    env, rng = made(max_cycles=3), np.random.default_rng(0)
    env.reset(seed=0)
    for t in range(3):
        assert len(env.agents) == 5, t
        *_, truncations, _ = env.step(sampled(env, rng))
    assert all(truncations.values()) and env.agents == []
    for wrong in (0, 1.5, True):
        with pytest.raises(ValueError, match="max_cycles: expected a whole number >= 1 or None"):
            made(max_cycles=wrong)  # type: ignore[arg-type]


def test_seeds_and_instances() -> None:
    one, other = made(), made()
    first, infos = one.reset(seed=3)
    assert same(first, other.reset(seed=3)[0])
    key = infos["node_0"]["key"]
    assert key == int(keys_from_seed(3, 1))
    second = one.reset()[0]
    assert not same(first, second)
    assert same(second, other.reset()[0])
    assert same(first, other.reset(options={"instance": key})[0])
    assert not same(made().reset()[0], made().reset()[0]), "an unseeded environment draws its seed"
    with pytest.raises(ValueError, match="instance: expected a whole number of 64 bits"):
        one.reset(options={"instance": 1.5})


@pytest.mark.parametrize("mode", MODES)
def test_fork_bit_for_bit(mode: str, tmp_path: Any) -> None:
    env, fork = made(**MODES[mode]), made(**MODES[mode])
    env.reset(seed=0)
    paths = [sampled(env, np.random.default_rng(i)) for i in range(9)]
    for actions in paths[:4]:
        env.step(actions)
    middle = env.get_state()
    fork.set_state(load(save(tmp_path / "face", middle), classes=(Facts, Own)))
    runs = [[e.step(actions) for actions in paths[4:]] + [e.reset()] for e in (env, fork)]
    env.set_state(middle)
    runs.append([env.step(actions) for actions in paths[4:]] + [env.reset()])
    for run in runs[1:]:
        assert all(
            same(a, b) for one, two in zip(runs[0], run, strict=True) for a, b in zip(one, two, strict=True)
        )
    with pytest.raises(ValueError, match="set_state: expected what get_state of a parallel environment"):
        env.set_state("here")  # type: ignore[arg-type]
    batch = env.core.reset(keys_from_seed(0, 2))
    with pytest.raises(ValueError, match="set_state"):
        env.set_state(FaceState(state=batch, episodes=middle.episodes))


def test_the_global_view() -> None:
    env = made(shared=True)
    with pytest.raises(ResetNeeded):
        env.state()
    env.reset(seed=0)
    env.step(sampled(env, np.random.default_rng(0)))
    view, answer = env.state(), env.get_state().state.observation
    assert view.ndim == 1 and view in env.state_space
    apart = spaces.unflatten(env.core.observation_space, view)
    assert same(apart, {name: value[0].numpy() for name, value in answer.items()})


def test_divergence_ends_the_episode_without_a_bad_number() -> None:
    env = made(bound=np.inf)
    start, _ = env.reset(seed=0)
    far = {name: {"query": np.full(2, 1e30, np.float32), "message": GOOD} for name in env.agents}
    shown, rewards, _, truncations, infos = env.step(far)
    assert same(shown, start)
    assert all(truncations.values()) and set(rewards.values()) == {0.0}
    assert infos["node_0"]["diverged"] is True
    assert infos["node_0"]["calls"] == {"gradient": 2}, "the query was asked, and is billed"


def test_pictures() -> None:
    env = optenvs.parallel_env(Gossip(), render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    env.step(sampled(env, np.random.default_rng(0)))
    after = env.render()
    assert before is not None and before.dtype == np.uint8 and before.ndim == 3
    assert not np.array_equal(before, after)
    quiet = made()
    quiet.reset(seed=0)
    with pytest.warns(UserWarning, match="render"):
        assert quiet.render() is None
    with pytest.raises(ValueError, match="render_mode: expected one of .*'human', 'rgb_array'.*, got 'ansi'"):
        optenvs.parallel_env(Gossip(), render_mode="ansi")


def test_a_window_shows_what_the_array_holds() -> None:
    from matplotlib import pyplot

    env = optenvs.parallel_env(Gossip(), render_mode="human")
    drawn = optenvs.parallel_env(Gossip(), render_mode="rgb_array")
    for face in (env, drawn):
        face.reset(seed=0)
    assert env.render() is None
    (number,) = pyplot.get_fignums()
    (image,) = pyplot.figure(number).axes[0].images
    assert np.array_equal(image.get_array(), drawn.render())
    env.close()
    assert pyplot.get_fignums() == []


def test_the_state_is_a_snapshot() -> None:
    env = made()
    env.reset(seed=0)
    before = env.get_state()
    kept = {path: value.clone() for path, value in tensors(before).items()}
    env.step(sampled(env, np.random.default_rng(0)))
    assert all(torch.equal(value, kept[path]) for path, value in tensors(before).items())

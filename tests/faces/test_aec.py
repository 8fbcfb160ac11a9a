"""PettingZoo's face of turns: they follow the events."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gossip import EXCHANGE, GRADIENT, MODES, Facts, Gossip, Own, zoo_tests
from gymnasium import spaces
from gymnasium.error import InvalidAction, ResetNeeded
from pettingzoo.test import api_test, max_cycles_test, render_test, seed_test
from pettingzoo.utils.wrappers import OrderEnforcingWrapper

import optenvs
from optenvs.core.random import keys_from_seed
from optenvs.core.snapshot import load, save
from optenvs.core.struct import replace, tensors
from optenvs.faces.aec import AECFace


def made(max_cycles: int | None = None, **keywords: Any) -> AECFace:
    return optenvs.aec_env(Gossip(**{"budget": 40, **keywords}), max_cycles=max_cycles)


def drawn(env: AECFace, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A random action of one agent."""
    space = env.action_space(env.agents[0])
    assert isinstance(space, spaces.Dict)
    return {field: rng.normal(size=part.shape).astype(part.dtype) for field, part in space.items()}


def seen(env: AECFace) -> Any:
    """All that a caller can see at this point, as plain data."""
    agent = env.agent_selection if env.agents else ""
    views = {name: {k: v.tolist() for k, v in env.observe(name).items()} for name in env.possible_agents}
    return (
        agent, env.agents.copy(), views, dict(env.rewards), dict(env._cumulative_rewards),
        dict(env.terminations), dict(env.truncations), {k: dict(v) for k, v in env.infos.items()},
        env.state().tolist(),
    )  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_pettingzoos_tests(mode: str) -> None:
    def env(**options: Any) -> AECFace:
        return optenvs.aec_env(Gossip(budget=40, **MODES[mode]), **options)

    def parallel(**options: Any) -> Any:
        return optenvs.parallel_env(Gossip(budget=40, **MODES[mode]), **options)

    with zoo_tests():
        api_test(env(), num_cycles=40)
        api_test(OrderEnforcingWrapper(env()), num_cycles=5)
        seed_test(env, num_cycles=40)
        max_cycles_test(SimpleNamespace(env=env, parallel_env=parallel))
        render_test(env)


@pytest.mark.parametrize("mode", MODES)
def test_the_turns_are_those_of_the_core(mode: str) -> None:
    env, rng = made(**MODES[mode]), np.random.default_rng(0)
    core = env.core
    env.reset(seed=1)
    state = core.reset(keys_from_seed(1, 1))
    start = core.sample(state.key).start
    kept = {field: start[field][0].numpy().copy() for field in ("query", "message")}
    if core.shared:
        kept["recommendation"] = np.repeat(start["recommendation"].numpy(), 5, 0)
    order = []
    for _ in range(12):
        answered = torch.nonzero(core.answered(state)[0])[:, 0].tolist()
        asked = torch.nonzero(core.asked(state)[0])[:, 0].tolist()
        for turn, i in enumerate(answered + asked):
            assert env.agent_selection == f"node_{i}"
            view = env.observe(env.agent_selection)
            row = {name: state.observation[name][0, i].numpy() for name in core.agent_observation_fields()}
            hidden: tuple[str, ...] = ()
            if turn < len(answered):
                hidden = core.announcement
            elif i in answered:
                hidden = core.reply
            for name, value in row.items():
                assert np.array_equal(view[name], np.zeros_like(value) if name in hidden else value), name
            order.append(i)
            action = drawn(env, rng)
            for field, value in action.items():
                kept[field][i] = value
            env.step(action)
        query = {field: torch.from_numpy(value.copy())[None] for field, value in kept.items()}
        if core.shared:
            query["recommendation"] = query["recommendation"].double().mean(1).float()
        state = core.step(state, query)
        found = env.get_state().state
        assert all(torch.equal(v, tensors(found)[k]) for k, v in tensors(state).items())
    if core.synchronous:
        assert order == list(range(5)) * 12
    else:
        asked_twice = [order[: order.index(i)] for i in range(5) if i in order]
        assert any(len(set(before)) < len(before) - 2 for before in asked_twice), "no round robin"


def test_both_parts_of_an_event_have_content() -> None:
    # the masks above would hold trivially if nothing were ever announced or answered
    env, rng = made(), np.random.default_rng(0)
    env.reset(seed=1)
    kinds = set()
    for _ in range(60):
        view = env.observe(env.agent_selection)
        answered, event = int(view["answered"][0]), int(view["event"][0])
        assert (answered > 0) != (event > 0), "a turn either hands an answer or asks"
        assert view["gradient"].any() == (answered == GRADIENT)
        assert view["message"].any() == (answered == EXCHANGE)
        kinds.add((answered, event))
        env.step(drawn(env, rng))
    assert kinds == {(GRADIENT, 0), (EXCHANGE, 0), (0, GRADIENT), (0, EXCHANGE)}


@pytest.mark.parametrize("mode", ["events", "rounds"])
def test_no_other_nodes_data_reaches_an_observation(mode: str) -> None:
    # the same episode with another function at node 2, and other words of node 2
    env, other = made(**MODES[mode]), made(**MODES[mode])
    for face in (env, other):
        face.reset(seed=4)
    forked = other.get_state()
    centre, *rest = forked.state.hidden
    changed = centre.clone()
    changed[:, 2] += 3.0
    other.set_state(replace(forked, state=replace(forked.state, hidden=(changed, *rest))))
    rng, told, own, partner = np.random.default_rng(0), 0, 0, [0] * 5
    while env.agents and not any(env.truncations.values()):
        assert env.agent_selection == other.agent_selection
        here, there = ({n: e.observe(n) for n in e.agents} for e in (env, other))
        for i, name in enumerate(env.agents):
            different = {f for f in here[name] if not np.array_equal(here[name][f], there[name][f])}
            if i == 2:
                own += "gradient" in different
            elif partner[i] == 2:
                assert different <= {"message"}
                told += bool(different)
            else:
                assert not different, name
        action = drawn(env, rng)
        said = {"query": action["query"] + 1, "message": action["message"] + 1}
        before = env.get_state().state
        env.step(action)
        other.step(said if other.agent_selection == "node_2" else action)
        if env.get_state().state is not before:  # whom each has just heard
            partner = before.hidden[2][0].tolist()
    assert told > 0 and own > 0, "what a partner says is heard, and one's own gradient seen"


def test_rewards_are_owed_until_the_next_turn() -> None:
    env, rng = made(), np.random.default_rng(0)
    env.reset(seed=0)
    owed = dict.fromkeys(env.agents, 0.0)
    earned, paid, steps = 0.0, dict.fromkeys(env.agents, 0.0), 0
    for agent in env.agent_iter():
        _, reward, terminated, truncated, _ = env.last(observe=False)
        assert reward == owed[agent]
        paid[agent] += reward
        k = int(env.get_state().state.k)
        if terminated or truncated:
            env.step(None)
            continue
        owed[agent] = 0.0
        env.step(drawn(env, rng))
        state = env.get_state().state
        stepped = int(state.k) > k
        assert set(env.rewards.values()) == {state.reward.item() if stepped else 0.0}
        if stepped:
            steps, earned = steps + 1, earned + state.reward.item()
            owed = {name: value + state.reward.item() for name, value in owed.items()}
    assert steps == 39
    assert earned > 0
    assert all(value == pytest.approx(earned) for value in paid.values()), "each earns what the team earns"


def test_the_end() -> None:
    env, rng = made(budget=4), np.random.default_rng(0)
    with pytest.raises(ResetNeeded, match="no episode has begun"):
        env.step(None)
    env.reset(seed=0)
    while not any(env.truncations.values()):
        env.step(drawn(env, rng))
    assert all(env.truncations.values()) and not any(env.terminations.values())
    for name in env.possible_agents:
        assert env.agent_selection == name
        view, *_ = env.last()
        assert view["event"][0] == 0, "nothing is asked any more"
        with pytest.raises(ValueError, match="the only valid action is None"):
            env.step(drawn(env, rng))
        env.step(None)
    assert env.agents == []
    with pytest.raises(ResetNeeded, match="the episode is over"):
        env.step(None)
    env.reset()
    assert env.agents == env.possible_agents


def test_a_bad_action_is_named_and_leaves_the_episode_as_it_was() -> None:
    env, rng = made(), np.random.default_rng(0)
    env.reset(seed=0)
    for _ in range(7):
        env.step(drawn(env, rng))
    agent, before, view = env.agent_selection, tensors(env.get_state()), seen(env)
    good = drawn(env, rng)
    for bad, message in (
        (good | {"query": np.zeros(3)}, r"query: expected shape \(2,\), got \(3,\)"),
        (good | {"message": np.array([np.nan, 0])}, "message: expected finite numbers"),
        (good | {"query": np.array([0.0, 99.0])}, "query: expected finite numbers"),
        ({"query": good["query"]}, "action: expected a dict with the fields"),
        (None, "action: expected a dict with the fields"),
    ):
        with pytest.raises(InvalidAction, match=f"{agent}: {message}"):
            env.step(bad)
    assert all(torch.equal(value, before[path]) for path, value in tensors(env.get_state()).items())
    assert seen(env) == view


def test_whose_turn_it_is_can_be_checked() -> None:
    env, rng = made(), np.random.default_rng(0)
    env.reset(seed=0)
    view, selected = seen(env), env.agent_selection
    other = next(name for name in env.agents if name != selected)
    with pytest.raises(InvalidAction, match=f"{other}: it is not its turn to act, but that of {selected}"):
        env.step_agent(other, drawn(env, rng))
    assert seen(env) == view
    env.step_agent(selected, drawn(env, rng))
    assert seen(env) != view


@pytest.mark.parametrize("max_cycles", [None, 5])
@pytest.mark.parametrize("mode", MODES)
def test_fork_bit_for_bit_at_every_turn(mode: str, max_cycles: int | None, tmp_path: Any) -> None:
    keywords = MODES[mode] | {"budget": 8 if max_cycles is None else None, "max_cycles": max_cycles}
    env = made(**keywords)
    env.reset(seed=0)
    path, states, rng = [], [], np.random.default_rng(0)
    while env.agents:
        action = None if any(env.truncations.values()) else drawn(env, rng)
        states.append(env.get_state())
        path.append((seen(env), action))
        env.step(action)
    path.append((seen(env), None))
    env.reset()
    following = seen(env)
    assert len(states) > 15
    for turn in range(0, len(states), 4):
        for fork in (made(**keywords), env):
            fork.set_state(load(save(tmp_path / "face", states[turn]), classes=(Facts, Own)))
            for view, action in path[turn:-1]:
                assert seen(fork) == view
                fork.step(action)
            assert seen(fork) == path[-1][0]
            fork.reset()
            assert seen(fork) == following
    with pytest.raises(ValueError, match="set_state: expected what get_state of such an AEC environment"):
        env.set_state(states[0].state)  # type: ignore[arg-type]


def test_max_cycles_are_turns_of_each_agent() -> None:
    env, rng = made(max_cycles=7, budget=None), np.random.default_rng(0)
    env.reset(seed=0)
    turns = dict.fromkeys(env.agents, 0)
    for agent in env.agent_iter():
        if any(env.truncations.values()):
            env.step(None)
            continue
        turns[agent] += 1
        env.step(drawn(env, rng))
    assert set(turns.values()) == {7}
    assert not bool(env.get_state().state.done)


def test_what_an_agent_gave_last_stands_until_its_next_turn() -> None:
    env = made()
    env.reset(seed=0)
    start = env.get_state().state.observation["point"][0]
    said: dict[int, np.ndarray] = {}
    rng = np.random.default_rng(0)
    for _ in range(40):
        i, action = int(env.agent_selection[-1]), drawn(env, rng)
        said[i] = action["query"]
        before = env.get_state().state
        env.step(action)
        now = env.get_state().state
        if now is not before:
            for j, point in enumerate(now.observation["point"][0]):
                assert np.array_equal(point.numpy(), said.get(j, start[j].numpy()))
    assert len(said) == 5


def test_many_events_of_one_step_are_played_one_by_one() -> None:
    core = optenvs.make("NetworkQuadratic", nodes=6, t_max=3.0)
    assert core.order == "wavefront"  # type: ignore[attr-defined]
    env = optenvs.aec_env(core)
    assert env.core.order == "sequential"  # type: ignore[attr-defined]
    env.reset(seed=0)
    asked = int(env.core.asked(env.get_state().state).sum())
    assert asked in (1, 2, 6), "a gradient, an exchange, or a report"


def test_divergence_ends_the_episode_without_a_bad_number() -> None:
    env = made(bound=np.inf, synchronous=True)
    env.reset(seed=0)
    start = env.observe("node_0")
    for _ in range(5):
        env.step({"query": np.full(2, 1e30, np.float32), "message": np.zeros(2, np.float32)})
    view, _, _, truncated, info = env.last()
    assert truncated and info["diverged"] is True
    assert view is not None and all(np.array_equal(view[name], start[name]) for name in start)
    fork = made(bound=np.inf, synchronous=True)
    fork.set_state(env.get_state())
    assert seen(fork) == seen(env)


def test_observations_are_the_callers_own() -> None:
    env = made()
    env.reset(seed=0)
    view = env.observe("node_1")
    kept = env.observe("node_1")["point"]
    view["point"][:] = 7
    assert np.array_equal(env.observe("node_1")["point"], kept)
    with pytest.raises(KeyError, match="no agent 'node_7'"):
        env.observe("node_7")

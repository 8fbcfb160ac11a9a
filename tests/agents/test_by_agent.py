"""One agent object, node by node through PettingZoo's faces, does what it does on the tensors of all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gossip import MODES, Descend, Gossip
from pettingzoo.utils.wrappers import OrderEnforcingWrapper

import agents
import optenvs
from agents.by_agent import PolicyByAgent
from optenvs.core.errors import OracleMismatch
from optenvs.core.multi import MultiAgentEnv
from optenvs.core.rollout import SupportsActing
from optenvs.core.struct import struct

CASES: dict[str, tuple[MultiAgentEnv, Any]] = {
    "gossip by events": (Gossip(dtype="float64", budget=60), Descend()),
    "gossip in rounds": (Gossip(dtype="float64", budget=30, synchronous=True), Descend()),
    "dadao": (optenvs.make("NetworkQuadratic", nodes=5, t_max=8.0), agents.make("dadao")),  # type: ignore[dict-item]
    "a2cid2": (optenvs.make("NetworkQuadratic", nodes=5, t_max=8.0), agents.make("a2cid2")),  # type: ignore[dict-item]
} | {
    f"{name} in rounds": (
        optenvs.make("NetworkQuadratic", nodes=5, clock="rounds", oracle=oracle, t_max=8.0),  # type: ignore[dict-item]
        agents.make(name, **options),
    )
    for name, oracle, options in (
        ("dgd", "gradient", {}),
        ("extra", "gradient", {}),
        ("gradient_tracking", "gradient", {}),
        ("adom_plus", "gradient", {"multi_consensus": True}),
        ("msda", "conjugate", {}),
    )
}


def by_turns(core: MultiAgentEnv, agent: SupportsActing, seed: int) -> Any:
    env = optenvs.aec_env(core)
    policy = agents.bind(agent, env)
    assert isinstance(policy, PolicyByAgent)
    env.reset(seed=seed)
    for name in env.agent_iter():
        observation, _, terminated, truncated, _ = env.last()
        env.step(None if terminated or truncated else policy(name, observation))
    return env.get_state().state


def in_parallel(core: MultiAgentEnv, agent: SupportsActing, seed: int) -> Any:
    env = optenvs.parallel_env(core)
    policy: Any = agents.bind(agent, env)
    shown, _ = env.reset(seed=seed)
    while env.agents:
        shown, *_ = env.step({name: policy(name, shown[name]) for name in env.agents})
    return env.get_state().state


@pytest.mark.parametrize("face", [by_turns, in_parallel])
@pytest.mark.parametrize("case", CASES)
def test_it_is_the_rollout(case: str, face: Any) -> None:
    core, agent = CASES[case]
    run = optenvs.rollout(core, agent, seed=3)
    state = face(core, agent, 3)
    assert run.calls.counts[-1].tolist() == state.calls.counts.tolist()
    assert run.calls.counts[-1].sum() > 20
    assert float(run.merit[-1]) < 0.9 * float(run.merit[0]), "it has moved"
    assert float(state.merit) == pytest.approx(float(run.merit[-1]), rel=1e-9)
    for name, value in run.metrics.items():
        assert float(state.metrics[name]) == pytest.approx(float(value[-1]), rel=1e-9, abs=1e-12), name


@struct
class Told:
    """What ``init`` was given."""

    point: torch.Tensor
    others: torch.Tensor
    curvature: torch.Tensor
    keys: torch.Tensor


class Listener:
    """Keeps what it is given, and asks again where it is."""

    needs = ("gradient",)

    def init(self, problem: Any, observation: Any, keys: Any) -> Told:
        self.fields = {name: tuple(value.shape) for name, value in observation.items()}
        others = observation["all_message"]
        return Told(point=observation["point"], others=others, curvature=problem.local.curvature, keys=keys)

    def act(self, state: Told, observation: Any) -> Any:
        self.seen = {name: tuple(value.shape) for name, value in observation.items()}
        own = observation["point"]
        return {"query": own, "message": own, "recommendation": own[:, 0]}, state


@pytest.mark.parametrize("make", [optenvs.aec_env, optenvs.parallel_env])
def test_a_memory_knows_of_one_agent_only(make: Any) -> None:
    core = Gossip(**MODES["a team's events"])
    env, agent = make(core), Listener()
    policy: Any = agents.bind(agent, env)
    env.reset(seed=0)
    policy.reset()
    state = env.get_state().state
    assert list(policy.memories) == env.possible_agents
    for i, memory in enumerate(policy.memories.values()):
        assert torch.equal(memory.point, state.observation["point"][:, i : i + 1])
        assert torch.equal(memory.others, state.observation["message"])
        assert torch.equal(memory.curvature, state.problem.local.curvature[:, i : i + 1])
    assert len({int(memory.keys) for memory in policy.memories.values()}) == 5
    name = env.agents[0]
    view = env.observe(name) if hasattr(env, "observe") else env._observations(state)[name]
    action = policy(name, view)
    assert agent.seen == agent.fields
    assert (
        agent.seen["point"] == (1, 1, 2)
        and agent.seen["all_message"] == (1, 5, 2)
        and agent.seen["k"] == (1, 1)
    )
    assert action in env.action_space(name)


def test_memories_begin_anew_with_an_episode_and_can_be_kept() -> None:
    core = Gossip(budget=30)
    env = optenvs.aec_env(core)
    policy: Any = agents.bind(Descend(), env)

    def play(turns: int) -> list[float]:
        points = []
        for _ in range(turns):
            action = policy(env.agent_selection, env.observe(env.agent_selection))
            points += action["query"].tolist()
            env.step(action)
        return points

    env.reset(seed=0)
    first = play(30)
    env.reset(seed=0)
    assert play(10) == first[:20]
    state, memories = env.get_state(), dict(policy.memories)
    rest = play(20)
    env.set_state(state)
    policy.memories = memories
    assert play(20) == rest == first[20:]


def test_through_pettingzoos_wrappers() -> None:
    env = OrderEnforcingWrapper(optenvs.aec_env(Gossip(budget=20)))
    policy: Any = agents.bind(Descend(), env)
    env.reset(seed=0)
    for name in env.agent_iter():
        observation, _, terminated, truncated, _ = env.last()
        env.step(None if terminated or truncated else policy(name, observation))
    assert not env.agents


class Swarm:
    """Moves all together, and says so."""

    together = True
    needs = ()

    def init(self, problem: Any, observation: Any, keys: Any) -> None: ...

    def act(self, state: Any, observation: Any) -> Any: ...


class Silent(Swarm):
    """Moves all together, and does not say so."""

    together = False

    def act(self, state: Any, observation: Any) -> Any:
        every = observation["all_message"]
        return {"query": every, "message": every, "recommendation": every.mean(1)}, state


def test_errors() -> None:
    core = Gossip(shared=True)
    env = optenvs.parallel_env(core)
    with pytest.raises(
        TypeError, match="agent: Swarm moves all 5 agents of Gossip together and cannot run node by"
    ):
        agents.bind(Swarm(), env)
    policy: Any = agents.bind(Silent(), env)
    shown, _ = env.reset(seed=0)
    with pytest.raises(TypeError, match=r"message: expected shape \(1, 1, 2\) from Silent .*got \(1, 5, 2\)"):
        policy("node_0", shown["node_0"])
    with pytest.raises(TypeError, match="expected the name of an agent and its observation, got 'nobody'"):
        policy("nobody", shown["node_0"])
    with pytest.raises(TypeError, match="observation: expected the fields .*'all_message'.*got ndarray"):
        policy("node_0", np.zeros(2))
    with pytest.raises(TypeError, match="action: expected the fields"):
        agents.bind(Descend(), env)("node_0", shown["node_0"])  # type: ignore[arg-type]
    env.step(
        {
            name: {"query": np.zeros(2), "message": np.zeros(2), "recommendation": np.zeros(2)}
            for name in shown
        }
    )
    with pytest.raises(RuntimeError, match="an episode is under way whose beginning it has not seen"):
        agents.bind(Silent(), env)("node_0", shown["node_0"])  # type: ignore[arg-type]
    with pytest.raises(OracleMismatch, match="needs the oracle"):
        agents.bind(agents.make("dadao"), env)


@struct
class Patience:
    """The calls so far, and whether they were enough, ``(B,)`` each."""

    count: Any
    finished: Any


class Stays:
    """Asks the same point again, four times, and has finished then."""

    needs = ("value",)

    def init(self, problem: Any, observation: Any, keys: Any) -> Patience:
        return Patience(count=torch.zeros_like(keys), finished=torch.zeros_like(keys, dtype=torch.bool))

    def act(self, state: Patience, observation: Any) -> Any:
        count = state.count + 1
        return observation["point"], Patience(count=count, finished=count > 4)


@pytest.mark.parametrize("mode", [by_turns, in_parallel])
def test_an_episode_ends_unbilled_when_all_agents_have_finished(mode: Any) -> None:
    keywords: dict[str, Any] = {"dim": 2, "particles": 3, "recommend": "best", "budget": 30}
    core = optenvs.make("Particles", landscape="optenvs/Rastrigin-v0", **keywords)
    end = mode(core, Stays(), 0)
    assert end.truncated.item() and int(end.k) == 4
    assert end.calls["value"].tolist() == [3] and end.calls["swarm"].tolist() == [5]

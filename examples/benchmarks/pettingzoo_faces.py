"""What PettingZoo's faces cost: the overhead a step over the core, against that of the dict protocol itself.

    python examples/benchmarks/pettingzoo_faces.py

A swarm on Rastrigin's function: each agent sees its own point and value, those of all, step and horizon.
"Out" is a minimal environment that builds the same five dicts of arrays that are there and does nothing else;
"both" also puts the actions into one array. All is measured over the core's step, between two of which the
caches are lost: in a loop of its own the minimal environment takes 8 microseconds in place of 30 (10 agents).

Measured (2 cores shared with a load of 8, torch 2.13 CPU, Python 3.11; microseconds of the thread's own
processor time, median of 60 rounds in turns, of 30 for the turns of agents):

    ParallelEnv, a step     core   face over it   out   both    face / out   face / both   (goal 1.5)
    10 agents               262    132            30    34      3.4          3.3
    100 agents              261    199            85    115     2.4          1.8
    1,000 agents            285    968            675   851     1.5          1.1

    AECEnv, a turn of each  core   face over it         both                 face / both
    10 agents               246    218                  54                   2.7
    100 agents              245    695                  280                  2.4
    1,000 agents            369    5,737                2,640                2.2

So a step of the parallel face costs 0.8 microseconds an agent, as the protocol does, and some 100 that do not
depend on the agents: flags, ledger, seven metrics and four tensors out of torch, one query into it. A turn
costs 5.7 microseconds, of which the protocol has 2.6; looking at the action and at who is next are the rest.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from pettingzoo import AECEnv, ParallelEnv
from timing import interleave, machine, ratio

import optenvs
from optenvs.core import keys_from_seed
from optenvs.core.multi import MultiAgentEnv

AGENTS = (10, 100, 1000)


class Parallel(ParallelEnv):
    """The dict protocol and no more: actions out of a dict, five dicts of arrays that are there."""

    def __init__(self, face: Any, ready: dict[str, np.ndarray], info: dict[str, Any]) -> None:
        self.agents = self.possible_agents = face.possible_agents
        core = face.core
        self.own = {name: ready[name] for name in core.agent_observation_fields()}
        self.shared = {name: ready[name] for name in core.common}
        self.shared |= {f"all_{name}": ready[name] for name in core.public}
        self.info = info

    def gather(self, actions: dict[str, Any]) -> Any:
        """The way in: one array of all actions."""
        return np.array([actions[name] for name in self.possible_agents])

    def spread(self) -> Any:
        """The way out."""
        names = self.possible_agents
        views = [self.shared.copy() for _ in names]
        for name, rows in self.own.items():
            for view, row in zip(views, rows, strict=True):
                view[name] = row
        return (
            dict(zip(names, views, strict=True)),
            dict.fromkeys(names, 0.0),
            dict.fromkeys(names, False),
            dict.fromkeys(names, False),
            {name: self.info.copy() for name in names},
        )


class Turns(AECEnv):
    """The protocol of turns and no more: everyone acts in its turn, then all dicts are filled anew."""

    def __init__(self, face: Any, ready: dict[str, np.ndarray], info: dict[str, Any]) -> None:
        self.parallel = Parallel(face, ready, info)
        self.agents = list(face.possible_agents)
        self.possible_agents = face.possible_agents
        self.index = {name: i for i, name in enumerate(self.agents)}
        self.info, self.turn, self.agent_selection = info, 0, self.agents[0]
        self.given = np.zeros_like(next(iter(self.parallel.own.values())))
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.fill()

    def fill(self) -> None:
        self.rewards = dict.fromkeys(self.agents, 1.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos = {name: self.info.copy() for name in self.agents}
        self._accumulate_rewards()

    def observe(self, agent: str) -> Any:
        i = self.index[agent]
        return {name: rows[i].copy() for name, rows in self.parallel.own.items()} | self.parallel.shared

    def step(self, action: Any) -> None:
        self.given[self.index[self.agent_selection]] = action
        self._cumulative_rewards[self.agent_selection] = 0.0
        self.turn += 1
        if self.turn == len(self.agents):
            self.turn = 0
            self.fill()
        elif self.turn == 1:
            self.rewards = dict.fromkeys(self.agents, 0.0)
        self.agent_selection = self.agents[self.turn]


def swarm(agents: int) -> MultiAgentEnv:
    """A swarm on Rastrigin's function in two dimensions: each particle sees all."""
    made = optenvs.make("Particles", landscape="Rastrigin", particles=agents, recommend="best", budget=None)
    assert isinstance(made, MultiAgentEnv)
    return made


def measure(agents: int, steps: int = 20, repeats: int = 60) -> dict[str, float]:
    """Microseconds of processor time a step: of the core; over it of the face and of the protocol.

    The protocol runs after a step of the core, too, so that it finds the caches as the face does.
    """
    core = swarm(agents)
    face = optenvs.parallel_env(core)
    _, infos = face.reset(seed=0)
    state = core.reset(keys_from_seed(0, 1))
    ready = {name: value[0].numpy() for name, value in state.observation.items()}
    protocol = Parallel(face, ready, infos[face.possible_agents[0]])
    actions, queries = _actions(face)

    def bare(after: Callable[[dict[str, Any]], Any] = lambda _: None) -> Callable[[], None]:
        def loop() -> None:
            nonlocal state
            for i in range(steps):
                with torch.no_grad():
                    state = core.step(state, queries[i % 2])
                after(actions[i % 2])

        return loop

    def seen() -> None:
        for i in range(steps):
            face.step(actions[i % 2])

    loops = {
        "core": bare(),
        "face": seen,
        "out": bare(lambda _: protocol.spread()),
        "both": bare(lambda given: (protocol.gather(given), protocol.spread())),
    }
    return _over_the_core(interleave(loops, repeats, time.thread_time), steps)


def measure_turns(agents: int, rounds: int = 5, repeats: int = 30) -> dict[str, float]:
    """The same of the face of turns: microseconds a round, in which every agent has one turn."""
    core = swarm(agents)
    face = optenvs.aec_env(core)
    face.reset(seed=0)
    state = core.reset(keys_from_seed(0, 1))
    ready = {name: value[0].numpy() for name, value in state.observation.items()}
    protocol = Turns(face, ready, face.infos[face.agents[0]])
    actions, queries = _actions(face)

    def play(env: Any, i: int) -> None:
        given = actions[i % 2]
        for _ in range(agents):
            env.last()
            env.step(given[env.agent_selection])

    def bare(env: Any = None) -> Callable[[], None]:
        def loop() -> None:
            nonlocal state
            for i in range(rounds):
                with torch.no_grad():
                    state = core.step(state, queries[i % 2])
                if env is not None:
                    play(env, i)

        return loop

    def seen() -> None:
        for i in range(rounds):
            play(face, i)

    loops = {"core": bare(), "face": seen, "both": bare(protocol)}
    return _over_the_core(interleave(loops, repeats, time.thread_time), rounds)


def _actions(face: Any) -> tuple[list[dict[str, Any]], list[torch.Tensor]]:
    shape = (2, len(face.possible_agents), *face.action_space(face.possible_agents[0]).shape)
    points = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    actions = [dict(zip(face.possible_agents, rows, strict=True)) for rows in points]
    return actions, [torch.from_numpy(rows)[None] for rows in points]


def _over_the_core(seconds: dict[str, list[float]], steps: int) -> dict[str, float]:
    core = seconds["core"]
    over = {
        name: [b - a for a, b in zip(core, times, strict=True)]
        for name, times in seconds.items()
        if name != "core"
    }
    result = {name: 1e6 * statistics.median(times) / steps for name, times in (over | {"core": core}).items()}
    ratios = {f"face / {name}": ratio(over["face"], times) for name, times in over.items() if name != "face"}
    return result | ratios


def main() -> None:
    """Print the tables."""
    torch.set_num_threads(1)  # the clock is the thread's
    print(machine())
    for title, measured in (("parallel, a step", measure), ("turns, a round", measure_turns)):
        for agents in AGENTS:
            result = measured(agents)
            print(f"{title}, {agents:5} agents: " + ", ".join(f"{k} {v:.2f}" for k, v in result.items()))


if __name__ == "__main__":
    main()

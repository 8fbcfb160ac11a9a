"""What PettingZoo's faces cost: the overhead a step over the core, against that of the dict protocol itself.

    python examples/benchmarks/pettingzoo_faces.py

A swarm on Rastrigin's function: each agent sees its own point and value, those of all, step and horizon.
"Out" is a minimal environment that builds the same five dicts of arrays that are there and does nothing else;
"both" also puts the actions into one array; "torch" also does what any environment must whose step is the
core's: one query into torch; answers, flags, ledger and metrics out of it. All is measured over the core's
step, between two of which the caches are lost: in a loop of its own the minimal environment takes 14
microseconds in place of 30 (10 agents).

Measured (2 quiet cores, torch 2.13 CPU, Python 3.11; microseconds of the thread's own processor time, the 10%
quantile of 200 rounds in turns, of 60 for the turns of agents; the middle of three runs, which differed by
less than a tenth):

    ParallelEnv, a step     core   face over it   out   both   torch    face / both   face / torch
    10 agents               242    79             24    30     66       2.6           1.2
    100 agents              247    155            79    101    134      1.6           1.2
    1,000 agents            273    791            592   748    793      1.1           1.0

    AECEnv, a turn of each  core   face over it         both   torch    face / both   face / torch
    10 agents               240    92                   42     67       2.2           1.3
    100 agents              253    354                  240    267      1.5           1.3
    1,000 agents            316    3,321                2,480  2,463    1.3           1.3

The goal is 1.5 times what the dict protocol costs. Beside "torch", which is that protocol for any environment
whose step is the core's, all are within it. Beside "both", 1,000 agents are, 100 about, and 10 are not: there
"torch", with no check and no method of its own, is at 2.2 already.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from pettingzoo import AECEnv, ParallelEnv
from timing import interleave, machine

import optenvs
from optenvs.core import keys_from_seed
from optenvs.core.env import State
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

    def take(self, state: State) -> None:
        """What a step has answered: nothing is done with it, the arrays are there."""

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


class Crossing(Parallel):
    """The protocol of an environment in torch: what any must do whose step is the core's, unchecked.

    One query in; the answers, of which an agent's own are its caller's, ledger, metrics and flags out.
    """

    def gather(self, actions: dict[str, Any]) -> Any:
        """The way in: one query of all actions."""
        return torch.from_numpy(super().gather(actions)[None])

    def take(self, state: State) -> None:
        """The arrays and the info of ``state``."""
        ready = {name: value.numpy()[0] for name, value in state.observation.items()}
        self.own = {name: ready[name].copy() for name in self.own}
        self.shared = {name: ready[name.removeprefix("all_")] for name in self.shared}
        self.info = {
            "calls": dict(zip(state.calls.kinds, state.calls.counts.tolist()[0], strict=True)),
            "metrics": {name: value.item() for name, value in state.metrics.items()},
            "key": state.key.item(),
            "diverged": state.diverged.item(),
        }
        for flag in (state.reward, state.terminated, state.truncated):
            flag.item()


class Turns(AECEnv):
    """The protocol of turns and no more: everyone acts in its turn, then all dicts are filled anew."""

    def __init__(self, face: Any, parallel: Parallel) -> None:
        self.parallel = parallel
        self.agents = list(face.possible_agents)
        self.possible_agents = face.possible_agents
        self.index = {name: i for i, name in enumerate(self.agents)}
        self.turn, self.agent_selection = 0, self.agents[0]
        self.given = np.zeros_like(next(iter(self.parallel.own.values())))
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.fill()

    def fill(self) -> None:
        self.rewards = dict.fromkeys(self.agents, 1.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos = {name: self.parallel.info.copy() for name in self.agents}
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


def measure(agents: int, steps: int = 20, repeats: int = 200) -> dict[str, float]:
    """Microseconds of processor time a step: of the core; over it of the face and of the protocol.

    The protocol runs after a step of the core, too, so that it finds the caches as the face does.
    """
    core = swarm(agents)
    face = optenvs.parallel_env(core)
    _, infos = face.reset(seed=0)
    state = core.reset(keys_from_seed(0, 1))
    ready = {name: value[0].numpy() for name, value in state.observation.items()}
    plain, crossing = (kind(face, ready, infos[face.possible_agents[0]]) for kind in (Parallel, Crossing))
    actions, queries = _actions(face)

    def bare(after: Callable[[dict[str, Any]], Any] = lambda _: None) -> Callable[[], None]:
        def loop() -> None:
            nonlocal state
            for i in range(steps):
                with torch.no_grad():
                    state = core.step(state, queries[i % 2])
                after(actions[i % 2])

        return loop

    def crossed() -> None:
        nonlocal state
        for i in range(steps):
            query = crossing.gather(actions[i % 2])
            with torch.no_grad():
                state = core.step(state, query)
            crossing.take(state)
            crossing.spread()

    def seen() -> None:
        for i in range(steps):
            face.step(actions[i % 2])

    loops = {
        "core": bare(),
        "face": seen,
        "out": bare(lambda _: plain.spread()),
        "both": bare(lambda given: (plain.gather(given), plain.spread())),
        "torch": crossed,
    }
    return _over_the_core(interleave(loops, repeats, time.thread_time), steps)


def measure_turns(agents: int, rounds: int = 5, repeats: int = 60) -> dict[str, float]:
    """The same of the face of turns: microseconds a round, in which every agent has one turn."""
    core = swarm(agents)
    face = optenvs.aec_env(core)
    face.reset(seed=0)
    state = core.reset(keys_from_seed(0, 1))
    ready = {name: value[0].numpy() for name, value in state.observation.items()}
    plain, crossing = (
        Turns(face, kind(face, ready, face.infos[face.agents[0]])) for kind in (Parallel, Crossing)
    )
    actions, queries = _actions(face)

    def play(env: Any, i: int) -> None:
        given = actions[i % 2]
        for _ in range(agents):
            env.last()
            env.step(given[env.agent_selection])

    def bare(env: Turns | None = None) -> Callable[[], None]:
        def loop() -> None:
            nonlocal state
            for i in range(rounds):
                query = queries[i % 2]
                if env is not None and env is crossing:
                    query = torch.from_numpy(env.given.copy()[None])
                with torch.no_grad():
                    state = core.step(state, query)
                if env is not None:
                    env.parallel.take(state)
                    play(env, i)

        return loop

    def seen() -> None:
        for i in range(rounds):
            play(face, i)

    loops = {"core": bare(), "face": seen, "both": bare(plain), "torch": bare(crossing)}
    return _over_the_core(interleave(loops, repeats, time.thread_time), rounds)


def _actions(face: Any) -> tuple[list[dict[str, Any]], list[torch.Tensor]]:
    shape = (2, len(face.possible_agents), *face.action_space(face.possible_agents[0]).shape)
    points = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    actions = [dict(zip(face.possible_agents, rows, strict=True)) for rows in points]
    return actions, [torch.from_numpy(rows)[None] for rows in points]


def _over_the_core(seconds: dict[str, list[float]], steps: int) -> dict[str, float]:
    """Microseconds a step of what is not the core's, and how many times the others' the face's is.

    A busy machine only ever adds to a round, by chance: the tenth of the rounds that were fastest say more of
    the program than the median.
    """
    fast = {name: 1e6 * float(np.quantile(times, 0.1)) / steps for name, times in seconds.items()}
    over = {name: time - fast["core"] for name, time in fast.items() if name != "core"}
    ratios = {f"face / {name}": over["face"] / time for name, time in over.items() if name != "face"}
    return {"core": fast["core"]} | over | ratios


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

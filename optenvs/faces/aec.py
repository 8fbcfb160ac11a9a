"""PettingZoo's ``AECEnv``: the agents of one instance act in turns, in the order of the problem's events."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.error import InvalidAction, ResetNeeded
from jaxtyping import Bool, Float64, Int64
from pettingzoo import AECEnv
from torch import Tensor

from optenvs.core.configuration import check_origin
from optenvs.core.env import State
from optenvs.core.multi import MultiAgentEnv
from optenvs.core.struct import struct

from .agents import AgentsFace
from .info import information
from .seeding import Episodes


@struct
class TurnsState:
    """An episode in the midst of its turns, whole.

    Attributes:
        state: the problem's state, a batch of one.
        episodes: the place in the sequence of episodes.
        proposals: what each agent gave last, by field, ``(N, *shape)``.
        turn: the place in the queue of turns that ``state`` makes; once the episode is over, how many agents
            have taken their leave.
        turns: how many turns each agent has had, ``(N,)``.
        reward: what the last turn earned every agent.
        owed: what each agent has earned since its last turn, ``(N,)``.
    """

    state: State
    episodes: Episodes
    proposals: dict[str, Tensor]
    turn: int
    turns: Int64[Tensor, "N"]
    reward: float
    owed: Float64[Tensor, "N"]


class AECFace(AgentsFace, AECEnv[str, dict[str, np.ndarray], Any]):
    """The face of a problem of many agents in which they act one after the other.

    The queue of turns comes from the problem, one event at a time, so that ``agent_selection`` follows the
    events and no round: an agent may act many times before another.

    1. Where answers have turns of their own, each agent that the last step answered has one, in order of its
       index. It sees its answer, with the announcement of what comes next still zero. Its action is what it
       stands behind from then on (its row of the next query), and asks nothing.
    2. Each agent of whom the next step wants a query has a turn, in order of its index. It sees what is
       asked; an answer that it has had a turn for is zero.
    3. When all have acted, the problem is asked once; an agent that had no turn stands by what it gave last,
       at first by its part of the query that ``reset`` asked.

    Every agent earns the team's reward of a step, and all end together. Fields, team and ``infos`` are as in
    :class:`optenvs.faces.parallel.ParallelFace`; each observation is the caller's own.

    Args:
        core: the problem; it is played event by event.
        render_mode: ``"rgb_array"`` or ``"human"`` to draw the episode with :meth:`render`.
        max_cycles: turns of each agent. One that has had them is passed over; when all have, an unfinished
            episode is truncated.
        info: ``"flat"`` for ``infos`` of one level, see :mod:`optenvs.faces.info`.
    """

    def __init__(
        self,
        core: MultiAgentEnv,
        render_mode: str | None = None,
        max_cycles: int | None = None,
        info: str = "nested",
    ) -> None:
        played = core.event_by_event() if isinstance(core, MultiAgentEnv) else core
        super().__init__(played, render_mode, max_cycles, info)
        self._state: State | None = None
        self._given: dict[str, np.ndarray] = {}
        self._turns = [0] * len(self.possible_agents)
        self._turn = 0
        self._over = False
        self._reward = 0.0
        self._all = list(range(len(self.possible_agents)))
        # a problem that leaves these two as they are need not be asked in every step
        self._asks_all = type(self.core).asked is MultiAgentEnv.asked
        self._has_answers = type(self.core).answered is not MultiAgentEnv.answered

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Begin an episode: of ``seed``, of ``options["instance"]``, or the next of the sequence."""
        face = self._begin(seed, options)
        with torch.no_grad():
            start = self.core.sample(face.state.key).start
        self._given = self._proposals.rows(start)
        self._turns = [0] * len(self.possible_agents)
        self._meet(face.state, turn=0)
        self._remember(face.state, anew=True)
        self.agents = self.possible_agents.copy()
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self._publish(face.state)
        self._earn(0.0)
        self._go_on()

    def step(self, action: Any) -> None:
        """Take the turn of ``agent_selection``; of one that takes its leave, with ``None``.

        Raises:
            gymnasium.error.InvalidAction: the action does not fit the agent's space; nothing has happened.
            gymnasium.error.ResetNeeded: all agents are gone, or no episode has begun.
        """
        if not self.agents:
            self._current()
            raise ResetNeeded("the episode is over: call reset() before the next step()")
        agent = self.agent_selection
        if self._over:
            self._was_dead_step(action)
            self._turn, self._reward = self._turn + 1, 0.0
            return
        index = self._index[agent]
        self._proposals.put(self._given, index, action)
        self._turns[index] += 1
        self._turn = turn = self._turn + 1
        self._cumulative_rewards[agent] = 0.0
        if turn < len(self._queue) and self.max_cycles is None and not self._reward:
            self.agent_selection = self.possible_agents[self._queue[turn]]  # all that most turns do
        else:
            self._go_on()

    def step_agent(self, agent: str, action: Any) -> None:
        """:meth:`step`, for callers that wish to be told when it is another agent's turn.

        Raises:
            gymnasium.error.InvalidAction: ``agent`` is not selected, or as in :meth:`step`; nothing
                has happened.
        """
        self._current()
        if self.agents and agent != self.agent_selection:
            raise InvalidAction(f"{agent}: it is not its turn to act, but that of {self.agent_selection}")
        self.step(action)

    def last(self, observe: bool = True) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """What the selected agent sees, what it has earned since its last turn, and whether all is over.

        Raises:
            gymnasium.error.ResetNeeded: all agents are gone, or no episode has begun.
        """
        if not self.agents:
            self._current()
            raise ResetNeeded("the episode is over: call reset() before the next last()")
        return super().last(observe)

    def agent_iter(self, max_iter: int = 2**63) -> Any:
        """The agents in turn, for a loop over an episode that has begun.

        Raises:
            gymnasium.error.ResetNeeded: no episode has begun.
        """
        self._current()
        return super().agent_iter(max_iter)

    def observe(self, agent: str) -> dict[str, np.ndarray]:
        """What ``agent`` sees now, whether it is selected or not."""
        index = self._index.get(agent)
        if index is None or self._state is None:
            self._current()
            index = self._known(agent)
        view = self._everyones.copy()
        for name, rows in self._rows.items():
            view[name] = rows[index].copy()
        if self._over or self._answers:
            for name in self._hidden(index):
                view[name] = np.zeros_like(view[name])
        return view

    def get_state(self) -> TurnsState:
        """The episode with the turns taken so far; restore with :meth:`set_state`, or save it."""
        state = self._current()
        assert self._episodes is not None
        owed = [self._cumulative_rewards.get(name, 0.0) for name in self.possible_agents]
        return TurnsState(
            state=state,
            episodes=self._episodes,
            proposals={field: torch.tensor(value) for field, value in self._given.items()},
            turn=self._turn,
            turns=torch.tensor(self._turns),
            reward=self._reward,
            owed=torch.tensor(owed, dtype=torch.float64),
        )

    def set_state(self, face: TurnsState) -> None:
        """Go on from ``face`` bit for bit, here or in another environment of the same configuration."""
        names = self.possible_agents
        if not isinstance(face, TurnsState) or len(face.state.k) != 1 or len(face.turns) != len(names):
            raise ValueError("set_state: expected what get_state of such an AEC environment returned")
        check_origin("set_state", self.core.configuration, face.state.origin)
        self._episodes = face.episodes
        self._given = {field: value.cpu().numpy().copy() for field, value in face.proposals.items()}
        self._turns = face.turns.tolist()
        self._meet(face.state, face.turn)
        self._remember(face.state, anew=True)
        self.agents = names[face.turn :] if self._over else names.copy()
        owed = dict(zip(names, face.owed.tolist(), strict=True))
        self._cumulative_rewards = {name: owed[name] for name in self.agents}
        self._publish(face.state)
        self._earn(face.reward)
        self._select()

    # The turns ---------------------------------------------------------------------------------

    def _current(self) -> State:
        if self._state is None:
            raise ResetNeeded("no episode has begun: call reset() first")
        return self._state

    def _meet(self, state: State, turn: int) -> None:
        """Take ``state`` in: the turns that it makes, and what it shows to all."""
        self._state, self._turn = state, turn
        self._rows, self._everyones = self._views(state.observation)
        self._over = self._is_over(state) or self._used_up()
        answered = self._marked(self.core.answered(state)) if self._has_answers else []
        self._answers = {index: place for place, index in enumerate(answered)}
        if self._over:
            self._queue = self._all
        else:
            asked = self._all if self._asks_all else self._marked(self.core.asked(state))
            self._queue = answered + asked

    def _marked(self, agents: Bool[Tensor, "1 N"]) -> list[int]:
        return agents[0].cpu().numpy().nonzero()[0].tolist()

    def _go_on(self) -> None:
        """After a turn: ask the problem if all have acted, and select who is next."""
        earned, attended = 0.0, True
        self._pass_over()
        while self._turn == len(self._queue):
            state = self._current()
            query = None if attended else self.core.unattended(state)
            state = self._ask(state, self._proposals.query(self._given) if query is None else query)
            self._meet(state, turn=0)
            attended = False  # if the loop comes round, all who are asked were passed over
            self._remember(state)
            earned += state.reward.item()
            self._publish(state)
            self._pass_over()
        if earned or self._reward:
            self._earn(earned)
        if earned:
            self._accumulate_rewards()
        self._select()

    def _pass_over(self) -> None:
        if self.max_cycles is None or self._over:
            return
        while self._turn < len(self._queue) and self._turns[self._queue[self._turn]] >= self.max_cycles:
            self._turn += 1

    def _used_up(self) -> bool:
        return self.max_cycles is not None and min(self._turns) >= self.max_cycles

    def _publish(self, state: State) -> None:
        """What a step says to everyone."""
        terminated = self._over and bool(state.terminated)
        truncated = self._over and (bool(state.truncated) or self._used_up())
        self.terminations = dict.fromkeys(self.agents, terminated)
        self.truncations = dict.fromkeys(self.agents, truncated)
        info = information(state, self.info)
        self.infos = {name: info.copy() for name in self.agents}

    def _earn(self, reward: float) -> None:
        self._reward = reward
        self.rewards = dict.fromkeys(self.agents, reward)

    def _select(self) -> None:
        self._skip_agent_selection = None
        if self._turn < len(self._queue):
            self.agent_selection = self.possible_agents[self._queue[self._turn]]

    def _hidden(self, index: int) -> tuple[str, ...]:
        """The fields that ``index`` does not see now: what is asked next, or the answer that it has had."""
        if self._over:
            return self.core.announcement  # nothing is asked any more
        if index not in self._answers:
            return ()
        return self.core.announcement if self._answers[index] >= self._turn else self.core.reply

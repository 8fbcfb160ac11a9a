"""Episodes inside something else: pure steps of agent and environment, and windows over a stream of episodes.

``rollout`` and ``unroll`` run episodes from outside: they look whether rows are done, measure, keep time.
What stands here needs to look at no number, so that it runs under ``torch.func.vmap``, recorded, under
autograd, and inside another environment's ``answer``; where the host may look, it leaves out what no row
needs. Nothing here calls :meth:`OptimizationEnv.evaluate`; who wants it calls it on the state that comes
back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from .env import OptimizationEnv, State
from .ledger import Ledger
from .random import Keys, fold_in
from .rollout import SupportsActing, agent_keys
from .stepper import Stepper, Trees, first_order, unset
from .struct import replace, select, stack, struct

Lengths = Callable[[Keys, Tensor], Tensor]
"""The steps ``(B,)`` that an episode lasts at most, of the stream's keys and the episodes' numbers."""


def advance(
    env: OptimizationEnv,
    agent: SupportsActing,
    memory: Any,
    state: State,
    steps: int,
    *,
    over: bool = True,
    second_order: bool = True,
) -> Trees:
    """``steps`` queries of ``agent``, pure and without a look at any number.

    Args:
        env: the problem.
        agent: as in :func:`optenvs.rollout`; its hyper-parameters may be tensors with one row an instance.
        memory: the agent's, by ``agent.init`` or from the call before.
        state: the episodes so far.
        steps: how many queries; rows that are done stay as they are, with reward 0, and so does what the
            agent remembers of them.
        over: whether a row may be done in ``state``; without it the first query is asked in all rows.
        second_order: whether the agent sees answers with their graph, see :func:`optenvs.unroll`.

    Returns:
        The agent's memory and the state.
    """
    stepper = Stepper(env, agent, seen=None if second_order else first_order(env))
    for turn in range(steps):
        rest = (over or turn > 0) and not unset(state.done)
        moved = stepper.step(memory, state, rest)
        memory, state = _resting(state.done, (memory, state), moved) if rest else moved
    return memory, state


@struct
class Stream:
    """Episodes one after the other in every row, and where they stand.

    Attributes:
        keys: one a row; the episode's own is folded from it and its number, so that rows with one key meet
            the same episodes.
        episode: the number of the present one, ``(B,)``, from 0.
        length: the steps that it lasts at most, ``(B,)``.
        memory: the agent's, of the present episode.
        state: the present episode.
    """

    keys: Keys
    episode: Int64[Tensor, "B"]
    length: Int64[Tensor, "B"]
    memory: Any
    state: State

    @property
    def over(self) -> Bool[Tensor, "B"]:
        """Whether the present episode is over: done, or as long as it may be."""
        return self.state.done | (self.state.k >= self.length)


@struct
class Window:
    """What happened in ``W`` turns.

    Attributes:
        merit: after each turn, ``(W, B)``.
        reward: of each turn; 0 in rows that rested.
        metrics: after each turn, by name, ``(W, B)``; those that are kept.
        alive: whether a query was asked in the row, ``(W, B)``: what a loss sums over.
        born: whether an episode began in the row with this turn, ``(W, B)``: its queries are that one's.
        over: whether the episode was over after the turn, ``(W, B)``.
        diverged: whether that was because the merit was no finite number (``merit`` is then the last that
            was), ``(W, B)``.
        calls: what the window has cost, ``(B,)`` by kind: all turns, and the first answers of episodes born.
        recorded: the observation fields asked for, ``(W, B, ...)``.
    """

    merit: Float[Tensor, "W B"]
    reward: Float[Tensor, "W B"]
    metrics: dict[str, Tensor]
    alive: Bool[Tensor, "W B"]
    born: Bool[Tensor, "W B"]
    over: Bool[Tensor, "W B"]
    diverged: Bool[Tensor, "W B"]
    calls: Ledger
    recorded: dict[str, Tensor]

    @property
    def since(self) -> Bool[Tensor, "W B"]:
        """Whether an episode had begun in the window by then: what is not of the episode at its start."""
        return self.born if unset(self.born) else self.born.cumsum(0) > 0


@dataclass(frozen=True, eq=False)
class Episodes:
    """Windows over streams of episodes: where one is over, the next begins with the next turn.

    The new episodes of a window are made at once, ``births`` of them a row: a row that needs more rests until
    the next window. Where the host may look (eagerly, on the CPU) they are made when a row needs one, and
    otherwise whether or not, which changes no number. What is carried from window to window is the
    :class:`Stream`; ``detach`` it to cut the graph.

    Args:
        env: the environment of the episodes.
        lengths: how many steps an episode lasts at most, as a function of the stream's keys and the
            episodes' numbers, for example one that draws them, or that shortens those of number 0, so that
            rows do not begin anew in lockstep. Agents see it as ``N``. By default until they are done.
        births: episodes that may begin in a row within one window. Each costs a ``reset`` in every window;
            one is enough where episodes are no shorter than windows. With 0 a row that is over rests until
            it is :meth:`renew`-ed.
        record: observation fields to keep.
        metrics: the names of metrics to keep, ``None`` for all.
        second_order: whether the agent sees answers with their graph, see :func:`optenvs.unroll`.

    Example:
        >>> episodes = Episodes(env)                                            # doctest: +SKIP
        >>> stream = episodes.begin(agent, keys)                                # doctest: +SKIP
        >>> window, stream = episodes.window(agent, stream, 5)                  # doctest: +SKIP
        >>> loss = (window.merit * window.alive).sum(0)                         # doctest: +SKIP
    """

    env: OptimizationEnv
    lengths: Lengths | None = None
    births: int = 1
    record: tuple[str, ...] = ()
    second_order: bool = True
    metrics: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.births, bool) or not isinstance(self.births, int) or self.births < 0:
            raise ValueError(f"births: expected a whole number >= 0, got {self.births!r}")
        if self.lengths is None and not self.env.limits and not self.env.ends:
            raise ValueError(f"lengths: needed, as {self.env.name} has no budget and its episodes no end")
        unknown = [name for name in self.record if name not in self.env.observation_space.spaces]
        if unknown:
            raise ValueError(
                f"record: no field {unknown[0]!r} in {sorted(self.env.observation_space.spaces)}"
            )

    def begin(self, agent: SupportsActing, keys: Keys) -> Stream:
        """The streams of ``keys``, at the start of their first episodes."""
        return self._episode(agent, keys, torch.zeros_like(keys))

    def renew(self, agent: SupportsActing, stream: Stream) -> Stream:
        """The streams with the first answers of the next episodes, where the present ones are over."""
        if unset(stream.over):
            return stream
        return select(stream.over, self._episode(agent, stream.keys, stream.episode + 1), stream)

    def window(self, agent: SupportsActing, stream: Stream, steps: int) -> tuple[Window, Stream]:
        """``steps`` turns: what happened in them, and where the streams stand then.

        Args:
            agent: whose memory the stream holds. Its hyper-parameters may be others than in the window before
                (a perturbation of its weights that is fresh in each); episodes born begin with these.
            stream: where to go on.
            steps: W.
        """
        if steps < 1:
            raise ValueError(f"steps: expected at least 1, got {steps}")
        stepper = Stepper(self.env, agent, seen=None if self.second_order else first_order(self.env))
        fresh: list[Stream] = []
        number, spent = stream.episode, -stream.state.calls.counts
        over, nobody = stream.over, torch.zeros_like(stream.state.done)
        turns = []
        for _ in range(steps):
            born, rest = nobody, not unset(over)  # what nobody needs is not made
            for i in range(self.births if rest else 0):
                now = over & (stream.episode == number + i)
                if not fresh:
                    fresh = [self._episode(agent, stream.keys, number + j + 1) for j in range(self.births)]
                spent = spent + torch.where(now.unsqueeze(-1), stream.state.calls.counts, 0)
                stream, born = select(now, fresh[i], stream), born | now
                over = stream.over
            before = stream.state
            memory, state = stepper.step(stream.memory, before, False)
            if rest:
                memory, state = _resting(over, (stream.memory, before), (memory, state))
            stream = replace(stream, memory=memory, state=state)
            # an agent that is finished asks nothing with its last turn
            alive, over = state.k > before.k, stream.over
            recorded = {field: state.observation[field] for field in self.record}
            metrics = state.metrics if self.metrics is None else {n: state.metrics[n] for n in self.metrics}
            turns.append((state.merit, state.reward, metrics, alive, born, over, state.diverged, recorded))
        merit, reward, metrics, alive, born, over, diverged, recorded = stack(turns)
        window = Window(
            merit=merit,
            reward=reward,
            metrics=metrics,
            alive=alive,
            born=born,
            over=over,
            diverged=diverged,
            calls=replace(stream.state.calls, counts=spent + stream.state.calls.counts),
            recorded=recorded,
        )
        return window, stream

    def _episode(self, agent: SupportsActing, keys: Keys, episode: Int64[Tensor, "B"]) -> Stream:
        """The streams at the start of these episodes."""
        own = fold_in(keys, episode)
        state = self.env.reset(own, evaluate=False)
        length = torch.full_like(keys, torch.iinfo(torch.int64).max)
        if self.lengths is not None:
            length = self.lengths(keys, episode)
            if self.env.fixed_cost and self.env.horizon is not None:
                length = length.clamp_max(self.env.horizon)
            horizon = length.to(self.env.torch_dtype).unsqueeze(-1)
            state = replace(state, observation=state.observation | {"N": horizon})
        sight = state.observation if self.second_order else first_order(self.env)(state.observation)
        return Stream(
            keys=keys,
            episode=episode,
            length=length,
            memory=agent.init(state.problem, sight, agent_keys(own)),
            state=state,
        )


def _resting(rows: Tensor, before: Trees, after: Trees) -> Trees:
    """``after``, but ``rows`` as ``before``, with reward 0."""
    memory, state = before
    still = replace(state, reward=torch.zeros_like(state.reward))
    return select(rows, (memory, still), after)

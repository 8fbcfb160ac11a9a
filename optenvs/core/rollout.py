"""Run an agent on a batch of instances: on the device without a graph, or differentiably."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .env import Action, OptimizationEnv, State
from .errors import check_oracles
from .ledger import Ledger
from .random import Keys, fold_in, keys_from_seed
from .struct import detach, select, struct

_PATIENCE = 64  # steps between two looks at an accelerator where only the environment knows the end
_AGENT_STREAM = 0x6167656E74  # "agent": agents draw from keys of their own


@runtime_checkable
class SupportsActing(Protocol):
    """What an agent is to a rollout: ``init`` and ``act``, both pure and batched."""

    def init(self, problem: Any, observation: dict[str, Tensor], keys: Keys) -> Any: ...

    def act(self, state: Any, observation: dict[str, Tensor]) -> tuple[Action, Any]: ...


@struct
class Run:
    """The record of a rollout of ``T`` steps of ``B`` instances.

    Attributes:
        metrics: the truth after the first query and after each step, by name, ``(T + 1, B)``.
        calls: the ledger at the same times; ``run.calls["gradient"]`` has shape ``(T + 1, B)``.
        merit, best: the merit and the best so far, ``(T + 1, B)``.
        reward: ``(T, B)``.
        done: whether the episode was over, ``(T + 1, B)``; afterwards a row repeats its last entries.
        seconds: time spent by agent and oracle since the first answer, ``(T + 1,)``; evaluation is not
            in it. On an accelerator the host's time, without waiting for the device.
        state, agent_state: where the run stopped; hand them on with ``resume=run``.
        recorded: the observation fields asked for with ``record``, ``(T + 1, B, ...)``.
    """

    metrics: dict[str, Tensor]
    calls: Ledger
    merit: Float[Tensor, "T1 B"]
    best: Float[Tensor, "T1 B"]
    reward: Float[Tensor, "T B"]
    done: Bool[Tensor, "T1 B"]
    seconds: Tensor
    state: State
    agent_state: Any
    recorded: dict[str, Tensor]

    @property
    def diverged(self) -> Bool[Tensor, "B"]:
        """Instances that ended because the merit was no finite number."""
        return self.state.diverged


def agent_keys(keys: Keys) -> Keys:
    """The keys of the agents that meet the instances ``keys``."""
    return fold_in(keys, _AGENT_STREAM)


def freeze(before: State, after: State) -> State:
    """``after``, but rows whose episode was over in ``before`` stay as they were, with reward 0."""
    still = dataclasses.replace(before, reward=torch.zeros_like(before.reward))
    return select(before.done, still, after)


def _any(mask: Tensor) -> bool:
    """Whether to expect a set row. On an accelerator: always, because looking would wait for it."""
    return bool(mask.any()) if mask.device.type == "cpu" else True


def rollout(
    env: OptimizationEnv,
    agent: SupportsActing,
    *,
    seed: int = 0,
    batch: int = 1,
    steps: int | None = None,
    keys: Keys | None = None,
    record: tuple[str, ...] = (),
    resume: Run | None = None,
    on_step: Callable[[int, State], None] | None = None,
) -> Run:
    """Let ``agent`` solve ``batch`` instances of ``env`` for ``steps`` queries, without a graph.

    Args:
        env: the problem; ``optenvs.make(id)`` gives one.
        agent: anything with ``init`` and ``act`` (see ``agents``).
        seed: names the instances; instance i is the same at every batch size.
        batch: how many instances.
        steps: how many queries after the first. By default the horizon of the budget, or until all episodes
            are over where the environment ends them itself.
        keys: int64 ``(B,)`` in place of ``seed`` and ``batch``.
        record: observation fields to keep, for example ``("point",)``.
        resume: a run to go on from, in place of a new start.
        on_step: called with the step's number and the state after it (for a progress bar).

    Raises:
        OracleMismatch: the agent needs an oracle that the environment does not answer.
        ValueError: no ``steps`` and no budget, or an unknown ``record`` field.
    """
    with torch.no_grad():
        return _drive(env, agent, seed, batch, steps, keys, record, resume, on_step, lambda o: o)


def unroll(
    env: OptimizationEnv,
    agent: SupportsActing,
    *,
    seed: int = 0,
    batch: int = 1,
    steps: int | None = None,
    keys: Keys | None = None,
    record: tuple[str, ...] = (),
    resume: Run | None = None,
    second_order: bool = True,
    on_step: Callable[[int, State], None] | None = None,
) -> Run:
    """:func:`rollout` with an autograd graph from the agent's parameters to metrics and rewards.

    With ``second_order=False`` the oracle's answers enter the agent as constants (the usual first-order
    choice of learned optimizers; the point itself keeps its gradient). For long episodes see
    :func:`unroll_windows`.

    Raises:
        TypeError: the environment is not differentiable.
    """
    if not env.differentiable:
        raise TypeError(f"{env.name} is not differentiable; train by evolution strategies or RL")

    def seen(observation: dict[str, Tensor]) -> dict[str, Tensor]:
        if second_order:
            return observation
        return {k: v if k in env.live else v.detach() for k, v in observation.items()}

    with torch.enable_grad():
        return _drive(env, agent, seed, batch, steps, keys, record, resume, on_step, seen)


def unroll_windows(
    env: OptimizationEnv,
    agent: SupportsActing,
    *,
    steps: int,
    truncation: int,
    **options: Any,
) -> Iterator[Run]:
    """Truncated unrolling: runs of ``truncation`` steps, state carried and detached between them.

    Call ``backward`` on each window before taking the next: its graph is then freed, and memory stays
    flat over any number of windows. The options are those of :func:`unroll`.
    """
    if truncation < 1:
        raise ValueError(f"truncation: expected at least 1 step, got {truncation}")
    run: Run | None = options.pop("resume", None)
    for first in range(0, steps, truncation):
        run = unroll(env, agent, steps=min(truncation, steps - first), resume=run, **options)
        yield run
        run = dataclasses.replace(run, state=detach(run.state), agent_state=detach(run.agent_state))


def _drive(
    env: OptimizationEnv,
    agent: SupportsActing,
    seed: int,
    batch: int,
    steps: int | None,
    keys: Keys | None,
    record: tuple[str, ...],
    resume: Run | None,
    on_step: Callable[[int, State], None] | None,
    seen: Callable[[dict[str, Tensor]], dict[str, Tensor]],
) -> Run:
    if not isinstance(agent, SupportsActing):
        raise TypeError(
            f"agent: expected an object with init and act, got {type(agent).__name__}; "
            "agents.from_function makes one of a plain function"
        )
    check_oracles(type(agent).__name__, getattr(agent, "needs", ()), env.name, env.oracles)
    if resume is not None:
        state, agent_state = resume.state, resume.agent_state
    else:
        if keys is None:
            keys = keys_from_seed(seed, batch, env.torch_device)
        state = env.reset(keys)
        agent_state = agent.init(state.problem, seen(state.observation), agent_keys(keys))
    limit: float = math.inf
    if steps is not None:
        limit = steps
    elif env.horizon is not None:
        limit = env.horizon
    elif not env.ends:
        raise ValueError("steps: needed for an environment without a budget")
    unknown = [field for field in record if field not in state.observation]
    if unknown:
        raise ValueError(f"record: no field {unknown[0]!r} in {sorted(state.observation)}")

    period = env.evaluation_period
    # A resumed run goes on with the clock of its rows, which entered it in lockstep.
    clock = 0 if resume is None or period is None else int(state.k.max())
    history, seconds, spent = [_entry(state, record)], [0.0], 0.0
    step = 0
    while step < limit:
        over = _any(state.done)
        if over and (limit == math.inf or state.done.device.type == "cpu") and _all_done(state, step):
            break
        step += 1
        start = time.perf_counter()
        action, agent_state = agent.act(agent_state, seen(state.observation))
        after = env.step(state, action)
        spent += time.perf_counter() - start
        state = freeze(state, after) if over else after
        if period is not None and (clock + step) % period == 0:
            state = env.evaluate(state)
        history.append(_entry(state, record))
        seconds.append(spent)
        if on_step is not None:
            on_step(step, state)
    steps = len(history) - 1 if limit == math.inf else int(limit)
    return _assemble(history, seconds, steps, state, agent_state)


def _all_done(state: State, step: int) -> bool:
    """Whether no episode goes on. On an accelerator it is asked now and then: the answer must come back."""
    return (state.done.device.type == "cpu" or step % _PATIENCE == 0) and bool(state.done.all())


def _entry(state: State, record: tuple[str, ...]) -> tuple[Any, ...]:
    recorded = {field: state.observation[field] for field in record}
    return (
        state.metrics, state.calls.counts, state.merit, state.best, state.reward, state.done, recorded,
    )  # fmt: skip


def _assemble(
    history: list[tuple[Any, ...]], seconds: list[float], steps: int, state: State, agent_state: Any
) -> Run:
    missing = steps + 1 - len(history)
    history = history + [history[-1]] * missing
    seconds = seconds + [seconds[-1]] * missing
    metrics, counts, merit, best, reward, done, recorded = zip(*history, strict=True)
    earned = torch.stack(reward[1:]) if steps else merit[0].new_zeros((0, len(state.k)))
    if missing:
        earned = torch.cat((earned[: steps - missing], torch.zeros_like(earned[:missing])))
    return Run(
        metrics={name: torch.stack([m[name] for m in metrics]) for name in metrics[0]},
        calls=Ledger(counts=torch.stack(counts), kinds=state.calls.kinds),
        merit=torch.stack(merit),
        best=torch.stack(best),
        reward=earned,
        done=torch.stack(done),
        seconds=torch.tensor(seconds, dtype=torch.float64),
        state=state,
        agent_state=agent_state,
        recorded={f: torch.stack([r[f] for r in recorded]) for f in recorded[0]},
    )

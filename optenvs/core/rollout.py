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

from .checkpoint import Window, check_checkpoint
from .configuration import actor, check_actor, check_origin
from .env import Action, OptimizationEnv, State
from .errors import check_oracles, explained
from .evaluations import due, until_next
from .ledger import Ledger
from .problems import as_problem
from .random import Keys, fold_in, keys_from_seed
from .stepper import Entry, Fused, History, Idle, Place, Stepper, Trees, finished, first_order, may_hold
from .struct import Named, detach, replace, static, struct, tree_map
from .threads import Threads
from .work import find, ledger_at

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
        work: what the agent has counted itself, at the same times as ``calls``: ``run.work["program"]`` has
            shape ``(T + 1, B)``. No budget counts it. ``None`` for an agent whose memory has no ledger in a
            field ``work``, see :mod:`optenvs.core.work`.
        agent: whose memory ``agent_state`` is, by the class; empty for one that was made by hand.
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
    work: Ledger | None = None
    agent: str = static(default="")

    @property
    def diverged(self) -> Bool[Tensor, "B"]:
        """Instances that ended because the merit was no finite number."""
        return self.state.diverged

    @property
    def finished(self) -> Bool[Tensor, "B"]:
        """Instances that ended because the agent said that it had finished."""
        said = finished(self.agent_state)
        return torch.zeros_like(self.state.truncated) if said is None else said

    @property
    def outside(self) -> Float[Tensor, "B"]:
        """How many recommendations were outside of the bounds, and earned no credit; 0 without bounds."""
        told = self.metrics.get("outside")
        return torch.zeros_like(self.merit[0]) if told is None else (told * ~_over_before(self.done)).sum(0)


def _over_before(done: Bool[Tensor, "T1 B"]) -> Bool[Tensor, "T1 B"]:
    """Whether an episode was over before an entry, which then repeats an earlier one."""
    return torch.cat((torch.zeros_like(done[:1]), done[:-1]))


def agent_keys(keys: Keys) -> Keys:
    """The keys of the agents that meet the instances ``keys``."""
    return fold_in(keys, _AGENT_STREAM)


def rollout(
    env: OptimizationEnv | Any,
    agent: SupportsActing,
    *,
    seed: int = 0,
    batch: int = 1,
    steps: int | None = None,
    keys: Keys | None = None,
    record: tuple[str, ...] = (),
    resume: Run | None = None,
    on_step: Callable[[int, State], None] | None = None,
    compile: int = 0,
) -> Run:
    """Let ``agent`` solve ``batch`` instances of ``env`` for ``steps`` queries, without a graph.

    Args:
        env: the problem: ``optenvs.make(id)`` gives one. The id, or what ``gym.make`` made of it, will do:
            see :func:`optenvs.core.problems.as_problem`.
        agent: anything with ``init`` and ``act`` (see ``agents``).
        seed: names the instances; instance i is the same at every batch size.
        batch: how many instances.
        steps: how many queries after the first. By default as many as the budget pays: where cost varies, and
            where the environment ends its episodes itself, until all of them are over.
        keys: int64 ``(B,)`` in place of ``seed`` and ``batch``.
        record: observation fields to keep, for example ``("point",)``, and what the environment offers
            besides: ``"recommendation"`` of swarms and networks, ``"best_point"`` of surrogates.
        resume: a run to go on from, in place of a new start; of an environment of the same class and
            keywords, and of an agent of the same class, whose hyper-parameters may be others. For another
            agent give ``dataclasses.replace(run, agent_state=..., agent="")``, with what its ``init`` makes.
        on_step: called with the step's number and the state after it (for a progress bar).
        compile: how many steps are compiled into one function; 0 for none. Compiling takes some ten seconds
            a step (again, where rows end before others) and is worth it for long runs of small steps, and
            for those that draw many numbers. The function is kept for these two objects, which must compute
            with torch alone and are not to change. ``on_step`` is then called once for so many steps, and
            ``seconds`` are spread evenly.

    Raises:
        OracleMismatch: the agent needs an oracle that the environment does not answer.
        ValueError: no ``steps`` and no budget, an unknown ``record`` field, a negative ``compile``, or a run
            to go on from that is of another environment or agent.
        RuntimeError: the agent asks nothing that is billed, for a thousand steps of a run that only the
            budget ends.
        TypeError: compiled, an agent or environment that looks at numbers to decide, or computes on the host.
    """
    if isinstance(compile, bool) or not isinstance(compile, int) or compile < 0:
        raise ValueError(f"compile: expected a number of steps >= 0, got {compile!r}")
    env = as_problem(env)
    with torch.no_grad(), Threads(env, _rows(batch, keys, resume)):
        return _drive(env, agent, seed, batch, steps, keys, record, resume, on_step, compile=compile)


def unroll(
    env: OptimizationEnv | Any,
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
    checkpoint: int = 0,
) -> Run:
    """:func:`rollout` with an autograd graph from the agent's parameters to metrics and rewards.

    With ``second_order=False`` the oracle's answers enter the agent as constants (the usual first-order
    choice of learned optimizers; the point itself keeps its gradient). For long episodes see
    :func:`unroll_windows`, and ``checkpoint``. A backward pass runs on as many threads as the episode did
    within ``optenvs.core.Threads(env, batch)``.

    Where a row diverges, the gradient of parameters that rows share is seldom finite, even of a loss that
    leaves that row out: its slopes overflow, and 0 times infinity is no number. Parameters with one set a row
    keep it apart: give the agent ``weights.expand(batch, -1)``, which learned agents take as well,
    differentiate by that, and add up the rows ``~run.diverged``. It is so in :mod:`optenvs.core.nested`, too.

    With ``checkpoint`` so many steps at a time are computed again in the backward pass, for the same gradient
    (to rounding) from less memory: only what is known between such windows is kept, and the graph of one of
    them. The least memory is at about the root of ``steps``; a gradient then takes about twice as long, and
    cannot be differentiated again. ``on_step`` is called once a window, whose steps share its ``seconds``.

    Raises:
        TypeError: the environment is not differentiable; with ``checkpoint``, an agent that computes on the
            host, or a transform of ``torch.func``. ValueError: a negative ``checkpoint``.
        RuntimeError: in a backward pass with ``checkpoint``, of an agent or environment that is not pure.
    """
    env = as_problem(env)
    if not env.differentiable:
        raise TypeError(f"{env.name} is not differentiable; train by evolution strategies or RL")
    check_checkpoint(checkpoint, agent)
    seen = None if second_order else first_order(env)
    with torch.enable_grad(), Threads(env, _rows(batch, keys, resume)):
        return _drive(
            env, agent, seed, batch, steps, keys, record, resume, on_step, seen=seen, checkpoint=checkpoint
        )


def unroll_windows(
    env: OptimizationEnv | Any,
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
    env = as_problem(env)
    run: Run | None = options.pop("resume", None)
    for first in range(0, steps, truncation):
        run = unroll(env, agent, steps=min(truncation, steps - first), resume=run, **options)
        yield run
        run = dataclasses.replace(run, state=detach(run.state), agent_state=detach(run.agent_state))


def _rows(batch: int, keys: Keys | None, resume: Run | None) -> int:
    """How many instances run."""
    return len(resume.state.k) if resume is not None else batch if keys is None else len(keys)


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
    seen: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
    compile: int = 0,
    checkpoint: int = 0,
) -> Run:
    stepper = Stepper(env, agent, record, seen)
    place = Place(_begin(stepper, seed, batch, keys, resume))
    stepper = dataclasses.replace(stepper, work=find(place.trees[0], len(place.state.k)))
    limit = _limit(env, steps)
    known = sorted(env.recordable(place.state) | place.state.observation)
    unknown = [field for field in record if field not in known]
    if unknown:
        raise ValueError(f"record: no field {unknown[0]!r} in {known}")

    moments = env.evaluations
    # A resumed run goes on with the clock of its rows, which entered it in lockstep.
    clock = 0 if resume is None or moments is None else int(place.state.k.max())
    idle = Idle(stepper) if limit == math.inf and not env.ends else None
    history, seconds, spent = History(stepper.entry(place.trees)), [0.0], 0.0
    fused: dict[bool, Fused] = {}
    step = 0
    while step < limit:
        done = history.last.done
        over = may_hold(done)
        if over and (limit == math.inf or done.device.type == "cpu") and _all_done(done, step):
            break
        room = min(limit - step, until_next(moments, clock + step))
        # the first step of a run is never compiled: it fills what an environment or an agent caches
        at_once = step > 0 and 0 < compile <= room
        if at_once and over not in fused:
            fused[over] = stepper.fused(place, compile, over)
        start = time.perf_counter()
        if at_once:
            place, entries = fused[over](place)
        elif checkpoint:
            most = int(min(checkpoint, limit - step))
            place, entries = Window(stepper, clock + step, most).checkpointed(place)
        else:
            now = stepper if step else dataclasses.replace(stepper, first=True)
            place = Place(now.step(*place.trees, over))
            entries = [stepper.entry(place.trees)]
        spent, begun = spent + time.perf_counter() - start, spent
        seconds += [begun + (spent - begun) * (i + 1) / len(entries) for i in range(len(entries))]
        step += len(entries)
        if not checkpoint and due(moments, clock + step):
            place = Place((place.trees[0], env.evaluate(place.state)))
            entries[-1] = stepper.entry(place.trees)
        history.extend(entries)
        if idle is not None:
            idle.look(step, place)
        if on_step is not None:
            on_step(step, place.state)
    return _assemble(history.stacked(), seconds, limit, place, stepper)


def _begin(stepper: Stepper, seed: int, batch: int, keys: Keys | None, resume: Run | None) -> Trees:
    """The agent's memory of the first answer and that, or those of the run to go on from."""
    env, agent = stepper.env, stepper.agent
    if not isinstance(agent, SupportsActing) or isinstance(agent, type):
        came = f"the class {agent.__name__}" if isinstance(agent, type) else type(agent).__name__
        raise TypeError(
            f"agent: expected an object with init and act, got {came}; "
            "agents.from_function makes one of a plain function"
        )
    check_oracles(type(agent).__name__, getattr(agent, "needs", ()), env.name, env.oracles)
    if resume is not None:
        check_origin("resume", env.configuration, resume.state.origin)
        check_actor("resume", actor(agent), resume.agent)
        return resume.agent_state, resume.state
    if keys is None:
        keys = keys_from_seed(seed, batch, env.torch_device)
    state = env.reset(keys)
    sight = stepper.sight(state)
    try:
        return agent.init(state.problem, sight, agent_keys(keys)), state
    except KeyError as error:
        raise explained(error, agent, env.name, sight) from error


def _limit(env: OptimizationEnv, steps: int | None) -> float:
    """How many steps at most."""
    if steps is not None:
        if steps < 0:
            raise ValueError(f"steps: expected a whole number >= 0, got {steps}")
        return steps
    if env.fixed_cost and env.horizon is not None:
        return env.horizon
    if not env.ends and not env.limits:
        raise ValueError("steps: needed for an environment without a budget")
    return math.inf


def _all_done(done: Tensor, step: int) -> bool:
    """Whether no episode goes on. On an accelerator it is asked now and then: the answer must come back."""
    return (done.device.type == "cpu" or step % _PATIENCE == 0) and bool(done.all())


def _assemble(record: Entry, seconds: list[float], limit: float, place: Place, stepper: Stepper) -> Run:
    """The record with ``limit`` steps: cut behind the end of all episodes, or the last entry repeated."""
    agent_state, state = place.trees
    path = stepper.work
    if limit == math.inf:
        limit = int((~record.done.all(-1)).sum())
    steps, times = int(limit), torch.tensor(seconds, dtype=torch.float64)
    reward = record.reward[1 : steps + 1]
    earned = torch.cat((reward, reward.new_zeros((steps - len(reward), *reward.shape[1:]))))

    def long(x: Tensor) -> Tensor:
        missing = steps + 1 - len(x)
        return torch.cat((x, x[-1:].expand(missing, *x.shape[1:]))) if missing > 0 else x[: steps + 1]

    metrics, counts, merit, best, _, done, recorded, done_itself = tree_map(long, record)
    work = None if path is None else replace(ledger_at(agent_state, path), counts=done_itself)
    return Run(
        metrics=Named(metrics),
        calls=Ledger(counts=counts, kinds=state.calls.kinds),
        merit=merit,
        best=best,
        reward=earned,
        done=done,
        seconds=long(times),
        state=state,
        agent_state=agent_state,
        recorded=Named(recorded),
        work=work,
        agent=actor(stepper.agent),
    )

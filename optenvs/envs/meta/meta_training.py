"""Meta-training: the weights of a learned rule are the point, training by that rule on tasks is the oracle.

* State: for each shape class the inner episodes and what the rule remembers of them, as ``(B, P, ...)``: P
  times the memory of one episode of the task and of the rule. PES alone keeps P more vectors of D weights.
  Noise is drawn again from the keys, and never kept. Whole lifetimes keep nothing.
* Query: a point of weights ``(D,)``; for ``oracle="fitness"`` a population ``(P, D)`` and the weights that
  are recommended.
* Answer: the loss of a window of P inner episodes, or of P lifetimes (``value``), and an estimate of its
  gradient, see :mod:`.asking`; or the loss of each member's lifetime.
* Bill: ``inner``, the queries of tasks that were asked (gradients, first answers too); ``backward``, the
  inner steps that were differentiated; ``lifetimes`` begun; and the kinds of the answer. ``bill`` is the
  most that a query costs: an episode ends when that cannot be paid.
* Merit: the mean loss of whole lifetimes on held-out tasks, the same for all instances, measured every
  ``evaluation_period`` queries and carried between; unbilled. The losses of windows do not compare with
  each other, as they are of different inner times; until there is a measurement, the merit is one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.env import Action, Answer, Instance, OptimizationEnv, State
from optenvs.core.errors import check_oracles, only_part, parts, suggest
from optenvs.core.evaluations import Evaluations
from optenvs.core.random import Keys, keys_from_seed
from optenvs.core.rewards import REWARDS, Progress
from optenvs.core.spaces import box
from optenvs.core.struct import replace, rows, static, struct
from optenvs.core.tracing import tracing

from .asking import ALIASES, ESTIMATORS, Cost, Estimator, Found, Setting, begin, fitness
from .classes import by_class, put
from .families import Split, family, split_of
from .particles import Lengths, Particles
from .settings import check_rule, lengths_of, prepared, settings

ORACLES = ("gradient", "fitness")
RECORDED = 10
"""Inner steps of a query up to which it is recorded and compiled."""


@struct
class Known:
    """What an agent may know: members of a query, and who recommends."""

    particles: int = static()
    recommend: str = static()


@struct
class Memory:
    """What is kept from query to query.

    Attributes:
        weights: those that are judged, ``(B, D)``.
        measured: whether they, or earlier ones, have been measured, ``(B,)``.
        evaluation: the last measurement.
        classes: where the particles of each shape class stand; empty before the first query, and where a
            query plays whole lifetimes.
    """

    weights: Float[Tensor, "B D"]
    measured: Bool[Tensor, "B"]
    evaluation: dict[str, Tensor]
    classes: tuple[Particles, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class MetaTraining(OptimizationEnv):
    """A rule trained on a family of tasks.

    All instances begin with the rule's own weights; they differ in the tasks that they draw.

    Args:
        tasks: the family: an id (whose keywords may then stand beside these), an environment, a table, or a
            list of these, see :mod:`.families`. With several shape classes each query draws one, the same for
            all instances and particles, which looks at numbers: nothing then compiles it, or maps over it.
        rule: what is trained: an agent with ``flat``, ``size`` and ``weights`` (every learned one), or in
            ``optenvs.make`` the name of one, or a table of its ``name`` and keywords.
        oracle: ``gradient``, or ``fitness`` for the losses of a population, which plays whole lifetimes
            whatever the estimator and its keywords.
        estimator: of the gradient: ``truncated_bptt``, ``bptt``, ``full_es``, ``truncated_es``, ``pes`` or
            ``noise_reuse_es`` (also ``es_single``).
        particles: P: inner episodes at once, two for each pair of an evolution strategy; members of a
            population.
        window: W: the inner steps of a query, where it does not play whole lifetimes.
        length: the steps of a lifetime: a number, or a pair between which each draws its own, log-uniformly.
        staggered: whether the first episodes are cut short at random, so that particles do not begin anew
            in lockstep.
        std: the standard deviation of perturbations.
        clip: where the difference of a pair's losses is cut off; of backpropagation, the norm of a particle's
            gradient. ``None`` for nowhere.
        sign: whether the sign of a pair's difference takes its place.
        second_order: whether backpropagation goes through the gradients that tasks answer; without it they
            are constants to the rule.
        paired: whether members 2j and 2j + 1 of a population have one key: task, start, data, length.
        meta_loss: ``average``, ``sum``, ``last``, ``minimum`` or ``recomputed_last`` of the values of an
            episode, or with ``log_`` before it the logarithm of that, see :mod:`.losses`.
        part: of which data values are: ``train``, or ``validation``: the test part of a task with data.
        normaliser: of values: ``task``, ``none``, ``classification``, ``parametric``, see
            :func:`.losses.normaliser_of`.
        worst: what cuts off values and stands for those that are no number, where a normaliser knows none.
        held_out: the split on which weights are judged: ``seeds``, ``horizons``, one of other families
            (``optenvs.list_splits()``), or a table of ``seed``, ``stretch`` and ``tasks``, see
            :mod:`.families`.
        held_out_tasks: how many tasks of each shape class of it.
        evaluation_period: queries between two measurements on them.
        budget: as everywhere; a number counts ``inner`` queries.
        reward, tolerance, device, dtype: see :class:`optenvs.core.OptimizationEnv`; the tasks' are these.
    """

    tasks: Any = dataclasses.field(default=(), metadata={"environment": True})
    rule: Any = dataclasses.field(default=None, metadata={"agent": True})
    oracle: str = "gradient"
    estimator: str = "truncated_bptt"
    particles: int = 8
    window: int = 10
    length: int | tuple[int, int] = 50
    staggered: bool = True
    std: float = 0.01
    clip: float | None = None
    sign: bool = False
    second_order: bool = False
    paired: bool = True
    meta_loss: str = "average"
    part: str = "train"
    normaliser: str = "task"
    worst: float | None = None
    held_out: Any = "seeds"
    held_out_tasks: int = 16
    evaluation_period: Evaluations = 10
    budget: int | Mapping[str, int] | None = 1_000_000
    dtype: str = "float64"

    painter = "optenvs.envs.meta.picture:meta_loss"
    meanings: ClassVar = {
        "action": "the weights of the rule",
        "query": "the weights of each member of the population",
        "recommendation": "the weights that are judged",
        "point": "the weights that were asked",
        "value": "the loss of the inner episodes that were played",
        "gradient": "the estimate of the gradient of that loss",
        "held_out": "the mean loss of lifetimes on held-out tasks, as last measured",
        "failures": "the share of held-out lifetimes that diverged, as last measured",
        "meta_loss": "the loss of the inner episodes that were played, the mean of a population's",
        "diverged": "the share of the inner episodes that diverged in this query",
        "lost": "the share of the particles whose gradient was no number, and counted as 0",
    }

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", family(self.tasks))
        object.__setattr__(self, "held_out", split_of(self.held_out))
        if self.oracle not in ORACLES:
            raise ValueError(f"oracle: expected one of {', '.join(ORACLES)}, got {self.oracle!r}")
        if self.estimator not in {*ESTIMATORS, *ALIASES}:
            raise ValueError(f"estimator: got {self.estimator!r}{suggest(self.estimator, ESTIMATORS)}")
        check_rule(self.rule)
        for task in self.tasks:
            check_oracles(type(self.rule).__name__, getattr(self.rule, "needs", ()), task.name, task.oracles)
        _ = self.settings, self.judges
        super().__post_init__()

    @cached_property
    def method(self) -> Estimator:
        """The estimator."""
        return ESTIMATORS[ALIASES.get(self.estimator, self.estimator)]

    @property
    def whole(self) -> bool:
        """Whether a query plays whole lifetimes, and keeps no episodes."""
        return self.oracle == "fitness" or self.method.whole

    @property
    def spreads(self) -> bool:
        """Whether its lifetimes can be played elsewhere, see :class:`optenvs.wrappers.Spread`."""
        return self.whole and (self.oracle == "fitness" or self.method.pairs)

    @cached_property
    def lengths(self) -> Lengths:
        """The steps of lifetimes."""
        return lengths_of(self.length, self.staggered and not self.whole)

    @cached_property
    def settings(self) -> tuple[Setting, ...]:
        """What each shape class is asked with."""
        return settings(self)

    @cached_property
    def judges(self) -> tuple[Setting, ...]:
        """What weights are judged with: the shape classes of the split."""
        split: Split = self.held_out
        longest = split.stretch * self.lengths.high
        tasks = family(split.tasks, "held_out: tasks") if split.tasks else self.tasks
        own = not split.tasks
        return tuple(prepared(self, task, Lengths(longest, longest), True, own) for task in tasks)

    @property
    def differentiable(self) -> bool:
        return False

    @property
    def vectorizable(self) -> bool:
        return len(self.tasks) == 1 and all(task.vectorizable for task in self.tasks)

    @property
    def bounded_below(self) -> bool:
        return False

    @property
    def measures_merit(self) -> bool:
        return True

    @property
    def fixed_cost(self) -> bool:
        return False

    @property
    def oracles(self) -> tuple[str, ...]:
        return ("value", "gradient") if self.oracle == "gradient" else ("value", "swarm")

    @cached_property
    def bill(self) -> dict[str, int]:  # type: ignore[override]
        count, whole = self.particles, self.whole
        dearest = 0
        for setting in self.settings:
            cost, first = _prices(setting.task)
            steps = self.lengths.high if whole else self.window
            dearest = max(dearest, steps * cost + first)
        played = count if whole else round(count * self.method.played)
        answers = {"value": 1, "gradient": 1} if self.oracle == "gradient" else {"value": count, "swarm": 1}
        steps = self.lengths.high if whole else self.window
        backward = played * steps if self.oracle == "gradient" and not self.method.pairs else 0
        return {"inner": played * dearest, "backward": backward, "lifetimes": played} | answers

    @cached_property
    def first_bill(self) -> dict[str, int]:  # type: ignore[override]
        if self.whole:
            return self.bill
        kept = round(self.particles * self.method.kept)
        begun = sum(kept * _prices(setting.task)[1] for setting in self.settings)
        more = {"inner": begun, "lifetimes": kept * len(self.settings)}
        return {kind: cost + more.get(kind, 0) for kind, cost in self.bill.items()}

    @property
    def least_bill(self) -> dict[str, int]:
        return self.bill

    @cached_property
    def numbers(self) -> int:
        inner = max(setting.task.numbers for setting in self.settings)
        return self.particles * max(inner, self.rule.size)

    def action_fields(self) -> spaces.Box | dict[str, spaces.Space]:
        point = box((self.rule.size,), self.dtype)
        if self.oracle == "gradient":
            return point
        return {"query": box((self.particles, self.rule.size), self.dtype), "recommendation": point}

    def observation_fields(self) -> dict[str, spaces.Space]:
        size, count = self.rule.size, self.particles
        if self.oracle == "gradient":
            shapes: dict[str, tuple[int, ...]] = {"point": (size,), "value": (1,), "gradient": (size,)}
        else:
            shapes = {"point": (count, size), "value": (count, 1)}
        return {name: box(shape, self.dtype) for name, shape in shapes.items()}

    def sample(self, keys: Keys) -> Instance:
        weights = self.rule.flat.detach().to(self.torch_device, self.torch_dtype).repeat(len(keys), 1)
        start: Action = weights
        if self.oracle == "fitness":
            query = weights.unsqueeze(1).repeat(1, self.particles, 1)
            start = {"query": query, "recommendation": weights}
        nothing = torch.full_like(weights[:, 0], torch.nan)
        return Instance(
            problem=Known(particles=self.particles, recommend="agent"),
            hidden=Memory(
                weights=weights,
                measured=torch.zeros_like(keys, dtype=torch.bool),
                evaluation={"held_out": nothing, "failures": nothing},
            ),
            start=start,
        )

    def answer(self, state: State, action: Action) -> Answer:
        if tracing() and (self.lengths.high if self.whole else self.window) > RECORDED:
            raise TypeError(
                f"compile: a query of {self.name} plays more than {RECORDED} inner steps, which are not "
                "compiled; a shorter window, or compile=0"
            )
        memory: Memory = state.hidden
        if self.oracle == "fitness":
            asked = parts(self.name, action, ("query", "recommendation"))
            weights = asked["recommendation"]
            losses, cost, diverged = self._fitnesses(state, asked["query"])
            value, classes = losses.mean(1), ()
            observation = {"point": asked["query"], "value": losses.unsqueeze(-1)}
            metrics = {"meta_loss": value, "diverged": diverged}
        else:
            weights = only_part(self.name, action)
            found, classes, cost = self._asked(state, weights)
            value = found.value
            observation = {"point": weights, "value": value.unsqueeze(-1), "gradient": found.gradient}
            metrics = {"meta_loss": value, "diverged": found.diverged, "lost": found.lost}
        merit = torch.where(memory.measured, state.merit, value)
        one = torch.ones_like(state.k)
        calls = {kind: one * self.bill[kind] for kind in self.oracles}
        return Answer(
            observation=observation,
            merit=merit,
            metrics=memory.evaluation | metrics,
            solved=None if self.tolerance is None else memory.measured & (merit <= self.tolerance),
            hidden=replace(memory, weights=weights, classes=classes),
            calls=calls | {"inner": cost.inner, "backward": cost.backward, "lifetimes": cost.lifetimes},
        )

    def _fitnesses(self, state: State, points: Tensor) -> tuple[Tensor, Cost, Tensor]:
        def ask(number: int, some: Tensor | None) -> tuple[Tensor, Cost, Tensor]:
            known = points, state.key, state.k
            known = known if some is None else rows(known, some)
            return fitness(self.settings[number], *known, self.paired)

        return by_class(state.k, len(self.settings), ask)

    def _asked(self, state: State, weights: Tensor) -> tuple[Found, tuple[Particles, ...], Cost]:
        """The answer, where the particles stand then, and the whole cost."""
        classes, begun = list(state.hidden.classes), []
        if not classes and not self.whole:
            for setting in self.settings:
                particles, cost = begin(setting, self.method, weights, state.key)
                classes.append(particles)
                begun.append(cost)

        def ask(number: int, some: Tensor | None) -> Found:
            held = classes[number] if classes else None
            known = held, weights, state.key, state.k
            known = known if some is None else rows(known, some)
            found = self.method.ask(self.settings[number], *known)
            if found.particles is not None:
                moved = found.particles
                classes[number] = moved if some is None else put(held, some, moved)
            return replace(found, particles=None)

        found = by_class(state.k, len(self.settings), ask)
        return found, tuple(classes), sum(begun, start=found.cost)

    def evaluate(self, state: State) -> State:
        memory: Memory = state.hidden
        with torch.no_grad():
            loss, failures = self.judged(memory.weights.detach())
        best = torch.where(memory.measured, torch.minimum(state.best, loss), loss)
        before = torch.where(memory.measured, state.best, loss)
        evaluation = {"held_out": loss, "failures": failures}
        return replace(
            state,
            merit=loss,
            best=best,
            reward=REWARDS[self.reward](Progress(loss, best, before, state.floor)),
            metrics=state.metrics | evaluation,
            hidden=replace(memory, measured=torch.ones_like(memory.measured), evaluation=evaluation),
        )

    def judged(self, weights: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
        """The mean held-out loss of weights, and the share of lifetimes that diverged."""
        batch, count = len(weights), self.held_out_tasks
        keys = keys_from_seed(self.held_out.seed, count, self.torch_device).repeat(batch)
        found = []
        for setting in self.judges:
            played = setting.play(weights.repeat_interleave(count, 0), keys)
            told = torch.stack((played.loss, played.diverged.to(weights.dtype)), -1)
            found.append(told.unflatten(0, (batch, count)).mean(1))
        return tuple(torch.stack(found).mean(0).unbind(-1))  # type: ignore[return-value]

    def recordable(self, state: State) -> dict[str, Tensor]:
        """``recommendation``: the weights that are judged, ``(B, D)``."""
        return {"recommendation": state.hidden.weights}


def _prices(task: OptimizationEnv) -> tuple[int, int]:
    """What a query and a first one cost of the task's main oracle."""
    main = next(iter(task.bill))
    return task.bill[main], task.first_bill.get(main, 0)

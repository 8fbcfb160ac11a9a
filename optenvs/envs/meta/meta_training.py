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
from jaxtyping import Float
from torch import Tensor

from optenvs.core.env import Action, Answer, OptimizationEnv, State
from optenvs.core.errors import check_oracles, suggest
from optenvs.core.random import Keys, keys_from_seed
from optenvs.core.struct import replace, rows, struct
from optenvs.core.tracing import tracing

from .asking import ALIASES, ESTIMATORS, Cost, Estimator, Found, Setting, begin, fitness
from .classes import by_class, put
from .families import Split, family, split_of
from .outer import ORACLES, Judged, Played, RuleSearch
from .particles import Lengths, Particles
from .settings import check_rule, lengths_of, prepared, settings

RECORDED = 10
"""Inner steps of a query up to which it is recorded and compiled."""


@struct
class Memory(Judged):
    """What is kept from query to query.

    Attributes:
        classes: where the particles of each shape class stand; empty before the first query, and where a
            query plays whole lifetimes.
    """

    classes: tuple[Particles, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class MetaTraining(RuleSearch):
    """A rule trained on a family of tasks.

    All instances begin with the rule's own weights; they differ in the tasks that they draw.

    Args:
        tasks: the family: an id (whose keywords may then stand beside these), an environment, a table, or a
            list of these, see :mod:`.families`. With several shape classes each query draws one, the same for
            all instances and particles, which looks at numbers: nothing then compiles it, or maps over it.
        rule: what is trained: an agent with ``flat``, ``size`` and ``weights`` (every learned one), or in
            ``optenvs.make`` the name of one, or a table of its ``name`` and keywords.
        oracle: ``gradient``, or ``fitness`` for the losses of a population, which plays whole lifetimes and
            has neither an estimator nor its keywords.
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
    budget: int | Mapping[str, int] | None = 1_000_000

    keeps = Memory
    measurements = ("held_out", "failures")
    painter = "optenvs.envs.meta.picture:meta_loss"
    meanings: ClassVar = {
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
    def vectorizable(self) -> bool:
        return len(self.tasks) == 1 and all(task.vectorizable for task in self.tasks)

    @property
    def bounded_below(self) -> bool:
        return False

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

    @cached_property
    def numbers(self) -> int:
        inner = max(setting.task.numbers for setting in self.settings)
        return self.particles * max(inner, self.rule.size)

    @property
    def size(self) -> int:
        return self.rule.size

    def begun(self, keys: Keys) -> Float[Tensor, "B D"]:
        return self.rule.flat.detach().to(self.torch_device, self.torch_dtype).repeat(len(keys), 1)

    def answer(self, state: State, action: Action) -> Answer:
        if tracing() and (self.lengths.high if self.whole else self.window) > RECORDED:
            raise TypeError(
                f"compile: a query of {self.name} plays more than {RECORDED} inner steps, which are not "
                "compiled; a shorter window, or compile=0"
            )
        return super().answer(state, action)

    def population(self, state: State, query: Float[Tensor, "B P D"]) -> Played:
        losses, cost, diverged = self._fitnesses(state, query)
        value = losses.mean(1)
        return Played(
            observation={"point": query, "value": losses.unsqueeze(-1)},
            metrics={"meta_loss": value, "diverged": diverged},
            calls=dict(vars(cost)),
            unmeasured=value,
            kept={"classes": ()},
        )

    def slope(self, state: State, weights: Float[Tensor, "B D"]) -> Played:
        found, classes, cost = self._asked(state, weights)
        return Played(
            observation={"point": weights, "value": found.value.unsqueeze(-1), "gradient": found.gradient},
            metrics={"meta_loss": found.value, "diverged": found.diverged, "lost": found.lost},
            calls=dict(vars(cost)),
            unmeasured=found.value,
            kept={"classes": classes},
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

    def held(self, weights: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], dict[str, Tensor]]:
        loss, failures = self.judged(weights)
        return loss, {"held_out": loss, "failures": failures}

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


def _prices(task: OptimizationEnv) -> tuple[int, int]:
    """What a query and a first one cost of the task's main oracle."""
    main = next(iter(task.bill))
    return task.bill[main], task.first_bill.get(main, 0)

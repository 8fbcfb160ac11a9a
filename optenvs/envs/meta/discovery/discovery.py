"""Discovery of rules of reinforcement learning: a rule's weights are the point, learners' lives the oracle.

Jackson et al. 2024 (arXiv 2402.05828). Learners with tables are born in grid worlds, updated N times by the
rule, and judged by what their last policy earns.

* State: for ``oracle="gradient"`` P learners with their levels, ``(B, P, ...)``; whole lives keep nothing.
* Query: for ``fitness`` a population of weights ``(P, D)`` and those that are recommended; for ``gradient``
  one point ``(D,)``.
* Answer: minus the mean return of each member's learners (``value``: less is better); or the loss of the
  point's P learners after a few updates and its gradient, see :mod:`.surrogate`.
* Bill: ``lifetimes`` begun, ``interactions`` (environment steps), ``updates`` of learners that were
  differentiated, and the kinds of the answer. ``bill`` is the most that a query costs: an episode ends when
  that cannot be paid.
* Merit: 1 minus the share of the optimum that learners earn on held-out levels, the same for all instances,
  both exact, by dynamic programming; measured every ``evaluation_period`` queries and carried between,
  unbilled; 1 before that.
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

from optenvs.core.env import State
from optenvs.core.errors import suggest
from optenvs.core.random import Keys, as_seed, fold_in, keys_from_seed
from optenvs.core.struct import tree_map
from optenvs.dynamics.grid_levels import Levels, log_integer
from optenvs.dynamics.grid_value import normalised, optimum, policy_value
from optenvs.envs.meta.outer import ORACLES, Played, RuleSearch
from optenvs.models.tabular.rulebook import make_rule
from optenvs.models.tabular.rules import Optimiser, Rule

from .life import Outcome, live
from .lifetime import fixed_levels, life_range
from .surrogate import Learners, Memory, Setting, ask, begin, renewed

STARTS = ("normal", "zeros")
_TOLD = ("return", "push", "entropy", "broken")
"""Metrics of what was played."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Discovery(RuleSearch):
    """A rule of reinforcement learning discovered in grid worlds.

    The defaults are those of a discovery in a minute on two cores. The published size is
    ``level="all_vrandlife"``, ``rule={"name": "lpg", "timed": True}``, ``particles=1024``, ``workers=64``,
    ``rollout=20``, ``start="zeros"``.

    Args:
        rule: what is discovered: ``lpg`` (a learned policy gradient) or ``lpo`` (a learned drift), or a table
            of such a name and its options, see :mod:`optenvs.models.tabular.rulebook`: ``timed`` for the
            temporally aware form, ``raw_time``, ``like_ppo``, ``hidden``, ...
        level: where learners live, a name of :data:`optenvs.dynamics.grid_levels.LEVELS` or a table of
            keywords beside ``base``, such a name.
        oracle: ``fitness``, of the members of a population, or ``gradient``.
        particles: members of a population, or learners at once.
        lives: of each member of a population.
        paired: whether members 2j and 2j + 1 of a population have one key: levels, N, birth.
        common_luck: whether such a pair also has one luck, in place of luck of its own for each.
        workers: E, of each learner.
        rollout: T, the steps of each worker between updates.
        lifetime: N: the updates of a life: a number, a pair between which each draws its own log-uniformly,
            or ``None`` for the level's.
        updates: K, of a query for the gradient.
        actor_rate: of the learners' policies.
        critic_rate: of their critics.
        clip: the norm to which each gradient of a learner is clipped before.
        start: the weights to begin with: ``normal`` numbers with variance 1 / fan-in, or ``zeros``.
        held_out: the seed of the levels on which weights are judged.
        held_out_levels: how many.
        held_out_lifetime: N of the lives there; ``None``: the longest of ``lifetime``.
        evaluation_period: queries between two measurements on them.
        budget: as everywhere; a number counts lifetimes.
        reward, tolerance, device, dtype: see :class:`optenvs.core.OptimizationEnv`.
    """

    rule: Any = dataclasses.field(
        default_factory=lambda: {
            "name": "lpg",
            "timed": True,
            "unit": "updates",
            "categories": 4,
            "embedding": 4,
            "hidden": 8,
        }
    )
    level: Any = "tiny"
    oracle: str = "fitness"
    particles: int = 128
    lives: int = 1
    paired: bool = True
    common_luck: bool = False
    workers: int = 8
    rollout: int = 10
    lifetime: int | tuple[int, int] | None = None
    updates: int = 5
    actor_rate: float = 40.0
    critic_rate: float = 4.0
    clip: float = 0.5
    start: str = "normal"
    held_out: int = 1_000_001
    held_out_levels: int = 64
    held_out_lifetime: int | None = None
    budget: int | Mapping[str, int] | None = 20_480

    keeps = Memory
    measurements = ("held_out", "share", "optimum")
    painter = "optenvs.envs.meta.discovery.picture:discovery"
    meanings: ClassVar = {
        "value": "minus the mean return of what the rule's learners have become, or the loss of the point",
        "gradient": "the gradient of that loss",
        "held_out": "the mean return of learners on held-out levels, as last measured",
        "share": "the mean share of the optimum that they earn, as last measured",
        "optimum": "the mean greatest return on these levels",
        "return": "the mean return of the learners of this query; for the gradient the reward of a step",
        "push": "the mean size of what multiplies the slope of the policy's logarithm",
        "entropy": "the entropy of the learners' policies, in nats",
        "broken": "the share of learners whose numbers have been lost",
    }

    def __post_init__(self) -> None:
        _ = self.discovered, self.levels, self.life_range
        for name in ("particles", "lives", "workers", "rollout", "updates", "held_out_levels"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}: expected a whole number >= 1, got {value!r}")
        for name, known in (("oracle", ORACLES), ("start", STARTS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: got {getattr(self, name)!r}{suggest(getattr(self, name), known)}")
        for name in ("actor_rate", "critic_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a number > 0, got {getattr(self, name)!r}")
        self._check_pairs()
        if self.held_out_lifetime is not None and self.held_out_lifetime < 1:
            raise ValueError(f"held_out_lifetime: expected at least 1, got {self.held_out_lifetime!r}")
        try:
            as_seed(self.held_out)
        except ValueError as error:
            raise ValueError(f"held_out: {error}") from error
        passes = getattr(self.discovered, "minibatches", 1)
        if self.workers * self.rollout % passes:
            raise ValueError(
                f"rollout: {self.workers * self.rollout} transitions of an update cannot be cut into "
                f"{passes} minibatches"
            )
        super().__post_init__()

    def _check_pairs(self) -> None:
        """Refuse what a population alone has, and pairs of an odd one."""
        fits = self.oracle == "fitness"
        if fits and self.paired and self.particles % 2:
            raise ValueError(f"particles: expected an even number for pairs, got {self.particles}")
        if self.common_luck and not (fits and self.paired):
            raise ValueError("common_luck: expected the pairs of a population, which share it")
        if not fits and self.lives != 1:
            raise ValueError(f"lives: expected 1 for the gradient, which has particles, got {self.lives}")
        if not fits and not self.paired:
            raise ValueError("paired: the gradient has no pairs that could be undone")

    @cached_property
    def discovered(self) -> Rule:
        """The rule."""
        made = make_rule(self.rule)
        if not made.size:
            raise ValueError(f"rule: expected one with weights to discover, lpg or lpo, got {self.rule!r}")
        return made

    @cached_property
    def levels(self) -> Levels:
        """Where learners live."""
        return fixed_levels(self.level)

    @cached_property
    def life_range(self) -> tuple[int, int]:
        """The least and the greatest N."""
        return life_range(self.levels, self.lifetime)

    @cached_property
    def optimiser(self) -> Optimiser:
        """Of the learners."""
        return Optimiser(self.actor_rate, self.critic_rate, self.clip)

    @cached_property
    def setting(self) -> Setting:
        """What the gradient is asked with."""
        ends = self.life_range
        sizes = (self.workers, self.rollout, self.updates)
        return Setting(self.discovered, self.levels, ends, *sizes, self.optimiser)

    @cached_property
    def bill(self) -> dict[str, int]:  # type: ignore[override]
        each = self.workers * self.rollout
        if self.oracle == "fitness":
            lifetimes = self.particles * self.lives
            steps = lifetimes * (self.life_range[1] * each + self.workers * self.levels.longest)
            return {"lifetimes": lifetimes, "interactions": steps, "value": self.particles, "swarm": 1}
        steps = self.particles * (self.updates + 1) * each
        updates = self.particles * self.updates
        kinds = {"lifetimes": self.particles, "interactions": steps, "updates": updates}
        return kinds | {"value": 1, "gradient": 1}

    @cached_property
    def numbers(self) -> int:
        return self.particles * max(self.size, 5 * self.levels.states)

    @property
    def size(self) -> int:
        return self.discovered.size

    def begun(self, keys: Keys) -> Float[Tensor, "B D"]:
        weights = self.discovered.draw(keys, self.torch_dtype)
        return torch.zeros_like(weights) if self.start == "zeros" else weights

    def inner(self, keys: Keys) -> dict[str, Any]:
        if self.oracle == "fitness":
            return {"learners": None}
        own = self._numbered(keys, 1).flatten()
        return {"learners": _unfold(begin(self.setting, own, self.torch_dtype), len(keys))}

    def _numbered(self, keys: Keys, together: int) -> Tensor:
        """A key for each particle, ``(B, P)``; ``together`` of them, side by side, have one."""
        number = torch.arange(self.particles, device=keys.device) // together
        return fold_in(keys.unsqueeze(-1), number)

    def population(self, state: State, query: Float[Tensor, "B P D"]) -> Played:
        batch, lives = len(query), self.lives
        pairs = fold_in(self._numbered(state.key, 2 if self.paired else 1), state.k.unsqueeze(-1))
        births = fold_in(pairs.unsqueeze(-1), torch.arange(lives, device=query.device))
        luck = births
        if not self.common_luck:
            luck = fold_in(births, torch.arange(self.particles, device=query.device).unsqueeze(-1))
        outcome = self._lived(query.flatten(0, 1), births.flatten(), luck.flatten(), self.life_range)
        by_member = outcome.fitness.unflatten(0, (batch, self.particles, lives)).mean(-1)
        told = (outcome.fitness, outcome.push, outcome.entropy, outcome.broken.to(query.dtype))
        means = (value.unflatten(0, (batch, -1)).mean(1) for value in told)
        return Played(
            observation={"point": query, "value": -by_member.unsqueeze(-1)},
            metrics=dict(zip(_TOLD, means, strict=True)),
            calls={"interactions": outcome.steps.unflatten(0, (batch, -1)).sum(1)},
            unmeasured=torch.ones_like(by_member[:, 0]),
            kept={},
        )

    def _lived(self, weights: Tensor, births: Keys, luck: Keys, ends: tuple[int, int]) -> Outcome:
        level = self.levels.draw(births, self.torch_dtype)
        return live(
            self.discovered,
            weights,
            level,
            log_integer(births, "lifetime", ends),
            luck,
            workers=self.workers,
            steps=self.rollout,
            most=ends[1],
            longest=self.levels.longest,
            optimiser=self.optimiser,
        )

    def slope(self, state: State, weights: Float[Tensor, "B D"]) -> Played:
        batch = len(weights)
        learners = tree_map(lambda leaf: leaf.flatten(0, 1), state.hidden.learners)
        learners, born = renewed(self.setting, learners)
        found = ask(self.setting, learners, weights)
        begun = torch.where(state.k == 0, self.particles, born.unflatten(0, (batch, -1)).sum(1))
        told = (found.reward, found.push, found.entropy, found.lost)
        return Played(
            observation={"point": weights, "value": found.value.unsqueeze(-1), "gradient": found.gradient},
            metrics=dict(zip(_TOLD, told, strict=True)),
            calls={"lifetimes": begun},
            unmeasured=torch.ones_like(found.value),
            kept={"learners": _unfold(found.learners, batch)},
        )

    def held(self, weights: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], dict[str, Tensor]]:
        earned, share, best = self.judged(weights)
        return 1 - share, {"held_out": earned, "share": share, "optimum": best}

    def judged(
        self, weights: Float[Tensor, "B D"]
    ) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"], Float[Tensor, "B"]]:
        """On held-out levels: the mean return, the mean share of the optimum, and the mean optimum.

        Returns are the exact expectations of the learners' last policies.
        """
        batch, count = len(weights), self.held_out_levels
        keys = keys_from_seed(self.held_out, count, self.torch_device)
        longest = self.life_range[1] if self.held_out_lifetime is None else self.held_out_lifetime
        many = keys.repeat(batch)
        lived = self._lived(weights, many, many, (longest, longest))
        level = self.levels.draw(keys, self.torch_dtype)
        best = optimum(level, self.levels.longest).repeat(batch)
        level = tree_map(lambda leaf: leaf.repeat(batch, *(1,) * (leaf.ndim - 1)), level)
        value = policy_value(level, lived.learner.actor, self.levels.longest)
        value = torch.where(lived.broken, level.worst - 1, value)
        told = torch.stack((value, normalised(value, best), best), -1)
        earned, share, most = told.unflatten(0, (batch, count)).mean(1).unbind(-1)
        return earned, share, most


def _unfold(learners: Learners, batch: int) -> Learners:
    """``(B * P, ...)`` as ``(B, P, ...)``."""
    return tree_map(lambda leaf: leaf.unflatten(0, (batch, -1)), learners)

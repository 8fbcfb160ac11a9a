"""One learner's life as an episode: each query says how the next update is made, each answer is a window.

* State: the level, the learner's tables, its E workers, and the last window.
* Query: with ``query="rates"`` the logarithms of the learner's hyper-parameters for this update, for a rule
  by hand; with ``query="targets"`` the update itself: pi-hat and the logits of y-hat for each transition of
  the window shown, which the learner follows as it follows a learned policy gradient; with
  ``query="policy"`` the policy after the update, a table of logits: then the agent is the learner.
* Answer: the next window, of T steps of each worker with the updated policy: its mean return and, for
  targets and policies, its transitions.
* Bill: the environment steps of the window (``interactions``), one ``rollout``, and one of what was asked;
  the first answer is a window of the untrained policy.
* End: after N updates; N is the instance's own, and told as n / N and log N.
* Merit: 1 minus the share of the optimum that the present policy earns, both exact, by dynamic programming.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from jaxtyping import Float
from torch import Tensor

from optenvs.core.env import Action, Answer, Instance, OptimizationEnv, State
from optenvs.core.errors import only_part, parts, suggest
from optenvs.core.random import Keys
from optenvs.core.spaces import box
from optenvs.core.struct import replace, select, static, struct
from optenvs.dynamics.grid import ACTIONS, Level
from optenvs.dynamics.grid_levels import Levels, find_levels, log_integer
from optenvs.dynamics.grid_value import normalised, optimum, policy_value
from optenvs.models.tabular.drifting import Drifting
from optenvs.models.tabular.rulebook import make_rule
from optenvs.models.tabular.rules import Optimiser, Reinforce, Rule, Said, View, follow
from optenvs.models.tabular.tables import Learner, Window, entropy, look

from .learner import play
from .life import Life, clock, conceive

QUERIES = ("rates", "targets", "policy")
BY_HAND = ("reinforce", "a2c", "ppo", "dpo")


@struct
class Known:
    """What an agent may know.

    Attributes:
        query: what is asked.
        rates: the names of the rates.
        states: columns of a table of the policy, the time's included.
        steps: environment steps of an update, T E.
    """

    query: str = static()
    rates: tuple[str, ...] = static()
    states: int = static()
    steps: int = static()


@struct
class Stand:
    """Where a life stands.

    Attributes:
        level: where it is lived.
        life: learner, workers, and how far it has come.
        window: the last one.
        optimum: the greatest return on the level, ``(B,)``.
    """

    level: Level
    life: Life
    window: Window
    optimum: Float[Tensor, "B"]


@dataclass(frozen=True, eq=False, kw_only=True)
class GridWorldLifetime(OptimizationEnv):
    """The training of one reinforcement learner in a grid world, steered update by update.

    Args:
        query: ``rates``, ``targets`` or ``policy``.
        rule: by which updates are made of rates: ``reinforce``, ``a2c``, ``ppo`` or ``dpo``, or a table of
            such a name and its options, see
            :mod:`optenvs.models.tabular.rulebook`; ``None`` for ``a2c``, and for targets and
            policies.
        categories: m, of the critic that targets are for; ``None`` for 4, and for rates and policies.
        level: where learners live, a name of :data:`optenvs.dynamics.grid_levels.LEVELS` or a table of
            keywords beside ``base``, such a name.
        workers: E.
        rollout: T, the steps of each worker between updates.
        lifetime: N: a number, a pair between which each instance draws its own log-uniformly, or ``None`` for
            the level's.
        actor_rate: of the policy; that of the action 0. A policy that is asked needs neither rates nor clip.
        critic_rate: of the critic, likewise; ``None`` for 4, and for ``reinforce``, which has none.
        clip: the norm to which each gradient is clipped before.
        budget: as everywhere; a number counts interactions.
        reward, tolerance, device, dtype: see :class:`optenvs.core.OptimizationEnv`.
    """

    query: str = "rates"
    rule: Any = None
    categories: int | None = None
    level: Any = "tiny"
    workers: int = 8
    rollout: int = 10
    lifetime: int | tuple[int, int] | None = None
    actor_rate: float = 40.0
    critic_rate: float | None = None
    clip: float = 0.5
    budget: int | Mapping[str, int] | None = 10_000_000
    tolerance: float | None = 1e-3
    dtype: str = "float64"

    painter = "optenvs.envs.meta.discovery.picture:lifetime"
    meanings: ClassVar = {
        "action": "decades by which each rate differs from its usual value",
        "push": "pi-hat, what multiplies the slope of the policy's logarithm, of each transition shown",
        "target": "logits of y-hat, the categories that the critic should have, of each transition shown",
        "return": "what a worker has earned in the window, the mean",
        "policy": "logits: a row for each move, a column for each state, and one that the time multiplies",
        "features": "n / N, log N, the policy's entropy, and the mean size of the last pi-hat, if any",
        "state": "the number of each transition's state, cell + C * objects there, and that after the last",
        "time": "0.001 times the time then",
        "done": "the move of each transition",
        "reward": "of each transition, by step and worker",
        "over": "1 where an episode ended with the transition",
        "chosen": "the probability that the action had",
        "critic": "y before each transition, and after the last",
        "value": "the expected return of an episode with the present policy",
        "share": "the share of the optimum that this is",
        "optimum": "the greatest expected return",
        "entropy": "of the policy, in nats",
    }

    def __post_init__(self) -> None:
        if self.query not in QUERIES:
            raise ValueError(f"query: got {self.query!r}{suggest(str(self.query), QUERIES)}")
        if self.query != "rates" and self.rule is not None:
            raise ValueError(f"rule: {self.query} are the update, and need none, got {self.rule!r}")
        if self.query != "targets" and self.categories is not None:
            raise ValueError(
                f"categories: only targets are for a critic of categories, got {self.categories!r}"
            )
        if self.query == "policy":
            self._refuse_idle("actor_rate", "critic_rate", "clip")
        for name in ("workers", "rollout", *(("categories",) if self.categories is not None else ())):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}: expected a whole number >= 1, got {value!r}")
        for name in ("actor_rate", "clip", *(("critic_rate",) if self.critic_rate is not None else ())):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a number > 0, got {getattr(self, name)!r}")
        made = self.hand
        if isinstance(made, Reinforce) and self.critic_rate is not None:
            raise ValueError(f"critic_rate: reinforce has no critic, got {self.critic_rate!r}")
        passes = getattr(made, "minibatches", 1)
        if self.workers * self.rollout % passes:
            raise ValueError(
                f"rollout: {self.workers * self.rollout} transitions cannot be cut into {passes} minibatches"
            )
        _ = self.levels, self.life_range
        super().__post_init__()

    def _refuse_idle(self, *names: str) -> None:
        """Refuse keywords that a query leaves without effect."""
        for name in names:
            if getattr(self, name) != getattr(type(self), name):
                raise ValueError(
                    f"{name}: {getattr(self, name)!r} would have no effect on query={self.query!r}"
                )

    @cached_property
    def hand(self) -> Rule | None:
        """The rule by hand; ``None`` for targets and policies."""
        if self.query != "rates":
            return None
        made = make_rule("a2c" if self.rule is None else self.rule)
        if made.size:
            raise ValueError(f"rule: expected one by hand, {', '.join(BY_HAND)}, got {self.rule!r}")
        return made

    @cached_property
    def levels(self) -> Levels:
        """Where learners live."""
        return fixed_levels(self.level)

    @cached_property
    def life_range(self) -> tuple[int, int]:
        """The least and the greatest N."""
        return life_range(self.levels, self.lifetime)

    @property
    def rates(self) -> tuple[str, ...]:
        """What the entries of an action are."""
        if self.hand is None:
            return ()
        whole = isinstance(self.hand, Drifting)
        return ("actor_rate", "critic_rate", "entropy") if whole else ("actor_rate",)

    @property
    def _critic_rate(self) -> float:
        return 4.0 if self.critic_rate is None else self.critic_rate

    @property
    def outputs(self) -> int:
        """Of the critic; of one that is the agent's own, none is kept."""
        if self.query == "policy":
            return 1
        if self.hand is not None:
            return self.hand.categories
        return 4 if self.categories is None else self.categories

    @property
    def differentiable(self) -> bool:
        return False

    @property
    def ends(self) -> bool:
        return True

    @property
    def oracles(self) -> tuple[str, ...]:
        return ("rollout", self.query)

    @property
    def bill(self) -> dict[str, int]:
        return {"interactions": self.workers * self.rollout, "rollout": 1, self.query: 1}

    @cached_property
    def numbers(self) -> int:
        return 5 * self.levels.states

    def action_fields(self) -> spaces.Box | dict[str, spaces.Space]:
        if self.query == "rates":
            return box((len(self.rates),), self.dtype, -2.0, 2.0)
        if self.query == "policy":
            return box((ACTIONS, self.levels.states + 1), self.dtype)
        shape = (self.rollout, self.workers)
        return {"push": box(shape, self.dtype), "target": box((*shape, self.outputs), self.dtype)}

    def observation_fields(self) -> dict[str, spaces.Space]:
        shapes: dict[str, tuple[int, ...]] = {"return": (1,), "features": (3 + (self.query != "policy"),)}
        grid, ends = (self.rollout, self.workers), (self.rollout + 1, self.workers)
        if self.query != "rates":
            shapes |= dict.fromkeys(("reward", "over"), grid)
        if self.query == "targets":
            shapes |= {"chosen": grid, "critic": (*ends, self.outputs)}
        if self.query == "policy":
            shapes |= {"done": grid, "state": ends, "time": ends}
        return {name: box(shape, self.dtype) for name, shape in shapes.items()}

    def sample(self, keys: Keys) -> Instance:
        level = self.levels.draw(keys, self.torch_dtype)
        whole = log_integer(keys, "lifetime", self.life_range)
        life = conceive(self.outputs, level, whole, self.workers)
        window, workers = play(level, life.learner.actor, life.workers, keys, life.done, self.rollout)
        best = optimum(level, self.levels.longest)
        hidden = Stand(level=level, life=replace(life, workers=workers), window=window, optimum=best)
        return Instance(
            problem=Known(
                query=self.query,
                rates=self.rates,
                states=self.levels.states + 1,
                steps=self.workers * self.rollout,
            ),
            hidden=hidden,
            start=self._start(level.reward),
            floor=torch.zeros_like(best),
        )

    def _start(self, like: Tensor) -> Action:
        fields = self.action_fields()
        if isinstance(fields, dict):
            return {name: like.new_zeros(len(like), *(space.shape or ())) for name, space in fields.items()}
        return like.new_zeros(len(like), *fields.shape)

    def answer(self, state: State, action: Action) -> Answer:
        before: Stand = state.hidden
        level, life = before.level, before.life
        now = clock(life, self.rollout)
        now = replace(now, alive=now.alive & (state.k > 0))  # the query of reset updates nothing
        learner, said = self._updated(state, action, before, now)
        life = replace(life, learner=learner, done=life.done + now.alive)
        window, workers = play(level, learner.actor, life.workers, state.key, life.done, self.rollout)
        life = replace(life, workers=workers)
        shown = select(now.alive, (window, life), (before.window, before.life))
        window, life = shown
        value = policy_value(level, life.learner.actor, self.levels.longest)
        share = normalised(value, before.optimum)
        spread = entropy(look(life.learner.actor, *window.before))
        earned = window.reward.sum(1) / self.workers
        push = torch.where(now.alive, said.push.abs().mean(1), 0.0)
        after = clock(life, self.rollout)
        told = after.share, (after.whole * after.steps).log(), spread, push
        features = torch.stack(told[: 3 + (self.query != "policy")], -1)
        observation = {"return": earned.unsqueeze(-1), "features": features}
        if self.query != "rates":
            observation |= self._transitions(life.learner, window)
        merit = 1 - share
        return Answer(
            observation=observation,
            merit=merit,
            metrics={
                "value": value,
                "share": share,
                "optimum": before.optimum,
                "return": earned,
                "entropy": spread,
            },
            solved=None if self.tolerance is None else merit <= self.tolerance,
            hidden=replace(before, life=life, window=window),
            ended=life.done >= life.whole,
        )

    def _updated(self, state: State, action: Action, at: Stand, now: Any) -> tuple[Learner, Said]:
        """The learner after the update that the query says."""
        learner, window = at.life.learner, at.window
        if self.query == "policy":
            table = torch.where(now.alive[:, None, None], only_part(self.name, action), learner.actor)
            return replace(learner, actor=table), Said(push=torch.zeros_like(window.reward))
        if self.hand is None:
            asked = parts(self.name, action, ("push", "target"))
            wanted = asked["target"].flatten(1, 2).mT.softmax(1)
            said = Said(push=asked["push"].flatten(1), wanted=wanted)
            optimiser = Optimiser(self.actor_rate, self._critic_rate, self.clip)
            return follow(learner, window, View(learner, window), said, now.alive, optimiser, 0.5), said
        factor = 10 ** only_part(self.name, action)
        rule, critic = self.hand, self._critic_rate
        if isinstance(rule, Drifting):
            critic = critic * factor[:, 1]
            rule = dataclasses.replace(rule, entropy=rule.entropy * factor[:, 2])
        optimiser = Optimiser(self.actor_rate * factor[:, 0], critic, self.clip)
        return rule.learn(factor[:, :0], learner, window, now, state.key, optimiser)

    def _transitions(self, learner: Learner, window: Window) -> dict[str, Tensor]:
        shown, ends = {"reward": window.reward, "over": window.over}, {}
        if self.query == "policy":
            shown["done"] = window.action.to(window.reward.dtype)
            ends = {"state": window.state.to(window.reward.dtype), "time": window.time}
        else:
            view = View(learner, window)
            shown["chosen"], ends["critic"] = view.chosen, view.critic.mT
        return {name: value.unflatten(1, (-1, self.workers)) for name, value in (shown | ends).items()}

    def recordable(self, state: State) -> dict[str, Tensor]:
        """``policy``: the table of logits, ``(B, 5, C 2^K + 1)``."""
        return {"policy": state.hidden.life.learner.actor}


def fixed_levels(given: Any) -> Levels:
    """The levels of a name or a table, whose objects have fixed cells.

    Raises:
        ValueError: no such levels, or their objects roam.
    """
    found = find_levels(given)
    if found.roam:
        raise ValueError("level: tables need objects in fixed cells, those of this level roam")
    return found


def life_range(levels: Levels, given: int | tuple[int, int] | None) -> tuple[int, int]:
    """The least and the greatest N.

    Raises:
        ValueError: no whole number >= 1, nor two of them in order.
    """
    ends = levels.lifetime if given is None else given
    low, high = ends if isinstance(ends, tuple | list) and len(ends) == 2 else (ends, ends)
    whole = all(isinstance(end, int) and not isinstance(end, bool) for end in (low, high))
    if not whole or not 1 <= low <= high:
        raise ValueError(
            f"lifetime: expected a whole number >= 1, two of them in order, or None, got {given!r}"
        )
    return int(low), int(high)

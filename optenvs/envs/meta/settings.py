"""The keywords of meta-training, checked and prepared for each shape class."""

from __future__ import annotations

import math
from typing import Any

from gymnasium import spaces

from optenvs.core.env import OptimizationEnv
from optenvs.core.inner import refuse_unused

from .asking import Setting
from .fresh import FRESH, VALIDATION, Told, has_data
from .losses import MetaLoss, normaliser_of
from .particles import Lengths

PARTS = ("train", "validation")


def check_rule(rule: Any) -> None:
    """Raise ``TypeError`` for what has no weights to train."""
    if rule is None or isinstance(rule, str | dict):
        raise TypeError(
            f"rule: expected a learned agent, got {rule!r}; optenvs.make takes a name, or a table with one"
        )
    missing = [name for name in ("init", "act", "replace", "flat", "size") if not hasattr(rule, name)]
    if missing or not hasattr(rule, "weights"):
        raise TypeError(
            f"rule: expected an agent with init, act, replace, flat, size and weights, got "
            f"{type(rule).__name__} without {', '.join(missing) or 'weights'}"
        )
    if rule.weights is not None:
        raise ValueError("rule: weights: expected None: here the weights of rows are what is asked")


def lengths_of(length: Any, staggered: bool) -> Lengths:
    """The lengths that the keyword means.

    Raises:
        ValueError: neither a whole number >= 1 nor a pair of such.
    """
    ends = tuple(length) if isinstance(length, list | tuple) else (length, length)
    whole = all(isinstance(end, int) and not isinstance(end, bool) and end >= 1 for end in ends)
    if len(ends) != 2 or not whole or ends[0] > ends[1]:
        raise ValueError(f"length: expected a whole number >= 1, or a pair of them, got {length!r}")
    return Lengths(*ends, staggered)


def settings(env: Any) -> tuple[Setting, ...]:
    """What each shape class of ``env``, a ``MetaTraining``, is asked with.

    Raises:
        ValueError, TypeError: a keyword that is out of its range, by its name.
    """
    for name in ("particles", "window", "held_out_tasks"):
        value = getattr(env, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}: expected a whole number >= 1, got {value!r}")
    if not 0 < env.std < math.inf:
        raise ValueError(f"std: expected a number > 0, got {env.std!r}")
    if env.clip is not None and not 0 < env.clip < math.inf:
        raise ValueError(f"clip: expected a number > 0 or None, got {env.clip!r}")
    if env.part not in PARTS:
        raise ValueError(f"part: expected one of {', '.join(PARTS)}, got {env.part!r}")
    _check_pairs(env)
    if not env.whole and env.window > env.lengths.low:
        raise ValueError(
            f"window: {env.window} inner steps are more than the {env.lengths.low} of the shortest lifetime "
            f"(length={env.length!r})"
        )
    return tuple(prepared(env, task, env.lengths, env.whole, True) for task in env.tasks)


def _check_pairs(env: Any) -> None:
    """Refuse an odd population for pairs, and keywords that the others leave without effect."""
    fitness, pairs = env.oracle == "fitness", env.method.pairs
    if (env.paired if fitness else pairs) and env.particles % 2:
        why = "paired=True" if fitness else f"estimator={env.estimator!r}"
        raise ValueError(f"particles: expected an even number, for the pairs of {why}, got {env.particles}")
    idle = {
        "estimator": fitness,
        "sign": fitness or not pairs,
        "clip": fitness or (env.sign and pairs),
        "second_order": fitness or pairs,
        "std": fitness or not pairs,
        "window": env.whole,
        "staggered": env.whole,
        "paired": not fitness,
    }
    for name, unused in idle.items():
        value = getattr(env, name)
        if unused and value != getattr(type(env), name):
            raise ValueError(f"{name}: {value!r} would have no effect on {_asked(env)}")


def _asked(env: Any) -> str:
    given = "oracle='fitness'" if env.oracle == "fitness" else f"estimator={env.estimator!r}"
    return f"{given} with sign=True" if env.sign else given


def prepared(env: Any, task: OptimizationEnv, lengths: Lengths, whole: bool, own: bool) -> Setting:
    """What a task is asked with.

    Args:
        env: the ``MetaTraining``.
        task: the environment of one shape class.
        lengths: of its lifetimes.
        whole: whether they are played whole.
        own: whether it is of the family that the rule is trained on, whose normaliser is the keyword's.
    """
    name, worst = (env.normaliser, env.worst) if own else ("task", None)
    loss = MetaLoss(env.meta_loss, normaliser_of(name, worst, task), env.part == "validation")
    if loss.validation and not has_data(task):
        raise ValueError(f"part: {task.name} has no validation data")
    if not isinstance(task.action_space, spaces.Box):
        raise TypeError(f"tasks: expected one query field, {task.name} has {task.action_space}")
    backward = env.oracle == "gradient" and not env.method.pairs
    if backward and not task.differentiable:
        raise TypeError(
            f"tasks: {task.name} is not differentiable; train by an evolution strategy: estimator='pes'"
        )
    made = _freed(env, task, lengths)
    needs = tuple(n for n in loss.needs if n == VALIDATION or (n == FRESH and not whole))
    if needs:
        made = Told(made, names=needs, part="test" if loss.validation else "train")
    return Setting(
        task=made,
        rule=env.rule,
        loss=loss,
        lengths=lengths,
        window=env.window,
        particles=env.particles,
        std=env.std,
        clip=env.clip,
        sign=env.sign,
        second_order=env.second_order,
    )


def _freed(env: Any, task: OptimizationEnv, lengths: Lengths) -> OptimizationEnv:
    """The task here, until a lifetime is over."""
    refuse_unused("tasks", getattr(task, "unwrapped", task), env)
    made = task.replace(
        budget=None,
        tolerance=None,
        reward="improvement",
        device=env.device,
        dtype=env.dtype,
    )
    if not (task.fixed_cost and made.limits):
        return made  # its lifetimes end by their length
    main = next(iter(task.bill))
    return made.replace(budget={main: task.first_bill.get(main, 0) + lengths.high * task.bill[main]})

"""Rules by name, with the options that each has."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from optenvs.core.errors import check_keywords, suggest
from optenvs.models.drift import DPO, LPO, PPO, Free
from optenvs.models.lpg import LPG

from .drifting import Drifting
from .rules import LearnedGradient, Reinforce, Rule
from .tables import Rate


def lpg(
    *,
    timed: bool = False,
    raw_time: bool = False,
    unit: str = "interactions",
    attached: bool = False,
    alpha_y: float = 0.5,
    categories: int = 8,
    embedding: int = 16,
    hidden: int = 256,
) -> Rule:
    """Learned policy gradient (Oh et al. 2020); ``timed``: TA-LPG (Jackson et al. 2024)."""
    net = LPG(categories, embedding, hidden, timed)
    return LearnedGradient(net, raw_time, unit, attached, alpha_y=alpha_y)


def lpo(
    *,
    timed: bool = False,
    like_ppo: bool = False,
    limit: float | None = None,
    hidden: int = 128,
    epochs: int = 4,
    minibatches: int = 1,
    entropy: Rate = 0.01,
) -> Rule:
    """Learned policy optimisation (Lu et al. 2022), a drift that begins as PPO's if it is ``like_ppo``."""
    return Drifting(LPO(hidden, timed, like_ppo, limit), epochs, minibatches, entropy=entropy)


def dpo(
    *,
    alpha: float = 2.0,
    beta: float = 0.6,
    epochs: int = 4,
    minibatches: int = 1,
    entropy: Rate = 0.01,
    anneal: float = 0.0,
) -> Rule:
    """The drift that LPO was distilled to (Lu et al. 2022)."""
    return Drifting(DPO(alpha, beta), epochs, minibatches, entropy=entropy, anneal=anneal)


def ppo(
    *,
    clip: float = 0.2,
    epochs: int = 4,
    minibatches: int = 1,
    entropy: Rate = 0.01,
    anneal: float = 0.0,
) -> Rule:
    """Proximal policy optimisation (Schulman et al. 2017)."""
    return Drifting(PPO(clip), epochs, minibatches, entropy=entropy, anneal=anneal)


def a2c(*, entropy: Rate = 0.01, anneal: float = 0.0) -> Rule:
    """Advantage actor-critic with normalised advantages: one pass, no drift."""
    return Drifting(Free(), 1, 1, entropy=entropy, anneal=anneal)


def reinforce(*, gamma: float = 1.0) -> Rule:
    """REINFORCE without a baseline (Williams 1992)."""
    return Reinforce(gamma)


RULES: dict[str, Callable[..., Rule]] = {
    "lpg": lpg,
    "lpo": lpo,
    "dpo": dpo,
    "ppo": ppo,
    "a2c": a2c,
    "reinforce": reinforce,
}
"""What makes the rule of a name; the first two have weights to be discovered."""


def make_rule(rule: str | Mapping[str, Any] | Rule) -> Rule:
    """The rule of a name, or of a table with its ``name`` and options beside it.

    Raises:
        ValueError: no such name. UnknownKeyword: the rule has no such option.
    """
    if isinstance(rule, Rule):
        return rule
    if not isinstance(rule, str | Mapping):
        raise ValueError(f"rule: expected a name, or a table of one and options, got {rule!r}")
    options = {"name": rule} if isinstance(rule, str) else dict(rule)
    name = options.pop("name", None)
    if not isinstance(name, str) or name not in RULES:
        raise ValueError(f"rule: got {name!r}{suggest(str(name), RULES)}")
    check_keywords(f"rule {name}", options, inspect.signature(RULES[name]).parameters)
    try:
        return RULES[name](**options)
    except ValueError as error:
        raise ValueError(f"rule: {error}") from error

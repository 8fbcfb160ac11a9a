"""What ``optenvs rank`` takes where nothing is said, and what it goes on with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from optenvs.making import find

from .rounds import pictured
from .session import Session, open_session
from .store import FILE, Settings, read

ENVIRONMENT, AGENT, ROUNDS = "optenvs/RankingLatent-v0", "zo_ranksgd", 40
KEYWORDS = {"shown": 8, "ranked": 3}
"""Of the environment: what a person sees at a glance, and is ready to put in order."""
HYPERPARAMETERS = {"zo_ranksgd": {"accumulate": True, "prev_best": True, "mu": 1.0, "lr": 3.0}}
"""Algorithm 3 of the paper, with pictures that differ visibly.

A judge without mistakes in place of the person brings 200 instances of RankingLatent to a mean probability of
the hidden digit of 0.87 after 8 rounds, and of 0.91 after 12 (0.81 and 0.88 with mu = 0.5).
"""


def prepare(given: dict[str, Any], folder: Path | None = None) -> tuple[Session, Path]:
    """The session that is meant, and its folder.

    Args:
        given: fields of :class:`Settings` that the user has stated, and perhaps ``rounds``. A session that is
            there must agree with them; one that is not takes defaults for the others.
        folder: of the session; ``None`` for one named after environment, agent and seed.
    """
    given = dict(given)
    if "environment" in given:
        given["environment"] = find(given["environment"]).id
    rounds = given.pop("rounds", None)
    name, agent = given.get("environment", ENVIRONMENT), given.get("agent", AGENT)
    if folder is None:
        short = name.split("/")[-1].rpartition("-")[0]
        folder = Path("sessions") / f"{short}-{agent}-{given.get('seed', 0)}"
    keywords = dict(given.pop("keywords", {}))
    if rounds is not None:
        if "budget" in keywords:
            raise ValueError("rounds: the budget is given already, by --set budget")
        keywords["budget"] = _budget(rounds)
    hyperparameters = dict(given.pop("hyperparameters", {}))
    if (folder / FILE).exists():
        # what is not stated is as it was
        kept = read(folder).settings
        stated = replace(
            kept,
            **given,
            keywords=kept.keywords | keywords,
            hyperparameters=kept.hyperparameters | hyperparameters,
        )
        return open_session(stated, folder), folder
    pictured(name, {})  # before the defaults, which no other environment has
    made = Settings(
        **({"environment": name, "agent": agent} | given),
        keywords=KEYWORDS | {"budget": _budget(ROUNDS)} | keywords,
        hyperparameters=HYPERPARAMETERS.get(agent, {}) | hyperparameters,
    )
    return open_session(made, folder), folder


def _budget(rounds: int) -> dict[str, int]:
    return {"ranking": rounds + 1}  # the first query, which nobody is asked, is one

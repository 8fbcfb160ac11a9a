"""Scripted persons, and the sessions that they take part in."""

from __future__ import annotations

from typing import Any

from optenvs.human.session import Session
from optenvs.human.store import Settings

ROUNDS = 12


def settings(**changes: Any) -> Settings:
    """A short session of digits in which a 3 is wanted."""
    keywords = {"shown": 8, "ranked": 3, "digit": 3, "budget": {"ranking": ROUNDS + 1}}
    hyperparameters = {"accumulate": True, "prev_best": True, "mu": 1.0, "lr": 3.0}
    fields = {"environment": "optenvs/RankingLatent-v0", "agent": "zo_ranksgd", "seed": 0}
    return Settings(**(fields | {"keywords": keywords, "hyperparameters": hyperparameters} | changes))


def taste(session: Session) -> list[int]:
    """The ranking of somebody who wants that digit, by the environment's own judge."""
    turn = session.round
    values = session.env.values(turn.state, turn.points.unsqueeze(0))[0]
    return values.argsort()[: turn.named].tolist()


def probability(session: Session) -> float:
    """How sure the judge is of the digit where the agent stands."""
    return float(session.round.state.metrics["probability"])

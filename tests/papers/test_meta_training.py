"""Meta-training as an environment: the estimators of the closed form, and what they are held to.

x <- (1 - theta) x from x = 1 with the losses x^2 / 2, theta = 0.1: twenty steps in windows of five, see
``test_truncation.py``, whose windows these are from outside. Here the gradients are those that
``optenvs/MetaTraining-v0`` answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import agents
import optenvs
from optenvs.core import keys_from_seed

pytestmark = pytest.mark.paper

THETA, STD, SIZE = 0.1, 0.005, 5
EXACT, TRUNCATED, SMOOTHED = -23.16196, -12.07055, -23.2763
MANY = 25_000  # pairs at a time: as many as stay in the cache


@dataclass(frozen=True, eq=False)
class Descent(agents.Agent):
    """The rule of one weight: its learning rate."""

    weights: Tensor | None = None

    needs = ("gradient",)
    size = 1
    flat = torch.tensor([THETA], dtype=torch.float64)

    def init(self, problem: Any, observation: dict[str, Tensor], keys: Tensor) -> Any:
        return {"steps": torch.zeros_like(keys)}

    def act(self, state: Any, observation: dict[str, Tensor]) -> tuple[Tensor, Any]:
        assert self.weights is not None
        moved = observation["point"] - self.weights * observation["gradient"]
        return moved, {"steps": state["steps"] + 1}


def made(estimator: str, **keywords: Any) -> Any:
    settings = {
        "tasks": optenvs.make("Quadratic", dim=1, start=(1.0,)),
        "rule": Descent(),
        "estimator": estimator,
        "window": SIZE,
        "length": 20,
        "staggered": False,
        "std": STD,
        "meta_loss": "sum",
        "second_order": estimator.endswith("bptt"),
        "held_out_tasks": 1,
        "evaluation_period": None,
        "budget": None,
    }
    return optenvs.make("MetaTraining", **(settings | keywords))


def gradients(env: Any, queries: int, rows: int = 1, seed: int = 0) -> Tensor:
    """What each row is answered in so many queries of theta, summed, ``(rows,)``."""
    state = env.reset(keys_from_seed(seed, rows), evaluate=False)
    total = state.observation["gradient"]
    for _ in range(queries - 1):
        state = env.step(state, state.observation["point"])
        total = total + state.observation["gradient"]
    return total[:, 0]


@pytest.mark.parametrize(
    ("estimator", "queries", "expected"), [("bptt", 1, EXACT), ("truncated_bptt", 4, TRUNCATED)]
)
def test_backpropagation(estimator: str, queries: int, expected: float) -> None:
    env = made(estimator, particles=1)
    assert gradients(env, queries).item() == pytest.approx(expected, abs=1e-5)
    state = env.reset(keys_from_seed(0, 1), evaluate=False)
    total = state.metrics["meta_loss"]
    for _ in range(queries - 1):
        state = env.step(state, state.observation["point"])
        total = total + state.metrics["meta_loss"]
    assert total.item() == pytest.approx(2.1000723, abs=1e-7)
    assert state.calls["backward"].item() == 20
    assert state.calls["inner"].item() == 21


@torch.no_grad()
@pytest.mark.parametrize(
    ("estimator", "queries", "chunks", "expected", "deviation"),
    [
        ("pes", 4, 4, -23.2041, 28.0),
        ("truncated_es", 4, 1, -12.0767, 12.1),
        ("noise_reuse_es", 4, 4, SMOOTHED, 33.08),
        ("es_single", 4, 1, SMOOTHED, 33.08),
        ("full_es", 1, 4, SMOOTHED, 33.08),
    ],
)
def test_evolution_strategies(
    estimator: str, queries: int, chunks: int, expected: float, deviation: float
) -> None:
    means = [
        gradients(made(estimator, particles=2 * MANY), queries, seed=seed).item() for seed in range(chunks)
    ]
    error = deviation / (MANY * chunks) ** 0.5
    found = sum(means) / chunks
    assert abs(found - expected) < 4 * error
    exact = TRUNCATED if estimator == "truncated_es" else EXACT
    assert abs(found - exact) < 0.01 * abs(exact) + 4 * error


@torch.no_grad()
@pytest.mark.parametrize(("estimator", "deviation"), [("pes", 28.0), ("noise_reuse_es", 33.08)])
def test_the_deviation_of_a_pair(estimator: str, deviation: float) -> None:
    found = gradients(made(estimator, particles=2), 4, rows=20_000)
    assert found.std().item() == pytest.approx(deviation, rel=0.03)

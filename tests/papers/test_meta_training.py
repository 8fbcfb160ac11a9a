"""Meta-training as an environment: the estimators of the closed form, and what they are held to.

x <- (1 - theta) x from x = 1 with the losses x^2 / 2, theta = 0.1: twenty steps in windows of five, see
``test_truncation.py``, whose windows these are from outside. Here the gradients are those that
``optenvs/MetaTraining-v0`` answers.
"""

from __future__ import annotations

from typing import Any

import meta_rules
import pytest
import torch
from torch import Tensor

import optenvs
from optenvs.core import keys_from_seed

pytestmark = pytest.mark.paper

STD, SIZE = 0.005, 5
EXACT, TRUNCATED, SMOOTHED = -23.16196, -12.07055, -23.2763
MANY = 25_000  # pairs at a time: as many as stay in the cache


def made(estimator: str, **keywords: Any) -> Any:
    settings = {
        "estimator": estimator,
        "length": 20,
        "meta_loss": "sum",
    }
    if not estimator.startswith(("bptt", "full")):
        settings |= {"window": SIZE, "staggered": False}
    settings |= {"second_order": True} if estimator.endswith("bptt") else {"std": STD}
    return meta_rules.made(**(settings | keywords))


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


@torch.no_grad()
def test_episodes_that_begin_inside_windows_are_unbiased_too() -> None:
    # five episodes of twelve steps in twelve windows of five, at other times in each particle
    exact = 5 * -18.40802
    env = made("pes", particles=2 * 20_000, length=12)
    state = env.reset(keys_from_seed(0, 1), evaluate=False)
    total = state.observation["gradient"]
    for _ in range(11):
        state = env.step(state, state.observation["point"])
        total = total + state.observation["gradient"]
    assert abs(total.item() - exact) < 0.01 * abs(exact) + 4 * 53.0 / 20_000**0.5
    assert state.calls["lifetimes"].item() == 5 * 2 * 20_000
    # an episode of noise-reuse begins with a window: it rests before that, and has one perturbation
    env = made("noise_reuse_es", particles=2 * 20_000, length=12)
    found = gradients(env, 6).item()  # two episodes, three windows each
    assert abs(found - 2 * -18.40802) < 0.01 * 37 + 4 * 53.0 / 20_000**0.5


def test_the_meta_gradient_is_the_central_difference() -> None:
    """Of LOLv2's weights, through windows of an episode and through the gradients that its task answers."""
    env = optenvs.make(
        "MetaTraining",
        tasks="Quadratic",
        dim=6,
        spectrum="wishart",
        rule={"name": "lolv2", "hidden": 8, "step_multiplier": 0.1},
        estimator="bptt",
        length=10,
        particles=2,
        second_order=True,
        held_out_tasks=1,
    )
    state = env.reset(keys_from_seed(0, 1), evaluate=False)
    again = env.step(state, state.observation["point"])
    slope, h = again.observation["gradient"][0], 1e-6
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(10, len(slope), dtype=torch.float64, generator=generator)

    def loss(shift: Tensor) -> float:
        return env.step(state, state.observation["point"] + shift).metrics["meta_loss"].item()

    differences = torch.tensor([(loss(h * v) - loss(-h * v)) / (2 * h) for v in directions])
    slopes = directions @ slope
    assert slopes.abs().max() > 1e-3
    assert (differences - slopes).abs().max() / slopes.abs().max() < 1e-6
    first = env.replace(second_order=False).step(state, state.observation["point"]).observation["gradient"]
    assert torch.linalg.vector_norm(first[0] - slope) / torch.linalg.vector_norm(slope) > 1e-4

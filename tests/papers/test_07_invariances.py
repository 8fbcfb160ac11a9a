"""Invariances of consensus-based optimization: check 7 of the acceptance checks in ``test_07_cbo.py``."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import agents
from optenvs.core.random import keys_from_seed, normal

pytestmark = pytest.mark.paper


def rastrigin(x: Tensor) -> Tensor:
    return (x * x + 2.5 * (1 - torch.cos(2 * math.pi * x))).sum(-1)


def follow(
    agent: Any, points: Tensor, value: Any = rastrigin, steps: int = 50, order: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Points and consensus after ``steps`` of an agent whose draws belong to the particles of ``order``."""

    class Ordered(type(agent)):  # type: ignore[misc]
        def normals(self, *given: Any) -> Tensor:
            drawn = super().normals(*given)
            return drawn if order is None else drawn[:, order]

    agent = Ordered(**vars(agent))
    seen = {"point": points, "value": value(points).unsqueeze(-1)}
    problem = type("Problem", (), {"recommend": "agent"})
    with torch.no_grad():
        state = agent.init(problem, seen, keys_from_seed(0, len(points)))
        for _ in range(steps):
            action, state = agent.act(state, seen)
            seen = {"point": action["query"], "value": value(action["query"]).unsqueeze(-1)}
    return action["query"], action["recommendation"]


@pytest.fixture
def points() -> Tensor:
    return normal(keys_from_seed(0, 2), "points", (30, 4), dtype=torch.float64)


@pytest.fixture(params=["isotropic", "anisotropic"])
def cbo(request: pytest.FixtureRequest) -> agents.CBO:
    return agents.CBO(noise=request.param, sigma=0.7, dt=0.02)


def assert_near(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], error: float) -> None:
    for left, right in zip(one, other, strict=True):
        assert (left - right).abs().max() < error


def test_a_constant_changes_nothing(cbo: agents.CBO, points: Tensor) -> None:
    for steps, error in ((1, 1e-6), (50, 1e-5)):
        plain = follow(cbo, points, steps=steps)
        assert_near(plain, follow(cbo, points, lambda x: rastrigin(x) + 1e6, steps), error)


def test_translation(cbo: agents.CBO, points: Tensor) -> None:
    moved, centre = follow(cbo, points + 3, lambda x: rastrigin(x - 3))
    assert_near((moved - 3, centre - 3), follow(cbo, points), 1e-9)


def test_permutation(cbo: agents.CBO, points: Tensor) -> None:
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    moved, centre = follow(cbo, points)
    assert_near((moved[:, order], centre), follow(cbo, points[:, order], order=order), 1e-9)


def test_temperature_is_the_unit_of_values(cbo: agents.CBO, points: Tensor) -> None:
    other = cbo.replace(alpha=4 * cbo.alpha)
    assert_near(follow(other, points), follow(cbo, points, lambda x: 4 * rastrigin(x)), 1e-9)


@pytest.mark.parametrize("after", [False, True])
def test_without_noise_a_full_step_ends_in_the_consensus(
    cbo: agents.CBO, points: Tensor, after: bool
) -> None:
    collapsing = cbo.replace(sigma=0.0, lambda_=1 / cbo.dt, noise_after_drift=after)
    moved, centre = follow(collapsing, points, steps=1)
    assert torch.equal(moved, centre.unsqueeze(1).expand_as(moved))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_limit_of_cold_is_the_best_particle(points: Tensor, dtype: torch.dtype) -> None:
    points = points.to(dtype)
    _, centre = follow(agents.CBO(alpha=1e15), points, steps=1)
    best = rastrigin(points).argmin(1)
    assert torch.equal(centre, points[torch.arange(2), best])


def test_one_particle_never_moves(cbo: agents.CBO, points: Tensor) -> None:
    alone = points[:, :1]
    assert torch.equal(follow(cbo, alone)[0], alone)

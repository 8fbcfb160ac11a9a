"""Searches of a population about a centre."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import agents
import optenvs
from agents.meta._search import centred_rank, pair_rank, unshaped, z_score
from agents.meta.batched_cma import constants
from optenvs.core.random import keys_from_seed, normal

NAN, INF = torch.nan, torch.inf


def test_shapings() -> None:
    values = torch.tensor([[3.0, 1.0, 2.0, 2.0, NAN, 0.0], [5.0, 5.0, 5.0, 5.0, 5.0, 5.0]])
    assert pair_rank(values).tolist() == [[0.5, -0.5, 0.0, 0.0, 0.5, -0.5], [0.0] * 6]
    ranks = centred_rank(values)
    assert torch.allclose(ranks[0], torch.tensor([4.0, 1.0, 2.5, 2.5, 5.0, 0.0]) / 5 - 0.5)
    assert ranks[1].abs().max() == 0
    scores = z_score(values)
    assert scores[0].mean().item() == pytest.approx(0, abs=1e-6)
    assert scores[0].square().mean().item() == pytest.approx(1, rel=1e-5)
    assert scores[0, 4] == scores[0, 0]  # what is no number is as bad as the worst that is one
    assert scores[1].abs().max() == 0
    assert unshaped(torch.tensor([[INF, 1.0, NAN, -2.0]])).tolist() == [[1.0, 1.0, 1.0, -2.0]]
    assert unshaped(torch.tensor([[INF, NAN]])).tolist() == [[0.0, 0.0]]


def swarm(particles: int = 8, dim: int = 3, **keywords: Any) -> Any:
    return optenvs.make(
        "Particles",
        landscape="Quadratic",
        particles=particles,
        dim=dim,
        condition=3.0,
        start_mean=(1.0, -2.0, 0.5)[:dim],
        tolerance=None,
        dtype="float64",
        **keywords,
    )


@pytest.mark.parametrize("name", ["open_es", "pgpe"])
def test_the_slope_is_that_of_the_formula(name: str) -> None:
    env, keys = swarm(), keys_from_seed(0, 2)
    agent = agents.make(name, shaping="none", optimizer="sgd", momentum=0.0, lr=0.5, std=0.2)
    state = env.reset(keys)
    action, memory = agent.act(agent.init(state.problem, state.observation, keys), state.observation)
    centre = action["recommendation"]
    assert torch.allclose(centre, state.observation["point"].mean(1))  # nothing is known yet
    noise = 0.2 * normal(keys, "perturbation", (4, 3), 0, torch.float64)
    assert torch.allclose(action["query"][:, 0::2], centre.unsqueeze(1) + noise)
    assert torch.allclose(action["query"][:, 1::2], centre.unsqueeze(1) - noise)
    state = env.step(state, action)
    value = state.observation["value"][..., 0]
    slope = ((value[:, 0::2] - value[:, 1::2]).unsqueeze(-1) * noise).sum(1) / (8 * 0.2**2)
    moved, memory = agent.act(memory, state.observation)
    assert torch.allclose(moved["recommendation"], centre - 0.5 * slope)
    if name == "pgpe":
        middle = (value[:, 0::2] + value[:, 1::2]) / 2 - value.mean(1, keepdim=True)
        change = (middle.unsqueeze(-1) * (noise**2 / 0.2**2 - 1)).mean(1)
        expected = 0.2 * (1 - 0.1 * change).clamp(0.8, 1.2)
        assert torch.allclose(memory.std, expected)


def test_cma_has_the_tutorials_constants() -> None:
    # Hansen 2016, table 1, for n = 10: lambda = 10, mu = 5
    known = constants(10, 10)
    assert known.effective == pytest.approx(3.167, abs=1e-3)
    assert sum(known.weights) == pytest.approx(1)
    assert known.c_step == pytest.approx((3.1673 + 2) / (10 + 3.1673 + 5), abs=1e-4)
    assert known.c_one == pytest.approx(2 / (11.3**2 + 3.1673), abs=1e-5)


def test_cma_takes_the_shape_of_an_ellipsoid() -> None:
    env = optenvs.make(
        "Particles",
        landscape="Quadratic",
        particles=12,
        dim=4,
        condition=1e3,
        start_mean=(3.0,) * 4,
        rotate=True,
        tolerance=1e-6,
        budget=12 * 150,
        dtype="float64",
    )
    run = optenvs.rollout(env, agents.BatchedCMA(), batch=8)
    assert run.state.terminated.all()  # an isotropic search is far from it
    plain = optenvs.rollout(env, agents.OpenES(shaping="centred_rank", lr=0.1), batch=8)
    assert not plain.state.terminated.any()


def test_an_odd_population_is_refused() -> None:
    for name in ("open_es", "pgpe"):
        with pytest.raises(ValueError, match="expected an even number of points a query, for pairs, got 7"):
            optenvs.rollout(swarm(7), agents.make(name), steps=1)
    with pytest.raises(ValueError, match="expected at least 4 points a query, got 2"):
        optenvs.rollout(swarm(2), agents.BatchedCMA(), steps=1)
    with pytest.raises(ValueError, match="OpenES: shaping: expected one of none, pair_rank"):
        agents.OpenES(shaping="rank")
    with pytest.raises(ValueError, match="PGPE: most: expected a share"):
        agents.PGPE(most=1.5)


def test_deviations_follow_their_schedule() -> None:
    agent = agents.OpenES(std=0.4, std_schedule=agents.schedules.Growth(0.5))
    run = optenvs.rollout(swarm(), agent, steps=4)
    assert run.agent_state.std.item() == pytest.approx(0.4 * 0.5**3)

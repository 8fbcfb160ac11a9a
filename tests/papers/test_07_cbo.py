"""Acceptance checks of consensus-based optimization (Riedl, Klock, Geldhauser, Fornasier 2023), but for 7.

The reference figures are those of independent float64 implementations; the paper's own text was not readable
to those who wrote them. Parity is with cbx 1.0.4 on one stream of normal numbers.
"""

from __future__ import annotations

import math
from typing import Any

import cbx.dynamics
import numpy as np
import pytest
import torch
from torch import Tensor

import agents
import optenvs
from agents.particles._consensus import consensus
from optenvs.core.random import keys_from_seed, normal
from optenvs.core.rollout import Run, agent_keys

pytestmark = pytest.mark.paper

CANYON: dict[str, Any] = {"particles": 200, "tolerance": None, "budget": None, "start_mean": (8.0, 8.0)}
RASTRIGIN: dict[str, Any] = {
    "landscape": "Rastrigin", "amplitude": 2.5, "dim": 4, "start_mean": 2.0, "start_std": 4.0,
    "tolerance": None, "budget": None, "dtype": "float64",
}  # fmt: skip


def draws(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Standard normal numbers."""
    return normal(keys_from_seed(seed, 1), "test", shape, dtype=torch.float64)[0]


def rastrigin(x: Any, amplitude: float = 2.5) -> Any:
    cos = torch.cos if isinstance(x, Tensor) else np.cos
    return (x * x + amplitude * (1 - cos(2 * math.pi * x))).sum(-1)


# 1 -----------------------------------------------------------------------------------------------

PEERS: dict[str, tuple[type, dict[str, Any], Any, dict[str, Any], int]] = {
    # ours, its settings, theirs, its settings, steps
    "isotropic": (agents.CBO, {}, cbx.dynamics.CBO, {"noise": "isotropic"}, 50),
    "anisotropic": (
        agents.CBO, {"noise": "anisotropic"}, cbx.dynamics.CBO, {"noise": "anisotropic"}, 50,
    ),
    "polarized": (
        agents.PolarizedCBO, {"alpha": 10.0, "kappa": 1.0}, cbx.dynamics.PolarCBO,
        {"noise": "isotropic", "alpha": 10.0, "kappa": 1.0}, 20,
    ),
    "memory": (agents.MemoryCBO, {}, cbx.dynamics.CBOMemory, {"noise": "isotropic", "lamda_memory": 0.4}, 20),
}  # fmt: skip


@pytest.mark.parametrize("amplitude", [10.0, 2.5])
@pytest.mark.parametrize("name", PEERS)
def test_parity_with_cbx(name: str, amplitude: float) -> None:
    ours, options, theirs, peers, steps = PEERS[name]
    stream: list[np.ndarray] = []

    class Recording(ours):  # type: ignore[misc]
        """The agent, which notes what it draws."""

        def normals(self, *given: Any) -> Tensor:
            drawn = super().normals(*given)
            stream.append(drawn.numpy().copy())
            return drawn

    env = optenvs.make(
        "Particles", landscape="Rastrigin", amplitude=amplitude, dim=4, particles=20, bounds=(-1.0, 1.0),
        dtype="float64", tolerance=None,
    )  # fmt: skip
    agent = Recording(**({"alpha": 100.0, "sigma": 1.2, "dt": 0.02} | options))
    run = optenvs.rollout(env, agent, batch=3, steps=steps, record=("point",))
    points = run.recorded["point"]
    assert points[0].abs().max() <= 1

    def objective(x: np.ndarray) -> np.ndarray:
        return rastrigin(x, amplitude)

    numbers = iter(stream)
    settings = {"alpha": 100.0, "sigma": 1.2, "dt": 0.02, "lamda": 1.0, "verbosity": 0} | peers
    dynamic = theirs(
        objective, f_dim="3D", check_f_dims=False, x=points[0].numpy().copy(),
        sampler=lambda size: next(numbers), **settings,
    )  # fmt: skip
    for step in range(1, steps + 1):
        dynamic.step()
        assert np.abs(dynamic.x - points[step].numpy()).max() < 1e-8, step
    assert next(numbers, None) is None
    if name == "memory":
        assert (np.asarray(dynamic.num_f_eval) == 420).all()
        # a particle that is both the consensus and its own best stays, and is not billed again
        stayed = (points[1:] == points[:-1]).all(-1).sum((0, 2))
        assert (run.calls["value"][-1] + stayed == 420).all()


# 2 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("noise", "after", "expected"),
    [
        ("isotropic", False, 1.2225),
        ("anisotropic", False, 0.9345),
        ("isotropic", True, 1.1913),
        ("anisotropic", True, 0.9314),
    ],
)
def test_one_step_moments(noise: str, after: bool, expected: float) -> None:
    agent = agents.CBO(sigma=0.8, dt=0.05, noise=noise, noise_after_drift=after)
    offset = draws((1, 200_000, 10))
    before = offset.square().sum()
    with torch.no_grad():
        moved = agent.drift_and_noise(offset, draws((1, 200_000, 10), 1), 1.0, 0.8, torch.zeros(1, 1, 10))
    assert float(moved.square().sum() / before) == pytest.approx(expected, rel=5e-3)


# 3 -----------------------------------------------------------------------------------------------

CENTRE = torch.tensor([0.0, 1.0], dtype=torch.float64)


def bowl(x: Tensor) -> Tensor:
    return (x - CENTRE).square().sum(-1)  # a = 2


@pytest.mark.parametrize("count", [1_000, 10_000, 100_000])
def test_hopping_takes_implicit_gradient_steps(count: int) -> None:
    expected = torch.tensor([0.526316, 1.526316], dtype=torch.float64)
    errors = []
    for seed in range(50):
        points = torch.tensor([1.0, 2.0], dtype=torch.float64) + 0.3 * draws((1, count, 2), seed)
        errors.append((consensus(points, bowl(points), 5.0)[0] - expected).square().sum())
    error = float(torch.stack(errors).mean().sqrt()) * math.sqrt(count)
    assert 1.7 < error < 2.6


def test_hopping_contracts_to_its_sampling_floor() -> None:
    landscape = optenvs.from_function(bowl, dim=2, batched=True, minimum=0.0, minimiser=(0.0, 1.0))
    env = optenvs.make(
        "Particles", landscape=landscape, particles=20_000, start_mean=(1.0, 2.0), start_std=0.3,
        dtype="float64", tolerance=None, budget=None,
    )  # fmt: skip
    run = optenvs.rollout(env, agents.ConsensusHopping(alpha=5.0, width=0.3), batch=2, steps=9)
    distance = run.metrics["distance"]
    floor = 3 * 2.149 / math.sqrt(20_000)
    for k in range(1, 6):  # query k recommends the consensus after k contractions
        expected = math.sqrt(2) / 1.9**k
        assert ((distance[k] - expected).abs() < floor).all(), k
    assert (distance[8:] < 2 * floor).all()


# 4 -----------------------------------------------------------------------------------------------


def test_the_consensus_moves_by_a_gradient() -> None:
    x = torch.tensor([0.7, -0.4], dtype=torch.float64)
    drawn = draws((1, 2_000_000, 2))

    def slope(y: Tensor) -> Tensor:
        return 2 * y + 5 * math.pi * torch.sin(2 * math.pi * y)

    for width in (0.25, 0.02):
        points = x + width * drawn
        values = rastrigin(points)
        move = (consensus(points, values, 1.0) - x)[0]
        mean = consensus(slope(points), values, 1.0)[0]
        if width == 0.25:
            torch.testing.assert_close(move, -(width**2) * mean, rtol=0.04, atol=0)
            torch.testing.assert_close(move, torch.tensor([0.10742, 0.24066]).double(), rtol=0.04, atol=0)
        else:
            torch.testing.assert_close(move / width**2, -slope(x), rtol=0.05, atol=0)
            exact = torch.tensor([13.565, 10.272]).double()
            torch.testing.assert_close(move / width**2, exact, rtol=0.02, atol=0)


# 5 -----------------------------------------------------------------------------------------------


def test_the_canyon() -> None:
    canyon = optenvs.make("GrandCanyon", dtype="float64")
    points = torch.tensor([[0.0, 0.0], [8.0, 8.0]], dtype=torch.float64)
    torch.testing.assert_close(
        canyon.value(points, None), torch.tensor([0.0, 39.01254]).double(), rtol=1e-7, atol=0
    )


def share(run: Run, near: float = 0.5) -> float:
    return float((run.metrics["distance"][-1] <= near).double().mean())


CANYON_RUNS: dict[str, tuple[Any, float, float, float]] = {
    # agent, standard deviation of the start, least and most of the share of successes
    "cbo": (agents.CBO(noise_after_drift=True), 0.5, 0.9, 1.0),
    "cbo before drift": (agents.CBO(), 0.5, 0.9, 1.0),
    "cbo, little noise": (agents.CBO(noise_after_drift=True, sigma=0.5), 0.5, 0.0, 0.0),
    "hopping": (agents.ConsensusHopping(), 0.7, 0.85, 1.0),
}


@pytest.mark.parametrize("name", CANYON_RUNS)
def test_swarms_in_the_canyon(name: str) -> None:
    agent, spread, least, most = CANYON_RUNS[name]
    env = optenvs.make("Particles", start_std=spread, **CANYON)
    # the consensus of the points after 250 updates is recommended with the query after them
    run = optenvs.rollout(env, agent, batch=50, steps=251)
    assert least <= share(run) <= most


@pytest.mark.slow
def test_langevin_in_the_canyon() -> None:
    canyon = optenvs.make("GrandCanyon")
    state, agent = canyon.reset(keys := keys_from_seed(0, 50)), agents.Langevin()
    memory, seen = agent.init(state.problem, state.observation, agent_keys(keys)), dict(state.observation)
    with torch.no_grad():
        # what a rollout does, without its ledger and records: a quarter of the time of so many small steps
        for _ in range(10_000):
            seen["point"], memory = agent.act(memory, seen)
            _, seen["gradient"] = canyon.value_and_gradient(seen["point"], None)
    found = torch.linalg.vector_norm(seen["point"], dim=-1) <= 0.5
    assert 0.2 <= float(found.double().mean()) <= 0.65


def test_gradient_descent_in_the_canyon() -> None:
    canyon = optenvs.make("GrandCanyon", tolerance=None, budget=None)
    run = optenvs.rollout(canyon, agents.GradientDescent(lr=5e-3), steps=2_500)
    assert share(run) == 0
    assert float(run.merit[-1]) == pytest.approx(3.862, abs=0.01)


# 6 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("particles", "variance", "least", "most"), [(100, 1.6, 0.87, 1.0), (20, 0.4, 0.0, 0.2)]
)
def test_rastrigin(particles: int, variance: float, least: float, most: float) -> None:
    env = optenvs.make("Particles", particles=particles, **RASTRIGIN)
    agent = agents.CBO(noise="anisotropic", dt=0.02, sigma=math.sqrt(variance))
    run = optenvs.rollout(env, agent, batch=100, steps=1001)
    assert least <= float((run.metrics["value"][-1] < 0.8).double().mean()) <= most


# 8 -----------------------------------------------------------------------------------------------

MINIBATCHES, BLOCKS = 23, 10


@pytest.mark.ci
@pytest.mark.slow
def test_digits() -> None:
    """The recipe is there after 6 of its 20 epochs; the example ``particles_digits.py`` takes all."""
    env = optenvs.make("ParticlesDigits", epochs=6)
    epoch = MINIBATCHES * BLOCKS
    assert env.evaluations == epoch
    agent = agents.CBO(
        noise="anisotropic", sigma=math.sqrt(0.4), alpha=50.0, dt=0.1, batch_size=10, kick=1e-5,
        alpha_schedule=agents.schedules.Growth(2.0, period=epoch),
        sigma_schedule=agents.schedules.LogCooling(epoch),
    )  # fmt: skip
    run = optenvs.rollout(env, agent, batch=3)
    assert float(run.metrics["best_test_accuracy"][-1].median()) >= 0.65


# 9 -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_polarized_finds_several_minima() -> None:
    """With 400 steps; the example ``polarized.py`` takes the paper's 2,000."""
    env = optenvs.make("Particles", landscape="RastriginProduct", particles=200, tolerance=None, budget=None)
    found = {}
    for name, agent in {
        "polarized": agents.PolarizedCBO(),
        "plain": agents.CBO(sigma=1.0, alpha=1.0),
    }.items():
        run = optenvs.rollout(env, agent, batch=20, steps=400)
        found[name] = run.metrics["minima_found"][-1]
    assert float(found["polarized"].mean()) >= 1.5
    assert (found["plain"] == 1).all()

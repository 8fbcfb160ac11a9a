"""SCOBO, GLD-Fast, ZO-SGD by values, and ask/tell objects that are told an order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
import torch
from ranking_problems import ranking, talk

import agents
import optenvs
from agents.ranking._descent import unit
from agents.ranking.scobo import sparse_unit
from optenvs.core.env import OptimizationEnv
from optenvs.core.random import keys_from_seed, normal
from optenvs.core.snapshot import load, save

# SCOBO -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", [1, 2, 5, 12])
def test_the_sparse_direction_is_the_maximiser(sparsity: int) -> None:
    b = normal(keys_from_seed(5, 3), "b", 12, dtype=torch.float64)
    found = sparse_unit(b, sparsity)
    for row in range(3):
        v = cp.Variable(12)
        limits = [cp.norm(v, 2) <= 1, cp.norm(v, 1) <= sparsity**0.5]
        best: Any = cp.Problem(cp.Maximize(b[row].numpy() @ v), limits).solve()
        assert float(found[row].abs().sum()) <= sparsity**0.5 + 1e-9
        assert float(torch.linalg.vector_norm(found[row])) == pytest.approx(1)
        assert float(b[row] @ found[row]) == pytest.approx(float(best), rel=1e-4)


def test_no_comparison_gives_no_direction() -> None:
    zero = torch.zeros(2, 4)
    assert torch.equal(sparse_unit(zero, 2), zero)
    assert torch.equal(unit(zero), zero)


def test_scobos_directions_are_drawn_once_or_anew() -> None:
    for redraw in (False, True):
        _, _, memories = talk(ranking(), agents.SCOBO(redraw=redraw, rounds=2), 4)
        first, second, again = (memories[t].offsets for t in (1, 2, 3))
        assert torch.equal(first, again) != redraw
        assert not torch.equal(first, second)
        assert torch.allclose(torch.linalg.vector_norm(first[:, 1:], dim=-1), torch.ones(4, 9).double())


def test_scobos_step_decays_to_its_floor() -> None:
    agent = agents.SCOBO(lr=0.5, lr_decay=0.5, lr_floor=0.1)
    queries, _, _ = talk(ranking(), agent, 6)
    points = torch.stack([query["recommendation"] for query in queries])
    steps = torch.linalg.vector_norm(points[1:] - points[:-1], dim=-1)
    expected = torch.tensor([0.5, 0.25, 0.125, 0.1, 0.1]).double()
    assert torch.allclose(steps, expected.unsqueeze(1).expand(-1, 4))


def test_a_sparse_slope_is_found_with_fewer_directions() -> None:
    # f depends on 2 of 60 coordinates, of which 24 directions a step are drawn anew
    slope = optenvs.from_function(
        lambda x: x[:, 3] - 2 * x[:, 40], dim=60, batched=True, dtype="float64", tolerance=None
    )
    env = optenvs.make("Ranking", objective=slope, shown=25, budget=None, dtype="float64")
    merit = {}
    for sparsity in (2, None):
        agent = agents.SCOBO(sparsity=sparsity, redraw=True, lr=0.1, lr_decay=1.0)
        merit[sparsity] = float(optenvs.rollout(env, agent, batch=8, steps=40).merit[-1].mean())
    assert merit[2] < 1.2 * merit[None] < 0


# GLD ---------------------------------------------------------------------------------------------


def test_gld_asks_at_radii_that_halve() -> None:
    queries, states, _ = talk(ranking(shown=6), agents.GLDFast(radius=8.0, period=2), 5)
    for t, query in enumerate(queries):
        away = torch.linalg.vector_norm(query["query"] - query["recommendation"].unsqueeze(1), dim=-1)
        radii = [0.0, *(8.0 * 0.5 ** (i + t // 2) for i in range(5))]
        assert torch.allclose(away, torch.tensor(radii).double().expand(4, -1))
        assert (query["count"] == 6).all()
        assert (query["keep"] == 1).all()
        if t < 4:
            best = states[t + 1].observation["order"][:, 0]
            assert torch.equal(queries[t + 1]["recommendation"], query["query"][torch.arange(4), best])
    half = torch.linalg.vector_norm(states[0].problem.upper - states[0].problem.lower, dim=-1) / 2
    _, _, memories = talk(ranking(), agents.GLDFast(), 1)
    assert torch.equal(memories[0].radius[:, 0], half)


# ZO-SGD ------------------------------------------------------------------------------------------


def swarm(**keywords: Any) -> OptimizationEnv:
    quadratic = {"landscape": "Quadratic", "dim": 3, "condition": 2.0, "start_mean": 1.0, "particles": 8}
    return optenvs.make(
        "Particles", **(quadratic | {"tolerance": None, "budget": None, "dtype": "float64"} | keywords)
    )


def test_differences_of_values_make_the_step() -> None:
    queries, states, _ = talk(swarm(), agents.ZOSGD(mu=1e-3, lr=0.5, line_search=3), 4)
    start = states[0].observation["point"][:, 0]
    estimate, search = queries[0]["query"], queries[1]["query"]
    assert torch.equal(estimate[:, 0], start)
    xi = (estimate[:, 1:] - start.unsqueeze(1)) / 1e-3
    value = states[1].observation["value"].squeeze(-1)
    g = ((value[:, 1:] - value[:, :1]) / 1e-3).unsqueeze(-1).mul(xi).mean(1)
    for i in range(3):
        assert torch.allclose(search[:, 1 + i], start - 0.5 * 0.5**i * g, rtol=1e-6)
    assert torch.equal(search[:, 4:], estimate[:, 4:])
    # the start of 8, 7 points (x is where it was), three trials (so is the rest), 8 points, three trials
    assert [int(state.calls["value"][0]) for state in states] == [8, 15, 18, 26, 29]
    best = states[2].observation["value"][:, :4, 0].argmin(1)
    assert torch.equal(queries[2]["recommendation"], search[torch.arange(4), best])
    plain, _, _ = talk(swarm(), agents.ZOSGD(mu=1e-3, lr=0.5, line_search=0), 2)
    assert torch.allclose(plain[1]["recommendation"], start - 0.5 * g)


def test_values_that_are_no_numbers_say_nothing() -> None:
    hole = optenvs.from_function(
        lambda x: torch.where(x[:, 0] > 1.0, torch.nan, x.square().sum(-1)),
        dim=2,
        batched=True,
        tolerance=None,
    )
    env = optenvs.make(
        "Particles", landscape=hole, particles=8, start_mean=(0.99, 1.0), start_std=0.0, budget=None
    )
    run = optenvs.rollout(env, agents.ZOSGD(), batch=16, steps=40)
    assert not run.diverged.any()
    assert (run.best[-1] < 1e-2).all()


def test_too_few_particles() -> None:
    with pytest.raises(ValueError, match="line_search: 8 trials and x are more than 8 particles"):
        optenvs.rollout(swarm(), agents.ZOSGD(line_search=8), steps=1)
    with pytest.raises(ValueError, match="at least 2 particles"):
        optenvs.rollout(swarm(particles=1), agents.ZOSGD(), steps=1)


# ask/tell ----------------------------------------------------------------------------------------


class Elite:
    """A population around the best point of the last one."""

    def __init__(self, start: np.ndarray, seed: int, size: int) -> None:
        self.centre, self.size, self.told = start, size, []
        self.rng = np.random.default_rng(seed)

    def ask(self) -> np.ndarray:
        return self.centre + 0.3 * self.rng.standard_normal((self.size, len(self.centre)))

    def tell(self, points: np.ndarray, places: np.ndarray) -> None:
        self.told.append(places)
        self.centre = points[int(places.argmin())]


def test_populations_are_told_their_places() -> None:
    made: list[Elite] = []

    def factory(start: np.ndarray, seed: int, size: int) -> Elite:
        made.append(Elite(start, seed, size - 2))
        return made[-1]

    env = ranking(shown=6, ranked=2)
    queries, states, _ = talk(env, agents.from_ask_rank(factory), 5)
    assert all((query["count"] == 4).all() and (query["keep"] == 2).all() for query in queries)
    for t in range(1, 5):
        order = states[t].observation["order"]
        for i in range(4):
            told = made[i].told[t - 1]
            assert told[order[i, 0]] == 0
            assert told[order[i, 1]] == 1
            assert (np.sort(told) == [0, 1, 2, 2]).all()
    assert torch.equal(queries[1]["recommendation"], states[1].observation["point"][
        torch.arange(4), states[1].observation["order"][:, 0]])  # fmt: skip
    run = optenvs.rollout(env, agents.from_ask_rank(factory), batch=4, steps=60)
    assert (run.best[-1] < 0.1 * run.best[0]).all()


@pytest.mark.parametrize("budget", [None, 400])
def test_an_object_is_rebuilt_from_its_past(tmp_path: Path, budget: int | None) -> None:
    env = ranking(recommend="top", budget=budget)
    whole = optenvs.rollout(env, agents.from_ask_rank(Elite), batch=2, steps=20, record=("point",))
    half = optenvs.rollout(env, agents.from_ask_rank(Elite), batch=2, steps=8)
    again = load(save(tmp_path / "run", half))
    resumed = optenvs.rollout(env, agents.from_ask_rank(Elite), steps=12, resume=again, record=("point",))
    assert torch.equal(resumed.recorded["point"], whole.recorded["point"][8:])


def test_an_object_that_draws_from_elsewhere_is_found_out() -> None:
    shared = np.random.default_rng(0)

    class Shared(Elite):
        """Its generator is not its own."""

        def __init__(self, start: np.ndarray, seed: int, size: int) -> None:
            super().__init__(start, seed, size)
            self.rng = shared

    half = optenvs.rollout(ranking(), agents.from_ask_rank(Shared), batch=2, steps=3)
    with pytest.raises(RuntimeError, match="can be run once, but neither resumed nor branched"):
        optenvs.rollout(ranking(), agents.from_ask_rank(Shared), steps=3, resume=half)


def test_populations_that_do_not_fit() -> None:
    for change, recommend in ((1, "agent"), (-1, "top"), (-9, "agent")):
        agent = agents.from_ask_rank(lambda s, seed, m, change=change: Elite(s, seed, m + change))
        with pytest.raises(ValueError, match=r"ask\(\): expected .*10 points of 3 coordinates, got shape"):
            optenvs.rollout(ranking(recommend=recommend), agent, steps=1)
    with pytest.raises(TypeError, match="factory: expected a callable"):
        agents.from_ask_rank(3)  # type: ignore[arg-type]

"""Acceptance checks of ZO-RankSGD (Tang, Rybin, Chang 2024).

The moments and the table are those of independent implementations; the paper's own text was not readable to
those who wrote them.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

import agents
import optenvs
from agents.ranking.zo_ranksgd import ZORankSGD, weights
from optenvs.core.env import OptimizationEnv
from optenvs.core.random import keys_from_seed, normal
from optenvs.core.rollout import Run
from optenvs.core.struct import tensors

pytestmark = pytest.mark.paper

PLAIN = ZORankSGD()


def draws(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Standard normal numbers."""
    return normal(keys_from_seed(seed, 1), "test", shape, dtype=torch.float64)[0]


def square(x: Tensor) -> Tensor:
    return x.square().sum(-1)


def ranking(function: Any, dim: int, **keywords: Any) -> OptimizationEnv:
    """Rankings of ``function``, from a standard normal start."""
    objective = function
    if callable(function):
        objective = optenvs.from_function(function, dim=dim, batched=True, dtype="float64")
        dim_ = {}
    else:
        dim_ = {"dim": dim}
    options = {"start_std": 1.0, "budget": None, "tolerance": None, "dtype": "float64"}
    return optenvs.make("Ranking", objective=objective, **(options | dim_ | keywords))


# 1 -----------------------------------------------------------------------------------------------


def edges(order: list[int], points: int) -> list[tuple[int, int]]:
    """The pairs (better, worse) that an order of the best implies."""
    rest = [i for i in range(points) if i not in order]
    return list(itertools.combinations(order, 2)) + list(itertools.product(order, rest))


@pytest.mark.parametrize("points", range(2, 13))
def test_weights_are_the_sum_over_the_pairs(points: int) -> None:
    for named in range(1, points + 1):
        xi = draws((points, 5), seed=100 * points + named)
        order = draws((points,), seed=named).argsort()[:named]
        pairs = edges(order.tolist(), points)
        w, count = weights(order.unsqueeze(0), points)
        assert int(count) == len(pairs) == named * points - named * (named + 1) // 2
        assert int(w.sum()) == 0
        expected = torch.stack([xi[j] - xi[i] for i, j in pairs]).mean(0)
        found = PLAIN.estimate(order.unsqueeze(0), xi.unsqueeze(0))[0]
        assert torch.allclose(found, expected, rtol=0, atol=1e-12)
        m, k = points, named
        sharing = sum(len({a, b, c, d}) < 4 for (a, b), (c, d) in itertools.permutations(pairs, 2))
        assert sharing == m**2 * k + m * k**2 - k**3 + k**2 - 4 * m * k + 2 * k
        net = [sum(j == p for _, j in pairs) - sum(i == p for i, _ in pairs) for p in range(points)]
        assert w[0].tolist() == net  # how often a point is the worse one, less how often the better
        official, same = weights(order.unsqueeze(0), points, official=True)
        assert int(official.sum()) == -k
        assert torch.equal(same, count)


# 2 -----------------------------------------------------------------------------------------------

MOMENTS = {
    # (m, k): c, s, E<g, u>^2
    (15, 15): (1.1284, 0.10159, 1.3205),
    (15, 5): (1.3897, 0.21944, 2.014),
    (15, 1): (1.8599, 1.07143, 3.7283),
    (10, 10): (1.1284, 0.16296, 1.3473),
    (10, 3): (1.4053, 0.37847, 2.112),
    (5, 5): (1.1284, 0.40000, 1.4436),
    (2, 1): (1.1284, 2.00000, 2.0000),
}


def test_the_moments_on_a_linear_function() -> None:
    chunks, rows, dim = 10, 10_000, 20
    sums = {size: torch.zeros(2, dim, dtype=torch.float64) for size in MOMENTS}
    for chunk in range(chunks):
        xi = normal(keys_from_seed(chunk, rows), "xi", (15, dim), dtype=torch.float64)
        for (m, k), total in sums.items():
            order = xi[:, :m, 0].argsort(1)[:, :k]  # f(x) = x_1
            g = PLAIN.estimate(order, xi[:, :m])
            total += torch.stack((g.sum(0), g.square().sum(0)))
    for size, total in sums.items():
        c, s, second = MOMENTS[size]
        mean, square_ = total / (chunks * rows)
        assert float(mean[0]) == pytest.approx(c, rel=0.01), size
        assert float(square_[0]) == pytest.approx(second, rel=0.01), size
        assert float(square_[1:].mean()) == pytest.approx(s, rel=0.02), size
        assert float(mean[1:].abs().max()) < 5 * math.sqrt(s / (chunks * rows)), size


def test_far_points_blur_the_slope_of_a_quadratic() -> None:
    mu, dim, rows = 0.1, 100, 10_000
    xi = normal(keys_from_seed(0, rows), "xi", (10, dim), dtype=torch.float64)
    for r, c in ((1.0, 0.921), (0.3, 0.441), (0.1, 0.158)):
        x = torch.zeros(dim, dtype=torch.float64)
        x[0] = r
        along = PLAIN.estimate(square(x + mu * xi).argsort(1), xi)[:, 0]
        assert float(along.mean()) == pytest.approx(c, rel=0.02)


# 3 -----------------------------------------------------------------------------------------------

TRANSFORMS = {
    "exp": lambda x: square(x).exp(),
    "cube": lambda x: square(x) ** 3,
    "affine": lambda x: 5 * square(x) - 7,
}


@functools.cache
def told(name: str, transform: str, steps: int) -> dict[str, Tensor]:
    """All that an agent is told and paid in a run, by a transformation of the same function."""
    env = ranking(TRANSFORMS.get(transform, square), 20, reward="none")
    run = optenvs.rollout(env, agents.make(name), seed=3, batch=4, steps=steps, record=("point", "order"))
    assert not run.done.any()
    seen = {f"recorded {key}": value for key, value in run.recorded.items()}
    seen |= {f"last {key}": value for key, value in run.state.observation.items()}
    return seen | {"reward": run.reward} | tensors(run.agent_state) | tensors(run.state.problem)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("name", ["zo_ranksgd", "zo_sign", "scobo", "gld_fast"])
def test_monotone_transformations_change_nothing(name: str, transform: str) -> None:
    steps = 600 if name == "zo_ranksgd" else 100
    plain, other = told(name, "none", steps), told(name, transform, steps)
    assert plain.keys() == other.keys()
    for field, value in plain.items():
        assert torch.equal(value, other[field]), field
    assert (plain["reward"] == 0).all()
    moved = plain["recorded point"][-1] - plain["recorded point"][0]
    assert moved.abs().max() > 0.1


def test_a_method_that_sees_values_is_told_apart() -> None:
    runs = []
    for function in (square, TRANSFORMS["affine"]):
        landscape = optenvs.from_function(function, dim=20, batched=True, dtype="float64")
        env = optenvs.make(
            "Particles", landscape=landscape, particles=10, start_mean=0.0, budget=None, dtype="float64"
        )
        runs.append(optenvs.rollout(env, agents.ZOSGD(), seed=3, batch=2, steps=10, record=("point",)))
    assert not torch.equal(runs[0].recorded["point"], runs[1].recorded["point"])


# 4 -----------------------------------------------------------------------------------------------

BALLS = {(15, 15): 0.5042, (10, 10): 0.7747, (15, 5): 0.8541, (15, 1): 2.9518}


@pytest.mark.parametrize("size", BALLS)
def test_fixed_steps_end_in_a_ball(size: tuple[int, int]) -> None:
    m, k = size
    env = ranking(square, 100, shown=m, ranked=k)
    agent = ZORankSGD(mu=1e-4, lr=0.1, line_search=0)
    run = optenvs.rollout(env, agent, batch=16, steps=601)
    # the point after iteration t is that of query t + 1
    radius = run.metrics["value"][302:602].sqrt().mean()
    assert float(radius) == pytest.approx(BALLS[size], rel=0.02)
    c, s, second = MOMENTS[size]
    assert BALLS[size] == pytest.approx(0.1 * (99 * s + second) / (2 * c), rel=1e-3)


# 5 and 6 -----------------------------------------------------------------------------------------

TABLE: dict[str, tuple[dict[str, Any], tuple[float, float], tuple[float, float]]] = {
    # settings; medians at iterations 100 and 300 on the quadratic, on Rosenbrock
    "eta 1, gamma 0.5": ({}, (0.33, 0.16), (326, 121)),
    "eta 0.5, gamma 0.5": ({"lr": 0.5}, (0.24, 0.055), (299, 106)),
    "eta 1, gamma 0.1": ({"shrink": 0.1}, (0.82, 0.030), (505, 120)),
    "accumulation": ({"accumulate": True}, (0.31, 0.054), (313, 108)),
    "(10,5)": ({"ranked": 5}, (0.54, 0.21), (398, 133)),
    "(10,1)": ({"ranked": 1}, (6.8, 1.7), (1340, 437)),
    "official weights": ({"official_weights": True}, (0.38, 0.16), (266, 119)),
}


@functools.cache
def run(row: str, function: str) -> Run:
    """Five runs of a row of the table; the first row to iteration 500."""
    env = ranking(square if function == "quadratic" else "Rosenbrock", 100)
    steps = 2 * (500 if row == "eta 1, gamma 0.5" else 300) + 1
    return optenvs.rollout(env, ZORankSGD(**TABLE[row][0]), batch=5, steps=steps)


def medians(row: str, function: str) -> tuple[float, float]:
    value = run(row, function).metrics["value"]
    return tuple(float(value[2 * iteration + 1].median()) for iteration in (100, 300))  # type: ignore[return-value]


@pytest.mark.parametrize("function", ["quadratic", "rosenbrock"])
def test_a_search_never_goes_up_and_costs_what_it_shows(function: str) -> None:
    done = run("eta 1, gamma 0.5", function)
    value = done.metrics["value"]
    assert len(value) == 1002
    assert (value[1:] <= value[:-1]).all()
    # the start, then 10 points and x with five trials in turns
    expected = torch.tensor([1] + [10, 6] * 500 + [10]).cumsum(0)
    assert torch.equal(done.calls["points"], expected.unsqueeze(1).expand(-1, 5))
    assert torch.equal(done.calls["ranking"][-1], torch.full((5,), 1002))


@pytest.mark.ci
@pytest.mark.parametrize("row", TABLE)
def test_the_table(row: str) -> None:
    _, *expected = TABLE[row]
    for function, reference in zip(("quadratic", "rosenbrock"), expected, strict=True):
        for found, figure in zip(medians(row, function), reference, strict=True):
            assert figure / 2 < found < figure * 2, (function, found, figure)


def test_who_names_more_points_helps_more() -> None:
    ten, five, one = (medians(row, "quadratic") for row in ("eta 1, gamma 0.5", "(10,5)", "(10,1)"))
    assert ten[0] < five[0] < one[0]
    assert ten[1] < five[1] < one[1]
    ten, five, one = (medians(row, "rosenbrock") for row in ("eta 1, gamma 0.5", "(10,5)", "(10,1)"))
    assert max(ten[0], five[0]) < one[0]
    assert max(ten[1], five[1]) < one[1]


# 7 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [1, 2])
def test_a_pair_gives_the_worse_less_the_better(named: int) -> None:
    xi = draws((50, 2, 3))
    order = square(xi + 1).argsort(1)[:, :named]
    sign = torch.sign(square(xi[:, 1] + 1) - square(xi[:, 0] + 1)).unsqueeze(1)
    assert torch.equal(PLAIN.estimate(order, xi), sign * (xi[:, 1] - xi[:, 0]))

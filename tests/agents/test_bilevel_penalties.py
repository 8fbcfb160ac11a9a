"""Penalty methods on two levels: where they end, what they refuse, pay and keep."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from bilevel_course import course
from torch import Tensor

import agents
import optenvs
from optenvs.core.errors import OracleMismatch
from optenvs.core.random import keys_from_seed
from optenvs.core.struct import replace

DOUBLE = torch.float64
A = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=DOUBLE)
NUMBERS: dict[str, dict[str, Any]] = {
    "bic_gaffa": {"alpha": 0.2, "beta": 0.2, "eta": 0.4},
    "blocc": {"rounds": 2, "primal": 2, "eta": 0.2},
}


def upper(x: Tensor, y: Tensor) -> Tensor:
    return ((y - 1) ** 2).sum() + 0.1 * (x**2).sum()


def lower(x: Tensor, y: Tensor) -> Tensor:
    return y @ A.to(y) @ y / 2 - x @ y


def free(**changes: Any) -> Any:
    """Without constraints: y* = A^-1 x."""
    return optenvs.bilevel_from_functions(upper, lower, **({"x": 2, "y": 2, "solver": None} | changes))


def toy(**keywords: Any) -> Any:
    return optenvs.make("BilevelToy", **({"dim": 2, "tolerance": None, "budget": None} | keywords))


# Where they end -------------------------------------------------------------------------------


@pytest.mark.parametrize("coupling", ["sum", "cubes"])
def test_bic_gaffa_finds_the_solution_where_no_penalty_moves_it(coupling: str) -> None:
    steps = (
        {"alpha": 0.3, "beta": 0.3, "eta": 0.5}
        if coupling == "sum"
        else {"alpha": 0.08, "beta": 0.2, "eta": 0.4}
    )
    agent = agents.make("bic_gaffa", gamma1=2.0, gamma2=0.5, c=2.0, power=0.0, **steps)
    memory = course(toy(objective="bilinear", coupling=coupling, start_std=0.5), agent, 500, batch=3)
    assert float((memory.x - 1).abs().max()) < 1e-4
    assert float((memory.y[:, :2] - 2).abs().max()) < 1e-4
    assert float((memory.y[:, 2:] + 3).abs().max()) < 1e-4
    assert float((memory.z + 1).abs().max()) < 1e-4, "its multiplier is the lower problem's"


def test_bic_gaffa_is_billed_seven_derivatives_an_iteration() -> None:
    run = optenvs.rollout(toy(), agents.make("bic_gaffa"), batch=2, steps=11)
    assert torch.equal(run.state.calls["derivatives"], torch.full((2,), 5 * 7 + 2))
    assert torch.equal(run.state.calls["constraints"], torch.full((2,), 6))
    assert torch.equal(run.agent_state.work["projections"], torch.full((2,), 2 + 5 * 3)), "onto X and Y"


def test_bic_gaffas_penalty_grows_up_to_its_cap() -> None:
    """A first iteration from one state at the penalties c, and later ones at the cap."""
    capped = agents.make("bic_gaffa", c=4.0, power=1.0, cap=8.0, alpha=0.1)
    free_of_it = agents.make("bic_gaffa", c=4.0, power=1.0, cap=float("inf"), alpha=0.1)
    constant = agents.make("bic_gaffa", c=4.0, power=0.0, alpha=0.1)
    found = {
        iterations: [course(toy(), agent, 2 * iterations).x for agent in (capped, free_of_it, constant)]
        for iterations in (1, 2, 3)
    }
    assert torch.equal(found[1][0], found[1][2])
    assert torch.equal(found[2][0], found[2][1])
    assert not torch.equal(found[2][0], found[2][2])
    assert not torch.equal(found[3][0], found[3][1])


def test_bic_gaffa_at_a_constant_penalty_ends_at_its_stationary_point() -> None:
    """The seven equations for equal coordinates (a, b, d, t1, t2, z, lambda), n = 1 and gamma = 1."""
    caps = torch.tensor([1.0, 4.0], dtype=DOUBLE)
    agent = agents.make("bic_gaffa", alpha=0.2, beta=0.2, eta=0.4, c=100.0, cap=caps)  # which hold it
    memory = course(toy(dim=1, start="zero"), agent, 1200, batch=2)
    found = torch.cat((memory.x, memory.y, memory.theta, memory.z, memory.lam), -1)
    for point, c in zip(found, caps.tolist(), strict=True):
        rows = [
            [-1, -1, 0, 2, 0, 1, 0],  # theta: t1 - a + z + t1 - b = 0
            [0, 0, -1, 0, 1, 1, 0],  # 1 + z + t2 - d = 0
            [1, 1, 1, 0, 0, 1, -1],  # lambda = z + g(x, y)
            [-1, 0, 0, -1, -1, -1, 1],  # z: lambda - z = g(x, theta)
            [1 / c, -1, -1 / c, 1, 0, -1, 1],  # x
            [-1, 1 / c, 0, 1, 0, 0, 1],  # y1
            [-1 / c, 0, 1 / c - 1, 0, 1, 0, 1],  # y2
        ]
        right = torch.tensor([0, -1, 0, 0, 0, 1 / c, -1], dtype=DOUBLE)
        expected = torch.linalg.solve(torch.tensor(rows, dtype=DOUBLE), right)
        torch.testing.assert_close(point, expected, rtol=0, atol=1e-7)
        moved = float((point[:3] - torch.tensor([-0.3, 0.7, -0.4])).abs().max())
        assert moved > 0.01 / c, "a penalty moves it"


def test_bic_gaffa_without_constraints_descends_on_the_moreau_envelope() -> None:
    agent = agents.make("bic_gaffa", alpha=0.4, eta=0.4, c=2.0, power=0.0)
    memory = course(free(), agent, 400)
    assert memory.z.shape == (1, 0)
    # stationary: F_x / 2 - y + theta, F_y / 2 + A y - x - (y - theta) = 0, A theta - x + theta - y = 0
    unit, zero = torch.eye(2, dtype=DOUBLE), torch.zeros(2, 2, dtype=DOUBLE)
    matrix = torch.cat(
        (
            torch.cat((0.1 * unit, -unit, unit), 1),
            torch.cat((-unit, A, unit), 1),  # F_y / 2 = y - 1
            torch.cat((-unit, -unit, A + unit), 1),
        )
    )
    right = torch.cat((zero[0], unit.sum(0), zero[0]))
    expected = torch.linalg.solve(matrix, right)
    torch.testing.assert_close(
        torch.cat((memory.x, memory.y, memory.theta), -1)[0], expected, rtol=0, atol=1e-6
    )


def test_blocc_finds_the_solution_that_the_constraint_holds() -> None:
    agent = agents.make("blocc", eta=0.3, rounds=5, primal=1)
    memory = course(optenvs.make("BilevelInequality"), agent, 11 * 30, batch=3)
    for found in (memory.x, memory.y, memory.inner):
        assert float((found - 0.5).abs().max()) < 1e-9
    assert float((memory.inner_mu - 1.5).abs().max()) < 1e-8
    assert torch.equal(memory.work["inner_steps"], torch.full((3,), 2 * 10 * 30)), "of both saddles"


def test_blocc_without_constraints_ends_at_the_minimiser_of_its_penalty() -> None:
    """phi is quadratic: its slope 0.2 x + penalty (A^-1 x - y_F), (2 + penalty A) y_F = 2 + penalty x."""
    penalties = torch.tensor([4.0, 40.0], dtype=DOUBLE)
    agent = agents.make("blocc", penalty=penalties, eta=0.5, rounds=2, primal=4)
    memory = course(free(), agent, 450, batch=2)
    unit, ones = torch.eye(2, dtype=DOUBLE), torch.ones(2, dtype=DOUBLE)
    exact = torch.linalg.solve(torch.linalg.inv(A @ A) + 0.1 * unit, torch.linalg.solve(A, ones))
    for x, penalty in zip(memory.x, penalties.tolist(), strict=True):
        inverse = torch.linalg.inv(2 * unit + penalty * A)
        matrix = 0.2 * unit + penalty * (torch.linalg.inv(A) - penalty * inverse)
        expected = torch.linalg.solve(matrix, 2 * penalty * inverse @ ones)
        torch.testing.assert_close(x, expected, rtol=0, atol=1e-6)
        assert 0.1 / penalty < float((expected - exact).norm()) < 10 / penalty, (
            "its distance is O(1 / penalty)"
        )


def test_blocc_ends_there_under_an_equation_though_f_is_merely_convex() -> None:
    """phi's minimiser (a, b, d) and mu_F; of the other saddle y1 = a + 1 and mu = -1."""
    penalty = 10.0
    agent = agents.make("blocc", penalty=penalty, eta=0.05, rounds=20, primal=1)
    memory = course(toy(dim=1), agent, 1000, batch=2)
    rows = [
        [1 + penalty, -penalty, -1, 1],  # x: a - d + penalty (a + 1 - b) + mu + penalty = 0
        [-penalty, 1 + penalty, 0, 1],  # y1: b - 1 + penalty (b - a) + mu = 0
        [-1, 0, 1, 1],  # y2: d - a + penalty + mu = 0
        [1, 1, 1, 0],
    ]
    right = torch.tensor([-2 * penalty, 1, -penalty, 0], dtype=DOUBLE)
    expected = torch.linalg.solve(torch.tensor(rows, dtype=DOUBLE), right)
    found = torch.cat((memory.x, memory.y, memory.mu), -1)
    torch.testing.assert_close(found, expected.expand(2, 4), rtol=0, atol=1e-5)
    assert 0.01 / penalty < abs(float(expected[0]) + 0.3) < 1 / penalty
    torch.testing.assert_close(memory.inner_mu, torch.full((2, 1), -1.0, dtype=DOUBLE), rtol=0, atol=1e-6)


# What they refuse, and what they keep ---------------------------------------------------------


@pytest.mark.parametrize("name", NUMBERS)
def test_it_refuses_what_is_no_problem_of_two_levels(name: str) -> None:
    with pytest.raises(OracleMismatch, match=f"agent {type(agents.make(name)).__name__} needs the oracle"):
        optenvs.rollout(optenvs.make("Quadratic"), agents.make(name), steps=1)


def test_blocc_says_that_no_step_follows_from_a_problem_that_tells_nothing() -> None:
    env = free()
    state = env.reset(keys_from_seed(0, 1))
    silent = replace(state.problem, smoothness=None)
    with pytest.raises(ValueError, match="Blocc: tau: the problem tells no constants"):
        agents.make("blocc").init(silent, state.observation, keys_from_seed(0, 1))


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("bic_gaffa", "alpha", -1.0),
        ("bic_gaffa", "gamma2", 0.0),
        ("bic_gaffa", "cap", 0.0),
        ("bic_gaffa", "r", 0.0),
        ("bic_gaffa", "power", float("inf")),
        ("blocc", "penalty", 0.0),
        ("blocc", "rounds", 0),
        ("blocc", "primal", 2.5),
        ("blocc", "sigma", -1.0),
    ],
)
def test_bad_numbers_are_named(name: str, field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{field}: expected"):
        agents.make(name, **{field: value})


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_may_differ_by_row(name: str) -> None:
    field = "alpha" if name == "bic_gaffa" else "eta"
    rates = torch.tensor([0.05, 0.2], dtype=DOUBLE)
    many = optenvs.rollout(toy(), agents.make(name, **NUMBERS[name] | {field: rates}), batch=2, steps=14)
    for row, value in enumerate(rates.tolist()):
        agent = agents.make(name, **NUMBERS[name] | {field: value})
        alone = optenvs.rollout(toy(), agent, keys=keys_from_seed(0, 1, first=row), steps=14)
        torch.testing.assert_close(alone.agent_state.x[0], many.agent_state.x[row], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NUMBERS)
def test_a_query_that_is_not_paid_moves_nothing(name: str) -> None:
    env = toy(budget={"inner_gradient": 4})
    run = optenvs.rollout(env, agents.make(name, **NUMBERS[name]), steps=10)
    agent, state = agents.make(name, **NUMBERS[name]), run.state
    observation = dict(state.observation)
    observation["answered"] = torch.zeros_like(observation["answered"])
    _, memory = agent.act(run.agent_state, observation)
    assert bool(memory.finished.all())
    for part in ("x", "y"):
        assert torch.equal(getattr(memory, part), getattr(run.agent_state, part))

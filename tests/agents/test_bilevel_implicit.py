"""Methods that differentiate lower solutions implicitly: slopes, ends, refusals and failures."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from bilevel_course import course
from torch import Tensor

import agents
import optenvs
from optenvs.core.errors import OracleMismatch
from optenvs.core.random import keys_from_seed

DOUBLE = torch.float64
A = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=DOUBLE)
STRONG = {"dim": 3, "equations": 1, "upper_equations": 1, "start_std": 0.1, "tolerance": None}
NAMES = ("gam", "implicit_gradient")


def upper(x: Tensor, y: Tensor) -> Tensor:
    return ((y - 1) ** 2).sum() + 0.1 * (x**2).sum()


def lower(x: Tensor, y: Tensor) -> Tensor:
    return y @ A.to(y) @ y / 2 - x @ y


def curved(x: Tensor, y: Tensor) -> Tensor:
    return (y - 0.3 * x).sin().sum() + (x * y).sum() + (y[0] - 2) ** 2


def made(objective: Any = upper, inner: Any = lower, **changes: Any) -> Any:
    return optenvs.bilevel_from_functions(objective, inner, **({"x": 2, "y": 2, "tolerance": None} | changes))


def in_the_ball(**changes: Any) -> Any:
    """y nearest to x with |y| <= 1: the constraint is curved, and active in some rows."""

    def solution(x: Tensor) -> tuple[Tensor, Tensor]:
        length = (x**2).sum().clamp_min(1.0).sqrt()
        return x / length, (length - 1).reshape(1) / 2

    ball: dict[str, Any] = {"inequality": lambda x, y: ((y**2).sum() - 1).reshape(1), "solution": solution}
    return made(curved, lambda x, y: ((y - x) ** 2).sum() / 2, **(ball | changes))


def asked(env: Any, run: Any) -> Tensor:
    """The problem's own hypergradient where the agent has found one last."""
    memory = run.agent_state
    query = env.card.offer.query({"hypergradient": True}, x=memory.descent.last)
    return env.step(env.reset(run.state.key), query).observation["hypergradient"]


# Slopes ---------------------------------------------------------------------------------------


def test_gam_finds_the_slope_of_phi_under_a_curved_constraint() -> None:
    env = in_the_ball()
    run = optenvs.rollout(env, agents.make("gam", alpha=1e-3), batch=6, steps=6)
    memory = run.agent_state
    assert (memory.descent.step > 0).all(), "x has moved in every row"
    assert 0 < int(memory.active.sum()) < 6
    torch.testing.assert_close(memory.descent.slope, asked(env, run), rtol=1e-9, atol=1e-9)
    assert torch.equal(run.state.calls["pullback"], run.state.calls["upper_gradient"]), "one constraint"


def test_gam_finds_the_slope_of_phi_of_a_support_vector_machine() -> None:
    env = optenvs.make(
        "BilevelSvm", train=10, validation=20, start=(-2.0, 0.0), evaluation_period=None, tolerance=None
    )
    agent = agents.make("gam", active=1e-10)
    run = optenvs.rollout(env, agent, batch=2, steps=18)
    assert not run.agent_state.failed.any()
    assert (run.agent_state.descent.step > 0).all(), "x has moved in every row"
    torch.testing.assert_close(run.agent_state.descent.slope, asked(env, run), rtol=1e-8, atol=1e-12)


def test_a_budget_that_pays_no_further_hypergradient_ends_the_run() -> None:
    """With its solution one costs 31 derivatives, of which a budget of 40 pays one."""
    env = optenvs.make("BilevelSvm", train=5, validation=4, budget=40, tolerance=None)
    run = optenvs.rollout(env, agents.Hypergradient(), batch=2)
    assert run.finished.all()
    assert run.state.calls["hypergradient"].tolist() == [1, 1]


@pytest.mark.parametrize("name", NAMES)
def test_the_slope_under_equations_is_that_of_phi(name: str) -> None:
    env = optenvs.make("BilevelStrong", **(STRONG | {"dim": 6, "equations": 3, "upper_equations": 2}))
    agent = agents.make(name, alpha=1e-3, **({"steps": 2, "eta": 1.0} if name != "gam" else {}))
    run = optenvs.rollout(env, agent, batch=2, steps=6)
    assert (run.agent_state.descent.step > 0).all()
    torch.testing.assert_close(run.agent_state.descent.slope, asked(env, run), rtol=1e-9, atol=1e-9)


def test_the_slope_under_curved_equations_asks_their_jacobian() -> None:
    """y = (u, v): u^2 + x1 u = x2 + 4 is a branch of a parabola that the projection keeps to."""

    def feasible(x: Tensor, y: Tensor) -> Tensor:
        u = -x[0] / 2 + (x[0] ** 2 / 4 + x[1] + 4).clamp_min(0.1).sqrt()
        return torch.stack((u, y[1]))

    def equality(x: Tensor, y: Tensor) -> Tensor:
        return (y[0] ** 2 + x[0] * y[0] - x[1] - 4).reshape(1)

    def inner(x: Tensor, y: Tensor) -> Tensor:
        return y[0] ** 2 + (y[1] - x.prod() - y[0]) ** 2

    def solution(x: Tensor) -> tuple[Tensor, Tensor]:
        u = feasible(x, x)[0]
        return torch.stack((u, x.prod() + u)), (-2 * u / (2 * u + x[0])).reshape(1)

    env = made(curved, inner, equality=equality, solution=solution, project={"feasible": feasible})
    agent = agents.make("implicit_gradient", steps=2, eta=0.5, alpha=1e-4)
    run = optenvs.rollout(env, agent, batch=3, steps=8)
    assert (run.agent_state.descent.step > 0).all(), "x has moved in every row"
    assert torch.equal(run.state.calls["pullback"], run.state.calls["upper_gradient"])
    torch.testing.assert_close(run.agent_state.descent.slope, asked(env, run), rtol=1e-9, atol=1e-9)


def test_the_slope_in_single_precision_is_that_in_double() -> None:
    """More products than the null space has dimensions must not make what rounding leaves large."""
    found = []
    for dtype in ("float32", "float64"):
        env = optenvs.make("BilevelStrong", dtype=dtype, **STRONG)
        memory = course(env, agents.make("gam", alpha=1e-3, accuracy=0.0), 12, batch=16)
        assert (memory.descent.step > 0).all()
        found.append(memory.descent.slope.double())
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-3)


# Where they end -------------------------------------------------------------------------------


def test_gam_finds_the_solution_at_an_active_constraint() -> None:
    env = optenvs.make("BilevelInequality", tolerance=None, budget=None)
    run = optenvs.rollout(env, agents.make("gam", alpha=None), batch=3, steps=160)
    memory = run.agent_state
    assert run.finished.all()
    assert not memory.failed.any()
    assert float((memory.descent.x - 0.5).abs().max()) < 1e-12
    assert float((memory.multipliers - 1.5).abs().max()) < 1e-12
    assert not run.state.calls["product"].any(), "the null space of one constraint of one variable is 0"


def test_gams_constant_step_contracts_as_it_must() -> None:
    """Phi'' = 2: x - 1/2 shrinks by 1 - 2 alpha."""
    env = optenvs.make("BilevelInequality", tolerance=None, data={"x": [-1.0], "y": [-1.0]})
    run = optenvs.rollout(env, agents.make("gam"), steps=21)
    steps = int(run.agent_state.work["projections"]) - 1
    assert steps == 10
    assert float(run.agent_state.descent.x) - 0.5 == pytest.approx(-1.5 * 0.94**steps, rel=1e-12)


def test_implicit_gradient_finds_the_least_phi_under_equations() -> None:
    env = optenvs.make("BilevelStrong", **STRONG)
    memory = course(env, agents.make("implicit_gradient", steps=2, first=0.1), 600, batch=4)
    assert not memory.failed.any()
    query = env.card.offer.query({"upper": True}, x=memory.descent.x, y=memory.y)
    found = env.step(env.reset(keys_from_seed(0, 4)), query).metrics
    assert float(found["gap"].abs().max()) < 1e-10
    assert float(found["distance"].max()) < 1e-8
    assert float(found["infeasibility"].max()) < 1e-12


def test_implicit_gradient_finds_the_minimiser_without_constraints() -> None:
    env = made(solver=None)
    memory = course(env, agents.make("implicit_gradient", first=0.1, steps=5), 400, batch=2)
    unit, ones = torch.eye(2, dtype=DOUBLE), torch.ones(2, dtype=DOUBLE)
    # Phi = |A^-1 x - 1|^2 + 0.1 |x|^2
    expected = torch.linalg.solve(torch.linalg.inv(A @ A) + 0.1 * unit, torch.linalg.solve(A, ones))
    torch.testing.assert_close(memory.descent.x, expected.expand(2, 2), rtol=0, atol=1e-7)


def test_inner_steps_and_solves_are_counted() -> None:
    env = made(solver=None)
    run = optenvs.rollout(env, agents.make("implicit_gradient", steps=3), steps=14)  # 3 of y, 1, 2 products
    memory, calls = run.agent_state, run.state.calls
    assert {kind: int(calls[kind]) for kind in ("lower_gradient", "upper_gradient", "product")} == {
        "lower_gradient": 8,
        "upper_gradient": 2,
        "product": 4,
    }
    assert int(calls["derivatives"]) == 8 + 2 + 2 * 4
    assert {kind: int(count) for kind, count in memory.work.items()} == {
        "inner_steps": 7,  # the last answer is not read yet
        "solves": 2,
        "projections": 1 + 7 + 2,
    }


# Refusals and failures ------------------------------------------------------------------------


def refusals() -> dict[str, tuple[str, Callable[[], Any], type[Exception], str]]:
    """What is refused: by which agent, what makes the problem, and what is said."""
    samples = torch.linspace(-1, 1, 20, dtype=DOUBLE).reshape(10, 2) + torch.eye(2, dtype=DOUBLE).repeat(5, 1)
    batches = {"samples": {"lower": samples}, "batch_size": 3}

    def noisy(x: Tensor, y: Tensor, own: Tensor) -> Tensor:
        return ((own @ y - own @ x) ** 2).mean()

    def half(y: Tensor) -> Tensor:
        return y.clamp_min(0)

    def square(x: Tensor, y: Tensor) -> Tensor:
        return (x.sum() + y.sum() ** 3).reshape(1)

    def bounded() -> Any:
        return made(
            inner=lambda x, y: ((y - x) ** 2).sum(), project={"lower": half}, solution=lambda x: half(x)
        )

    toy, found = partial(optenvs.make, "BilevelToy", dim=2), {}
    for name in NAMES:
        cls = type(agents.make(name)).__name__
        found[f"{name}, many"] = name, toy, TypeError, f"{cls} needs a lower problem with one solution"
        found[f"{name}, Y"] = name, bounded, TypeError, f"{cls} needs a lower variable in the whole space"
    name, cls = "implicit_gradient", "ImplicitGradient"
    found["inequality"] = (
        name,
        partial(optenvs.make, "BilevelInequality"),
        TypeError,
        f"{cls} needs a lower problem without inequalities; .* 1",
    )
    found["batches"] = (
        name,
        partial(made, inner=noisy, **batches),
        TypeError,
        f"{cls} needs answers that rest on all data",
    )
    refused = f"{cls} needs the projection 'feasible'"
    found["no projection"] = name, partial(made, equality=square), TypeError, refused
    found["no solution"] = "gam", partial(made, solver=None), OracleMismatch, "agent GAM needs the oracle"
    return found


@pytest.mark.parametrize("case", refusals())
def test_it_refuses_by_name(case: str) -> None:
    name, problem, error, message = refusals()[case]
    env = problem()
    with pytest.raises(error, match=message):
        optenvs.rollout(env, agents.make(name), steps=1)


def test_a_row_whose_lower_level_is_not_convex_fails_alone() -> None:
    def bent(x: Tensor, y: Tensor) -> Tensor:
        return x[0] * y[0] ** 2 / 2 + y[1] ** 2 / 2 - x[1] * y.sum()

    env = made(inner=bent, solver=None)
    agent = agents.make("implicit_gradient", eta=0.1, steps=2, alpha=1e-3)
    run = optenvs.rollout(env, agent, batch=8, steps=12)
    memory, start = run.agent_state, env.reset(run.state.key).observation["x"]
    assert 0 < int(memory.failed.sum()) < 8
    assert torch.equal(memory.failed, start[:, 0] < 0)
    assert torch.equal(run.finished, memory.failed)
    assert torch.equal(memory.descent.x[memory.failed], start[memory.failed])
    assert (memory.descent.x != start)[~memory.failed].any(-1).all()


def test_what_the_budget_does_not_pay_ends_the_row() -> None:
    env = optenvs.make("BilevelStrong", budget=5, **STRONG)  # two of y, two slopes; a product costs 2
    run = optenvs.rollout(env, agents.make("implicit_gradient", steps=2), steps=20)
    assert run.finished.all()
    assert int(run.state.calls["derivatives"]) == 4
    start = env.reset(run.state.key).observation["x"]
    torch.testing.assert_close(run.agent_state.descent.x, start, rtol=1e-12, atol=1e-12)


def test_few_products_give_an_inexact_slope() -> None:
    env = made(curved, solution=lambda x: torch.linalg.solve(A, x))
    found = {}
    for products, steps in ((1, 4), (None, 5)):  # y, slopes, and one product or two
        agent = agents.make("implicit_gradient", products=products, steps=1, alpha=1e-3)
        short = optenvs.rollout(env, agent, steps=steps - 1).agent_state
        found[products] = optenvs.rollout(env, agent, steps=steps).agent_state.descent
        assert float(short.descent.step) == 0 < float(found[products].step)
    assert torch.equal(found[1].last, found[None].last)
    assert not torch.allclose(found[1].slope, found[None].slope)


@pytest.mark.parametrize("name", NAMES)
def test_numbers_may_differ_by_row(name: str) -> None:
    env = optenvs.make("BilevelStrong", **STRONG)
    rates = torch.tensor([0.05, 0.2], dtype=DOUBLE)
    many = optenvs.rollout(env, agents.make(name, alpha=rates), batch=2, steps=14)
    for row, value in enumerate(rates.tolist()):
        keys = keys_from_seed(0, 1, first=row)
        alone = optenvs.rollout(
            env, agents.make(name, alpha=value), keys=keys, steps=14
        ).agent_state.descent.x[0]
        torch.testing.assert_close(alone, many.agent_state.descent.x[row], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("gam", "active", -1.0),
        ("gam", "alpha", 0.0),
        ("gam", "accuracy", 1.0),
        ("implicit_gradient", "steps", 0),
        ("implicit_gradient", "eta", -1.0),
        ("implicit_gradient", "products", 0),
        ("implicit_gradient", "first", 0.0),
    ],
)
def test_bad_numbers_are_named(name: str, field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{field}: expected"):
        agents.make(name, **{field: value})

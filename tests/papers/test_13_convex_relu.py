"""Convex programs of rectified units (arXiv 2201.01965): the figures of instances given by their seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import agents
import optenvs
from optenvs.core.random import keys_from_seed
from optenvs.envs.convex_relu import interior
from optenvs.envs.convex_relu.instances import all_gates, distinct
from optenvs.models import relu, relu_admm

OPTIMUM = {1.0: 9.581741, 0.1: 5.489590}
EVERY = {1.0: 9.518064, 0.1: 4.263049}
LOGISTIC = 11.29186


def first_instance(labels: bool = False) -> dict[str, Any]:
    """Twenty samples in three dimensions with forty gates."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((20, 3)), rng.standard_normal(20)
    gates = rng.standard_normal((3, 40)).T
    return {"X": X, "y": np.where(y > 0, 1.0, -1.0) if labels else y, "gates": gates}


def program(data: dict[str, Any], beta: float, loss: str = "squared") -> Any:
    env = optenvs.make("ConvexRelu", data=data, beta=beta, loss=loss, tolerance=None)
    return env.reset(keys_from_seed(0, 1)).problem


def digits() -> tuple[dict[str, Any], Tensor, Tensor]:
    """2 against 8, the first 250 to train; and the last 101 to test."""
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    pixels, labels = load_digits(return_X_y=True)
    kept = np.isin(labels, (2, 8))
    X, y = pixels[kept] / 16, np.where(labels[kept] == 8, 1.0, -1.0)
    train, test = X[:250], X[-101:]
    mean, std = train.mean(), train.std()
    train, test = (np.c_[(part - mean) / std, np.ones(len(part))] for part in (train, test))
    gates = np.random.default_rng(0).standard_normal((65, 50)).T
    data = {"X": train, "y": y[:250], "gates": gates}
    return data, torch.from_numpy(test)[None], torch.from_numpy(y[-101:])


def iterates(known: Any, steps: int, **settings: Any) -> Any:
    """The method of multipliers from zero, iterate by iterate."""
    agent = agents.make("admm", **settings)
    keys = keys_from_seed(0, 1)
    memory = agent.init(known, {}, keys)
    for _ in range(steps):
        _, memory = agent.act(memory, {})
        yield memory.at


def split_value(known: Any, at: relu_admm.Split) -> float:
    """l(F u) + beta |v|."""
    fit = relu.losses(known.loss, relu.outputs(known.X, known.D, at.u), known.y)
    return float(fit + known.beta * relu.norms(at.v).sum())


def test_one_feature_has_a_closed_form() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal(15), rng.standard_normal(15)
    beta = 0.7
    expected = y @ y / 2
    for group in (x > 0, x < 0):
        expected -= max(abs(x[group] @ y[group]) - beta, 0) ** 2 / (x[group] @ x[group]) / 2
    known = program({"X": x[:, None], "y": y, "gates": [[1.0], [-1.0]]}, beta)
    assert abs(float(interior.solve(known).value) - expected) < 1e-8
    *_, at = iterates(known, 400)
    assert abs(split_value(known, at) - expected) < 1e-8


@pytest.mark.parametrize("beta", [1.0, 0.1])
def test_the_program_is_the_network(beta: float) -> None:
    data = first_instance()
    known = program(data, beta)
    assert known.D.shape[-1] == 33
    found = interior.solve(known)
    assert abs(float(found.value) - OPTIMUM[beta]) < 1e-5
    assert float(found.bound) <= float(found.value) <= float(found.bound) * (1 + 1e-6)
    cost = relu.network_cost(known, *relu.recovered(found.U))
    assert abs(float(cost - found.value)) < 1e-9  # a feasible point: exactly


@pytest.mark.parametrize("beta", [1.0, 0.1])
def test_all_patterns_give_the_global_optimum(beta: float) -> None:
    data = first_instance()
    known = program(data | {"gates": all_gates(data["X"])}, beta)
    assert known.D.shape[-1] == 382
    found = interior.solve(known)
    assert abs(float(found.value) - EVERY[beta]) < 1e-5
    slope = known.y - relu.outputs(known.X, known.D, found.U)
    # the supremum over the sphere, by ascent from many units
    u = torch.randn(1, 4000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for _ in range(400):
        u = u / torch.linalg.vector_norm(u, dim=-1, keepdim=True)
        D = (known.X @ u.mT >= 0).double()
        value = ((known.X @ u.mT).clamp_min(0) * slope[..., None]).sum(1)
        u = u + 0.3 * value.sign()[..., None] * ((D * slope[..., None]).mT @ known.X)
    assert 0.999 <= float(value.abs().max()) / beta <= 1.0001


def test_the_method_of_multipliers_on_the_first_instance() -> None:
    known = program(first_instance(), 1.0)
    optimum = float(interior.solve(known).value)
    course, merit = [], []
    for at in iterates(known, 3000, rho=1.0):
        course.append(abs(split_value(known, at) - optimum) / optimum)
        off = abs(float(relu.objective(known, at.v)) - optimum) / optimum
        merit.append(off + float(relu.violation(known, at.v)))
    course = np.array(course)
    for least, step in ((1e-2, 28), (1e-4, 601), (1e-6, 1084)):
        last = np.flatnonzero(course >= least)[-1] + 1  # iterations are numbered from 1
        assert abs(last + 1 - step) <= 2
    assert abs(np.flatnonzero(np.array(merit) >= 1e-6)[-1] + 2 - 1103) <= 2
    assert course[-1] < 1e-9
    assert float(relu_admm.residual(known, at)) < 1e-12


@pytest.mark.parametrize(
    ("beta", "rho", "expected", "within"), [(1.0, 0.3, 4.285605, 5e-4), (0.1, 0.1, 0.616400, 2e-3)]
)
def test_the_method_of_multipliers_on_digits(beta: float, rho: float, expected: float, within: float) -> None:
    data, test, labels = digits()
    agent = agents.make("admm", rho=rho)
    known = relu.Gated(
        **{n: torch.as_tensor(data[n])[None] for n in ("X", "y")},
        **dict(zip(("D", "E", "gates"), _patterns(data), strict=True)),
        beta=torch.tensor([beta], dtype=torch.float64),
        loss="squared",
        menu=optenvs.make("ConvexRelu", samples=250, dim=65, patterns=48).card.offer,
    )
    assert known.D.shape[-1] == 48
    memory = agent.init(known, {}, keys_from_seed(0, 1))
    for _ in range(1000):
        _, memory = agent.act(memory, {})
    assert abs(split_value(known, memory.at) / expected - 1) < within
    told = relu.network(test, *relu.recovered(memory.at.v))
    assert bool((told.sign() == labels).all())


def _patterns(data: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    gates = torch.from_numpy(distinct(data))[None]
    D, first = relu.patterns(torch.from_numpy(data["X"])[None], gates)
    assert bool(first.all())
    return D, 2 * D - 1, gates


def test_the_fast_solve_is_the_dense_one() -> None:
    known = program(first_instance(), 1.0)
    rho = torch.tensor([0.3], dtype=torch.float64)
    P, d = known.D.shape[-1], 3
    *_, at = iterates(known, 5, rho=0.3)
    fast = relu_admm.exact(known, relu_admm.factored(known, rho), at, rho)
    X, D, E = (part[0] for part in (known.X, known.D, known.E))
    F = torch.cat([D[:, i, None] * X for i in range(P)], 1)
    F = torch.cat((F, -F), 1)
    G = torch.block_diag(*[E[:, i, None] * X for i in range(P)] * 2)
    flat = lambda part: part[0].flatten()  # noqa: E731
    stacked = (at.s - at.nu)[0].mT.flatten()
    right = F.T @ known.y[0] / rho + flat(at.v) - flat(at.lam) + G.T @ stacked
    A = torch.eye(2 * P * d, dtype=torch.float64) + F.T @ F / rho + G.T @ G
    assert float((torch.linalg.solve(A, right) - flat(fast)).abs().max()) < 1e-12


def test_patterns_are_counted() -> None:
    data = first_instance()
    assert len(all_gates(data["X"])) == 382
    drawn = np.random.default_rng(1).standard_normal((20_000, 3))
    assert 250 < len(distinct(data | {"gates": drawn})) <= 382


@pytest.mark.parametrize("loss", ["squared", "logistic", "hinge"])
def test_conic_solvers_agree(loss: str) -> None:
    cvxpy = pytest.importorskip("cvxpy")
    known = program(first_instance(labels=loss != "squared"), 1.0, loss)
    X, D, E, y = (part[0].numpy() for part in (known.X, known.D, known.E, known.y))
    v, w = (cvxpy.Variable((33, 3)) for _ in range(2))
    out = cvxpy.sum(cvxpy.multiply(D, X @ (v - w).T), axis=1)
    fit = {
        "squared": lambda: cvxpy.sum_squares(out - y) / 2,
        "logistic": lambda: cvxpy.sum(cvxpy.logistic(-2 * cvxpy.multiply(y, out))),
        "hinge": lambda: cvxpy.sum(cvxpy.pos(1 - cvxpy.multiply(y, out))),
    }[loss]()
    size = sum(cvxpy.sum(cvxpy.norm(part, axis=1)) for part in (v, w))
    cones = [cvxpy.multiply(E, X @ part.T) >= 0 for part in (v, w)]
    expected = cvxpy.Problem(cvxpy.Minimize(fit + size), cones).solve(solver="CLARABEL")
    assert abs(float(interior.solve(known).value) / expected - 1) < 1e-6


@pytest.mark.parametrize("beta", [1.0, 0.1])
def test_training_ends_no_lower_than_the_certificate(beta: float) -> None:
    data = first_instance()
    env = optenvs.make(
        "ReluTrain", data={"X": data["X"], "y": data["y"]}, units=50, beta=beta, tolerance=None
    )
    run = optenvs.rollout(env, agents.make("adam", lr=2e-2), seed=0, batch=4, steps=1500)
    lowest = run.metrics["value"][-1] - run.metrics["gap"][-1]
    assert bool(((lowest - EVERY[beta]).abs() < 1e-5).all())
    gap = run.metrics["gap"]
    assert bool((gap >= -1e-4).all())
    assert bool((gap[-1] < 0.05 * EVERY[beta]).all())


def test_an_instance_is_solved_alike_in_any_batch() -> None:
    env = optenvs.make("ConvexRelu")
    whole, one = (env.reset(keys_from_seed(3, batch)).metrics["optimum"] for batch in (5, 1))
    torch.testing.assert_close(whole[:1], one, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gates": np.zeros((0, 3))}, "there is no pattern"),
        ({"gates": np.zeros((1, 3))}, "on the boundary of its cone"),
        ({"y": np.zeros(20)}, "labels -1 and 1"),
        ({"X": np.full((20, 3), np.nan)}, "X: expected finite"),
    ],
)
def test_data_that_do_not_fit_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        optenvs.make("ConvexRelu", data=first_instance(labels=True) | change, loss="logistic")


@pytest.mark.ci
@pytest.mark.parametrize(("loss", "optimum"), [("logistic", LOGISTIC), ("squared", OPTIMUM[1.0])])
def test_blocks_reach_the_optimum(loss: str, optimum: float) -> None:
    env = optenvs.make(
        "ConvexRelu", data=first_instance(labels=loss == "logistic"), loss=loss, beta=1.0, tolerance=None
    )
    run = optenvs.rollout(env, agents.make("admm_rbcd", rho=1.0), seed=0, batch=6, steps=600)
    at, known = run.agent_state.at, run.state.problem
    fit = relu.losses(loss, relu.outputs(known.X, known.D, at.u), known.y)
    value = fit + known.beta * relu.norms(at.v).sum((1, 2))
    assert bool(((value / optimum - 1).abs() < 5e-4).all())

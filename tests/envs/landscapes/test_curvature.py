"""Landscapes with written curvature: their approximations, metrics, data, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import optenvs
from optenvs.core import State
from optenvs.core.checker import CheckFailed
from optenvs.core.oracles import hessian
from optenvs.core.random import keys_from_seed, normal
from optenvs.envs.landscapes.curvature.base import APPROXIMATIONS, Curved
from optenvs.envs.landscapes.curvature.residuals import Chebyshev

NAMES: dict[str, dict[str, Any]] = {
    "LogSumExp": {"dim": 5, "rows": 8, "mu": 0.5},
    "PowerResidual": {"dim": 6, "rows": 4, "power": 3.0},
    "NonlinearRosenbrock": {"dim": 4},
    "Chebyshev": {"dim": 6},
    "Polytope": {"dim": 5, "rows": 12, "power": 3.0},
    "PDifference": {"dim": 5, "power": 2.5, "ratio": 0.8},
    "LogisticRegression": {"dim": 5, "mu": 0.1},
    "SoftmaxRegression": {"features": 2, "mu": 0.1},
}
PAIRS = [(name, kind) for name in NAMES for kind in APPROXIMATIONS]
MOVED = {"shift": 0.4, "rotate": True}


def made(name: str, kind: str = "exact", **more: Any) -> Curved:
    env = optenvs.make(name, **(NAMES[name] | {"hessian": kind, "tolerance": None} | more))
    assert isinstance(env, Curved)
    return env


def ask(env: Curved, state: State, *kinds: str, **places: Tensor) -> dict[str, Tensor]:
    return env.step(state, state.problem.menu.query(dict.fromkeys(kinds, True), **places)).observation


def points(env: Curved, state: State, scale: float = 0.5) -> Tensor:
    start = state.observation["point"]
    return start + scale * normal(state.key, "points", env.dim, dtype=start.dtype)


@pytest.mark.parametrize("name", NAMES)
def test_exact_hessians_are_those_of_autograd(name: str) -> None:
    env, keys = made(name), keys_from_seed(0, 20)
    state = env.reset(keys)
    x, coefficients = points(env, state), state.hidden.coefficients
    _, slope, expected = hessian(lambda y: env.value(y, coefficients), x)
    found = ask(env, state, "gradient", "hessian", point=x)
    size = 1 + expected.abs().amax((-1, -2), keepdim=True)
    assert ((found["hessian"] - expected).abs() < 1e-8 * size).all()
    assert torch.allclose(found["gradient"], slope, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "kind"), PAIRS)
@pytest.mark.parametrize("moved", [{}, MOVED], ids=["still", "moved"])
def test_products_and_factors_are_of_the_hessian(name: str, kind: str, moved: dict[str, Any]) -> None:
    if kind not in type(made(name)).approximations:
        with pytest.raises(ValueError, match=f"hessian: {name} knows exact.*{kind}.*makes no sense"):
            made(name, kind)
        return
    env = made(name, kind, **moved)
    state = env.reset(keys_from_seed(1, 10))
    x, v = points(env, state), normal(state.key, "vector", env.dim, dtype=torch.float64)
    found = ask(env, state, "hessian", point=x)["hessian"]
    assert torch.allclose(found, found.mT, atol=1e-9 * float(1 + found.abs().max()))
    expected = (found @ v.unsqueeze(-1)).squeeze(-1)
    whole = 1e-10 * float(1 + found.abs().max())
    assert torch.allclose(ask(env, state, "hvp", point=x, vector=v)["hvp"], expected, atol=whole)
    other = env.replace(oracle="hvp")
    there = other.step(other.reset(state.key), {"point": x, "vector": v})
    assert torch.allclose(there.observation["hvp"], expected, atol=whole)
    assert bool(found.any()) == (kind != "zero")
    if kind != "exact":  # what the theory needs of an approximation
        assert (torch.linalg.eigvalsh(found) > -whole).all()
    assert ("factor" in env.oracles) == (kind == "fisher_term")
    if kind == "fisher_term":
        factor = ask(env, state, "factor", point=x)["factor"]
        assert factor.shape == (10, 1, env.dim)
        assert torch.allclose(factor.mT @ factor, found, atol=whole)


@pytest.mark.parametrize("name", ["PowerResidual", "NonlinearRosenbrock", "Chebyshev"])
@pytest.mark.parametrize("power", [2.0, 2.5, 3.0, 5.0])
def test_where_all_residuals_are_zero_nothing_is_infinite(name: str, power: float) -> None:
    rows = np.arange(12.0).reshape(3, 4) % 5
    keywords: dict[str, Any] = {"dim": None, "rows": None, "data": (rows, rows.sum(1))}
    for kind in ("exact", "fisher_term"):
        env = made(name, kind, power=power, **(keywords if name == "PowerResidual" else {}))
        state = env.reset(keys_from_seed(0, 3))
        best = torch.ones(3, env.dim, dtype=torch.float64, requires_grad=True)
        query = state.problem.menu.query(dict.fromkeys(env.oracles, True), point=best, vector=best)
        seen = env.step(state, query).observation
        assert not seen["value"].any()
        assert not seen["gradient"].any()
        assert bool(seen["hessian"].any()) == (power == 2 and kind == "exact")
        (slope,) = torch.autograd.grad(sum(seen[k].sum() for k in env.oracles), best)
        assert slope.isfinite().all()


@pytest.mark.parametrize("name", ["LogSumExp", "PowerResidual", "Polytope"])
def test_the_metric_turns_with_the_instance(name: str) -> None:
    still, turned = made(name), made(name, **MOVED)
    state, moved = (env.reset(keys_from_seed(4, 6)) for env in (still, turned))
    rotation = moved.hidden.rotation
    v = normal(state.key, "vector", still.dim, dtype=torch.float64)
    u = (rotation @ v.unsqueeze(-1)).squeeze(-1)
    length, other = (
        torch.einsum("bi,bij,bj->b", x, s.problem.metric, x) for x, s in ((v, state), (u, moved))
    )
    assert torch.allclose(length, other)
    assert not torch.allclose(state.problem.metric, moved.problem.metric)
    assert made(name, metric="identity").reset(state.key).problem.metric is None
    assert made("Chebyshev").reset(state.key).problem.metric is None


def test_log_sum_exp_is_centred_after_its_metric_is_made() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(7, 4)), rng.normal(size=7)
    env = optenvs.make("LogSumExp", data=(a, b), mu=0.5, tolerance=None)
    state = env.reset(keys_from_seed(0, 2))
    assert env.dim == 4
    assert np.allclose(state.problem.metric[0].numpy(), a.T @ a)
    zero = torch.zeros(2, 4, dtype=torch.float64)
    at = env.step(state, state.problem.menu.query({"value": True, "gradient": True}, point=zero))
    assert at.observation["gradient"].abs().max() < 1e-15
    assert np.allclose(at.observation["value"][0, 0], 0.5 * np.log(np.exp(-b / 0.5).sum()))
    assert at.metrics["gap"].abs().max() == 0


def test_data_are_shared_by_all_instances_and_not_copied() -> None:
    rng = np.random.default_rng(0)
    data = {"A": rng.normal(size=(7, 4)), "b": rng.normal(size=7)}
    env = optenvs.make("PowerResidual", data=data)
    state = env.reset(keys_from_seed(0, 5))
    assert state.hidden.coefficients is None
    residual = data["A"].sum(1) - data["b"]  # at (1, ..., 1)
    expected = np.linalg.norm(residual) ** 4 / 4
    assert np.allclose(state.observation["value"].squeeze(-1).numpy(), expected)
    best, *_ = np.linalg.lstsq(data["A"], data["b"])
    assert np.allclose(state.hidden.optimum[0].numpy(), best)
    rest = np.linalg.norm(data["A"] @ best - data["b"])
    assert np.allclose(state.hidden.lowest[0].item(), rest**4 / 4)


def test_the_minimum_of_a_regression_is_that_of_scipy() -> None:
    from scipy.optimize import minimize

    for name in ("LogisticRegression", "SoftmaxRegression"):
        for mu in (0.0, 0.1):
            env = optenvs.make(name, mu=mu, label_noise=2.0)
            state = env.reset(keys_from_seed(5, 2))
            for row in range(2):
                one = env.draw(state.key[row : row + 1]).coefficients

                def f(x: np.ndarray, env: Any = env, one: Any = one) -> Any:
                    value, slope = env.value_and_gradient(torch.from_numpy(x)[None], one)
                    return value.item(), slope[0].numpy()

                found = minimize(f, np.zeros(env.dim), jac=True, method="BFGS", options={"gtol": 1e-9})
                assert abs(found.fun - state.hidden.lowest[row].item()) < 1e-10


def test_separable_samples_have_the_minimum_zero() -> None:
    for name in ("LogisticRegression", "SoftmaxRegression"):
        state = optenvs.make(name, label_noise=0.0).reset(keys_from_seed(0, 4))
        assert not state.hidden.lowest.any()


def test_real_data_are_a_keyword() -> None:
    env = optenvs.make("LogisticRegression", data="breast_cancer", mu=1e-3)
    state = env.reset(keys_from_seed(0, 2))
    assert env.dim == 30
    assert env.samples == 455
    at = env.step(state, state.problem.menu.query({"gradient": True}, point=state.hidden.optimum))
    assert at.observation["gradient"].abs().max() < 1e-12


class Undeclared(Chebyshev):
    """Products of an approximation that is said to be the Hessian."""

    @property
    def approximate(self) -> tuple[str, ...]:
        return ()


@pytest.mark.parametrize("oracle", ["hvp", "hessian"])
def test_an_approximation_that_is_not_declared_is_found(oracle: str) -> None:
    assert optenvs.check(made("Chebyshev", "inexact", oracle=oracle), batch=2, steps=2).ok
    with pytest.raises(CheckFailed, match="hvp: expected the slope of the gradient"):
        optenvs.check(Undeclared(dim=6, hessian="inexact", oracle=oracle), batch=2, steps=2)


FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("LogSumExp", {"hessian": "newton"}, "hessian: LogSumExp knows exact"),
    ("LogSumExp", {"hessian": "zero", "oracle": "gradient"}, "hessian: 'zero' would have no effect"),
    ("LogSumExp", {"mu": 0.0}, "mu: expected a number > 0, got 0.0"),
    ("LogSumExp", {"rows": 3, "dim": 5}, "rows: A'A is singular with 3 rows"),
    ("LogSumExp", {"metric": "last"}, "metric: expected one of gram, identity"),
    ("LogSumExp", {"data": ([[1.0]], [1.0, 2.0])}, "data: A of shape"),
    (
        "LogSumExp",
        {"data": ([[1.0, np.nan]], [1.0])},
        r"data: A: .* got nan at \(0, 1\)",
    ),
    ("LogSumExp", {"data": {"A": [[1.0]]}}, "data: expected A with 2 axes, b with 1 axis"),
    ("LogSumExp", {"data": ([[1.0]], [1.0]), "dim": 4}, "dim: 4 does not fit data"),
    ("PowerResidual", {"power": 1.5}, "power: expected a number >= 2, got 1.5"),
    ("PowerResidual", {"rows": 0}, "rows: expected a whole number >= 1, got 0"),
    ("Polytope", {"power": 1.0}, "power: expected a number >= 2, got 1.0"),
    ("PDifference", {"power": 0.5}, "power: expected a number >= 1, got 0.5"),
    ("PDifference", {"ratio": np.inf}, "ratio: expected a finite number, got inf"),
    ("NonlinearRosenbrock", {"dim": 1}, "dim: expected a whole number >= 2, got 1"),
    ("LogisticRegression", {"data": "nothing"}, "data: no data set 'nothing'"),
    ("LogisticRegression", {"data": "digits"}, "data: expected digits of two classes"),
    ("LogisticRegression", {"data": ([[1.0]], [2.0])}, "data: expected labels -1 and 1, got 2.0"),
    ("LogisticRegression", {"data": "breast_cancer", "label_noise": 1.0}, "label_noise: 1.0 would have no"),
    ("LogisticRegression", {"data": "breast_cancer", "samples": 9}, "samples: 9 does not fit data"),
    ("LogisticRegression", {"mu": -1.0}, "mu: expected a number >= 0, got -1.0"),
    ("SoftmaxRegression", {"data": ([[1.0]], [0.5])}, "data: expected labels 0, 1, ..., got 0.5"),
    (
        "SoftmaxRegression",
        {"data": ([[1.0], [2.0]], [1, 2])},
        "all of them, got none of class 0 among 0 to 2",
    ),
    ("SoftmaxRegression", {"classes": 1}, "classes: expected a whole number >= 2, got 1"),
    ("SoftmaxRegression", {"dim": 4}, r"dim: expected classes \* features = 15, or None, got 4"),
]


@pytest.mark.parametrize(("name", "keywords", "message"), FAULTS, ids=[m[:40] for *_, m in FAULTS])
def test_bad_input_is_named(name: str, keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        optenvs.make(name, **keywords)

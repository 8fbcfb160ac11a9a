"""Constrained programs: their slopes, their residual, and what is said of a query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import optenvs
from optenvs.core.checks.probe import near
from optenvs.core.env import State
from optenvs.core.random import keys_from_seed
from optenvs.envs.constrained.base import Constrained
from optenvs.envs.constrained.cutest import ConstrainedCutest
from optenvs.envs.constrained.residual import least_squares

BATCH = 3
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "quadratic": ("ConstrainedQuadratic", {"dim": 5, "equalities": 2, "inequalities": 3, "bounded": True}),
    "cutest": ("ConstrainedCutest", {"problem": "HS77", "perturbation": 0.1}),
    "logistic": ("ConstrainedLogistic", {"samples": 9, "dim": 5, "rows": 2}),
    "pde": ("ConstrainedPde", {"equation": "cubic", "perturbation": 0.3}),
    "fine pde": ("ConstrainedPde", {"equation": "cubic", "grid": 16}),
}


def made(form: str, **changes: Any) -> Constrained:
    name, keywords = FORMS[form]
    env = optenvs.make(name, **(keywords | changes))
    assert isinstance(env, Constrained)
    return env


def asked(env: Constrained, state: State, kinds: tuple[str, ...] | None = None, **places: Tensor) -> State:
    return env.step(state, env.card.offer.query(dict.fromkeys(kinds or env.oracles, True), **places))


@pytest.mark.parametrize("form", FORMS)
def test_second_derivatives_and_products_belong_together(form: str) -> None:
    # the checker holds the kinds that declare a slope; these are of the Lagrangian, or transposed
    env = made(form)
    keys = keys_from_seed(1, BATCH)
    state = env.reset(keys)
    places = {n: v for n, v in near(env, keys, env.sample(keys).start, 0).items() if n != "want"}
    places |= {
        name: torch.sin(torch.arange(v.numel(), dtype=v.dtype)).reshape(v.shape)
        for name, v in places.items()
        if name != "x"
    }
    told = asked(env, state, **places).observation
    step = 1e-5 * places["vector"]

    def slope(x: Tensor) -> Tensor:  # of the Lagrangian
        there = asked(env, state, ("gradient", "adjoint_product"), x=x, covector=places["multipliers"])
        return there.observation["gradient"] + there.observation["adjoint_product"]

    turned = (slope(places["x"] + step) - slope(places["x"] - step)) / 2e-5
    torch.testing.assert_close(told["hessian_product"], turned, rtol=1e-6, atol=1e-6)
    twice = torch.linalg.vecdot(told["jacobian_product"], places["covector"])
    torch.testing.assert_close(twice, torch.linalg.vecdot(told["adjoint_product"], places["vector"]))
    if env.dense:
        product = (told["hessian"] @ places["vector"].unsqueeze(-1)).squeeze(-1)
        torch.testing.assert_close(product, told["hessian_product"])
        torch.testing.assert_close(told["hessian"], told["hessian"].mT, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("form", ["quadratic", "pde"])
def test_a_known_solution_satisfies_the_conditions(form: str) -> None:
    env = made(form, **({"equation": "linear"} if form == "pde" else {}))
    state = env.reset(keys_from_seed(2, BATCH))
    there = asked(env, state, ("value",), x=state.hidden.optimum)
    assert there.terminated.all()
    assert (there.metrics["kkt"] < 1e-12).all()
    assert torch.equal(there.metrics["gap"], torch.zeros(BATCH, dtype=torch.float64))
    assert not there.metrics["singular"].any()


def test_the_residual_is_zero_at_solutions_alone() -> None:
    # min (x1 - 2)^2 + x2^2 with x1 <= 1, x1 + x2 <= 5, 0.5 <= x2 <= 3: x = (1, 0.5), multipliers (2, 0)
    env = optenvs.constrained_from_functions(
        lambda x: (x[0] - 2) ** 2 + x[1] ** 2,
        inequality=lambda x: torch.stack((x[0] - 1, x[0] + x[1] - 5)),
        start=(0.0, 1.0),
        lower=(-torch.inf, 0.5),
        upper=(torch.inf, 3.0),
    )
    state = env.reset(keys_from_seed(0, 1))

    def at(x: tuple[float, float], multipliers: tuple[float, float]) -> dict[str, float]:
        places = {"x": torch.tensor([x], dtype=torch.float64)}
        places["multipliers"] = torch.tensor([multipliers], dtype=torch.float64)
        return {name: float(value) for name, value in asked(env, state, ("value",), **places).metrics.items()}

    names = ("stationarity", "feasibility", "complementarity", "kkt")
    expected = {
        ((1.0, 0.5), (2.0, 0.0)): (0.0, 0.0, 0.0, 0.0),
        ((1.0, 0.5), (2.0, 0.3)): (0.3, 0.0, 0.3, 0.18**0.5),  # of slack 3.5, a multiplier of 0.3
        ((1.0, 0.5), (-1.0, 0.0)): (3.0, 0.0, 1.0, 10**0.5),  # a negative one
        ((1.0, 0.0), (2.0, 0.0)): (0.0, 0.5, 0.0, 0.5),  # below a bound, else as at the solution
        ((1.5, 0.5), (1.0, 0.0)): (0.0, 0.5, 0.0, 0.5),  # beyond a constraint
        ((0.0, 0.5), (4.0, 0.0)): (0.0, 0.0, 1.0, 1.0),
    }
    for (x, multipliers), values in expected.items():
        found = at(x, multipliers)
        assert [found[name] for name in names] == pytest.approx(values, abs=1e-15), (x, multipliers)
    assert at((1.0, 0.5), (0.0, 0.0))["kkt"] == pytest.approx(0.0, abs=1e-14)  # none given: least squares


def test_multipliers_are_given_where_they_matter() -> None:
    env = made("cutest", problem="HS40")
    state = env.reset(keys_from_seed(0, 1))
    x = state.observation["x"]
    assert state.metrics["kkt"] > 1.5 * state.metrics["least_squares_kkt"]  # reset stands behind lambda0 = 0
    told = {
        kind: asked(env, state, (kind,), x=x).metrics for kind in ("gradient", "hessian", "hessian_product")
    }
    assert told["gradient"]["kkt"] == told["gradient"]["least_squares_kkt"]
    assert told["hessian"]["kkt"] == told["hessian_product"]["kkt"] == state.metrics["kkt"]
    one = asked(env, state, ("value",), x=x, multipliers=torch.ones_like(state.problem.lambda0)).metrics
    assert one["kkt"] > one["least_squares_kkt"]


def test_least_squares_multipliers_are_those_of_numpys() -> None:
    generator = torch.Generator().manual_seed(0)
    J = torch.randn(BATCH, 3, 6, dtype=torch.float64, generator=generator)
    J[:, 1] *= 1e6  # each row has its own scale
    J[2, 2] = 2 * J[2, 0]  # the rows depend on each other
    g = torch.randn(BATCH, 6, dtype=torch.float64, generator=generator)
    problem = made("cutest", problem="HS40").reset(keys_from_seed(0, BATCH)).problem
    found, singular = least_squares(problem, g, g, torch.zeros(BATCH, 3, dtype=torch.float64), J)
    exact = torch.linalg.lstsq(J[:2].mT, -g[:2].unsqueeze(-1)).solution.squeeze(-1)
    torch.testing.assert_close(found[:2], exact, rtol=1e-12, atol=1e-14)
    rest = g[2] + found[2] @ J[2]
    assert torch.linalg.vector_norm(J[2, 0] @ rest) < 1e-12
    assert singular.tolist() == [False, False, True]


def test_a_point_without_a_value_is_a_hidden_constraint() -> None:
    def env(**keywords: Any) -> Constrained:
        return optenvs.constrained_from_functions(
            lambda x: x[0] * torch.log(x[0]) + x[1] ** 2, lambda x: x.sum() - 2, start=(1.0, 3.0), **keywords
        )

    keys = keys_from_seed(0, 2)
    x = torch.tensor([[-1.0, 3.0], [1.0, 1.0]], dtype=torch.float64)
    there = asked(env(), env().reset(keys), x=x)
    assert there.observation["value"].flatten().tolist() == [torch.inf, 1.0]
    assert there.observation["constraints"].flatten().tolist() == [torch.inf, 0.0]
    assert not there.observation["gradient"][0].any()
    assert there.done.tolist() == [False, False]
    assert there.best[0] == env().reset(keys).best[0]
    assert asked(env(nan="diverge"), env(nan="diverge").reset(keys), x=x).diverged.tolist() == [True, False]


def test_rows_that_ask_a_hessian_do_not_have_their_first_derivatives_made_anew() -> None:
    sizes: list[int] = []

    @dataclass(frozen=True, eq=False, kw_only=True)
    class Counting(ConstrainedCutest):
        def constraint_slopes(self, data: Any, x: Tensor) -> tuple[Tensor, Tensor]:
            sizes.append(len(x))
            return super().constraint_slopes(data, x)

    env = Counting(problem="HS7", tolerance=None)
    state = env.reset(keys_from_seed(0, BATCH))
    x = state.observation["x"].clone()
    x[1] = 1e200  # where c is no number, and the Hessian is shown as zeros
    multipliers = torch.ones_like(x[:, :1])
    rows = torch.tensor([True, True, False])
    sizes.clear()
    query = env.card.offer.query({"hessian": rows, "objective_hessian": rows}, x=x, multipliers=multipliers)
    seen = env.step(state, query).observation
    assert sizes == [BATCH]
    whole = asked(env, state, x=x, multipliers=multipliers).observation
    for kind in ("hessian", "objective_hessian"):
        assert torch.equal(seen[kind][0], whole[kind][0]) and seen[kind][0].any()
        assert not seen[kind][1:].any() and not whole[kind][1].any() and whole[kind][2].any()


def test_infeasible_is_never_success() -> None:
    # the gradient of c vanishes at 0, where c = 1: a stationary point of the violation
    env = optenvs.constrained_from_functions(
        lambda x: x.sum() * 0, lambda x: 1 + (x**2).sum(), start=(1.0, 1.0)
    )
    there = asked(env, env.reset(keys_from_seed(0, 1)), x=torch.zeros(1, 2, dtype=torch.float64))
    assert there.metrics["stationarity"] == 0
    assert there.metrics["kkt"] == there.metrics["feasibility"] == there.metrics["singular"] == 1
    assert not there.terminated.any()


def test_a_given_start_and_multipliers_are_those_of_reset() -> None:
    for form in FORMS:
        env = made(form, **({"perturbation": 0.0} if "perturbation" in FORMS[form][1] else {}))
        n, m = env.size, env.count
        warm = env.replace(start=(0.25,) * n, start_multipliers=(0.5,) * m).reset(keys_from_seed(0, 2))
        assert (warm.observation["x"] == 0.25).all()
        assert (warm.problem.lambda0 == 0.5).all()
        assert torch.equal(warm.observation["multipliers"], warm.problem.lambda0)
    with pytest.raises(ValueError, match=r"start: expected 5 finite numbers, got \(1.0,\)"):
        made("quadratic", start=(1.0,))

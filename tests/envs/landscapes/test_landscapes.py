"""Landscapes: what they compute, held to mathematics and to the papers."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import optenvs
from optenvs.core.oracles import value_and_gradient
from optenvs.core.random import keys_from_seed, normal, uniform
from optenvs.envs.landscapes.adabelief import TOYS
from optenvs.envs.landscapes.base import Landscape

PLAIN: dict[str, dict[str, Any]] = {
    "Quadratic": {"dim": 5},
    "LeastSquares": {"dim": 5},
    "Rosenbrock": {"dim": 5},
    "Rastrigin": {"dim": 5},
    "Ackley": {"dim": 5},
    "StyblinskiTang": {"dim": 5},
    "Beale": {},
    "GrandCanyon": {},
    "RastriginProduct": {},
    "DiffGradF1": {"instance": "random"},
    "DiffGradF2": {"instance": "random"},
    "DiffGradF3": {"instance": "random"},
    "AdaBeliefToy": {"instance": "random"},
    "LogSumExp": {"dim": 5, "oracle": "gradient"},
    "PowerResidual": {"dim": 5, "rows": 8, "oracle": "gradient"},
    "NonlinearRosenbrock": {"dim": 5, "oracle": "gradient"},
    "Chebyshev": {"dim": 5, "oracle": "gradient"},
    "Polytope": {"dim": 5, "oracle": "gradient"},
    "PDifference": {"dim": 5, "oracle": "gradient"},
    "LogisticRegression": {"dim": 5, "samples": 20, "mu": 0.1, "oracle": "gradient"},
    "SoftmaxRegression": {"features": 2, "samples": 20, "mu": 0.1, "oracle": "gradient"},
}
CASES = [
    *PLAIN.items(),
    *(("Quadratic", {"dim": 5, "spectrum": s}) for s in ("linear", "clusters", "random", "wishart")),
    ("LeastSquares", {"dim": 5, "entries": "uniform"}),
    ("Rastrigin", {"dim": 3, "amplitude": 2.5}),
    *(("GrandCanyon", {"variant": v}) for v in ("2", "2noisy", "3")),
    *(("AdaBeliefToy", {"problem": p, "instance": "random"}) for p in TOYS),
]
SIZES = ("dim", "rows", "samples", "features", "oracle")
IDS = [
    "-".join(
        (
            name,
            *(
                str(v)
                for k, v in keywords.items()
                if k not in ("dim", "rows", "samples", "features", "oracle")
            ),
        )
    )
    for name, keywords in CASES
]
# beyond its wells F2 falls for ever; a sine repeats McCormick's well below the optimum in the box
LOCAL = ("DiffGradF2", "mccormick")


def made(name: str, keywords: dict[str, Any], **more: Any) -> Landscape:
    env = optenvs.make(name, **({"dtype": "float64", "tolerance": None} | keywords | more))
    assert isinstance(env, Landscape)
    return env


def in_domain(env: Landscape, keys: Tensor, stream: str = "points") -> Tensor:
    low, high = env.domain
    return uniform(keys, stream, env.dim, dtype=torch.float64, low=low, high=high)


def test_every_registered_landscape_is_here() -> None:
    assert {f"optenvs/{name}-v0" for name in PLAIN} == set(optenvs.list_envs("landscapes"))


@pytest.mark.parametrize(("name", "keywords"), CASES, ids=IDS)
def test_closed_gradients_are_those_of_autograd(name: str, keywords: dict[str, Any]) -> None:
    env, keys = made(name, keywords), keys_from_seed(0, 200)
    coefficients = env.draw(keys).coefficients
    x = in_domain(env, keys)
    value, gradient = env.value_and_gradient(x, coefficients)
    plain, slope = value_and_gradient(lambda y: env.value(y, coefficients), x)
    assert torch.allclose(value, plain, rtol=1e-12, atol=1e-12)
    assert torch.allclose(gradient, slope, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "keywords"), CASES, ids=IDS)
@pytest.mark.parametrize("moved", [False, True], ids=["still", "moved"])
def test_the_optimum_is_stationary_and_lowest(name: str, keywords: dict[str, Any], moved: bool) -> None:
    motion = {"shift": 0.7, "rotate": True} if moved else {}
    env, keys = made(name, keywords, **motion), keys_from_seed(1, 20)
    state = env.reset(keys)
    best = state.hidden.optimum
    if best is None:  # one of several
        if name == "Polytope":  # a point of it, from which it was drawn
            best = normal(keys, "inside", env.dim, dtype=torch.float64)
        else:
            best = env.known_minima()[-1].expand(20, -1)  # type: ignore[index]
        best = (
            state.hidden.shift + (state.hidden.rotation @ best.unsqueeze(-1)).squeeze(-1) if moved else best
        )
    at = env.step(state, best)
    assert torch.allclose(at.metrics["value"], state.hidden.lowest, atol=1e-9)
    assert at.metrics["gap"].abs().max() < 1e-9
    if state.hidden.optimum is not None:
        assert at.metrics["distance"].abs().max() < 1e-12
    # nowhere near it is lower, with or without a slope at the optimum itself (cusps of |x|)
    for size in (1e-4, 1e-2, 0.2):
        near = best + size * uniform(keys, f"near {size}", env.dim, dtype=torch.float64, low=-1.0)
        assert (env.step(state, near).metrics["gap"] > -1e-12).all()
    kinks = name in ("Ackley", "DiffGradF3") or "valley" in keywords.get("problem", "valley")
    if not (name == "AdaBeliefToy" and kinks) and name not in ("Ackley", "DiffGradF3"):
        # DiffGradF2's minimum is given to 16 digits, and its slope is 100 times an error
        assert at.observation["gradient"].abs().max() < 1e-7


@pytest.mark.parametrize(("name", "keywords"), CASES, ids=IDS)
def test_no_point_of_the_domain_is_lower(name: str, keywords: dict[str, Any]) -> None:
    env = made(name, keywords)
    state = env.reset(keys_from_seed(2, 2000))
    low = -1.0 if name == "DiffGradF2" else env.domain[0]
    high = 1.0 if name == "DiffGradF2" else env.domain[1]
    points = uniform(state.key, "everywhere", env.dim, dtype=torch.float64, low=low, high=high)
    assert (env.step(state, points).metrics["gap"] > -1e-9).all()


@pytest.mark.parametrize(("name", "keywords"), CASES, ids=IDS)
def test_hessian_products_against_differences(name: str, keywords: dict[str, Any]) -> None:
    env = made(name, keywords, oracle="hvp", rotate=True)
    state = env.reset(keys_from_seed(3, 30))
    x = in_domain(env, state.key)
    vector = uniform(state.key, "vector", env.dim, dtype=torch.float64, low=-1.0)
    answer = env.step(state, {"point": x, "vector": vector}).observation
    h = 1e-6
    ahead, behind = (
        env.step(state, {"point": x + s * h * vector, "vector": vector}).observation["gradient"]
        for s in (1, -1)
    )
    difference = (ahead - behind) / (2 * h)
    size = 1 + difference.abs().amax(-1, keepdim=True)
    # a kink between the two points makes the difference meaningless: at most a few points of 30 have one
    bad = ((answer["hvp"] - difference).abs() > 1e-4 * size).any(-1)
    assert bad.sum() <= 1


@pytest.mark.parametrize("name", ["Rosenbrock", "Quadratic", "Rastrigin", "LeastSquares"])
def test_shift_and_rotation_move_the_function_and_keep_its_values(name: str) -> None:
    keys = keys_from_seed(4, 6)
    still, moved = made(name, PLAIN[name]), made(name, PLAIN[name], shift=1.3, rotate=True)
    one, other = still.reset(keys), moved.reset(keys)
    assert torch.allclose(one.metrics["gap"], other.metrics["gap"]), "the start moves with the function"
    assert torch.equal(one.hidden.lowest, other.hidden.lowest)
    assert (one.hidden.optimum - other.hidden.optimum).norm(dim=1).min() > 0.1
    # the same displacement from the optimum, turned by the rotation, has the same value
    away = in_domain(still, keys)
    turned = (other.hidden.rotation @ away.unsqueeze(-1)).squeeze(-1)
    value = still.step(one, one.hidden.optimum + away).metrics["value"]
    again = moved.step(other, other.hidden.optimum + turned).metrics["value"]
    assert torch.allclose(value, again, rtol=1e-9, atol=1e-9)
    gradient = moved.step(other, other.hidden.optimum + turned).observation["gradient"]
    plain = still.step(one, one.hidden.optimum + away).observation["gradient"]
    assert torch.allclose((other.hidden.rotation.mT @ gradient.unsqueeze(-1)).squeeze(-1), plain, atol=1e-8)


def test_shifts_have_the_deviation_asked_for() -> None:
    env = made("Quadratic", {"dim": 4}, shift=2.5)
    optimum = env.reset(keys_from_seed(5, 5000)).hidden.optimum
    assert abs(float(optimum.std()) - 2.5) < 0.05
    assert optimum.mean(0).abs().max() < 0.15


def test_noise_has_its_deviation_and_spares_the_truth() -> None:
    env = made("Rastrigin", {"dim": 3}, noise=0.3)
    clean = made("Rastrigin", {"dim": 3})
    keys = keys_from_seed(6, 4000)
    state, exact = env.reset(keys), clean.reset(keys)
    here = state.observation["point"]
    one, two, truth = env.step(state, here), env.step(env.step(state, here), here), clean.step(exact, here)
    for name in ("value", "gradient"):
        noise = one.observation[name] - truth.observation[name]
        assert abs(float(noise.std()) / 0.3 - 1) < 0.04
        assert noise.mean(0).abs().max() < 4 * 0.3 / math.sqrt(4000)
        again = two.observation[name] - truth.observation[name]
        correlation = float((noise * again).mean()) / 0.09
        assert abs(correlation) < 4 / math.sqrt(4000), "each query has noise of its own"
    assert torch.equal(one.metrics["gap"], truth.metrics["gap"])
    assert torch.equal(one.merit, truth.merit)
    assert torch.equal(one.reward, truth.reward)
    assert torch.equal(one.calls.counts, truth.calls.counts), "metrics are not billed"
    assert torch.equal(env.step(state, here).observation["value"], one.observation["value"])


def test_noise_in_value_and_gradient_is_independent() -> None:
    env, clean = made("Quadratic", {"dim": 1}, noise=1.0), made("Quadratic", {"dim": 1})
    keys = keys_from_seed(7, 4000)
    noisy, exact = env.reset(keys).observation, clean.reset(keys).observation
    value, gradient = (noisy[name] - exact[name] for name in ("value", "gradient"))
    assert abs(float((value * gradient).mean())) < 4 / math.sqrt(4000)


@pytest.mark.parametrize(
    ("oracle", "oracles", "bill"),
    [
        ("value", ("value",), {"value": 1}),
        ("gradient", ("value", "gradient"), {"gradient": 1, "value": 1}),
        ("hvp", ("value", "gradient", "hvp"), {"hvp": 1, "gradient": 1, "value": 1}),
    ],
)
def test_oracles_and_bills(oracle: str, oracles: tuple[str, ...], bill: dict[str, int]) -> None:
    env = optenvs.make("Rosenbrock", oracle=oracle, budget=9)
    assert env.oracles == oracles
    assert env.bill == bill
    assert next(iter(env.limits)) == oracle, "the budget is in calls of the dearest kind"
    state = env.reset(keys_from_seed(0, 2))
    assert set(state.observation) == {"point", *oracles, "k", "N"}
    assert {kind: int(count[0]) for kind, count in state.calls.items()} == bill
    assert state.observation["N"].tolist() == [[8.0], [8.0]]


def test_all_oracles_agree() -> None:
    keys = keys_from_seed(8, 3)
    answers = []
    for oracle in ("value", "gradient", "hvp"):
        env = made("Beale", {}, oracle=oracle)
        state = env.reset(keys)
        x = in_domain(env, keys)
        answers.append(env.step(state, {"point": x, "vector": x} if oracle == "hvp" else x).observation)
    for other in answers[1:]:
        assert torch.allclose(answers[0]["value"], other["value"], rtol=1e-12)
    assert torch.allclose(answers[1]["gradient"], answers[2]["gradient"], rtol=1e-12)


def test_bounds_and_starts() -> None:
    env = optenvs.make("Ackley", bounds="domain")
    assert np.isclose(env.action_space.low, -32.768).all()
    assert np.isclose(env.action_space.high, 32.768).all()
    tight = optenvs.make("Ackley", bounds=(-1.0, 2.0))
    start = tight.reset(keys_from_seed(0, 50)).observation["point"]
    assert (start >= -1).all()
    assert (start <= 2).all()
    fixed = optenvs.make("Rosenbrock", start=(-1.2, 1.0), rotate=True, shift=1.0)
    assert fixed.reset(keys_from_seed(0, 2)).observation["point"].tolist() == [[np.float32(-1.2), 1.0]] * 2
    problem = tight.reset(keys_from_seed(0, 2)).problem
    assert problem.lower.tolist() == [[-1.0, -1.0]] * 2
    assert optenvs.make("Ackley").reset(keys_from_seed(0, 1)).problem.upper.tolist() == [
        [np.float32(32.768)] * 2
    ]


@pytest.mark.parametrize(
    ("spectrum", "check"),
    [
        ("log", lambda e: np.allclose(np.diff(np.log(e)), np.log(100) / 9)),
        ("linear", lambda e: np.allclose(np.diff(e), 0.99 / 9)),
        ("clusters", lambda e: set(np.round(e, 12)) == {0.01, 1.0}),
        ("random", lambda e: len(set(np.round(e, 9))) == 10),
    ],
)
def test_spectra_of_quadratics(spectrum: str, check: Any) -> None:
    env = made("Quadratic", {"spectrum": spectrum, "condition": 100.0}, rotate=True)
    state = env.reset(keys_from_seed(9, 3))
    eye = torch.eye(10, dtype=torch.float64)
    # the gradient of a quadratic at optimum + e_i is the i-th column of its matrix
    columns = [env.step(state, state.hidden.optimum + e).observation["gradient"] for e in eye]
    matrix = torch.stack(columns, -1)
    assert torch.allclose(matrix, matrix.mT, atol=1e-12)
    for eigenvalues in torch.linalg.eigvalsh(matrix).numpy():
        assert np.allclose(eigenvalues[[0, -1]], [0.01, 1])
        assert check(eigenvalues)


def test_wishart_matrices() -> None:
    env = made("Quadratic", {"dim": 6, "spectrum": "wishart"})
    matrix = env.draw(keys_from_seed(0, 3000)).coefficients
    assert torch.linalg.eigvalsh(matrix).min() > 0.1 - 1e-9
    # B B' of n x n standard normals has mean n I
    assert torch.allclose(matrix.mean(0), 6.1 * torch.eye(6, dtype=torch.float64), atol=0.35)


def test_least_squares_is_the_formula() -> None:
    env = made("LeastSquares", {"dim": 4})
    state = env.reset(keys_from_seed(1, 2))
    matrix, target = state.hidden.coefficients
    x = in_domain(env, state.key)
    expected = [float(((w @ p - y) ** 2).sum()) for w, p, y in zip(matrix, x, target, strict=True)]
    assert np.allclose(env.step(state, x).merit, expected)
    assert state.observation["point"].abs().max() < 0.06


KNOWN: dict[str, list[tuple[list[float], float]]] = {
    "Rosenbrock": [([0.0, 0.0], 1.0), ([-1.2, 1.0], 24.2)],
    "Rastrigin": [([1.0, 1.0], 2.0), ([0.5, 0.0], 20.25)],
    "Ackley": [([0.0, 0.0], 0.0), ([1.0, 1.0], 20 + math.e - 20 * math.exp(-0.2) - math.e)],
    "StyblinskiTang": [([0.0, 0.0], 0.0), ([-2.903534027771177] * 2, -78.33233140754282)],
    "Beale": [([3.0, 0.5], 0.0), ([0.0, 0.0], 14.203125), ([1.0, 1.0], 14.203125)],
}


@pytest.mark.parametrize("name", KNOWN)
def test_textbook_values(name: str) -> None:
    env = made(name, {})
    for point, value in KNOWN[name]:
        found = env.value(torch.tensor([point], dtype=torch.float64), None)
        assert float(found) == pytest.approx(value, abs=1e-9)


# pictures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "dim"), [("DiffGradF2", 1), ("Rosenbrock", 2), ("Rastrigin", 7)])
def test_pictures(name: str, dim: int) -> None:
    env = optenvs.make(name, dim=dim)
    states = [env.reset(keys_from_seed(0, 1))]
    for _ in range(3):
        states.append(env.step(states[-1], states[-1].observation["point"] * 0.9))
    whole, first = env.picture(states), env.picture(states[:1])
    assert whole.dtype == np.uint8
    assert whole.shape == first.shape
    assert not np.array_equal(whole, first)


def test_pictures_of_functions_without_an_optimum() -> None:
    env = optenvs.from_function(lambda x: x.sin().sum(), dim=2)
    assert env.picture([env.reset(keys_from_seed(0, 1))]).ndim == 3


def test_values_at_many_points_are_those_of_one_instance() -> None:
    env = made("Rastrigin", {"dim": 2}, shift=1.0, rotate=True, noise=0.5)
    state = env.reset(keys_from_seed(0, 1))
    points = in_domain(env, keys_from_seed(1, 20))
    one_by_one = [float(env.step(state, p.unsqueeze(0)).metrics["value"]) for p in points]
    assert np.allclose(env.values_at(state.hidden, points), one_by_one)


def test_a_new_landscape_costs_two_methods() -> None:
    from optenvs.envs.landscapes.base import Draw

    @dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
    class Sum(Landscape):
        def draw(self, keys: Tensor) -> Draw:
            return Draw(start=uniform(keys, "start", self.dim, dtype=self.torch_dtype))

        def value(self, x: Tensor, coefficients: Any) -> Tensor:
            return x.square().sum(-1)

    assert optenvs.check(Sum(dim=3, shift=0.5, rotate=True, oracle="hvp")).ok

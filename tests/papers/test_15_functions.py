"""Gradient-normalized smoothness (arXiv 2506.13710): the functions, their constants, what is approximated.

The figures are those of the authors' notebook and of an independent implementation, on the published draws.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gns_problems import chebyshev, draws, log_sum_exp, operator, valley
from torch import Tensor

import optenvs
from optenvs.core.random import keys_from_seed, normal, uniform

EXACT, GAUSS_NEWTON = 0.6282, 0.3858
"""Radii, in units of mu, at which every regularised step on a log-sum-exp is good."""


def seen(env: Any, state: Any, point: Tensor, *kinds: str) -> Any:
    return env.step(state, state.problem.menu.query(dict.fromkeys(kinds, True), point=point)).observation


def ratios(env: Any, state: Any, x: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """2 lambda <g+, -h> / |g+|_*^2 of a step with this radius, and whether the decrease is enough."""
    at, metric = seen(env, state, x, "value", "gradient", "hessian"), state.problem.metric

    def square(g: Tensor) -> Tensor:
        return (g * torch.linalg.solve(metric, g)).sum(-1)

    g = at["gradient"]
    damping = square(g).sqrt() / gamma
    step = -torch.linalg.solve(at["hessian"] + damping[:, None, None] * metric, g)
    after = seen(env, state, x + step, "value", "gradient")
    size = square(after["gradient"])
    inner = -(after["gradient"] * step).sum(-1)
    # of two values that agree to the last digit the difference is rounding
    slack = 1e-13 * at["value"].abs().squeeze(-1)
    enough = (at["value"] - after["value"]).squeeze(-1) + slack >= size / (8 * damping)
    return inner * 2 * damping / size, enough


@pytest.mark.parametrize(
    ("kind", "gamma", "low", "high"),
    [("exact", EXACT, 1.9, 2.0), ("weighted_gauss_newton", GAUSS_NEWTON, 1.45, 1.56)],
)
def test_the_constant_of_log_sum_exp(kind: str, gamma: float, low: float, high: float) -> None:
    # 40 instances m = 30, n = 10 and 20 points each; seen are minima of 1.93 to 1.97 and 1.50 to 1.52
    least = torch.inf
    for i, mu in enumerate((0.05, 0.2, 1.0) * 13 + (1.0,)):
        rng = np.random.default_rng(i)
        data = rng.normal(size=(30, 10)), rng.normal(size=30)
        env = optenvs.make(
            "LogSumExp", data=data, mu=mu, centred=False, hessian=kind, tolerance=None, budget=None
        )
        keys = keys_from_seed(i, 20)
        size = 10 ** uniform(keys, "size", 1, dtype=torch.float64, low=-1.5, high=1.0)
        x = size * normal(keys, "x", 10, dtype=torch.float64)
        ratio, enough = ratios(env, env.reset(keys), x, gamma * mu)
        assert (ratio >= 1).all()
        assert enough.all()
        least = min(least, float(ratio.min()))
    assert low < least < high


@pytest.mark.parametrize("mu", [1.0, 0.05])
@pytest.mark.parametrize(
    ("kind", "gamma", "expected"),
    [("exact", EXACT, 2.0), ("weighted_gauss_newton", GAUSS_NEWTON, 2 / (1 + GAUSS_NEWTON / 2**0.5))],
)
def test_the_constant_is_sharp_in_one_dimension(mu: float, kind: str, gamma: float, expected: float) -> None:
    # f = mu log(2 cosh(x / mu)), B = 2
    env = optenvs.make(
        "LogSumExp", data=([[1.0], [-1.0]], [0.0, 0.0]), mu=mu, hessian=kind, tolerance=None, budget=None
    )
    x = mu * torch.linspace(0.01, 8, 800, dtype=torch.float64)[:, None]
    state = env.reset(keys_from_seed(0, 800))
    assert (state.problem.metric == 2).all()
    ratio, enough = ratios(env, state, x, gamma * mu)
    assert enough.all()
    assert float(ratio.min()) == pytest.approx(expected, abs=1e-4)
    if kind == "weighted_gauss_newton":  # four times the radius is too much
        assert float(ratios(env, state, x, 4 * gamma * mu)[0].min()) == pytest.approx(0.956, abs=1e-3)


def test_values_at_the_published_starts() -> None:
    keys = keys_from_seed(0, 1)
    expected = {
        "operator": (operator(), 7.926571782e6),
        "valley": (valley(), 409.0),
        "equations": (valley(5.0), 6.766097718e5),
        "small": (log_sum_exp(50, 50), 5.073678562),
        "middle": (log_sum_exp(200, 200), 16.648025351),
    }
    for name, (env, value) in expected.items():
        assert env.reset(keys).metrics["gap"].item() == pytest.approx(value, rel=1e-9), name


def test_the_paper_sizes_of_log_sum_exp_and_chebyshev() -> None:
    keys = keys_from_seed(0, 1)
    assert log_sum_exp(1000, 1000).reset(keys).metrics["gap"].item() == pytest.approx(61.32, abs=5e-3)
    assert 1e5 < chebyshev(1000).reset(keys).metrics["gap"].item() < 1e6
    assert chebyshev(100).reset(keys).metrics["gap"].item() == pytest.approx(3360, rel=1e-3)


def test_log_sum_exp_has_its_minimum_at_zero() -> None:
    a, b = draws(50, 50)
    env = log_sum_exp(50, 50)
    state = env.reset(keys_from_seed(0, 1))
    at = env.step(state, state.problem.menu.query({"gradient": True}, point=state.hidden.optimum))
    assert at.observation["gradient"].abs().max() < 1e-14
    assert at.metrics["gap"].item() == 0
    assert at.metrics["value"].item() == pytest.approx(np.log(np.exp(-b).sum()), rel=1e-14)
    assert np.allclose(state.problem.metric[0].numpy(), a.T @ a, rtol=1e-14)


def test_what_the_approximations_leave_out() -> None:
    keys = keys_from_seed(1, 10)
    exact, near = (
        optenvs.make("LogSumExp", hessian=kind, mu=0.5) for kind in ("exact", "weighted_gauss_newton")
    )
    state, x = exact.reset(keys), normal(keys, "x", 10, dtype=torch.float64)
    at = seen(exact, state, x, "gradient", "hessian")
    rest = at["hessian"] - seen(near, near.reset(keys), x, "hessian")["hessian"]
    g = at["gradient"]
    assert (rest + g[:, :, None] * g[:, None, :] / 0.5).abs().max() < 1e-10

    exact, near = (optenvs.make("NonlinearRosenbrock", hessian=kind) for kind in ("exact", "inexact"))
    state, x = exact.reset(keys), normal(keys, "x", 2, dtype=torch.float64)
    rest = seen(exact, state, x, "hessian")["hessian"] - seen(near, state, x, "hessian")["hessian"]
    u = torch.stack((1 - x[:, 0], 10 * (x[:, 1] - x[:, 0] ** 2)), -1)
    expected = torch.zeros_like(rest)  # |u|^3 u_2 times the Hessian of u_2, which is -20 in its corner
    expected[:, 0, 0] = torch.linalg.vector_norm(u, dim=-1) ** 3 * u[:, 1] * -20
    assert torch.allclose(rest, expected, rtol=1e-9)


def test_the_error_of_the_fisher_matrix_is_bounded_by_the_losses() -> None:
    keys = keys_from_seed(2, 50)
    exact, fisher = (optenvs.make("LogisticRegression", hessian=kind) for kind in ("exact", "fisher"))
    state = exact.reset(keys)
    size = 10 ** uniform(keys, "size", 1, dtype=torch.float64, low=-2.0, high=1.0)
    x = size * normal(keys, "x", 10, dtype=torch.float64)
    rest = seen(exact, state, x, "hessian")["hessian"] - seen(fisher, state, x, "hessian")["hessian"]
    table = state.hidden.coefficients
    margin = table.targets.squeeze(-1) * (table.inputs @ x.unsqueeze(-1)).squeeze(-1)
    losses = torch.nn.functional.softplus(-margin).unsqueeze(-1)
    bound = (losses * table.inputs).mT @ table.inputs / 60
    spectral = torch.linalg.matrix_norm(rest, 2), torch.linalg.matrix_norm(bound, 2)
    assert (spectral[0] <= spectral[1]).all()


def test_the_minimum_of_the_published_noisy_labels() -> None:
    rng = np.random.default_rng(0)
    a, w = rng.standard_normal((300, 20)), rng.standard_normal(20)
    noise = rng.standard_normal(300)
    noisy = np.sign(a @ w + 2 * np.linalg.norm(w) * noise)
    keys = keys_from_seed(0, 1)
    state = optenvs.make("LogisticRegression", data=(a, noisy)).reset(keys)
    assert state.hidden.lowest.item() == pytest.approx(0.59308973, abs=5e-9)
    assert state.metrics["value"].item() == pytest.approx(np.log(2), rel=1e-14)
    separable = optenvs.make("LogisticRegression", data=(a, np.sign(a @ w))).reset(keys)
    assert separable.hidden.lowest.item() == 0

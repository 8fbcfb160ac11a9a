"""The reactor: its equations against a solver and the paper's points, and what the environment says of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

import optenvs
from optenvs.core.random import keys_from_seed
from optenvs.envs.surrogate import biodiesel
from optenvs.envs.surrogate.biodiesel import Biodiesel

POINTS = {
    (1 / 3, 0.3): 0.520070,
    (0.69843084, 0.29828689): 1.545239,
    (0.6827429, 0.305141): 1.521874,
    (0.6492263, 0.32089478): 1.469676,
    (0.6739746, 0.30911136): 1.508520,
    (1.0, float(np.nextafter(25 / 120, 0))): 1.862628,
}
"""Where the paper's methods ended, and the corner; the yields under the equations."""


def equations(points: int | None = None, **keywords: Any) -> Biodiesel:
    return Biodiesel(surrogate="ode", points=points, budget=None, **keywords)


def asked(env: Biodiesel, x: Tensor, **fields: Tensor) -> dict[str, Tensor]:
    """The answer to a query of the rows of ``x``."""
    state = env.reset(keys_from_seed(0, 1))
    count, threshold = torch.tensor([[len(x)]]), torch.tensor([[-1e30]])
    query = {"points": x.unsqueeze(0), "count": count, "threshold": threshold}
    return env.step(state, query | fields).observation


def test_the_yields_of_the_papers_points() -> None:
    x = torch.tensor(list(POINTS), dtype=torch.float64)
    seen = asked(equations(points=len(x)), x)
    assert seen["evaluated"].all()
    assert (-seen["value"][0]).tolist() == pytest.approx(list(POINTS.values()), abs=1e-5)
    assert not seen["outputs"][..., biodiesel.TIMES * 6 :].any()  # no constraint is violated


def test_the_slope_at_the_start() -> None:
    env = equations(points=1, oracle="vjp")
    state = env.reset(keys_from_seed(0, 1))
    start = state.observation["point"][:, 0]
    cotangent = state.problem.slope(state.observation["outputs"][:, 0])
    seen = asked(env, start, base=start, cotangent=cotangent)
    assert seen["vjp"][0].tolist() == pytest.approx([2.156231, 0.961691], abs=1e-5)


@pytest.mark.parametrize("x", [(1 / 3, 0.3), (0.9, 0.1), (0.1, 0.9)])
def test_the_equations_by_a_solver(x: tuple[float, float]) -> None:
    time, power = 120 * x[0], 20 * x[1]
    a, e = np.array(biodiesel.INTERCEPT), np.array(biodiesel.SLOPE)

    def change(_: float, y: np.ndarray) -> list[float]:
        tg, dg, mg, g, me, heat = y
        k = a + e * (heat - 48.367)
        r1, r2, r3 = k[0] * tg - k[1] * dg * me, k[2] * dg - k[3] * mg * me, k[4] * mg - k[5] * g * me
        warming = (0.36612 * power - 0.012494 * heat - 0.44145) / 11.1
        return [-r1, r1 - r2, r2 - r3, r3, r1 + r2 + r3, warming]

    times = time * np.arange(1, 101) / 100
    first = [0.62, 0.04, 0.002, 0, 0, 33.6]
    exact = solve_ivp(change, (0, time), first, t_eval=times, rtol=1e-10, atol=1e-12)
    seen = asked(equations(points=1), torch.tensor([x], dtype=torch.float64))
    series = seen["outputs"][0, 0, :600].view(100, 6)
    assert np.allclose(series.numpy(), exact.y.T, atol=1e-7)


def test_constraints_are_those_printed() -> None:
    # t Q = 2400 J, too hot at the end; and a time below zero
    x = torch.tensor([[1.0, 1.0], [-0.1, 0.3]], dtype=torch.float64)
    seen = asked(equations(points=2, formulation="penalty"), x)
    violated = seen["outputs"][0, :, 600:]
    assert violated.shape == (2, 705)
    assert violated[0, 4] == pytest.approx(1_900_000)
    assert violated[1, 0] == pytest.approx(12_000)
    heat = seen["outputs"][0, 0, 5:600:6]
    assert torch.allclose(violated[0, -100:], 1000 * (heat - 65).clamp_min(0))
    assert violated[0, -1] > 0
    objective = biodiesel.ReactorEquations().objective(seen["outputs"][0, :, :600])
    assert torch.allclose(-seen["value"][0], objective - violated.square().sum(-1))


def test_metrics_are_of_the_equations_even_for_the_network() -> None:
    keys, x = keys_from_seed(0, 2), torch.tensor([[0.69, 0.3]] * 2, dtype=torch.float64)
    env, true = Biodiesel(budget=None), equations()
    state, truth = env.step(env.reset(keys), x), true.step(true.reset(keys), x)
    assert torch.allclose(state.metrics["true_objective"], -truth.metrics["value"])
    assert state.metrics["value"] != pytest.approx(truth.metrics["value"], abs=1e-9)
    # the network stands for the equations
    assert torch.allclose(state.metrics["value"], truth.metrics["value"], rtol=0.02)


def test_instances_differ_by_no_more_than_the_jitter() -> None:
    keys = keys_from_seed(0, 200)
    kinetics = equations(jitter=0.1).kinetics(keys)
    for values, printed in ((kinetics.intercept, biodiesel.INTERCEPT), (kinetics.slope, biodiesel.SLOPE)):
        nominal = torch.tensor(printed, dtype=torch.float64)
        share = (values / nominal)[:, nominal != 0]
        assert 0.9 <= float(share.min()) < 0.91 and 1.09 < float(share.max()) <= 1.1
        assert share.std(0).min() > 0.05
    plain = equations().kinetics(keys)
    assert (plain.intercept == plain.intercept[0]).all()


def test_random_starts_are_uniform_where_they_may_be() -> None:
    x = equations(start="random").reset(keys_from_seed(0, 3000)).observation["point"]
    t, q = 120 * x[:, 0], 20 * x[:, 1]
    assert (t * q < 500).all() and (x >= 0).all() and (x <= 1).all()
    # by areas: t Q < 500 has c (1 - log c) of the square, with c = 500 / 2400
    c = 500 / 2400
    whole = c * (1 - np.log(c))
    for low, share in ((0.5, c * np.log(2) / whole), (0.1, (whole - 0.1) / whole)):
        assert float((x[:, 0] > low).double().mean()) == pytest.approx(share, abs=0.03)
        assert float((x[:, 1] > low).double().mean()) == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"surrogate": "gp"}, "surrogate: expected network or ode"),
        ({"start": "corner"}, "start: expected paper, random or a point"),
        ({"jitter": 1.5, "surrogate": "ode"}, "jitter: expected a share"),
        ({"jitter": 0.1}, "jitter: the network is of the printed constants"),
    ],
)
def test_bad_keywords_are_named(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Biodiesel(**keywords)


def test_it_is_registered() -> None:
    env = optenvs.make("Biodiesel", surrogate="ode")
    assert isinstance(env, Biodiesel)
    optenvs.check(env)

"""Methods of two levels that loop below: what they descend, where they end, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from level_problems import B, H, TwoQuadratics
from torch import Tensor

import agents
import optenvs
from optenvs.core.random import keys_from_seed
from optenvs.core.rollout import Run
from optenvs.core.struct import replace, rows, tensors

DOUBLE = torch.float64
ETA = 0.3


def lower(x: Tensor, y: Tensor) -> Tensor:
    """Strongly convex in y, and no quadratic."""
    return (y**2).sum() / 2 + (y[0] - x[1]).cosh() / 4 - (x[0] * y.sin()).sum() / 4


def upper(x: Tensor, y: Tensor) -> Tensor:
    return ((y - 1) ** 2).sum() + ((x - y.sum()) ** 2).sum() / 10


def given(**changes: Any) -> Any:
    keywords = {"upper": upper, "lower": lower, "x": [0.5, -1.0], "y": [0.2, 0.1], "tolerance": None}
    return optenvs.bilevel_from_functions(**(keywords | changes))


def strong(**changes: Any) -> Any:
    small = {"dim": 8, "equations": 4, "upper_equations": 2, "start_std": 0.1, "tolerance": None}
    return optenvs.make("BilevelStrong", **(small | changes))


def moved(run: Run, start: Tensor) -> Tensor:
    """How far x has gone."""
    return start - run.agent_state.x


# AiPOD ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("full", [True, False])
def test_aipod_descends_the_hypergradient(full: bool) -> None:
    """f is |x - y|^2 / 2: one step below of length 1 solves it."""
    env, keys = strong(), keys_from_seed(0, 3)
    state = env.reset(keys)
    x, own = state.observation["x"], env.own(state)
    agent = agents.AiPOD(tau=1.0, zeta=1e-2, inner=1, full=full)
    run = optenvs.rollout(env, agent, keys=keys, steps=4)
    assert (run.agent_state.above == 0).all()
    assert (run.agent_state.stage == 1).all(), "one iteration has ended"
    slope = env.hypergradient(own, x)
    if not full:
        y = env.solve(own, x).y
        by_y = env.upper_slope(own, x, y)[1][:, x.shape[1] :].unsqueeze(-1)
        geometry = state.problem.geometry
        slope = slope + (geometry.by_x.mT @ (geometry.inverse.mT @ by_y)).squeeze(-1)
    expected = x - state.problem.geometry.upper(x - 1e-2 * slope)
    torch.testing.assert_close(moved(run, x), expected, rtol=1e-7, atol=1e-11)


def test_aipod_finds_the_known_optimum_and_without_the_last_term_does_not() -> None:
    run = optenvs.rollout(strong(), agents.AiPOD(tau=1.0, zeta=0.1, inner=1), batch=3, steps=400)
    assert float(run.metrics["gap"][-1].abs().max()) < 1e-6
    assert float(run.metrics["distance"][-1].max()) < 1e-3
    part = optenvs.rollout(strong(), agents.AiPOD(tau=1.0, zeta=0.1, inner=1, full=False), batch=3, steps=200)
    assert float(part.metrics["gap"][-1].min()) > 1e-2


def test_e_aipod_ends_there_with_fewer_projections() -> None:
    env, settings = TwoQuadratics(equalities=True, tolerance=None), {"zeta": 0.3, "inner": 4, "outer": 1}
    runs = [optenvs.rollout(env, agents.EAiPOD(p=p, **settings), batch=3, steps=150) for p in (1.0, 0.5)]
    for run in runs:
        assert float(run.merit[-1].max()) < 1e-5
    below = [run.agent_state.work["projections"] for run in runs]
    assert (below[1] < 0.75 * below[0]).all()


def test_aipod_runs_without_constraints() -> None:
    run = optenvs.rollout(TwoQuadratics(tolerance=None), agents.AiPOD(zeta=0.5), batch=3, steps=100)
    assert float(run.merit[-1].max()) < 1e-4


# Unrolled -------------------------------------------------------------------------------------


@pytest.mark.parametrize("back", [None, 2])
def test_unrolled_is_autograd_through_the_steps(back: int | None) -> None:
    env, keys, inner = given(), keys_from_seed(0, 1), 5
    start = env.reset(keys).observation
    x, y = start["x"][0].clone().requires_grad_(), start["y"][0].clone().requires_grad_()
    for k in range(inner):
        if back is not None and k == inner - back:
            y = y.detach().requires_grad_()
        (slope,) = torch.autograd.grad(lower(x, y), y, create_graph=True)
        y = y - ETA * slope
    (expected,) = torch.autograd.grad(upper(x, y), x)
    agent = agents.Unrolled(alpha=1.0, eta=ETA, inner=inner, back=back)
    run = optenvs.rollout(env, agent, keys=keys, steps=inner + 2 + (back or inner))
    assert (run.agent_state.stage == 1).all(), "one iteration has ended"
    torch.testing.assert_close(moved(run, start["x"])[0], expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(run.agent_state.y[0], y.detach(), rtol=1e-12, atol=0)


def test_unrolled_ends_near_the_optimum_and_with_one_step_elsewhere() -> None:
    env = TwoQuadratics(tolerance=None, away=1.0)
    agent = agents.Unrolled(alpha=0.4, eta=0.6, inner=10)
    run = optenvs.rollout(env, agent, batch=3, steps=21 * 15)
    assert float(run.metrics["gap"][-1].max()) < 1e-5
    assert 1e-4 < float(run.metrics["distance"][-1].max()) < 1e-2, "what 10 steps from the start leave"
    warm = optenvs.rollout(env, agent.replace(warm=True), batch=3, steps=21 * 15)
    assert float(warm.metrics["distance"][-1].max()) < 1e-6
    short = optenvs.rollout(env, agent.replace(inner=1), batch=3, steps=90)
    assert float(short.metrics["distance"][-1].min()) > 0.1, "one step below is another problem"


# stocBiO --------------------------------------------------------------------------------------


def test_stoc_bio_sums_neumanns_series() -> None:
    env, keys, terms = given(), keys_from_seed(0, 1), 3
    start = env.reset(keys).observation
    run = optenvs.rollout(
        env, agents.StocBiO(alpha=ETA, beta=1.0, eta=0.2, inner=1, terms=terms), keys=keys, steps=7
    )
    assert (run.agent_state.stage == 1).all(), "one iteration has ended"
    x, y = start["x"][0], start["y"][0]
    y = y - ETA * torch.func.grad(lower, 1)(x, y)
    H = torch.func.hessian(lower, 1)(x, y)
    mixed = torch.func.jacrev(torch.func.grad(lower, 1), 0)(x, y)  # d/dx of the slope by y, (m, n)
    by_x, by_y = torch.func.grad(upper, (0, 1))(x, y)
    v = 0.2 * sum(
        torch.linalg.matrix_power(torch.eye(2, dtype=DOUBLE) - 0.2 * H, q) @ by_y for q in range(terms + 1)
    )
    torch.testing.assert_close(moved(run, start["x"])[0], by_x - mixed.T @ v, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "agent",
    [
        agents.StocBiO(alpha=0.2, beta=0.15, inner=3, terms=4),
        agents.F2SA(gamma=0.3, multiplier=2.0, a=5 / 7, c=4 / 7, k0=20.0, xi=8.0, inner=3),
    ],
    ids=["stoc_bio", "f2sa"],
)
def test_noisy_answers_lead_near_the_optimum(agent: Any) -> None:
    env = TwoQuadratics(tolerance=None, away=1.0, noise=0.2)
    run = optenvs.rollout(env, agent, batch=3, steps=300)
    assert float((run.metrics["gap"][-1] / run.metrics["gap"][0]).max()) < 0.05
    assert float(run.metrics["distance"][-1].max()) < 0.5


# F2SA -----------------------------------------------------------------------------------------


def test_f2sa_at_a_constant_multiplier_ends_at_its_penalised_optimum() -> None:
    """(I + lambda H) (y - B x) = b - B x, and x is where x - a = lambda B'H (y - B x)."""
    env, keys = TwoQuadratics(tolerance=None, away=1.0), keys_from_seed(0, 1).expand(3)
    multiplier, grows = (
        torch.tensor([3.0, 12.0, 3.0], dtype=DOUBLE),
        torch.tensor([0, 0, 1 / 3], dtype=DOUBLE),
    )
    xi = torch.tensor([1.32, 5.3, 3.0], dtype=DOUBLE)
    agent = agents.F2SA(gamma=0.45, multiplier=multiplier, a=grows, xi=xi, inner=8)
    run = optenvs.rollout(env, agent, keys=keys, steps=9 * 55)
    data, unit = env.reset(keys).hidden.data, torch.eye(2, dtype=DOUBLE)
    by_x, bent = torch.tensor(B, dtype=DOUBLE), torch.tensor(H, dtype=DOUBLE)
    for i in range(2):
        pull = multiplier[i] * by_x.T @ bent @ torch.linalg.inv(unit + multiplier[i] * bent)
        expected = torch.linalg.solve(unit + pull @ by_x, data["a"][i] + pull @ data["b"][i])
        torch.testing.assert_close(run.agent_state.x[i], expected, rtol=5e-3, atol=0)
    gap = run.metrics["gap"][-1]
    assert float(gap[0]) > 8 * float(gap[1]) > 0, "O(1 / lambda) away"
    assert float(gap[2]) < float(gap[0]) / 5, "where it grows"


# BVFSM ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("auxiliary", ["penalty", "barrier"])
def test_bvfsm_ends_at_the_optimum(auxiliary: str) -> None:
    agent = agents.BVFSM(auxiliary=auxiliary, alpha=0.1, lower=4, inner=3, mu=1e-3, theta=1e-3)
    run = optenvs.rollout(TwoQuadratics(tolerance=None), agent, batch=3, steps=400)
    assert float((run.merit[-1] / run.merit[0]).max()) < 2e-2


def test_bvfsm_holds_an_inequality() -> None:
    agent = agents.BVFSM(alpha=0.15, lower=4, inner=4, mu=1e-3, theta=1e-3, sigma=1.0)
    run = optenvs.rollout(optenvs.make("BilevelInequality", tolerance=None), agent, batch=2, steps=400)
    assert float((run.agent_state.x - 0.5).abs().max()) < 0.02
    assert float(run.metrics["infeasibility"][-1].max()) < 0.02


def test_a_barriers_steps_stay_where_it_is_finite() -> None:
    agent = agents.BVFSM(auxiliary="barrier", alpha=0.1, beta=1.0, lower=5, inner=3, mu=0.1)
    run = optenvs.rollout(TwoQuadratics(tolerance=None), agent, batch=3, steps=120)
    state = run.agent_state
    assert (state.k > 2).all()
    assert state.y.isfinite().all()


# What all of them share -----------------------------------------------------------------------

ALL: dict[str, Any] = {
    "aipod": agents.AiPOD(zeta=0.2),
    "bvfsm": agents.BVFSM(alpha=0.1, lower=2, inner=2),
    "e_aipod": agents.EAiPOD(zeta=0.2),
    "f2sa": agents.F2SA(inner=2),
    "stoc_bio": agents.StocBiO(inner=2, terms=2),
    "unrolled": agents.Unrolled(inner=2),
}
STEP = {
    "aipod": "zeta",
    "bvfsm": "alpha",
    "e_aipod": "zeta",
    "f2sa": "xi",
    "stoc_bio": "beta",
    "unrolled": "alpha",
}


@pytest.mark.parametrize("name", ALL)
def test_rows_with_steps_of_their_own_are_single_runs(name: str) -> None:
    env, keys = TwoQuadratics(equalities="aipod" in name, tolerance=None), keys_from_seed(3, 3)
    steps = torch.tensor([0.05, 0.1, 0.3], dtype=DOUBLE)
    many = optenvs.rollout(env, ALL[name].replace(**{STEP[name]: steps}), keys=keys, steps=40)
    for i in range(3):
        agent = ALL[name].replace(**{STEP[name]: float(steps[i])})
        one = optenvs.rollout(env, agent, keys=keys[i : i + 1], steps=40)
        for path, value in tensors(rows(many.agent_state, slice(i, i + 1))).items():
            torch.testing.assert_close(tensors(one.agent_state)[path], value, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ALL)
def test_what_a_budget_does_not_pay_moves_nothing(name: str) -> None:
    env = TwoQuadratics(equalities="aipod" in name, tolerance=None, budget={"upper_gradient": 1})
    run = optenvs.rollout(env, ALL[name], batch=2, steps=60)
    assert (run.state.truncated | run.agent_state.finished).all()
    assert (run.state.calls["upper_gradient"] == 1).all()


@pytest.mark.parametrize(
    ("name", "env", "message"),
    [
        ("aipod", "BilevelToy", "agent AiPOD needs a lower problem with one solution at each x"),
        ("e_aipod", "BilevelInequality", "agent EAiPOD needs a lower problem without inequalities"),
        ("f2sa", "BilevelStrong", "agent F2SA needs a lower problem without constraints"),
        ("stoc_bio", "BilevelInequality", "agent StocBiO needs a lower problem without constraints"),
        ("unrolled", "BilevelToy", "agent Unrolled needs a lower problem without constraints"),
    ],
)
def test_what_is_not_assumed_is_refused(name: str, env: str, message: str) -> None:
    small = {"BilevelToy": {"dim": 2}, "BilevelStrong": {"dim": 3, "equations": 1, "upper_equations": 1}}
    with pytest.raises(TypeError, match=message):
        optenvs.rollout(optenvs.make(env, **small.get(env, {})), ALL[name], steps=1)


@pytest.mark.parametrize("name", ["aipod", "bvfsm", "unrolled"])
def test_mini_batches_are_refused_where_answers_must_agree(name: str) -> None:
    env = TwoQuadratics(equalities=name == "aipod", noise=0.1)
    with pytest.raises(TypeError, match="needs answers that rest on all data"):
        optenvs.rollout(env, ALL[name], steps=1)


@pytest.mark.parametrize("name", ALL)
def test_a_set_of_lower_points_is_refused(name: str) -> None:
    env = given(project={"lower": lambda y: y.clamp(-1, 1)})
    with pytest.raises(TypeError, match="needs a lower variable in the whole space"):
        optenvs.rollout(env, ALL[name], steps=1)


def test_a_step_without_constants_is_asked_for_by_name() -> None:
    env = optenvs.make("BilevelSvm", train=4, validation=4)
    keys = keys_from_seed(0, 1)
    state = env.reset(keys, evaluate=False)
    silent = replace(state.problem, smoothness=None)
    with pytest.raises(ValueError, match="BVFSM: beta: the problem tells no constants"):
        agents.BVFSM().init(silent, state.observation, keys)
    agents.BVFSM(beta=1e-3, eta=1e-3, lower=2, inner=2).init(silent, state.observation, keys)
    optenvs.rollout(env, agents.BVFSM(lower=2, inner=2), steps=9)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("aipod", {"p": 0.0}, "AiPOD: p: expected a number in"),
        ("aipod", {"full": 1}, "AiPOD: full: expected True or False"),
        ("aipod", {"accuracy": 1.0}, "AiPOD: accuracy"),
        ("bvfsm", {"auxiliary": "log"}, "BVFSM: auxiliary: expected penalty or barrier"),
        ("bvfsm", {"mu": -1.0}, "BVFSM: mu"),
        ("e_aipod", {"outer": 0}, "EAiPOD: outer: expected a whole number >= 1"),
        ("f2sa", {"a": -0.1}, "F2SA: a"),
        ("f2sa", {"inner": 2.5}, "F2SA: inner: expected a whole number"),
        ("stoc_bio", {"terms": -1}, "StocBiO: terms: expected a whole number >= 0"),
        ("unrolled", {"inner": 3, "back": 4}, "Unrolled: back: expected at most inner = 3"),
        ("unrolled", {"alpha": float("nan")}, "Unrolled: alpha: expected a finite number > 0"),
    ],
)
def test_settings_are_checked(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        agents.make(name, **settings)

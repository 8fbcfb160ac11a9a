"""Control of the radius of regularised Newton steps."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

import optenvs
from optenvs.core import State
from optenvs.core.random import keys_from_seed, uniform
from optenvs.envs.meta.gns_control import GnsControl


def made(**keywords: Any) -> GnsControl:
    env = optenvs.make(
        "GnsControl", **({"landscape": "LogSumExp", "budget": None, "tolerance": None} | keywords)
    )
    assert isinstance(env, GnsControl)
    return env


def search(env: GnsControl, state: State, trials: int) -> list[State]:
    """Double after an accepted trial, halve after a rejected one."""
    action, states = state.problem.start, [state]
    for _ in range(trials):
        states.append(env.step(states[-1], action))
        accepted = states[-1].metrics["accepted"].unsqueeze(-1) > 0
        action = (action + torch.where(accepted, 2.0, -2.0) / (env.high - env.low)).clamp(-1, 1)
    return states


def by_hand(env: GnsControl, state: State, action: Tensor) -> tuple[Tensor, Tensor]:
    """The next point and whether the trial was accepted, by the equations."""
    core, hidden = env.function, state.hidden
    inner = core.reset(state.key)
    menu, metric = inner.problem.menu, inner.problem.metric
    eye = torch.eye(core.dim, dtype=torch.float64).expand(len(action), -1, -1)
    metric = eye if metric is None else metric
    kinds = dict.fromkeys(("value", "gradient", "hessian"), True)
    at = core.step(inner, menu.query(kinds, point=hidden.point)).observation
    dual = lambda g: (g * torch.linalg.solve(metric, g)).sum(-1).sqrt()  # noqa: E731
    gamma = 2 ** (env.low + (action + 1) / 2 * (env.high - env.low)).squeeze(-1)
    damping = dual(at["gradient"]) / (gamma + env.epsilon)
    whole = at["hessian"] + damping[:, None, None] * metric
    point = hidden.point - torch.linalg.solve(whole, at["gradient"])
    after = core.step(inner, menu.query(kinds, point=point)).observation
    decrease = (at["value"] - after["value"]).squeeze(-1)
    accepted = decrease >= dual(after["gradient"]) ** 2 / (8 * damping)
    accepted = accepted & (torch.linalg.eigvalsh(whole)[:, 0] > 0)
    return torch.where(accepted.unsqueeze(-1), point, hidden.point), accepted


@pytest.mark.parametrize(
    "keywords",
    [
        {"dim": 4, "rows": 9, "rotate": True, "shift": 0.3},
        {"landscape": "NonlinearRosenbrock", "hessian": "inexact"},
        {"landscape": "NonlinearRosenbrock", "shift": 0.2},
        {"landscape": "Rosenbrock", "dim": 3},
    ],
    ids=["metric", "inexact", "indefinite", "no metric"],
)
def test_a_trial_is_that_of_the_equations(keywords: dict[str, Any]) -> None:
    env = made(**keywords)
    state, rejected, moved = env.reset(keys_from_seed(0, 6)), 0, 0
    for k in range(12):
        action = uniform(state.key, "action", 1, k, torch.float64, low=-1.0, high=0.5)
        point, accepted = by_hand(env, state, action)
        after = env.step(state, action)
        assert torch.equal(after.metrics["accepted"] > 0, accepted)
        assert torch.allclose(after.hidden.point, point, rtol=1e-7, atol=1e-9)
        assert torch.equal(after.hidden.point[~accepted], state.hidden.point[~accepted])
        assert torch.equal(after.merit[~accepted], state.merit[~accepted])
        state, rejected, moved = after, rejected + int((~accepted).sum()), moved + int(accepted.sum())
    assert rejected > 3
    assert moved > 3


def test_a_hessian_is_billed_once_a_point() -> None:
    env = made(landscape="NonlinearRosenbrock", shift=0.5)
    states = search(env, env.reset(keys_from_seed(1, 5)), 30)
    accepted = torch.stack([s.metrics["accepted"] for s in states[1:]]).long()
    calls = states[-1].calls
    assert (calls["trial"] == 31).all()
    assert (calls["value"] == 31).all()
    assert (calls["gradient"] == 31).all()
    assert torch.equal(calls["hessian"], 1 + accepted[:-1].sum(0))
    assert (accepted == 0).any()


def test_the_budget_may_be_hessians() -> None:
    env = made(landscape="NonlinearRosenbrock", budget={"hessian": 7})
    states = search(env, env.reset(keys_from_seed(1, 2)), 30)
    first = next(i for i, s in enumerate(states) if bool(s.truncated[0]))
    assert states[first].calls["hessian"][0] == 7
    assert states[first - 1].calls["hessian"][0] == 6


def test_features_say_how_it_went() -> None:
    env = made(dim=4, rows=9)
    states = search(env, env.reset(keys_from_seed(2, 5)), 8)
    names = env.feature_names
    first = states[0].observation["features"]
    for name in ("progress", "growth", "ratio", "alignment", "accepted", "time"):
        assert not first[:, names.index(name)].any(), name
    for before, after in pairwise(states):
        f = dict(zip(names, after.observation["features"].unbind(-1), strict=True))
        norm = after.metrics["norm"]
        assert torch.allclose(f["gradient"], norm.log10() / 4)
        assert torch.allclose(f["growth"], (norm / before.metrics["norm"]).log10() / 4)
        assert torch.allclose(f["progress"], (norm / states[0].metrics["norm"]).log10() / 4)
        assert torch.equal(f["accepted"], after.metrics["accepted"])
        assert torch.equal(f["accepted"] > 0, f["ratio"] >= 1)
        assert torch.allclose(env.radius(f["action"][:, None])[:, 0], after.metrics["gamma"])
        # of a log-sum-exp, wherever the radius is within its constant
        assert (f["alignment"] >= 1)[after.metrics["gamma"] < 0.6].all()


def test_the_search_solves_what_it_is_given() -> None:
    env = made(tolerance=1e-8, dim=20, rows=50)
    states = search(env, env.reset(keys_from_seed(3, 16)), 40)
    assert torch.stack([s.terminated for s in states]).any(0).all()


def test_a_point_without_a_slope_ends_the_episode() -> None:
    env = made(landscape="Quadratic", start=(0.0,) * 10)
    state = env.reset(keys_from_seed(0, 2))
    assert state.truncated.all()
    assert state.observation["features"].isfinite().all()


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"low": 3.0, "high": 3.0}, "low, high: expected low < high, got 3.0, 3.0"),
        ({"epsilon": -1.0}, "epsilon: expected a number >= 0, got -1.0"),
        ({"noise": 0.1}, "landscape: expected one without noise, got noise=0.1"),
        ({"bounds": "domain"}, "landscape: expected one without bounds, got bounds='domain'"),
        ({"oracle": "value"}, "landscape: oracle='value' of LogSumExp would have no effect"),
    ],
)
def test_bad_input_is_named(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        optenvs.make("GnsControl", **({"landscape": "LogSumExp"} | keywords))
    with pytest.raises(TypeError, match="landscape: expected a Landscape, got 3"):
        GnsControl(landscape=3)  # type: ignore[arg-type]

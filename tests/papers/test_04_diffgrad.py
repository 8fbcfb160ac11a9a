"""Acceptance checks of diffGrad (Dubey et al. 2020) on its synthetic functions.

Check 6 (Fashion-MNIST) is in ``test_04_half_rate.py``. The reference numbers are those of an independent
float64 implementation of the equations, which reproduces the paper's figure 4.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import pytest
import pytorch_optimizer
import torch
import torch_optimizer
from torch import Tensor

import agents
import optenvs
from optenvs.core.random import keys_from_seed, normal

pytestmark = pytest.mark.paper

HAND = [1.0, -2.0, 0.5, 0.5, 1.0, -1.0, 2.0, 0.25]
STUDY: dict[str, Any] = {"lr": 0.1, "betas": (0.95, 0.999)}
METHODS: dict[str, Any] = {"adam": agents.Adam, "diffgrad": agents.DiffGrad}
# x_1, x_2, x_3, x_300, the largest x_k and its k, the standard deviation of the last 100
TABLE = {
    ("F1", "adam"): (-0.900000, -0.800487, -0.701948, 0.200077, 0.33202, 30, 6.5e-4),
    ("F1", "diffgrad"): (-0.919782, -0.865961, -0.813661, -0.300026, -0.06159, 26, 1.1e-3),
    ("F2", "adam"): (-0.900000, -0.800000, -0.715826, 0.000060, 0.07472, 59, 7e-4),
    ("F2", "diffgrad"): (-0.900000, -0.850000, -0.766126, -0.642998, -0.41884, 19, 8e-4),
    ("F3", "adam"): (-0.900000, -0.800270, -0.701049, 0.002331, 0.26669, 20, 9.5e-3),
    ("F3", "diffgrad"): (-0.911920, -0.857648, -0.805179, 0.007913, 0.18335, 32, 1.67e-2),
}


def follow(agent: agents.GradientAgent, gradients: Tensor, start: Tensor | float = 0.0) -> Tensor:
    """The points after each of ``gradients`` ``(T, B, n)``."""
    point, state, path = torch.zeros_like(gradients[0]) + start, None, []
    with torch.no_grad():
        for gradient in gradients:
            seen = {"point": point, "gradient": gradient}
            state = agent.init(None, seen, keys_from_seed(0, 1)) if state is None else state
            point, state = agent.act(state, seen)
            path.append(point)
    return torch.stack(path)


def hand(start: float = 0.0, **options: Any) -> list[float]:
    gradients = torch.tensor(HAND, dtype=torch.float64).reshape(-1, 1, 1)
    return follow(agents.DiffGrad(lr=0.1, **options), gradients, start).flatten().tolist()


def draws(steps: int, dim: int, seed: int = 0) -> Tensor:
    """Standard normal gradients ``(steps, 1, dim)``."""
    return normal(keys_from_seed(seed, 1), "gradients", (steps, dim), dtype=torch.float64).transpose(0, 1)


def peer(optimizer: Any, start: Tensor, gradients: Tensor, **options: Any) -> Tensor:
    parameter = torch.nn.Parameter(start.clone())
    optimizer, path = optimizer([parameter], **options), []
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
        path.append(parameter.detach().clone())
    return torch.stack(path)


@lru_cache(maxsize=64)
def path(
    function: str, agent: agents.GradientAgent, dtype: str = "float64", derivative: str = "correct"
) -> Tensor:
    """x_0 to x_300 on one of the paper's functions."""
    options = {"derivative": derivative} if function == "F2" else {}
    env = optenvs.make(f"DiffGrad{function}", dtype=dtype, **options)
    run = optenvs.rollout(env, agent, record=("point",))
    assert run.calls["gradient"][-1].item() == 301
    return run.recorded["point"][:, 0, 0]


@lru_cache(maxsize=64)
def study(function: str, method: str, **options: Any) -> Tensor:
    return path(function, METHODS[method](**(STUDY | options)))


# 1 -----------------------------------------------------------------------------------------------


def test_hand_vector() -> None:
    code = [-0.073105835, -0.038231765, -0.025599611, -0.026331351]
    code += [-0.040374670, -0.039496576, -0.067313499, -0.092296826]
    assert hand() == pytest.approx(code, abs=2e-9)
    printed = hand(eps_inside_bias_correction=True)
    assert printed == pytest.approx(code, abs=3e-8)
    assert printed != pytest.approx(hand(), abs=1e-9)
    decayed = [0.924974011, 0.954524205, 0.960489395, 0.955691626]
    decayed += [0.936792693, 0.930189710, 0.896000877, 0.865023167]
    assert hand(1.0, weight_decay=0.1) == pytest.approx(decayed, abs=2e-9)
    assert hand(clone_prev=False)[1] == pytest.approx(-0.0548007, abs=5e-8)
    assert hand(dfc="signed")[-1] == pytest.approx(-0.025722753, abs=2e-9)
    assert hand(dfc="nine")[-1] == pytest.approx(-0.185425260, abs=2e-9)


@pytest.mark.parametrize("dfc", ["std", "var", "sqrtstd"])
def test_variants_with_the_spread_of_the_gradient(dfc: str) -> None:
    gradients, previous = draws(5, 12, seed=3), torch.zeros(1, 12, dtype=torch.float64)
    agent = agents.DiffGrad(dfc=dfc)
    for gradient in gradients:
        size = gradient.abs()
        mean, std = size.mean(), size.std(correction=0)
        factor = {"std": std, "var": std**2, "sqrtstd": std**0.5}[dfc]
        expected = 1 / (1 + torch.exp(-(factor * (previous - gradient).abs() - mean)))
        found = agent.friction(previous, gradient)
        assert torch.allclose(found, expected, rtol=1e-13)
        previous = gradient
    # with one coordinate there is no spread
    alone = agent.friction(previous[:, :1], gradients[0][:, :1])
    assert torch.allclose(alone, torch.sigmoid(-gradients[0][:, :1].abs()), rtol=1e-13)


# 2 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_peers(seed: int, weight_decay: float) -> None:
    start, gradients = draws(1, 12, seed=100 + seed)[0], draws(200, 12, seed=seed)
    options = {"lr": 1e-3, "weight_decay": weight_decay}
    ours = follow(agents.DiffGrad(**options), gradients, start)
    one = peer(torch_optimizer.DiffGrad, start, gradients, **options)
    assert (ours - one).abs().max() <= 1e-12
    other = peer(pytorch_optimizer.DiffGrad, start, gradients, weight_decouple=False, **options)
    assert (ours - other).abs().max() <= 1e-9
    rooted = follow(agents.DiffGrad(eps_root=1e-15, **options), gradients, start)
    assert (rooted - other).abs().max() <= 1e-12
    decoupled = follow(agents.DiffGrad(eps_root=1e-15, weight_decouple=True, **options), gradients, start)
    theirs = peer(pytorch_optimizer.DiffGrad, start, gradients, **options)
    assert (decoupled - theirs).abs().max() <= 1e-12


# 3 -----------------------------------------------------------------------------------------------


def test_first_step() -> None:
    env = optenvs.make("Quadratic", dim=20, shift=1.0, dtype="float64")
    agent = agents.DiffGrad(lr=0.1, eps=1e-16)
    run = optenvs.rollout(env, agent, batch=5, steps=1, record=("point", "gradient"))
    point, gradient = run.recorded["point"], run.recorded["gradient"][0]
    expected = point[0] - 0.1 * torch.sigmoid(gradient.abs()) * gradient.sign()
    assert (point[1] - expected).abs().max() <= 1e-7


# 4 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("function", "method"), TABLE)
def test_synthetic_table(function: str, method: str) -> None:
    x = study(function, method)
    *early, last, top, when, spread = TABLE[function, method]
    assert x[0] == -1
    assert x[1:4].tolist() == pytest.approx(early, abs=1e-6)
    assert x[300].item() == pytest.approx(last, abs=1e-5)
    # the maximum is over the first overshoot and everything after it
    assert x.max().item() == pytest.approx(top, abs=1e-5) and int(x.argmax()) == when
    assert x[201:].std(correction=0).item() == pytest.approx(spread, rel=0.1)
    printed = {"eps_inside_bias_correction": True} if method == "diffgrad" else {}
    assert study(function, method, **printed)[300].item() == pytest.approx(last, abs=1e-5)
    single = path(function, METHODS[method](**STUDY), dtype="float32")
    assert single[300].item() == pytest.approx(x[300].item(), abs=1e-6)


@pytest.mark.parametrize("function", ["F1", "F2"])
@pytest.mark.parametrize(("method", "basin"), [("adam", 0.0), ("diffgrad", 1.0)])
def test_basins(function: str, method: str, basin: float) -> None:
    env = optenvs.make(f"DiffGrad{function}", dtype="float64")
    run = optenvs.rollout(env, METHODS[method](**STUDY))
    assert run.metrics["global_basin"][-1].item() == basin


def test_the_aliased_gradient_is_detected() -> None:
    aliased = {name: study(name, "diffgrad", clone_prev=False) for name in ("F1", "F2")}
    assert aliased["F1"][3].item() == pytest.approx(-0.820302, abs=1e-6)
    # and yet it finds the same wells: the smaller step does it, not the friction
    assert aliased["F1"][300].item() == pytest.approx(-0.3001, abs=1e-4)
    assert aliased["F2"][300].item() == pytest.approx(-0.6429, abs=1e-4)


def test_caveats_of_the_table() -> None:
    assert study("F1", "adam", lr=0.05)[300].item() == pytest.approx(-0.3003, abs=1e-4)
    assert study("F2", "adam", lr=0.05)[300].item() == pytest.approx(-0.6431, abs=1e-4)
    assert study("F1", "diffgrad", dfc="nine")[300].item() == pytest.approx(-0.3000, abs=1e-4)
    assert study("F2", "diffgrad", dfc="nine")[300].item() == pytest.approx(0.0005, abs=1e-4)
    adam, diffgrad = study("F3", "adam"), study("F3", "diffgrad")
    assert diffgrad[201:].std() > adam[201:].std()
    assert diffgrad.max() < adam.max()


# 5 -----------------------------------------------------------------------------------------------


def test_the_notebooks_derivative_never_settles() -> None:
    wrong = path("F2", agents.DiffGrad(**STUDY), derivative="notebook")
    last = wrong[201:]
    assert [last.min().item(), last.max().item()] == pytest.approx([-0.9055, -0.8090], abs=1e-4)
    assert last.min() < -0.9 < last.max()
    assert wrong[300].item() == pytest.approx(-0.8122, abs=1e-4)
    right = study("F2", "diffgrad")[201:]
    assert [right.min().item(), right.max().item()] == pytest.approx([-0.6441, -0.6409], abs=1e-4)


# 7 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3])
def test_the_friction_lies_between_a_half_and_one(scale: float) -> None:
    for dtype, certain in ((torch.float64, 36.8), (torch.float32, 16.7)):
        gradients = scale * draws(2, 10_000, seed=1).to(dtype)
        friction = agents.DiffGrad().friction(gradients[0], gradients[1])
        assert friction.min() >= 0.5 and friction.max() <= 1
        zero = torch.zeros(1, 1, dtype=dtype)
        assert agents.DiffGrad().friction(zero, zero + certain).item() == 1
        assert agents.DiffGrad().friction(zero, zero + 0.9 * certain).item() < 1
        assert agents.DiffGrad().friction(zero, zero).item() == 0.5


def test_the_friction_sees_the_scale_of_gradients() -> None:
    gradients = draws(100, 12)
    shifts = {}
    for name, method in METHODS.items():
        agent = method(lr=0.01, eps=0.0)
        shifts[name] = (follow(agent, gradients) - follow(agent, 100 * gradients)).abs().max().item()
    assert shifts["adam"] < 1e-12
    assert math.isclose(shifts["diffgrad"], 0.06, abs_tol=0.03)

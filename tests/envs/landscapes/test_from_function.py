"""A user's function as a landscape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.optimize
import torch
from torch import Tensor

import optenvs
from optenvs.core.random import keys_from_seed
from optenvs.core.rollout import rollout

# a user's function ------------------------------------------------------------------------------


def bowl(x: Any) -> Any:
    return ((x - 0.25) ** 2).sum(-1)


def slope(x: Any) -> Any:
    return 2 * (x - 0.25)


MODES: dict[str, dict[str, Any]] = {
    "torch": {"fun": bowl},
    "torch with a gradient": {"fun": bowl, "grad": slope},
    "torch, batched": {"fun": bowl, "batched": True},
    "numpy": {"fun": lambda x: float(np.sum((np.asarray(x) - 0.25) ** 2)), "grad": slope, "backend": "numpy"},
    "numpy, batched": {"fun": bowl, "grad": slope, "batched": True, "backend": "numpy"},
}


@pytest.mark.parametrize("mode", MODES)
def test_a_users_function_in_every_form(mode: str) -> None:
    known = {"minimum": 0.0, "minimiser": [0.25] * 3}
    bounds = (-2.0, [1.0, 2.0, 3.0])
    env = optenvs.from_function(**MODES[mode], **known, dim=3, bounds=bounds, dtype="float64")
    state = env.reset(keys_from_seed(0, 50))
    start = state.observation["point"]
    assert (start >= -2).all()
    assert (start < torch.tensor([1.0, 2.0, 3.0])).all()
    assert torch.allclose(state.merit, bowl(start))
    assert torch.allclose(state.observation["gradient"], slope(start))
    assert torch.allclose(state.metrics["distance"], (start - 0.25).norm(dim=-1))
    solved = env.step(state, torch.full_like(start, 0.25))
    assert solved.terminated.all()
    assert env.vectorizable == ("numpy" not in mode)
    assert env.differentiable == (mode in ("torch", "torch, batched"))


def test_the_backend_is_found() -> None:
    assert optenvs.from_function(lambda x: (x * x).sum(), dim=2).backend == "torch"
    assert optenvs.from_function(lambda x: torch.sin(x).sum(), dim=2).backend == "torch"
    assert optenvs.from_function(lambda x: float(np.sum(np.sin(x))), dim=2).backend == "numpy"
    assert optenvs.from_function(lambda x: 1.0 if x[0] > 0 else 2.0, dim=2).backend == "numpy"
    batched = optenvs.from_function(lambda x: np.sin(x).sum(-1), dim=2, batched=True)
    assert batched.backend == "numpy", "numpy computes with tensors too, but carries no gradient"
    scipys = optenvs.from_function(scipy.optimize.rosen, grad=scipy.optimize.rosen_der, dim=3)
    assert scipys.reset(keys_from_seed(0, 2)).merit.isfinite().all()


def test_a_numpy_function_without_gradient_answers_values() -> None:
    env = optenvs.from_function(lambda x: float(x.max()), dim=2, backend="numpy")
    assert env.oracles == ("value",)
    assert not env.bounded_below


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"oracle": "gradient"}, "oracle: a numpy function cannot answer 'gradient'; give grad="),
        ({"oracle": "hvp", "grad": slope}, "oracle: a numpy function cannot answer 'hvp'"),
        ({"bounds": (1.0, 0.0)}, "bounds: expected finite low < high"),
        ({"bounds": (-np.inf, 0.0)}, "bounds: expected finite low < high"),
        ({"bounds": ([0.0, 0.0, 0.0], 1.0)}, r"bounds: expected \(low, high\), each a number or 2 of them"),
        ({"bounds": 3.0}, r"bounds: expected \(low, high\), each a number or 2 of them, got 3.0"),
        ({"dim": 0}, "dim: expected a whole number >= 1, got 0"),
        ({"minimiser": [1.0]}, "minimiser: expected 2 numbers"),
        ({"minimum": "0"}, "minimum: expected a finite number, got '0'"),
        ({"tolerance": "1"}, "tolerance: expected a number >= 0 or None, got '1'"),
        ({"backend": "jax"}, "backend: expected 'torch' or 'numpy', got 'jax'"),
    ],
)
def test_bad_functions(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        optenvs.from_function(lambda x: float(np.sum(x)), **({"backend": "numpy", "dim": 2} | keywords))


def test_answers_that_are_no_scalars_are_named() -> None:
    expected = r"function: expected an answer of shape \(2,\) for 2 points, got \(2, 2\)"
    for fun in (lambda x: x, lambda x: x**2):
        with pytest.raises(ValueError, match=expected):
            optenvs.from_function(fun, dim=2)
    with pytest.raises(
        ValueError, match=r"grad: expected an answer of shape \(2, 2\) for 2 points, got \(2, 1\)"
    ):
        optenvs.from_function(bowl, grad=lambda x: x[:1], dim=2, backend="torch")
    with pytest.raises(ValueError, match=r"expected an answer of shape \(2,\) for 2 points, got \(\)"):
        optenvs.from_function(lambda x: x.sum(), dim=2, batched=True)


@pytest.mark.parametrize(
    "flat", [lambda x: (x > 0).sum(), lambda x: torch.tensor(3.0), lambda x: x.detach().sum()]
)
def test_what_has_no_slope_is_refused_where_gradients_are_asked(flat: Any) -> None:
    with pytest.raises(ValueError, match="does not depend on x in a way that torch can differentiate"):
        optenvs.from_function(flat, dim=2)
    assert (
        optenvs.from_function(flat, dim=2, oracle="value").reset(keys_from_seed(0, 2)).merit.isfinite().all()
    )
    env = optenvs.from_function(flat, dim=2, grad=torch.zeros_like)
    assert env.reset(keys_from_seed(0, 2)).observation["gradient"].eq(0).all()


def test_modules_are_torch_in_the_precision_that_they_have() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    env = optenvs.from_function(network, dim=2)
    assert (env.backend, env.oracle) == ("torch", "gradient")
    state = env.reset(keys_from_seed(0, 4))
    point = state.observation["point"].requires_grad_()
    (slope,) = torch.autograd.grad(network(point).sum(), point)
    torch.testing.assert_close(state.observation["gradient"], slope)
    for fun in (network, lambda x: network(x)):
        with pytest.raises(
            ValueError, match="function: cannot be called.* on.* float64 tensor.*RuntimeError: .*[Dd]ouble"
        ):
            optenvs.from_function(fun, dim=2, dtype="float64")
    weights = torch.ones(2)  # a closure over float32 is torch as well
    assert optenvs.from_function(lambda x: weights @ x, dim=2).backend == "torch"


def test_what_fails_says_why() -> None:
    def broken(x: Any) -> Any:
        return x[7]

    with pytest.raises(
        ValueError, match=r"on a float32 tensor of shape \(2,\): IndexError: .*; on a numpy array: IndexError"
    ):
        optenvs.from_function(broken, dim=2)
    with pytest.raises(
        ValueError, match="function: cannot be called on float32 tensors of 2 coordinates: IndexError"
    ):
        optenvs.from_function(broken, dim=2, backend="torch")


@pytest.mark.parametrize("bounds", [(100.0, 200.0), ((100.0, -3.0), (200.0, -1.0))])
def test_one_box_is_everybodys(bounds: Any) -> None:
    low, high = (torch.tensor(end).expand(2) for end in bounds)
    env = optenvs.from_function(bowl, dim=2, bounds=bounds)
    state = env.reset(keys_from_seed(0, 20))
    for box in (state.problem, optenvs.make("Particles", landscape=env).sample(state.key).problem):
        assert torch.equal(box.lower[3], low)
        assert torch.equal(box.upper[3], high)
    for name in ("Particles", "Ranking"):
        inner = {"Particles": "landscape", "Ranking": "objective"}[name]
        bounded = optenvs.make(name, **{inner: env.replace(bounds="domain")})
        space = bounded.action_space["query"]
        assert np.array_equal(space.low[1], low)
        assert np.array_equal(space.high[1], high)
        asked = bounded.reset(state.key).observation["point"]
        assert ((asked >= low) & (asked <= high)).all()
    f = optenvs.as_function(env)
    assert f.bounds == list(zip(low.tolist(), high.tolist(), strict=True))
    bounded = optenvs.from_function(bowl, dim=2, bounds=bounds, bounded=True)
    assert bounded.action_space.contains(((low + high) / 2).numpy())
    assert not bounded.action_space.contains((high + 1).numpy())
    assert env.picture([env.reset(keys_from_seed(0, 1))]).ndim == 3


def test_a_users_function_has_every_landscape_keyword() -> None:
    env = optenvs.from_function(bowl, dim=2, noise=0.1, shift=0.5, rotate=True, budget=7, bounded=True)
    run = rollout(env.replace(oracle="value"), _Still(), batch=2)
    assert run.calls["value"][-1].tolist() == [7, 7]
    assert env.action_space.is_bounded()


class _Still:
    """Asks the same point again."""

    def init(self, problem: Any, observation: dict[str, Tensor], keys: Tensor) -> None:
        return None

    def act(self, state: None, observation: dict[str, Tensor]) -> tuple[Tensor, None]:
        return observation["point"], None

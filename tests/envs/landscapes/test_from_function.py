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
        ({"bounds": ([0.0, 0.0], 1.0), "bounded": True}, "bounded: needs bounds of two numbers"),
        ({"backend": "jax"}, "backend: expected 'torch' or 'numpy', got 'jax'"),
    ],
)
def test_bad_functions(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        optenvs.from_function(lambda x: float(np.sum(x)), dim=2, **({"backend": "numpy"} | keywords))


def test_answers_that_are_no_scalars_are_named() -> None:
    env = optenvs.from_function(lambda x: x, dim=2, backend="torch")
    with pytest.raises(ValueError, match=r"function: expected an answer of shape \(3,\), got \(3, 2\)"):
        env.reset(keys_from_seed(0, 3))
    env = optenvs.from_function(bowl, grad=lambda x: x[:1], dim=2, backend="torch")
    with pytest.raises(ValueError, match=r"grad: expected an answer of shape \(3, 2\), got \(3, 1\)"):
        env.reset(keys_from_seed(0, 3))


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

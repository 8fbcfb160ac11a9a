"""Derivatives are the same in every mode; some releases of torch make zeros of them in inference mode."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import optenvs
from optenvs.core import keys_from_seed
from optenvs.core.oracles import value_and_gradient


@pytest.mark.parametrize("inside", [False, True], ids=["made outside", "made inside"])
def test_gradient_in_inference_mode(inside: bool) -> None:
    with torch.inference_mode(inside):
        weight = torch.arange(6.0).view(2, 3)
        x = torch.tensor([[1.0, -2.0], [0.5, 3.0]])

    def function(y: Tensor) -> Tensor:
        return (y @ weight).square().sum(-1)

    with torch.inference_mode():
        value, gradient = value_and_gradient(function, x)
    torch.testing.assert_close(value, function(x))
    torch.testing.assert_close(gradient, 2 * x @ weight @ weight.T)
    assert not value.requires_grad and not gradient.requires_grad


@pytest.mark.parametrize("oracle", ["gradient", "hvp"])
@pytest.mark.parametrize("name", ["Rosenbrock", "Ackley", "Quadratic"])
def test_landscapes_in_inference_mode(name: str, oracle: str) -> None:
    core = optenvs.make(f"optenvs/{name}-v0", dim=3, oracle=oracle, dtype="float64")

    def ask() -> dict[str, Tensor]:
        state = core.reset(keys_from_seed(0, 4))
        query = 0.9 * state.observation["point"]
        action = query if oracle == "gradient" else {"point": query, "vector": torch.ones_like(query)}
        return core.step(state, action).observation

    expected = ask()
    with torch.inference_mode():
        found = ask()
    assert expected[oracle].abs().max() > 0.01
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value)

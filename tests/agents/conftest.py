"""Two problems: a quadratic, and a small network whose loss is a function of its weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import optenvs
from optenvs.core import OptimizationEnv

HIDDEN, INPUTS = 4, 3
DIM = HIDDEN * INPUTS + 2 * HIDDEN + 1


def network_loss(weights: Tensor) -> Tensor:
    """Mean squared error of a tanh network of 21 weights on ten fixed points."""
    rates = torch.tensor([0.3, 0.7, 1.1], dtype=weights.dtype)
    angle = torch.arange(10, dtype=weights.dtype).unsqueeze(1) * rates
    inputs, targets = angle.sin(), angle.cos().sum(1)
    inner, bias, outer, last = weights.split((HIDDEN * INPUTS, HIDDEN, HIDDEN, 1))
    hidden = torch.tanh(inputs @ inner.reshape(INPUTS, HIDDEN) + bias)
    return ((hidden @ outer + last - targets) ** 2).mean()


def make_problem(name: str, **keywords: object) -> OptimizationEnv:
    settings = {"dtype": "float64", "budget": None, "tolerance": None} | keywords
    if name == "quadratic":
        return optenvs.make("Quadratic", **({"dim": 5, "shift": 1.0} | settings))
    return optenvs.from_function(network_loss, dim=DIM, **settings)


@pytest.fixture(params=["quadratic", "network"])
def problem(request: pytest.FixtureRequest) -> OptimizationEnv:
    return make_problem(request.param)


@pytest.fixture
def quadratic() -> OptimizationEnv:
    return make_problem("quadratic")

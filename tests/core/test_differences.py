"""Central differences against a derivative that is told: what contradicts it, and what says nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from optenvs.core.differences import contradiction

AT = torch.tensor([[0.3, -0.7], [1.1, 0.4], [2.0, 5.0]], dtype=torch.float64)
WAY = torch.tensor([[1.0, 0.5], [-0.5, 1.0], [1.0, 1.0]], dtype=torch.float64)


def numbers(x: Tensor) -> Tensor:
    return torch.stack((x.prod(-1), torch.sin(x[:, 0]) + x[:, 1] ** 2), -1)


def derivative() -> Tensor:
    return torch.func.jvp(numbers, (AT,), (WAY,))[1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_derivative_is_not_contradicted_and_a_wrong_one_is(dtype: torch.dtype) -> None:
    at, way, told = AT.to(dtype), WAY.to(dtype), derivative().to(dtype)
    assert contradiction(numbers, told, at, way) is None
    assert contradiction(lambda x: numbers(x) + 1e3, told, at, way) is None  # rounding hides it
    told[1, 1] *= 1.1
    found = contradiction(numbers, told, at, way)
    assert found is not None and found[:2] == (1, 1)
    assert found.told == pytest.approx(1.1 * found.seen, rel=1e-2)
    assert found.seen == pytest.approx(float(derivative()[1, 1]), rel=1e-2)


def test_a_kink_and_what_is_no_number_say_nothing() -> None:
    zero, one = torch.zeros(1, 2, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    way = torch.ones_like(zero)
    assert contradiction(lambda x: (x[:, :1] + x[:, :1].abs()) / 2, one, zero, way) is not None  # 1/2 is seen
    steep = lambda x: x[:, :1].abs().sqrt() * x[:, :1].sign()  # noqa: E731 - each length sees another slope
    assert contradiction(steep, one, zero, way) is None
    assert contradiction(lambda x: x[:, :1].log(), one, zero, way) is None

"""One unit a tensor of the problem's layout."""

from __future__ import annotations

import torch

import optenvs
from optenvs.core.features import tensor_sizes
from optenvs.core.random import keys_from_seed
from optenvs.wrappers import Reparametrise


def test_each_tensor_of_a_layout_has_one_unit() -> None:
    env = optenvs.make("TrainDigits", widths=(3,), batch_size=8, samples=64, dtype="float64")
    keys = keys_from_seed(0, 4)
    state = Reparametrise(env, scale=(0.1, 10.0), level="tensor").reset(keys)
    scale = state.hidden.memory.scale
    sizes = tensor_sizes(state.problem, scale.shape[1])
    assert len(sizes) == 4
    units = [part.unique(dim=1) for part in scale.split(sizes, 1)]
    assert [unit.shape[1] for unit in units] == [1] * 4
    drawn = torch.cat(units, 1)
    assert len(drawn.unique()) == 16
    assert 0.1 <= drawn.min() < drawn.max() <= 10
    assert torch.equal(state.merit, env.reset(keys).merit)
    # without a layout the point is one tensor
    plain = optenvs.make("Quadratic", dim=5)
    one = Reparametrise(plain, level="tensor").reset(keys).hidden.memory.scale
    assert one.unique(dim=1).shape == (4, 1)


def test_descent_under_units_of_tensors() -> None:
    env = optenvs.make("TrainDigits", widths=(3,), batch_size=8, samples=64, dtype="float64")
    keys = keys_from_seed(0, 2)
    scaled = Reparametrise(env, scale=(0.5, 2.0), level="tensor")
    scale = scaled.reset(keys).hidden.memory.scale
    state = scaled.reset(keys)
    point, inner = state.observation["point"] * scale, env.reset(keys)
    for _ in range(5):
        moved = state.observation["point"] - 0.1 * state.observation["gradient"] / scale**2
        state = scaled.step(state, moved)
        point = point - 0.1 * inner.observation["gradient"]
        inner = env.step(inner, point)
    torch.testing.assert_close(state.merit, inner.merit, rtol=1e-11, atol=1e-13)

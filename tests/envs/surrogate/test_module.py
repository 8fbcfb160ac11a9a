"""A user's module as a surrogate, the exact optimum of small ReLU boxes, and the public names of families."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys
from typing import Any

import pytest
import torch

import optenvs
from optenvs.core.random import keys_from_seed
from optenvs.envs.surrogate import exact, module, relu_optimum

NETWORK = torch.nn.Sequential(torch.nn.Linear(2, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3))


def first(y: Any) -> Any:
    return y[..., 0]


def limits(x: Any, y: Any) -> Any:
    return torch.stack((y[..., 1], x.sum(-1) - 1), -1)


def test_the_examples_of_the_docstrings_run() -> None:
    for part in (module, exact):
        result = doctest.testmod(part)
        assert result.failed == 0 and result.attempted > 3


@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"points": 4, "oracle": "vjp"},
        {"points": 4, "oracle": "jacobian", "formulation": "constraints"},
        {"white_box": True, "start": (0.5, 0.25), "dtype": "float32"},
    ],
)
def test_a_module_keeps_the_contract(keywords: dict[str, Any]) -> None:
    env = optenvs.surrogate_from_module(NETWORK, first, dim=2, constraints=limits, **keywords)
    assert optenvs.check(env).ok
    state = env.reset(keys_from_seed(0, 3))
    point = state.observation["point"]
    point = point if env.points is None else point[:, 0]
    raw = env.task.parts.module(point)
    violated = limits(point, raw).clamp_min(0).square().sum(-1)
    if env.penalised:
        torch.testing.assert_close(state.merit, -first(raw) + violated)
    if "start" in keywords:
        assert (point == torch.tensor([0.5, 0.25])).all()
    assert not any(p.requires_grad for p in env.task.parts.module.parameters())
    assert all(p.requires_grad for p in NETWORK.parameters())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"module": torch.nn.Linear(3, 1)},
            "module: cannot be called on float64 .*RuntimeError",
        ),
        (
            {"objective": lambda y: y},
            r"objective: expected an answer of shape \(3,\) .*, got \(3, 3\)",
        ),
        ({"constraints": lambda x, y: y[..., 0]}, r"constraints: expected an answer of shape \(3, some\)"),
        ({"start": (2.0, 0.0)}, r"start: expected 2 numbers within \(0.0, 1.0\)"),
        ({"bounds": (1.0, 0.0)}, "bounds: expected finite low < high"),
        ({"dim": 0}, "dim: expected a whole number >= 1"),
    ],
)
def test_what_does_not_fit_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        optenvs.surrogate_from_module(**({"module": NETWORK, "objective": first, "dim": 2} | given))


def test_objectives_of_one_code_are_told_apart() -> None:
    keys = keys_from_seed(0, 3)
    weights = [torch.tensor([a, 0.0, 0.0], dtype=torch.float64) for a in (1.0, -2.0)]
    goals = [lambda y, w=w: (w * y).sum(-1) for w in weights]  # the loop's way: one code, two defaults
    first_env, second_env = (optenvs.surrogate_from_module(NETWORK, goal, dim=2) for goal in goals)
    merits = [env.reset(keys).merit for env in (first_env, second_env, first_env)]
    assert torch.equal(merits[0], merits[2])
    torch.testing.assert_close(merits[1], -2 * merits[0])


@pytest.mark.parametrize("widths", [(6,), (4, 4)])
def test_no_point_of_a_grid_beats_the_exact_optimum(widths: tuple[int, ...]) -> None:
    env = optenvs.make("ReluBox", dim=2, widths=widths, white_box=True)
    state = env.reset(keys_from_seed(1, 3))
    axis = torch.linspace(0, 1, 201, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis).expand(3, -1, -1)
    seen = env.task.network(state.problem.weights, grid).squeeze(-1)
    for row in range(3):
        value, point = relu_optimum(state.problem.weights, row)
        assert float(seen[row].max()) <= value + 1e-9
        assert float(seen[row].max()) >= value - 0.02
        at = env.task.network(state.problem.weights, torch.from_numpy(point).expand(3, 1, 2))[row]
        assert float(at) == pytest.approx(value, abs=1e-7)


@pytest.mark.parametrize("family", ["network", "surrogate"])
def test_public_names_of_a_family(family: str) -> None:
    package = importlib.import_module(f"optenvs.envs.{family}")
    for name in package.__all__:
        assert callable(getattr(package, name)) and name in package.__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = package.nothing
    code = f"import sys, optenvs.envs.{family}; print('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

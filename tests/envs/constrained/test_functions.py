"""A user's own program."""

from __future__ import annotations

import doctest
from typing import Any

import pytest
import torch

import optenvs
from optenvs.core.random import keys_from_seed
from optenvs.envs.constrained import functions


def make(equality: Any = None, **keywords: Any) -> Any:
    return optenvs.constrained_from_functions(
        lambda x: (x**2).sum(), equality, **({"start": (1.0, 2.0)} | keywords)
    )


def test_the_example_is_true() -> None:
    assert doctest.testmod(functions).failed == 0


def test_it_passes_the_checker() -> None:
    env = make(
        lambda x: x[0] * x[1] - 2,
        inequality=lambda x: torch.stack((x[0] - 3, torch.sin(x[1]) - 2)),
        lower=(0.0, -torch.inf),
        upper=4.0,
        perturbation=0.1,
    )
    assert (env.size, env.equality_count, env.inequality_count) == (2, 1, 2)
    assert optenvs.check(env, batch=2, steps=2).ok


def test_a_number_is_a_vector_of_one() -> None:
    one, other = make(lambda x: x.sum() - 1), make(lambda x: x.sum().reshape(1) - 1)
    keys = keys_from_seed(0, 2)
    assert torch.equal(
        one.reset(keys).observation["constraints"], other.reset(keys).observation["constraints"]
    )


@pytest.mark.parametrize(
    ("keywords", "told"),
    [
        ({}, "equality, inequality: expected one of them"),
        ({"equality": 3}, "equality: expected a function, got 3"),
        ({"equality": lambda x: x[None].expand(4, 2)}, r"equality: expected a vector .* got \(4, 2\)"),
        ({"equality": lambda x: x[:0]}, "equality: expected a constraint at least"),
        (
            {"equality": lambda x: torch.log(x[0] - 2)},
            r"equality: expected finite numbers at the start, got \[nan\]",
        ),
        ({"inequality": lambda x: torch.sqrt(x[0] - 1)}, "inequality: expected a derivative at the start"),
        (
            {"equality": lambda x: x[5]},
            "equality: cannot be called on a float64 tensor of shape .*IndexError",
        ),
        ({"equality": lambda x: (x[0] > 1.005).double()}, "equality: its answer changes with x in a way"),
        ({"equality": lambda x: x[0].item()}, "equality: cannot be called .* vectorised"),
        (
            {"equality": lambda x: torch.cat((x, x[:1]))},
            "equality: expected at most as many equations as the 2",
        ),
        (
            {"equality": lambda x: torch.stack((x[0] + x[1] - 1, x[0] + x[1] - 2))},
            "equality: linear ones: expected equations with a solution",
        ),
        (
            {"equality": lambda x: x[0], "lower": 3.0, "upper": 2.0},
            "lower, upper: expected lower <= upper, got 3.0",
        ),
        ({"equality": lambda x: x[0], "lower": 1.5}, "start: 1.0 at 0 lies outside the bounds 1.5 to inf"),
        ({"equality": lambda x: x[0], "lower": (1.0,) * 3}, "lower: expected a number or 2 of them"),
        ({"equality": lambda x: x[0], "start": None}, "start: expected a vector of finite numbers, got None"),
        (
            {"equality": lambda x: x[0], "start_multipliers": (1.0, 2.0)},
            "start_multipliers: expected 1 finite",
        ),
        ({"equality": lambda x: x[0], "perturbation": -1.0}, "perturbation: expected a number >= 0"),
        ({"equality": lambda x: x[0], "perturbation": "1"}, "perturbation: expected a number >= 0, got '1'"),
        (
            {"equality": lambda x: x[0], "tolerance": "1"},
            "tolerance: expected a number >= 0 or None, got '1'",
        ),
        ({"equality": lambda x: x[0], "minimum": "3"}, "minimum: expected a finite number, got '3'"),
        ({"equality": lambda x: x[0], "minimum": float("nan")}, "minimum: expected a finite number, got nan"),
        ({"equality": lambda x: x[0], "minimum": -torch.inf}, "minimum: expected a finite number, got -inf"),
        ({"equality": lambda x: x[0], "start": (True, False)}, r"start: expected .* got \(True, False\)"),
        ({"equality": lambda x: x[0], "start": (True, 2.0)}, "start: expected an array of numbers"),
        ({"equality": lambda x: x[0], "start": ("1", "2")}, "start: expected an array of numbers"),
        ({"equality": lambda x: x[0], "start_multipliers": (True,)}, "start_multipliers: expected 1 finite"),
        (
            {"equality": lambda x: x.sum() - 3, "minimiser": (2.0, 2.0)},
            "minimiser: expected a point that satisfies the constraints, got equality 1 at 0",
        ),
        (
            {"inequality": lambda x: x - torch.tensor((4.0, 5.0)).to(x), "minimiser": (2.0, 7.0)},
            "minimiser: expected a point that satisfies the constraints, got inequality 2 at 1",
        ),
        (
            {"equality": lambda x: x.sum() - 3, "upper": 2.0, "minimiser": (3.0, 0.0)},
            "minimiser: expected a point within the bounds, got 3 at 0, where upper is 2",
        ),
        ({"equality": lambda x: x.sub_(1).sum()}, "equality: writes into the point"),
        ({"equality": lambda x: x.sum() + x.detach().sub_(1).sum()}, "equality: writes into the point"),
        (
            {"inequality": lambda x: torch.stack((x[0], x[0] * x[1].detach()))},
            r"inequality: torch's derivative .* central differences say .* \(number 1 of the answer\)",
        ),
        (
            {"inequality": lambda x: torch.stack((x[0], x.sum().round(decimals=2)))},
            "inequality: its answer changes with x in a way",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_its_name(keywords: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        make(**keywords)


def test_an_objective_must_be_one_number() -> None:
    with pytest.raises(
        ValueError, match=r"objective: expected one number for a point of 2 numbers, got \(2,\)"
    ):
        optenvs.constrained_from_functions(lambda x: x, lambda x: x[0], start=(1.0, 2.0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_objective_must_be_differentiated_whole(dtype: str) -> None:
    line, start = lambda x: x.sum() - 3, (1.0, 2.0)
    for wrong in (lambda x: x[0] ** 2 + x[1].detach() ** 2, lambda x: 0.9 * x.sum() + 0.1 * x.detach().sum()):
        with pytest.raises(ValueError, match="objective: torch's derivative beside the start is"):
            optenvs.constrained_from_functions(wrong, line, start=start, dtype=dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rough_and_steep_functions_are_taken(dtype: str) -> None:
    for name, rough in {
        "a kink at the start": lambda x: torch.relu(x[0] - 1) + (2 * x[0] - x[1]).abs(),
        "a large constant": lambda x: 1e6 + (x**2).sum(),
        "steep": lambda x: torch.exp(50 * (x - 1)).sum(),
        "waves": lambda x: torch.sin(200 * x).sum(),
        "an end of its domain": lambda x: x.sum() + torch.sqrt(x[0] - 1 + 1e-9),
        "a constant": lambda x: 3 + 0 * x.sum(),
    }.items():
        env = optenvs.constrained_from_functions(
            rough, lambda x: x.sum() - 3, start=(1.0, 2.0), dtype=dtype, nan="diverge"
        )
        assert env.count == 1, name


def test_instances_begin_about_the_start() -> None:
    line = lambda x: x.sum() - 3  # noqa: E731
    keys = keys_from_seed(0, 400)
    begin = make(line, perturbation=0.5, lower=-100.0).reset(keys).observation["x"]
    off = (begin - torch.tensor((1.0, 2.0))) / torch.tensor((1.0, 2.0))
    assert off.mean(0).abs().max() < 0.1 and (off.std(0) - 0.5).abs().max() < 0.1
    assert torch.equal(begin[:2], make(line, perturbation=0.5, lower=-100.0).reset(keys[:2]).observation["x"])
    inside = make(line, perturbation=0.5, lower=0.9, upper=2.1).reset(keys).observation["x"]
    assert (inside >= 0.9).all() and (inside <= 2.1).all() and inside.std(0).min() > 0
    assert (make(line).reset(keys).observation["x"] == torch.tensor((1.0, 2.0))).all()


@pytest.mark.filterwarnings("error")
def test_whole_numbers_and_other_dtypes_are_a_start() -> None:
    for start in (torch.tensor((1, 2)), torch.tensor((1, 2), dtype=torch.bfloat16), (1, 2)):
        state = make(lambda x: x.sum() - 3, start=start).reset(keys_from_seed(0, 1))
        assert state.observation["x"].tolist() == [[1.0, 2.0]]


def test_a_minimiser_may_be_rounded() -> None:
    circle = lambda x: (x**2).sum() - 2  # noqa: E731
    assert make(circle, minimiser=(1.0, 0.999)).minimiser == (1.0, 0.999)
    assert make(circle, minimiser=(1.0, 1.0), lower=1.0, upper=4.0).count == 1


def test_constraints_that_say_one_thing_twice_are_told_of() -> None:
    twice = make(lambda x: torch.stack((x.sum() - 3, 2 * x.sum() - 6))).reset(keys_from_seed(0, 1))
    assert twice.metrics["singular"] == 1
    assert make(lambda x: x.sum() - 3).reset(keys_from_seed(0, 1)).metrics["singular"] == 0


def test_equal_bounds_fix_a_variable() -> None:
    # min x1^2 + x2^2 with x1 x2 = 2 and x1 = 1: x = (1, 2), whatever the gradient by x1
    env = make(lambda x: x[0] * x[1] - 2, lower=(1.0, -5.0), upper=(1.0, 5.0))
    state = env.reset(keys_from_seed(0, 1))
    there = env.step(state, env.card.offer.query({"value": True}, x=state.observation["x"]))
    assert there.terminated.all()
    assert there.metrics["kkt"] < 1e-12

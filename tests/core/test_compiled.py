"""Compiled steps: the record of the same run, number by number, and what cannot be compiled."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import agents
import optenvs
from optenvs.core.compiled import Program
from optenvs.core.random import bits, keys_from_seed, normal
from optenvs.core.rollout import Run, rollout
from optenvs.core.stepper import _fused
from optenvs.core.struct import tensors

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs g++, which is not here"),
]


def close(run: Run, expected: Run) -> None:
    """Equal to rounding; what counts is equal."""
    assert torch.equal(run.done, expected.done)
    assert torch.equal(run.calls.counts, expected.calls.counts)
    found, wanted = (tensors((r.metrics, r.reward, r.state)) for r in (run, expected))
    assert found.keys() == wanted.keys()
    found["2.reward"] = wanted["2.reward"]  # of a step after the end, where some are one function
    for name, leaf in wanted.items():
        torch.testing.assert_close(found[name], leaf, rtol=1e-9, atol=1e-9, equal_nan=True, msg=name)


def test_some_steps_at_once_are_the_steps() -> None:
    env = optenvs.make("Rosenbrock", dim=3, oracle="gradient", dtype="float64", budget={"gradient": 9})
    agent, seen = agents.make("adam", lr=0.1), []
    expected = rollout(env, agent, batch=4, steps=10, record=("point",))
    run = rollout(
        env, agent, batch=4, steps=10, record=("point",), compile=3, on_step=lambda i, _: seen.append(i)
    )
    close(run, expected)
    assert bool(run.done[8].all()) and not bool(run.done[7].any())
    torch.testing.assert_close(run.recorded["point"], expected.recorded["point"])
    assert seen == [1, 4, 7, 10]
    assert run.seconds.shape == (11,) and bool((run.seconds.diff() >= 0).all())
    # compiling is not in the time, and is done once
    assert float(run.seconds[-1]) < 2.0
    misses = _fused.cache_info().misses
    again = rollout(env, agent, batch=4, steps=10, seed=1, record=("point",), compile=3)
    assert _fused.cache_info().misses == misses
    close(again, rollout(env, agent, batch=4, steps=10, seed=1))


def test_two_environments_do_not_share_what_is_compiled() -> None:
    agent = agents.make("sgd", lr=0.01)
    for name in ("StyblinskiTang", "Rastrigin"):
        env = optenvs.make(name, dim=2, oracle="gradient", dtype="float64", budget=None)
        close(rollout(env, agent, batch=2, steps=4, compile=1), rollout(env, agent, batch=2, steps=4))


def test_an_episode_with_a_clock_of_its_own_ends_where_it_ends() -> None:
    env = optenvs.make("NetworkQuadratic", nodes=3, graph="path", t_max=2.0)
    agent = agents.make("dadao")
    expected = rollout(env, agent, batch=2)
    run = rollout(env, agent, batch=2, compile=2)
    assert len(run.merit) == len(expected.merit)
    close(run, expected)


def test_a_row_that_diverges_is_seen() -> None:
    env = optenvs.make("Rosenbrock", dim=2, oracle="gradient", dtype="float64", budget=None)
    agent = agents.make("sgd", lr=1.0)
    run = rollout(env, agent, batch=2, steps=12, compile=4)
    close(run, rollout(env, agent, batch=2, steps=12))
    assert bool(run.diverged.all())


@pytest.mark.parametrize("at_once", [1, 2])
def test_rows_end_when_they_are_solved(at_once: int) -> None:
    env = optenvs.make("Quadratic", dim=3, oracle="gradient", dtype="float64", budget=None, tolerance=0.1)
    agent = agents.make("sgd", lr=0.1)
    expected = rollout(env, agent, batch=5, steps=60)
    ends = (~expected.done).sum(0)
    assert len(ends.unique()) > 2 and bool((ends < 60).any())
    close(rollout(env, agent, batch=5, steps=60, compile=at_once), expected)


def test_measurements_at_the_end_of_an_epoch() -> None:
    env = optenvs.make(
        "TrainBreastCancer", model="logistic", batch_size=None, evaluation_period=4, dtype="float64"
    )
    agent = agents.make("sgd", lr=0.1)
    period = env.evaluations
    assert period is not None
    run = rollout(env, agent, batch=2, steps=2 * period + 1, compile=2)
    close(run, rollout(env, agent, batch=2, steps=2 * period + 1))


def test_random_numbers_are_the_same() -> None:
    # as plain products of an index the words overflowed it, and the kernel wrote beyond the end
    def words(tensors: list[Tensor]) -> list[Tensor]:
        return [bits(tensors[0], "noise", 1001, tensors[1])]

    def numbers(tensors: list[Tensor]) -> list[Tensor]:
        return [normal(tensors[0], "noise", (20, 77), tensors[1])]

    given = [keys_from_seed(0, 100)] * 2  # two small programs compile in half the time of one
    assert torch.equal(Program(words, given)(given)[0], words(given)[0])
    torch.testing.assert_close(Program(numbers, given)(given)[0], numbers(given)[0], rtol=0, atol=2e-6)


def test_what_is_handed_through_and_what_lies_outside() -> None:
    data = torch.arange(6.0).reshape(2, 3).T  # not in plain layout

    def function(tensors: list[Tensor]) -> list[Tensor]:
        kept, moved, _ = tensors
        made = moved @ data
        return [kept, made, kept + made.sum(), made, data.T]

    example = [torch.ones(2), torch.ones(3), torch.ones(1)]
    program = Program(function, example)
    given = [torch.zeros(2), torch.tensor([1.0, 0.0, 2.0]), torch.ones(1)]
    found = program(given)
    assert found[0] is given[0] and found[1] is found[3]
    for result, wanted in zip(found, function(given), strict=True):
        assert torch.equal(result, wanted)
    data[0, 0] = 9.0  # read where it is, not a copy of it
    assert float(program(given)[1][0]) == 9.0 + 2 * 2.0
    assert torch.equal(Program(lambda tensors: tensors[:1], example)(given)[0], given[0])


@dataclass(frozen=True, eq=False)
class Counting:
    """An agent whose memory is a plain number."""

    def init(self, problem: Any, observation: dict[str, Tensor], keys: Tensor) -> int:
        return 0

    def act(self, state: int, observation: dict[str, Tensor]) -> tuple[Tensor, int]:
        return observation["point"] + state, state + 1


class Looking(Counting):
    """An agent that decides by the value of a tensor."""

    def act(self, state: int, observation: dict[str, Tensor]) -> tuple[Tensor, int]:
        far = observation["point"].abs().max() > 1
        return observation["point"] * (0.5 if far else 2.0), state


def test_what_cannot_be_compiled_is_refused() -> None:
    env = optenvs.make("Rosenbrock", dim=2, budget=None)
    with pytest.raises(TypeError, match="compile: what Counting or .*Rosenbrock.* keeps must be tensors"):
        rollout(env, Counting(), steps=4, compile=1)
    with pytest.raises(TypeError, match="compile: a step asks for the value of a tensor"):
        rollout(env, Looking(), steps=4, compile=1)
    for bad in (-1, True, 1.5):
        with pytest.raises(ValueError, match="compile: expected a number of steps >= 0, got"):
            rollout(env, agents.make("sgd"), steps=1, compile=bad)  # type: ignore[arg-type]

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import pytest
import torch

import agents
import optenvs
from optenvs.core.compiled import Program
from optenvs.core.threads import SMALL, Threads
from optenvs.wrappers import StepSizeControl

FEW = optenvs.make("Rosenbrock", dim=10, budget=100)
ROWS = SMALL // FEW.numbers


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Watching:
    """An agent that notes on how many threads it acts."""

    def __init__(self) -> None:
        self.inner, self.seen = agents.make("adam"), set[int]()
        self.needs = self.inner.needs

    def init(self, *arguments: Any) -> Any:
        return self.inner.init(*arguments)

    def act(self, *arguments: Any) -> Any:
        self.seen.add(torch.get_num_threads())
        return self.inner.act(*arguments)


def test_small_steps_take_one_thread_and_large_ones_all() -> None:
    for batch, expected in ((ROWS, 1), (ROWS + 1, 2)):
        with Threads(FEW, batch):
            assert torch.get_num_threads() == expected
        assert torch.get_num_threads() == 2


def test_a_setting_of_the_user_is_the_most() -> None:
    torch.set_num_threads(1)
    with Threads(FEW, ROWS + 1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 1


def test_a_setting_of_the_user_within_stays() -> None:
    torch.set_num_threads(3)
    with Threads(FEW, 1):
        torch.set_num_threads(2)
    assert torch.get_num_threads() == 2


def test_it_nests_and_survives_errors() -> None:
    with Threads(FEW, 1):
        with pytest.raises(ZeroDivisionError), Threads(FEW, 1):
            raise ZeroDivisionError
        assert torch.get_num_threads() == 1
        with Threads(FEW, ROWS + 1):  # larger, within a small one
            assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    with Threads(FEW, ROWS + 1), Threads(FEW, 1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("run", [optenvs.rollout, optenvs.unroll])
def test_rollouts_choose(run: Any) -> None:
    agent = Watching()
    first = run(FEW, agent, batch=2, steps=2)
    run(FEW, agent, steps=1, resume=first)
    assert agent.seen == {1}
    large = Watching()
    run(FEW, large, keys=optenvs.core.keys_from_seed(0, ROWS + 1), steps=1)
    assert large.seen == {2}
    assert torch.get_num_threads() == 2


def test_a_rollout_that_fails_leaves_the_setting() -> None:
    class Failing(Watching):
        def act(self, *_: Any) -> Any:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        optenvs.rollout(FEW, Failing(), steps=1)
    assert torch.get_num_threads() == 2


def test_faces_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    kind = type(FEW)
    answer = kind.answer

    def watched(self: Any, *arguments: Any) -> Any:
        seen.append(torch.get_num_threads())
        return answer(self, *arguments)

    monkeypatch.setattr(kind, "answer", watched)
    single = gym.make("optenvs/Rosenbrock-v0", dim=10)
    single.reset(seed=0)
    single.step(single.action_space.sample())
    vector = gym.make_vec("optenvs/Rosenbrock-v0", num_envs=4, dim=10)
    shown, _ = vector.reset(seed=0)
    vector.step(shown["point"])
    function = optenvs.as_function(FEW)
    function(function.start + 1)
    assert set(seen) == {1}
    assert len(seen) == 6
    seen.clear()
    vector = gym.make_vec("optenvs/Rosenbrock-v0", num_envs=ROWS + 1, dim=10)
    shown, _ = vector.reset(seed=0)
    vector.step(shown["point"])
    assert seen == [2, 2]
    assert torch.get_num_threads() == 2


def test_what_is_compiled_is_compiled_for_the_threads_it_runs_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int]] = []

    def compiled(recorded: Any, _: Any) -> Any:
        seen.append(("compiled", torch.get_num_threads()))
        return recorded

    call = Program.__call__

    def called(self: Program, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        seen.append(("called", torch.get_num_threads()))
        return call(self, tensors)

    monkeypatch.setattr("optenvs.core.compiled._compile", compiled)
    monkeypatch.setattr(Program, "__call__", called)
    agent = agents.make("adam")
    optenvs.rollout(FEW, agent, batch=2, steps=3, compile=1)
    assert set(seen) == {("compiled", 1), ("called", 1)}
    seen.clear()
    optenvs.rollout(FEW, agent, batch=ROWS + 1, steps=3, compile=1)
    assert set(seen) == {("compiled", 2), ("called", 2)}


def test_a_network_counts_its_minibatch() -> None:
    small = optenvs.make("TrainDigits", batch_size=32)
    assert small.replace(batch_size=320).numbers == pytest.approx(10 * small.numbers, rel=0.01)
    swarm = optenvs.make("ParticlesDigits", particles=7)
    assert swarm.numbers == 7 * swarm.training.numbers


def test_a_wrapper_counts_what_is_inside() -> None:
    inner = optenvs.make("TrainDigits", budget=100)
    assert StepSizeControl(inner, agent=agents.make("sgd")).numbers == inner.numbers > inner.network.size

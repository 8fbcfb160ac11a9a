"""Unrolled episodes whose steps are computed again in the backward pass: same gradient, less memory."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import agents
import optenvs
from agents.core import Agent
from optenvs.core.rollout import Run, unroll_windows

QUADRATIC = optenvs.make("Quadratic", dim=5, tolerance=None, dtype="float64")
RULE = agents.LOLv2(hidden=8, step_multiplier=0.1, dtype="float64")
ALL = pytest.mark.parametrize("second_order", [True, False])


def gradient(run: Run, wanted: list[Tensor]) -> Tensor:
    """Of all that a loss may be made of: values, rewards, points and memories."""
    loss = run.merit[1:].mean() + run.reward.sum() + run.recorded["point"].square().sum()
    loss = loss + run.agent_state.momenta.sum() + run.state.observation["point"].sum()
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, wanted, retain_graph=True)])


@ALL
@pytest.mark.parametrize("checkpoint", [1, 4, 12, 100])
def test_the_run_and_its_gradient_are_the_same(second_order: bool, checkpoint: int) -> None:
    options: dict[str, Any] = {"batch": 3, "steps": 12, "second_order": second_order, "record": ("point",)}
    plain = optenvs.unroll(QUADRATIC, RULE, **options)
    run = optenvs.unroll(QUADRATIC, RULE, checkpoint=checkpoint, **options)
    assert torch.equal(run.merit, plain.merit)
    assert run.seconds.shape == plain.seconds.shape
    weights = list(RULE.parameters())
    torch.testing.assert_close(gradient(run, weights), gradient(plain, weights), rtol=1e-10, atol=1e-13)


def test_a_gradient_of_what_the_agent_holds_and_of_what_that_was_made_from() -> None:
    """Sets of weights that were expanded may be differentiated by, and so may their leaf."""
    leaf = RULE.flat.detach().requires_grad_()
    sets = leaf.expand(3, -1) * torch.linspace(0.5, 1.0, 3, dtype=torch.float64).unsqueeze(-1)
    rule, record = RULE.replace(weights=sets), ("point",)
    plain = optenvs.unroll(QUADRATIC, rule, batch=3, steps=9, record=record)
    run = optenvs.unroll(QUADRATIC, rule, batch=3, steps=9, record=record, checkpoint=4)
    for wanted in ([sets], [leaf]):
        torch.testing.assert_close(gradient(run, wanted), gradient(plain, wanted), rtol=1e-10, atol=1e-13)


def test_a_leaf_that_comes_in_by_two_ways_counts_once_by_each() -> None:
    """The learning rate and what the agent holds are made of one number."""
    number = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    agent = agents.SGD(lr=(number * 0.1).expand(2), schedule=lambda k, N: number)
    runs = [optenvs.unroll(QUADRATIC, agent, batch=2, steps=6, checkpoint=n) for n in (0, 2)]
    slopes = [torch.autograd.grad(run.merit.mean(), number, retain_graph=True)[0] for run in runs]
    torch.testing.assert_close(*slopes, rtol=1e-12, atol=0)


def test_rows_that_end_and_evaluations_between() -> None:
    env = QUADRATIC.replace(tolerance=1e-2, condition=3.0, budget=None)
    agent = agents.LearnableSGD(initial_lr=0.5, dtype="float64")
    runs = [optenvs.unroll(env, agent, batch=4, steps=40, checkpoint=n) for n in (0, 7)]
    assert bool(runs[0].done[-1].all())
    assert not bool(runs[0].done[6].all())
    net = optenvs.make("TrainDigits", widths=(3,), samples=40, batch_size=8, dtype="float64")
    net = net.replace(evaluation_period=3)
    runs += [optenvs.unroll(net, agent, batch=2, steps=8, checkpoint=n) for n in (0, 5)]
    for plain, run in (runs[:2], runs[2:]):
        assert torch.equal(run.merit, plain.merit)
        assert torch.equal(run.done, plain.done)
        for name, value in plain.metrics.items():
            assert torch.equal(run.metrics[name], value), name
        slopes = [torch.autograd.grad(r.merit.sum(), list(agent.parameters()))[0] for r in (run, plain)]
        torch.testing.assert_close(*slopes, rtol=1e-10, atol=0)


def test_windows_of_truncated_unrolling_are_checkpointed_as_well() -> None:
    found = []
    for checkpoint in (0, 3):
        windows = unroll_windows(QUADRATIC, RULE, steps=10, truncation=5, batch=2, checkpoint=checkpoint)
        found.append([torch.autograd.grad(w.merit.mean(), list(RULE.parameters()))[0] for w in windows])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)


class Held(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive among those made within; ``most`` is their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.most = self._now = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for value in made if isinstance(made, tuple | list) else (made,):
            if isinstance(value, Tensor):
                storage = value.untyped_storage()
                name, size = id(storage), storage.nbytes()
                if name not in self._known:
                    self._known[name] = weakref.ref(storage, lambda _, n=name, s=size: self._freed(n, s))
                    self._now += size
                    self.most = max(self.most, self._now)
        return made

    def _freed(self, name: int, size: int) -> None:
        del self._known[name]
        self._now -= size


@pytest.mark.parametrize(("second_order", "steps", "share"), [(True, 200, 0.15), (False, 50, 0.5)])
def test_it_takes_a_fraction_of_the_memory(second_order: bool, steps: int, share: float) -> None:
    """About ``W / T`` for the graphs, and what is recorded and carried of each step and window."""
    env = QUADRATIC.replace(dim=40)
    rule, peaks = agents.LearnableAdam(initial_lr=0.02, dtype="float64"), []
    for checkpoint in (0, 14):
        with Held() as held:
            run = optenvs.unroll(
                env, rule, batch=16, steps=steps, second_order=second_order, checkpoint=checkpoint
            )
            torch.autograd.grad(run.merit[1:].mean(), list(rule.parameters()))
        peaks.append(held.most)
        del run
    assert peaks[1] < share * peaks[0], peaks


@dataclass(frozen=True, eq=False)
class Forgetful(Agent):
    """Another step each time that it is asked."""

    rate: Tensor = field(default_factory=lambda: torch.full((1, 1), 0.1, requires_grad=True))
    asked: list[int] = field(default_factory=list)

    def init(self, problem: Any, observation: Any, keys: Tensor) -> Tensor:
        return observation["k"]

    def act(self, state: Tensor, observation: Any) -> tuple[Tensor, Tensor]:
        self.asked.append(1)
        return observation["point"] - self.rate * len(self.asked) * observation["gradient"], state


def test_bad_input_is_told() -> None:
    for wrong in (-1, True, 2.5, None):
        with pytest.raises(ValueError, match="checkpoint: expected a number of steps >= 0, got"):
            optenvs.unroll(QUADRATIC, RULE, steps=3, checkpoint=wrong)
    with pytest.raises(TypeError, match="checkpoint: TorchOptimizer computes on the host"):
        optenvs.unroll(QUADRATIC, agents.from_torch(torch.optim.SGD, lr=0.1), steps=3, checkpoint=2)
    run = optenvs.unroll(QUADRATIC.replace(dtype="float32"), Forgetful(), steps=4, checkpoint=2)
    with pytest.raises(RuntimeError, match="Forgetful and Quadratic answered otherwise .* not pure"):
        run.merit[-1].sum().backward()

    def loss(rate: Tensor) -> Tensor:
        agent = agents.SGD(lr=rate.reshape(1))
        return optenvs.unroll(QUADRATIC, agent, steps=2, checkpoint=1).merit.sum()

    with pytest.raises(TypeError, match="got a transform of torch.func; leave it at 0"):
        torch.func.grad(loss)(torch.tensor(0.1, dtype=torch.float64))


def test_a_gradient_of_a_gradient_is_refused() -> None:
    run = optenvs.unroll(QUADRATIC, RULE, batch=2, steps=4, checkpoint=2)
    with pytest.raises(RuntimeError, match="checkpoint: .* cannot be differentiated itself; leave it at 0"):
        torch.autograd.grad(run.merit.mean(), list(RULE.parameters()), create_graph=True)

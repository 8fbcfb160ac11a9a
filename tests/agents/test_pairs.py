"""Agents as pairs of pure functions, and pairs as agents: the same steps as elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import agents
import optenvs
from optenvs.core.errors import OracleMismatch

START = {"weight": torch.linspace(-1, 1, 6).reshape(2, 3), "rest": (torch.ones(2),)}


def loss(params: Any) -> Tensor:
    return (params["weight"] ** 4).sum() + (params["weight"].sum() - params["rest"][0]).square().sum()


def gradients(params: Any) -> Any:
    return torch.func.grad(loss)(params)


def walked(pair: Any, steps: int, params: Any = START) -> Any:
    state = pair.init(params)
    for _ in range(steps):
        updates, state = pair.update(gradients(params), state, params)
        params = torch.utils._pytree.tree_map(torch.add, params, updates)
    return params


@pytest.mark.parametrize("agent", [agents.Adam(lr=0.1), agents.LOLv2(step_multiplier=0.1)])
def test_a_pair_walks_as_the_optimizer_does(agent: Any) -> None:
    found = walked(agents.to_pair(agent, steps=5), 5)
    parameters = [torch.nn.Parameter(value.clone()) for value in (START["weight"], START["rest"][0])]
    optimizer = agents.to_torch(agent, parameters, steps=5)
    for _ in range(5):
        optimizer.zero_grad()
        loss({"weight": parameters[0], "rest": (parameters[1],)}).backward()
        optimizer.step()
    torch.testing.assert_close(found["weight"], parameters[0].detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found["rest"][0], parameters[1].detach(), rtol=1e-5, atol=1e-6)


def test_a_pair_can_be_differentiated() -> None:
    start = torch.utils._pytree.tree_map(Tensor.double, START)

    def end(rate: Tensor) -> Tensor:
        return loss(walked(agents.to_pair(agents.SGD(lr=rate)), 3, start))

    rate = torch.tensor([0.05], dtype=torch.float64, requires_grad=True)  # of one instance
    (slope,) = torch.autograd.grad(end(rate), rate)
    h = 1e-6
    with torch.no_grad():
        difference = (end(rate + h) - end(rate - h)) / (2 * h)
    torch.testing.assert_close(slope, difference.reshape(1), rtol=1e-7, atol=0)


def test_a_pair_as_an_agent_is_the_method_itself() -> None:
    def init(x: Tensor) -> dict[str, Tensor]:
        return {"velocity": torch.zeros_like(x)}

    def update(slope: Tensor, state: dict[str, Tensor], x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        velocity = 0.9 * state["velocity"] + slope
        return -0.01 * velocity, {"velocity": velocity}

    env = optenvs.make("Quadratic", dim=3, oracle="gradient", budget=None)
    run = optenvs.rollout(env, agents.from_pair(init, update), batch=4, steps=20)
    expected = optenvs.rollout(env, agents.SGD(lr=0.01, momentum=0.9), batch=4, steps=20)
    torch.testing.assert_close(run.merit, expected.merit, rtol=1e-4, atol=1e-6)
    with pytest.raises(TypeError, match="update: expected a callable, got int"):
        agents.from_pair(init, 3)  # type: ignore[arg-type]


def test_an_agent_there_and_back_is_itself() -> None:
    pair = agents.to_pair(agents.Adam(lr=0.1))
    env = optenvs.make("Rosenbrock", dim=2, oracle="gradient", budget=None)
    state = None
    expected = optenvs.rollout(env, agents.Adam(lr=0.1), steps=10, record=("point",))
    point = expected.recorded["point"][0, 0]
    state = pair.init(point)
    for k in range(10):
        torch.testing.assert_close(point, expected.recorded["point"][k, 0], rtol=1e-4, atol=1e-5)
        slope = torch.func.grad(lambda x: 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2)(point)
        step, state = pair.update(slope, state, point)
        point = point + step


def test_what_cannot_be_is_refused() -> None:
    pair = agents.to_pair(agents.Adam())
    state = pair.init(START)
    with pytest.raises(ValueError, match="grads: expected a tree like that of params"):
        pair.update({"weight": START["weight"]}, state, START)
    with pytest.raises(TypeError, match="params: expected tensors of one dtype"):
        pair.init({"a": torch.ones(1), "b": torch.ones(1, dtype=torch.float64)})
    with pytest.raises(TypeError, match="params: expected a tree of tensors"):
        pair.init({"a": 1.0})
    with pytest.raises(OracleMismatch, match="needs hessian"):
        agents.to_pair(agents.make("newton"))

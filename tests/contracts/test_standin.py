"""What every environment and agent is held to on a device that is not there.

On an accelerator the numbers are those of the CPU, no operation mixes devices, and a step looks at nothing
from the host unless its environment or agent declares that it computes there (``on_host``). Where no
accelerator is at hand, ``standin`` proves that much.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import standin
import torch
from agent_problems import LEARNED, NAMES, made, only_recorded, problem

import agents
import optenvs
from optenvs.core.checks.probe import near
from optenvs.core.compiled import Program
from optenvs.core.random import keys_from_seed
from optenvs.core.rollout import rollout, unroll
from optenvs.core.struct import tensors, tree_map
from optenvs.faces.vector import TorchVectorEnv

pytestmark = pytest.mark.skipif(not standin.available, reason=standin.MISSING)
STEPS = 2


def there(tree: Any) -> Any:
    return tree_map(lambda leaf: leaf.to(standin.DEVICE), tree)


def assert_same(expected: Any, found: Any) -> None:
    """To rounding, and on the device: what a product of matrices rounds depends on how they lie in memory."""
    left, right = tensors(expected), tensors(found)
    assert left.keys() == right.keys()
    for path, value in left.items():
        if path != "seconds":  # the host's
            assert isinstance(right[path], standin.StandIn), f"{path} is on the CPU"
            held = standin.held(right[path])
            kept = value.detach()
            rounding = 64 * torch.finfo(kept.dtype).eps if kept.is_floating_point() else 0.0
            size = float(kept[kept.isfinite()].abs().max()) if rounding and kept.isfinite().any() else 0.0
            torch.testing.assert_close(
                held, kept, rtol=rounding, atol=rounding * size, equal_nan=True, msg=path
            )


def told(looks: list[standin.Look]) -> str:
    return ", ".join(sorted(set(map(str, looks))))


class Asked(NamedTuple):
    """An environment, its keys, some queries, and the states to which they lead, on the CPU."""

    core: Any
    keys: torch.Tensor
    queries: list[Any]
    path: list[Any]


class Away(NamedTuple):
    """The environment on the device, once it holds what it keeps, and its first state."""

    core: Any
    state: Any


@pytest.fixture(scope="module")
def steps(environment: Any) -> Asked:
    """What all tests of one environment ask, and expect."""
    core, keys = environment.make(), keys_from_seed(0, 3)
    start = core.sample(keys).start
    queries = [near(core, keys, start, t) for t in range(STEPS)]
    with torch.no_grad():
        path = [core.reset(keys)]
        for query in queries:
            path.append(core.step(path[-1], query))
    return Asked(core, keys, queries, path)


@pytest.fixture(scope="module")
def away(environment: Any, steps: Asked) -> Away:
    """The same on the device."""
    with torch.no_grad(), standin.present():
        core = environment.make(device=standin.DEVICE)
        return Away(core, core.reset(there(steps.keys)))


def test_steps_on_the_device_are_those_of_the_cpu(steps: Asked, away: Away) -> None:
    with torch.no_grad():
        path = [*steps.path, steps.core.evaluate(steps.path[-1])]
        with standin.present() as looks:
            found = [away.core.reset(there(steps.keys))]
            for query in steps.queries:
                found.append(away.core.step(found[-1], there(query)))
            found.append(away.core.evaluate(found[-1]))
        assert away.core.on_host or not looks, told(looks)
        assert_same(path, found)


def test_slopes_on_the_device_are_those_of_the_cpu(steps: Asked, away: Away) -> None:
    if not steps.core.differentiable:
        pytest.skip(f"{steps.core.name} has no slopes")

    def slopes(core: Any, state: Any, action: Any) -> Any:
        action = tree_map(lambda leaf: leaf.requires_grad_(leaf.is_floating_point()), action)
        reached = core.step(state, action)
        wanted = {name: leaf for name, leaf in tensors(action).items() if leaf.requires_grad}
        # where the merit is measured between the steps, other metrics and the answers have the slopes
        told = (*reached.metrics.values(), *reached.observation.values())
        judged = told if core.measures_merit else (reached.merit,)
        total = torch.stack([value.sum() for value in judged if value.requires_grad]).sum()
        found = torch.autograd.grad(total, list(wanted.values()), allow_unused=True)
        return {name: slope for name, slope in zip(wanted, found, strict=True) if slope is not None}

    expected = slopes(steps.core, steps.path[0], tree_map(torch.clone, steps.queries[0]))
    assert expected, "the merit has a slope"
    with standin.present() as looks:
        found = slopes(away.core, away.state, there(steps.queries[0]))
    assert away.core.on_host or not looks, told(looks)
    assert_same(expected, found)


def test_the_vector_face_never_leaves_the_device(steps: Asked, away: Away) -> None:
    def path(core: Any, queries: list[Any]) -> Any:
        face = TorchVectorEnv(core, 3)
        seen = [face.reset(seed=0)[0]]
        yield
        for query in queries:
            observation, reward, terminated, truncated, _ = face.step(query)
            seen.append({**observation, "reward": reward, "over": terminated | truncated})
        yield seen

    _, expected = path(steps.core, steps.queries)
    with standin.present() as looks:
        found_there = path(away.core, list(map(there, steps.queries)))
        next(found_there)
        looks.clear()
        found = next(found_there)
    assert away.core.on_host or not looks, told(looks)
    assert_same(expected, found)


def test_a_step_is_recorded_on_the_device(steps: Asked, away: Away, monkeypatch: pytest.MonkeyPatch) -> None:
    only_recorded(monkeypatch)
    if steps.core.on_host:
        pytest.skip(f"{steps.core.name} computes on the host")
    with torch.no_grad(), standin.present() as looks:
        first, second = map(there, steps.queries)
        state = away.core.step(away.state, first)  # fills what the environment keeps
        looks.clear()

        def step(leaves: list[torch.Tensor]) -> list[torch.Tensor]:
            left = iter(leaves)
            return list(tensors(away.core.step(*tree_map(lambda _: next(left), (state, first)))).values())

        program = Program(step, list(tensors((state, first)).values()))
        found = program([leaf.contiguous() for leaf in tensors((state, second)).values()])
        expected = tensors(away.core.step(state, second))
    assert not looks, told(looks)
    for (name, leaf), got in zip(expected.items(), found, strict=True):
        assert isinstance(got, standin.StandIn), name
        torch.testing.assert_close(
            standin.held(got), standin.held(leaf), rtol=1e-5, atol=1e-5, equal_nan=True, msg=name
        )


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """Each registered agent in turn."""
    return request.param


@pytest.fixture(scope="module")
def expected(name: str) -> Any:
    """The agent's problem, and its run on the CPU."""
    core = problem(made(name), noise=0.1)
    return core, rollout(core, made(name), batch=3, steps=1 + STEPS)


def test_an_agent_acts_on_the_device_as_on_the_cpu(name: str, expected: Any) -> None:
    core, expected = expected
    with standin.present() as looks:
        away, agent = core.replace(device=standin.DEVICE), made(name)
        first = rollout(away, agent, batch=3, steps=1)
        looks.clear()
        found = rollout(away, agent, steps=STEPS, resume=first)
    assert agent.on_host == bool(looks), told(looks) or "it declares that it looks, and does not"
    assert_same((expected.state, expected.agent_state), (found.state, found.agent_state))


def test_an_agent_is_unrolled_on_the_device(name: str) -> None:
    agent = made(name)
    core = problem(agent)
    if agent.on_host or not core.differentiable:
        pytest.skip(f"{name} on {core.name} has no slopes")

    def unrolled(core: Any) -> Any:
        agent = made(name)
        run = unroll(core, agent, batch=2, steps=STEPS)
        if name not in LEARNED:
            return run.merit, ()
        weights = list(agent.parameters())
        return run.merit, torch.autograd.grad(run.merit.sum(), weights, allow_unused=True)

    merit, slopes = unrolled(core)
    with standin.present():
        there_merit, there_slopes = unrolled(core.replace(device=standin.DEVICE))
    assert_same(merit, there_merit)
    assert len(slopes) == len(there_slopes)
    for slope, found in zip(slopes, there_slopes, strict=True):
        assert (slope is None) == (found is None)
        if slope is not None:  # the weights are the user's, and stay where they are
            assert torch.allclose(slope, standin.held(found), rtol=1e-5, atol=1e-7)


def test_an_agents_steps_are_recorded_on_the_device(
    name: str, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = made(name)
    if agent.on_host:
        pytest.skip(f"{name} computes on the host")
    only_recorded(monkeypatch)
    _, run = expected
    known = run.agent_state, run.state.observation

    def act(leaves: list[torch.Tensor]) -> list[torch.Tensor]:
        left = iter(leaves)
        return list(tensors(agent.act(*tree_map(lambda _: next(left), known))).values())

    with torch.no_grad():
        wanted = tensors(agent.act(*known))
        with standin.present():
            leaves = [leaf.contiguous() for leaf in tensors(there(known)).values()]
            found = Program(act, leaves)(leaves)
    for (path, value), got in zip(wanted.items(), found, strict=True):
        assert isinstance(got, standin.StandIn), path
        torch.testing.assert_close(standin.held(got), value, rtol=1e-4, atol=1e-4, equal_nan=True, msg=path)


def test_what_mixes_devices_is_refused() -> None:
    with standin.present(), pytest.raises(RuntimeError, match="expected all tensors on standin"):
        torch.zeros(3, device=standin.DEVICE) + torch.zeros(3)


LOOKS = {
    "item": lambda x: x[0].item(),
    "bool": lambda x: bool(x[0] > 0),
    "float": lambda x: float(x[0]),
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "to": lambda x: x.to("cpu"),
    "copy_": lambda x: torch.zeros(3).copy_(x),
    "nonzero": lambda x: x.nonzero(),
    "mask": lambda x: x[x > 1],
    "solve": lambda x: torch.linalg.solve(x.diag(), x),
    "unique": lambda x: x.unique(),
}


@pytest.mark.parametrize("name", LOOKS)
def test_a_look_is_noted(name: str) -> None:
    with standin.present() as looks:
        x = torch.tensor([1.0, 2.0, 3.0], device=standin.DEVICE)
        y = torch.where(x > 1, x * 2, torch.zeros_like(x)).sum(-1, keepdim=True).expand(3) + 1
        assert not looks
        LOOKS[name](y.contiguous())
        assert looks


def test_a_look_is_noted_with_its_line() -> None:
    with standin.present() as looks:
        core = optenvs.make("Quadratic", dim=2, device=standin.DEVICE)
        rollout(core, agents.from_torch(torch.optim.SGD, lr=0.1), steps=1)
    assert any(look.line.startswith("agents/adapters/torch_optim.py:") for look in looks), told(looks)

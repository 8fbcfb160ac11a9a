"""Particle methods beside their formulas; what the papers measure is in tests/papers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import agents
import optenvs
from agents.particles._consensus import consensus, effective_alpha, random_batch, weights
from optenvs.core.errors import OracleMismatch
from optenvs.core.random import keys_from_seed, normal

KEYS = keys_from_seed(4, 2)
SWARM = type("Problem", (), {"recommend": "agent"})


def drawn(*shape: int, stream: str = "points") -> Tensor:
    return normal(KEYS, stream, shape, dtype=torch.float64)


def bowl(x: Tensor) -> Tensor:
    return x.square().sum(-1)


def see(points: Tensor, values: Tensor | None = None, k: int = 0) -> dict[str, Tensor]:
    values = bowl(points) if values is None else values
    time = torch.full((len(points), 1), float(k), dtype=points.dtype)
    return {"point": points, "value": values.unsqueeze(-1), "k": time, "N": torch.full_like(time, 100.0)}


def step(agent: Any, *seen: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The last query and recommendation of an agent that sees these observations."""
    with torch.no_grad():
        state = agent.init(SWARM, seen[0], KEYS)
        for observation in seen:
            action, state = agent.act(state, observation)
    return action["query"], action["recommendation"]


def noise(stream: str = "noise", count: int = 0) -> Tensor:
    return normal(KEYS, stream, (12, 3), torch.full((2,), count), torch.float64)


@pytest.fixture
def points() -> Tensor:
    return drawn(12, 3)


def test_temperatures_that_grow_without_an_end(points: Tensor) -> None:
    values = bowl(points)
    best = points.gather(1, values.argmin(1)[:, None, None].expand(-1, 1, 3)).squeeze(1)
    for factor in (2.0, 0.5):
        for alpha in (1.0, torch.ones(2)):
            schedule = agents.schedules.Growth(factor)
            for name in ("cbo", "polarized_cbo"):
                agent = agents.make(name, alpha=alpha, alpha_schedule=schedule)
                far = see(points, values) | {"k": torch.full((2, 1), 4000.0).double()}
                moved, centre = step(agent, far)
                assert moved.isfinite().all() and centre.isfinite().all()
                if name == "cbo":
                    torch.testing.assert_close(centre, best if factor > 1 else points.mean(1))
    env = optenvs.make("Particles", budget=None, particles=10)
    agent = agents.CBO(alpha_schedule=agents.schedules.Growth(2.0))
    assert not optenvs.rollout(env, agent, steps=140).diverged.any()


@pytest.mark.parametrize("kernel", ["constant", "gaussian", "laplace", "inverse_quadratic"])
def test_an_isolated_particle_without_a_value_stays(kernel: str, points: Tensor) -> None:
    points = points.clone()
    points[:, 0] = 1e3  # far beyond the kernel
    values = bowl(points)
    values[:, 0] = torch.inf
    agent = agents.make("polarized_cbo", kernel=kernel, kappa=2.0, alpha=1.0)
    for weak in (agent, agent.replace(kernel_factor_mode="const")):
        centres, centre = weak.consensus(points, points, values, 1.0)
        assert centres.isfinite().all() and centre.isfinite().all()
        if kernel == "constant":
            assert torch.equal(centres[:, 0], points[:, 0])
        # the others do not see it
        kept, _ = weak.consensus(points[:, 1:], points[:, 1:], values[:, 1:], 1.0)
        torch.testing.assert_close(centres[:, 1:], kept)


def test_a_batch_without_a_value_gives_way_to_the_swarm(points: Tensor) -> None:
    values = bowl(points)
    values[:, 1:] = torch.inf
    agent = agents.CBO(batch_size=2)
    for count in range(6):
        _, centre = step(agent, *[see(points, values)] * (count + 1))
        torch.testing.assert_close(centre, points[:, 0])


# weights -----------------------------------------------------------------------------------------


def test_weights(points: Tensor) -> None:
    values = bowl(points)
    gibbs = torch.exp(-3 * values)
    torch.testing.assert_close(weights(values, 3.0), gibbs / gibbs.sum(1, keepdim=True))
    for alpha in (0.5, torch.tensor([[0.5], [7.0]]).double()):
        expected = torch.exp(-alpha * values)
        expected = (expected.unsqueeze(-1) * points).sum(1) / expected.sum(1, keepdim=True)
        torch.testing.assert_close(consensus(points, values, alpha), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_what_has_no_value_has_no_weight(points: Tensor, dtype: torch.dtype, bad: float) -> None:
    points = points.to(dtype)
    values = bowl(points)
    values[:, 3:] = bad
    _, centre = step(agents.CBO(alpha=2.0), see(points, values))
    torch.testing.assert_close(centre, consensus(points[:, :3], values[:, :3], 2.0))
    _, centre = step(agents.CBO(alpha=2.0), see(points, torch.full_like(values, bad)))
    torch.testing.assert_close(centre, points.mean(1))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_effective_sample_size(points: Tensor, share: float) -> None:
    values = 100 * bowl(points) + 1e4
    alpha = effective_alpha(values, share, 1e-8, 1e5)
    w = weights(values, alpha)
    torch.testing.assert_close(
        1 / w.square().sum(1), torch.full((2,), 12 * share).double(), rtol=1e-6, atol=0
    )
    _, centre = step(agents.CBO(effective=share, effective_limits=(1e-8, 1e5)), see(points, values))
    torch.testing.assert_close(centre, consensus(points, values, alpha))
    # of a random batch, its particles count
    some = values.clone()
    some[:, 6:] = math.inf
    assert torch.allclose(
        effective_alpha(some, share, 1e-8, 1e5), effective_alpha(some[:, :6], share, 1e-8, 1e5)
    )


# one step ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("limit", [None, 0.4])
@pytest.mark.parametrize("kind", ["isotropic", "anisotropic"])
@pytest.mark.parametrize("recorded", [False, True])
def test_one_step(points: Tensor, kind: str, limit: float | None, after: bool, recorded: bool) -> None:
    sigma = torch.tensor([0.3, 0.8], dtype=torch.float64)
    agent = agents.CBO(
        lambda_=1.5, sigma=sigma, alpha=2.0, dt=0.1, noise=kind, noise_after_drift=after, truncation=limit
    )
    centre = consensus(points, bowl(points), 2.0).unsqueeze(1)
    offset = points - centre
    drifted = points - 0.15 * offset
    arm = drifted - centre if after else offset
    if kind == "isotropic":
        radius = arm.norm(dim=-1, keepdim=True).clamp_max(limit or math.inf)
    else:
        radius = arm if limit is None else arm.clamp(-limit, limit)
    expected = drifted + sigma[:, None, None] * math.sqrt(0.1) * radius * noise()
    with torch.set_grad_enabled(recorded):  # with a graph to keep, nothing is written over
        memory = agent.init(SWARM, see(points), KEYS)
        action, _ = agent.act(memory, see(points.clone().requires_grad_(recorded)))
    torch.testing.assert_close(action["query"].detach(), expected)
    torch.testing.assert_close(action["recommendation"].detach(), centre.squeeze(1))


def test_gradients_pass_through_a_step(points: Tensor) -> None:
    sigma = torch.tensor([0.3, 0.8], dtype=torch.float64, requires_grad=True)
    agent = agents.CBO(sigma=sigma, noise="anisotropic")
    action, _ = agent.act(agent.init(SWARM, see(points), KEYS), see(points))
    (slope,) = torch.autograd.grad(action["query"].sum(), sigma)
    offset = points - action["recommendation"].unsqueeze(1)
    torch.testing.assert_close(slope, (0.1 * offset * noise()).sum((1, 2)).detach())


def test_schedules(points: Tensor) -> None:
    agent = agents.CBO(
        alpha=2.0, sigma=0.5, alpha_schedule=agents.schedules.Growth(2.0, period=4, limit=3.0),
        sigma_schedule=agents.schedules.LogCooling(4),
    )  # fmt: skip
    for k, alpha, sigma in ((0, 2, 0.5), (4, 4, 0.5 / math.log2(3)), (9, 6, 0.25)):
        one = step(agent, see(points, k=k))
        other = step(
            agent.replace(alpha=alpha, sigma=sigma, alpha_schedule=None, sigma_schedule=None), see(points)
        )
        for left, right in zip(one, other, strict=True):
            torch.testing.assert_close(left, right)


def test_the_gradient_drift(points: Tensor) -> None:
    seen = see(points) | {"gradient": 2 * points}
    plain, _ = step(agents.CBO(dt=0.1), seen)
    agent = agents.CBO(dt=0.1, gradient_drift=0.7)
    torch.testing.assert_close(step(agent, seen)[0], plain - 0.07 * 2 * points)
    assert agent.needs == ("value", "swarm", "gradient")
    with pytest.raises(OracleMismatch, match="needs the oracle.* gradient"):
        optenvs.rollout(optenvs.make("Particles"), agent, steps=1)
    run = optenvs.rollout(optenvs.make("Particles", oracle="gradient"), agent, steps=2)
    assert run.merit.isfinite().all()


def test_a_kick_where_the_consensus_stands_still(points: Tensor) -> None:
    agent = agents.CBO(sigma=0.5, dt=0.04, kick=1e-3)
    still = points.clone()
    moved = torch.stack((points[0], points[1] + 1.0))
    unkicked = agent.replace(kick=None)
    first, _ = step(agent, see(points))
    torch.testing.assert_close(first, step(unkicked, see(points))[0])  # there was none before
    then, _ = step(agent, see(points), see(torch.stack((still[0], moved[1])), bowl(points)))
    plain, _ = step(unkicked, see(points), see(torch.stack((still[0], moved[1])), bowl(points)))
    expected = plain[0] + 0.5 * 0.2 * noise("kick", 1)[0]
    torch.testing.assert_close(then, torch.stack((expected, plain[1])))


def test_no_coordinate_leaves_the_numbers(points: Tensor) -> None:
    far, _ = step(agents.CBO(sigma=1e12, dt=1.0), see(points))
    assert far.abs().max() == 1e8
    free, _ = step(agents.CBO(sigma=1e12, dt=1.0, limit=None), see(points))
    assert free.abs().max() > 1e9


# random batches ----------------------------------------------------------------------------------


def test_batches_use_up_a_permutation() -> None:
    members = torch.stack([random_batch(KEYS, torch.full((2,), t), 10, 3) for t in range(6)])
    assert (members.sum(-1) == 3).all()
    for turn in (members[:3], members[3:]):
        assert (turn.sum(0) <= 1).all() and (turn.sum((0, 2)) == 9).all()
    assert (members[:3] != members[3:]).any()
    assert (members[:, 0] != members[:, 1]).any()
    assert torch.equal(random_batch(KEYS[1:], torch.tensor([4]), 10, 3)[0], members[4, 1])


@pytest.mark.parametrize("partial", [False, True])
def test_the_consensus_of_a_batch(points: Tensor, partial: bool) -> None:
    agent = agents.CBO(alpha=2.0, batch_size=4, partial=partial)
    moved, centre = step(agent, see(points))
    chosen = random_batch(KEYS, torch.zeros(2, dtype=torch.int64), 12, 4)
    for i in range(2):
        some = points[i : i + 1, chosen[i]]
        torch.testing.assert_close(centre[i], consensus(some, bowl(some), 2.0)[0])
        stays = (moved[i] == points[i]).all(-1)
        assert torch.equal(stays, ~chosen[i] if partial else torch.zeros_like(stays))


def test_batches_need_the_whole_swarm() -> None:
    env = optenvs.make("Particles", particles=4)
    with pytest.raises(ValueError, match="CBO: batch_size: 5 is more than the 4 particles"):
        optenvs.rollout(env, agents.CBO(batch_size=5), steps=1)
    view = optenvs.parallel_env(env)
    for agent in (agents.CBO(batch_size=2), agents.MemoryCBO()):
        with pytest.raises(TypeError, match="moves all 4 agents of Particles together"):
            agents.bind(agent, view)


# relatives ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("joint", [False, True])
def test_memory(points: Tensor, joint: bool) -> None:
    agent = agents.MemoryCBO(
        lambda_=1.2, sigma=0.5, alpha=2.0, dt=0.1, lambda_memory=0.4, noise="anisotropic", joint=joint
    )
    later = drawn(12, 3, stream="later")
    best = torch.where((bowl(later) < bowl(points)).unsqueeze(-1), later, points)
    assert (best == later).any() and (best == points).any()
    moved, centre = step(agent, see(points), see(later))
    torch.testing.assert_close(centre, consensus(best, bowl(best), 2.0))
    middle, root = centre.unsqueeze(1), math.sqrt(0.1)
    first, second = noise("noise", 1), noise("memory noise", 1)
    if joint:
        drifted = later - 0.12 * (later - middle) - 0.04 * (later - best)
        expected = drifted + 0.5 * root * (drifted - middle) * first + 0.2 * root * (drifted - best) * second
    else:
        x = later - 0.12 * (later - middle) + 0.5 * root * (later - middle) * first
        expected = x - 0.04 * (x - best) + 0.2 * root * (x - best) * second
    torch.testing.assert_close(moved, expected)


KERNELS = {
    "gaussian": lambda r: torch.exp(-r * r / (2 * 0.7**2)),
    "laplace": lambda r: torch.exp(-r / 0.7),
    "inverse_quadratic": lambda r: 1 / (1 + (r / 0.7) ** 2),
    "constant": lambda r: (r <= 0.7).double(),
}


@pytest.mark.parametrize("mode", ["alpha", "const"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_polarized(points: Tensor, kernel: str, mode: str) -> None:
    agent = agents.PolarizedCBO(
        kernel=kernel, kappa=0.7, kernel_factor_mode=mode, alpha=3.0, sigma=0.0, lambda_=1.0, dt=1.0
    )
    distance = (points.unsqueeze(2) - points.unsqueeze(1)).norm(dim=-1)
    weight = KERNELS[kernel](distance) ** (3.0 if mode == "alpha" else 1.0)
    weight = weight * torch.exp(-3.0 * bowl(points)).unsqueeze(1)
    expected = weight @ points / weight.sum(-1, keepdim=True)
    moved, recommended = step(agent, see(points))
    torch.testing.assert_close(moved, expected)  # a full step without noise ends in each particle's consensus
    torch.testing.assert_close(recommended, expected[torch.arange(2), bowl(points).argmin(1)])


def test_a_wide_kernel_is_plain(points: Tensor) -> None:
    polarized = agents.PolarizedCBO(kappa=1e9, alpha=2.0, sigma=0.4)
    for one, other in zip(
        step(polarized, see(points)), step(agents.CBO(alpha=2.0, sigma=0.4), see(points)), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_hopping(points: Tensor) -> None:
    agent = agents.ConsensusHopping(alpha=2.0, width=0.5, schedule=agents.schedules.Growth(0.98, period=100))
    moved, centre = step(agent, see(points, k=250))
    torch.testing.assert_close(centre, consensus(points, bowl(points), 2.0))
    torch.testing.assert_close(moved, centre.unsqueeze(1) + 0.5 * 0.98**2 * noise("hop"))


def test_langevin(points: Tensor) -> None:
    gradient = {"gradient": 2 * points}
    agent = agents.Langevin(lr=3.0, sigma=2.0, dt=0.04)
    second = points - 0.12 * 2 * points + 2.0 / math.log(3) * 0.2 * noise(count=1)
    moved, recommended = step(agent, see(points) | gradient, see(points) | gradient)
    torch.testing.assert_close(moved, second)
    torch.testing.assert_close(recommended, second[torch.arange(2), bowl(points).argmin(1)])


def test_chains_are_the_landscapes() -> None:
    """A swarm of one is a run on the landscape itself."""
    plain = optenvs.make("GrandCanyon", tolerance=None)
    swarm = optenvs.make(
        "Particles", particles=1, start_mean=(8.0, 8.0), start_std=0.0, oracle="gradient", tolerance=None
    )
    runs = [optenvs.rollout(env, agents.GradientDescent(lr=0.01), steps=40) for env in (plain, swarm)]
    torch.testing.assert_close(runs[0].merit, runs[1].merit)
    rates = agents.GradientDescent(lr=torch.tensor([0.01, 0.02]))
    both = optenvs.rollout(plain, rates, batch=2, steps=40)
    torch.testing.assert_close(both.merit[:, 0], runs[0].merit[:, 0])
    assert (both.merit[-1, 0] - both.merit[-1, 1]).abs() > 1e-3


def test_pso(points: Tensor) -> None:
    env = optenvs.make("Particles", landscape="Rastrigin", dim=2, particles=40, amplitude=2.5, tolerance=None)
    run = optenvs.rollout(env, agents.PSO(), batch=20, steps=150)
    assert (run.metrics["gap"][-1] < 1e-3).double().mean() > 0.8
    # it recommends the best point answered before
    torch.testing.assert_close(run.metrics["value"][1:], run.metrics["best_ever"][:-1])
    # without pulls the first velocity, which is none, is kept
    moved, _ = step(agents.PSO(cognitive=0.0, social=0.0), see(points))
    assert torch.equal(moved, points)


@pytest.mark.parametrize("recommend", ["best", "mean"])
@pytest.mark.parametrize("name", ["cbo", "consensus_hopping", "pso", "langevin"])
def test_who_recommends_is_the_problems_to_say(name: str, recommend: str) -> None:
    env = optenvs.make("Particles", recommend=recommend, oracle="gradient", particles=5)
    run = optenvs.rollout(env, agents.make(name), batch=2, steps=3, record=("point",))
    assert run.recorded["point"].shape == (4, 2, 5, 2)
    # the points are those of the agent that recommends itself
    other = optenvs.make("Particles", oracle="gradient", particles=5)
    again = optenvs.rollout(other, agents.make(name), batch=2, steps=3, record=("point",))
    assert torch.equal(run.recorded["point"], again.recorded["point"])


@pytest.mark.parametrize("agent", [agents.CBO(sigma=0.0, dt=0.2), agents.PolarizedCBO(sigma=0.0, dt=0.2)])
def test_particle_by_particle_it_is_the_same_method(agent: Any) -> None:
    env = optenvs.make("Particles", particles=4, budget=None, dtype="float64")
    run = optenvs.rollout(env, agent, seed=3, steps=5, record=("point",))
    view = optenvs.parallel_env(env, max_cycles=5)
    policy: Any = agents.bind(agent, view)
    shown, _ = view.reset(seed=3)
    while view.agents:
        shown, *_ = view.step({name: policy(name, shown[name]) for name in view.agents})
    state = view.get_state().state
    torch.testing.assert_close(state.observation["point"], run.recorded["point"][-1])
    if type(agent) is agents.CBO:
        torch.testing.assert_close(state.merit, run.merit[-1])

"""What every registered agent is held to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from agent_problems import LEARNED, NAMES, made, only_recorded, problem

import agents
import optenvs
from optenvs.core.env import OptimizationEnv
from optenvs.core.errors import OracleMismatch
from optenvs.core.random import keys_from_seed
from optenvs.core.rollout import Run, agent_keys, rollout
from optenvs.core.snapshot import load, save
from optenvs.core.struct import rows, tensors, tree_map

RATES = (0.5, 0.1, 0.02)
ENOUGH, AT_ONCE = 1e-5, 20
STEPS, BATCH = 9, 4
SETTINGS: dict[str, dict[str, Any]] = {
    "admm_rbcd": {"thresh": 1e-5, "decay": 1.0},
    "aipod": {"zeta": 0.5, "inner": 2},
    "bic_gaffa": {
        "alpha": 0.3,
        "beta": 0.3,
        "eta": 0.5,
        "gamma1": 2.0,
        "gamma2": 0.5,
        "c": 2.0,
        "power": 0.0,
    },
    "blocc": {"rounds": 5, "primal": 1, "eta": 0.3},
    "bvfsm": {"alpha": 0.2, "lower": 3, "inner": 4, "mu": 1e-4, "theta": 1e-4},
    "cbo": {"dt": 0.1},
    "e_aipod": {"zeta": 0.6, "p": 0.9, "inner": 2, "outer": 1},
    "f2sa": {"xi": 4.0, "inner": 4},
    "consensus_hopping": {"schedule": agents.schedules.Growth(0.98)},
    "federated_lv_hba": {"alpha": 0.4, "eta": 0.5, "power": 0.0},
    "gam": {"alpha": None},
    "gld_fast": {"period": 40},
    "implicit_gradient": {"steps": 2, "first": 0.1},
    "langevin": {"dt": 1.0, "sigma": 1e-3},
    # at the usual rate its first window solves the task, and no drift matters
    "lpo": {"like_ppo": True, "epochs": 2, "actor_rate": 4.0},
    "lv_hba": {"scale": False},
    "memory_cbo": {"dt": 0.1},
    "open_es": {"shaping": "none", "optimizer": "sgd", "momentum": 0.0},
    "pgpe": {"shaping": "none", "optimizer": "sgd", "momentum": 0.0},
    "polarized_cbo": {"dt": 0.1, "alpha": 1e5, "kappa": 20.0},
    "stoc_bio": {"beta": 0.5, "inner": 5},
    "tabular_dpo": {"actor_rate": 400.0, "entropy": 0.0, "epochs": 1},
    "tabular_reinforce": {"actor_rate": 400.0},
    "unrolled": {"alpha": 0.5, "inner": 5, "warm": True},
    "ridge_top": {"rho": 1e-6, "lr": 1e-4},
    "scobo": {"line_search": 5, "redraw": True},
    **{name: {"lr": 1.0} for name in ("reinforce", "is_mbpg", "ha_mbpg")},
    **{name: {"lr": 1.0, "iterations": 3} for name in ("npg", "npg_hm")},
    **{name: {"lr": 1.0, "batch": 1} for name in ("hapg", "srvr_pg", "storm_pg", "svrpg")},
    "harpg": {"lr": 1.0},
    "vanilla_pg": {"lr": 2.0},
    "zo_sign": {"lr": 0.03},
}
"""Settings for the identity task of methods whose defaults take longer, or never settle, or learn nothing."""


def assert_equal(one: Any, other: Any) -> None:
    left, right = tensors(one), tensors(other)
    assert left.keys() == right.keys()
    for path, value in left.items():
        if path != "seconds":
            assert torch.equal(value, right[path]), path


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """Each registered agent in turn: the tests of one agent follow each other, and share its run."""
    return request.param


@pytest.fixture(scope="module")
def whole(name: str) -> tuple[OptimizationEnv, Run]:
    """A run of the agent on a turned problem with noise, and the problem."""
    agent = made(name)
    env = problem(agent, noise=0.1, rotate=True)
    return env, rollout(env, agent, seed=2, batch=BATCH, steps=STEPS, record=("point",))


def left_of_the_gap(env: OptimizationEnv, agent: Any) -> float:
    """The share of the first gap that is left in the worst row, at the end or once it is small enough."""
    run = rollout(env, agent, batch=4, steps=AT_ONCE)
    first, left = run.best[0], torch.inf
    while True:
        assert run.metrics["gap"].isfinite().all()
        left = float((run.best[-1] / first).max())
        if left < ENOUGH or bool(
            (run.state.done | getattr(run.agent_state, "finished", run.state.done)).all()
        ):
            return left
        run = rollout(env, agent, steps=AT_ONCE, resume=run)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in LEARNED])
def test_it_solves_the_identity_task(name: str) -> None:
    settings = SETTINGS.get(name, {})
    default = agents.make(name, **settings)
    choose = hasattr(default, "lr") and "lr" not in settings
    tried = [default.replace(lr=lr) for lr in RATES] if choose else [default]
    left = (left_of_the_gap(problem(agent, budget=601), agent) for agent in tried)
    assert any(share < ENOUGH for share in left)


@pytest.mark.parametrize("name", LEARNED)
def test_a_learned_optimizer_can_be_learned(name: str) -> None:
    agent = agents.make(name, **SETTINGS.get(name, {}))
    weights = list(agent.parameters())
    run = optenvs.unroll(problem(agent), agent, batch=4, steps=5)
    slopes = torch.autograd.grad(run.merit[1:].mean(), weights, allow_unused=True)
    moved = [slope for slope in slopes if slope is not None and bool((slope != 0).any())]
    assert moved, "no weight matters"
    # the meta-gradient is a descent direction: a small step against it lowers the loss
    before = float(run.merit[1:].detach().mean())
    size = sum(float((slope**2).sum()) for slope in moved) ** 0.5
    step = 1e-2 / size
    with torch.no_grad():
        for weight, slope in zip(weights, slopes, strict=True):
            if slope is not None:
                weight -= step * slope
    after = float(rollout(problem(agent), agent, batch=4, steps=5).merit[1:].mean())
    assert after < before


def test_two_runs_are_equal(name: str, whole: Any) -> None:
    env, run = whole
    again = rollout(env, made(name), seed=2, batch=BATCH, steps=STEPS, record=("point",))
    assert_equal(again, run)


def test_a_row_of_the_batch_is_a_run_of_its_own(name: str, whole: Any) -> None:
    env, many = whole
    keys = keys_from_seed(2, 1, first=BATCH - 1)
    alone = rollout(env, made(name), keys=keys, steps=STEPS, record=("point",))
    found, expected = alone.recorded["point"][:, 0], many.recorded["point"][:, -1]
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_resumed_run_is_the_long_run_bit_for_bit(name: str, whole: Any, tmp_path: Path) -> None:
    env, run = whole
    half: Run = rollout(env, made(name), seed=2, batch=BATCH, steps=STEPS // 2)
    resumed = rollout(env, made(name), steps=STEPS - STEPS // 2, resume=load(save(tmp_path / "run", half)))
    assert_equal(resumed.agent_state, run.agent_state)
    assert_equal(resumed.state, run.state)


def test_recorded_steps_are_the_steps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    only_recorded(monkeypatch)
    agent = made(name, dtype="float64")
    env = problem(agent, dtype="float64", noise=0.1)
    if agent.on_host:
        with pytest.raises(TypeError, match="asks for the value of a tensor"):
            rollout(env, agent, batch=3, steps=3, compile=1)
        return
    run, expected = (rollout(env, agent, batch=3, steps=5, compile=compile) for compile in (1, 0))
    found = tensors((run.metrics, run.state, run.agent_state))
    for path, value in tensors((expected.metrics, expected.state, expected.agent_state)).items():
        torch.testing.assert_close(found[path], value, rtol=1e-9, atol=1e-9, equal_nan=True, msg=path)


def test_init_and_act_are_pure(name: str) -> None:
    agent = made(name)
    env = problem(agent)
    keys = keys_from_seed(0, 3)
    state = env.reset(keys)
    before = torch.get_rng_state()
    with torch.no_grad():
        memory = agent.init(state.problem, state.observation, agent_keys(keys))
        for _ in range(3):
            kept = tree_map(torch.clone, (memory, state.observation))
            action, after = agent.act(memory, state.observation)
            again, same = agent.act(memory, state.observation)
            assert_equal(kept, (memory, state.observation))
            assert_equal((action, after), (again, same))
            state, memory = env.step(state, action), after
    assert torch.equal(before, torch.get_rng_state())


def test_the_memory_is_a_tree_of_rows(whole: Any) -> None:
    _, run = whole
    for path, value in tensors(run.agent_state).items():
        assert value.ndim >= 1, path
        assert len(value) == BATCH, f"{path}: expected the leading dimension of the batch"
    assert_equal(rows(run.agent_state, slice(0, BATCH)), run.agent_state)


def test_it_keeps_the_precision_of_the_problem(name: str) -> None:
    points = []
    for dtype in ("float32", "float64"):
        agent = made(name, dtype)
        env = problem(agent, dtype)
        run = rollout(env, agent, batch=2, steps=5, record=("point",))
        assert run.recorded["point"].dtype == env.torch_dtype
        for path, value in tensors(run.agent_state).items():
            assert not value.is_floating_point() or value.dtype == env.torch_dtype, path
        points.append(run.recorded["point"].double())
    assert torch.allclose(*points, rtol=1e-3, atol=1e-4)
    assert (points[0][-1] - points[0][0]).abs().max() > 1e-6, "it does not move"


@pytest.mark.parametrize("name", [name for name in NAMES if "gradient" in agents.make(name).needs])
def test_it_says_what_it_misses(name: str) -> None:
    agent = made(name)
    with pytest.raises(OracleMismatch, match=f"agent {type(agent).__name__} needs the oracle"):
        rollout(optenvs.make("Quadratic", oracle="value"), agent, steps=1)


@pytest.mark.parametrize("name", [name for name in NAMES if "swarm" in agents.make(name).needs])
def test_a_swarm_needs_many_points(name: str) -> None:
    with pytest.raises(OracleMismatch, match="needs the oracle.*swarm"):
        rollout(optenvs.make("Quadratic"), made(name), steps=1)


def test_declared_needs_are_the_classes(name: str) -> None:
    agent = agents.make(name)
    for kind in "|".join(agent.needs).split("|") if agent.needs else ():
        assert name in agents.list_agents(needs=kind)
    assert agents.takes(name) == agent.takes
    assert getattr(agents, type(agent).__name__) is type(agent)
    assert type(agent).__doc__
    assert type(agent.replace()) is type(agent)

"""CMA-ES in every form of a query: it follows the order, stays in the box, is rebuilt from its past."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ranking_problems import ranking, talk
from surrogate_problems import Ramp, TanhDisc

import agents
import optenvs
from agents.adapters._cma_run import CMARun
from optenvs.core.env import OptimizationEnv
from optenvs.core.errors import OracleMismatch
from optenvs.core.random import keys_from_seed, normal
from optenvs.core.rollout import agent_keys
from optenvs.core.struct import replace, tensors

pytest.importorskip("cma")

BOWL = {"dim": 3, "condition": 3.0, "tolerance": None, "budget": None, "dtype": "float64"}


def swarm(**keywords: Any) -> OptimizationEnv:
    team = {"landscape": "Quadratic", "particles": 10, "start_mean": 1.0}
    return optenvs.make("Particles", **(team | BOWL | keywords))


FORMS: dict[str, OptimizationEnv] = {
    "point": optenvs.make("Quadratic", oracle="value", **BOWL),
    "poll": Ramp(points=4, tolerance=None),
    "poll with products": Ramp(points=4, tolerance=None, oracle="vjp", white_box=True),
    "poll with Jacobians": Ramp(points=4, tolerance=None, oracle="jacobian", white_box=True),
    "swarm": swarm(recommend="best"),
    "team": swarm(),
    "ranking": ranking(),
    "top": ranking(recommend="top"),
}


@pytest.mark.parametrize("form", FORMS)
def test_it_solves_and_is_rebuilt_in_every_form(form: str, tmp_path: Path) -> None:
    env, steps = FORMS[form], 600 if form == "point" else 100
    whole = optenvs.rollout(env, agents.CMA(), batch=2, steps=steps, record=("point",))
    assert (whole.best[-1] <= 1e-6 * whole.best[0]).all()
    again = optenvs.rollout(env, agents.CMA(), batch=2, steps=20, record=("point",))
    assert torch.equal(again.recorded["point"], whole.recorded["point"][:21])
    assert not torch.equal(again.recorded["point"][-1, 0], again.recorded["point"][-1, 1])
    # where a population comes in parts, this is in the middle of one
    half = optenvs.rollout(env, agents.CMA(), batch=2, steps=13)
    optenvs.save(tmp_path / "run", half)
    task = (type(env.task),) if isinstance(env, Ramp) else ()
    resumed = optenvs.load(tmp_path / "run", classes=task)
    rest = optenvs.rollout(env, agents.CMA(), steps=7, resume=resumed)
    left, right = tensors(rest.agent_state), tensors(again.agent_state)
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in right)


def test_an_order_leads_where_values_do() -> None:
    env, order = swarm(dim=4, recommend="agent"), ranking(objective="Quadratic", dim=4, condition=3.0)
    keys, agent, other = keys_from_seed(0, 2), agents.CMA(), agents.CMA()
    values, places = env.reset(keys), order.reset(keys)
    mine = agent.init(values.problem, values.observation, agent_keys(keys))
    start = values.observation["point"].mean(1)
    theirs = other.init(places.problem, places.observation, agent_keys(keys))
    theirs = replace(theirs, mean=start)
    for _ in range(10):
        asked, mine = agent.act(mine, values.observation)
        also, theirs = other.act(theirs, places.observation)
        assert torch.equal(asked["query"], also["query"])
        values, places = env.step(values, asked), order.step(places, also)


def test_monotone_transformations_of_values_change_nothing() -> None:
    runs = []
    for function in (lambda x: x.square().sum(-1), lambda x: x.square().sum(-1).exp() - 7):
        env = optenvs.from_function(function, dim=3, batched=True, start=(1.0, -1.0, 0.5), dtype="float64")
        runs.append(optenvs.rollout(env, agents.CMA(), batch=2, steps=80, record=("point",)))
    assert torch.equal(runs[0].recorded["point"], runs[1].recorded["point"])


def test_it_is_pycma_on_numbers_of_the_key() -> None:
    import cma

    agent = agents.CMA(std=0.5, population=6, bounded=False)
    run = optenvs.rollout(FORMS["point"], agent, batch=1, steps=60, record=("point",))
    asked = run.recorded["point"][1:, 0].numpy()
    key, counter = agent_keys(keys_from_seed(0, 1)), iter(range(1000))
    options = {
        "randn": lambda *shape: normal(key, "cma", shape, next(counter), torch.float64)[0].numpy(),
        "seed": np.nan, "popsize": 6, "verbose": -9,
    }  # fmt: skip
    peer = cma.CMAEvolutionStrategy(run.recorded["point"][0, 0].numpy(), 0.5, options)
    value = run.metrics["value"][1:, 0].numpy()
    for first in range(0, 60, 6):
        points = peer.ask()
        assert np.allclose(points, asked[first : first + 6], rtol=1e-9, atol=1e-12)
        peer.tell(points, value[first : first + 6])


def test_points_stay_in_the_box() -> None:
    # the optimum is outside: points crowd at the border
    env = optenvs.make("Quadratic", oracle="value", bounds=(0.5, 2.0), **BOWL)
    run = optenvs.rollout(env, agents.CMA(), batch=3, steps=400, record=("point",))
    points = run.recorded["point"]
    assert (points >= 0.5).all() and (points <= 2.0).all()
    assert torch.allclose(points[-1], torch.full_like(points[-1], 0.5), atol=0.01)
    assert (points[1:] == 0.5).any() or (points[-8:] - 0.5).amin() < 1e-6, "none is at the border"
    # neither is one outside after rounding, which the face would refuse
    face = optenvs.GymEnv(
        optenvs.make("Quadratic", oracle="value", **BOWL | {"bounds": (0.1, 0.7), "dtype": "float32"})
    )
    policy = agents.bind(agents.CMA(), face)
    observation, info = face.reset(seed=0)
    policy.reset(observation, info)
    for _ in range(300):
        observation, *_ = face.step(policy(observation))
    free = optenvs.rollout(env, agents.CMA(bounded=False), batch=3, steps=50, record=("point",))
    assert (free.recorded["point"] < 0.5).any()


def test_a_start_outside_of_the_box_is_brought_in() -> None:
    queries, states, _ = talk(ranking(start_std=50.0), agents.CMA(), 2)
    problem = states[0].problem
    assert ((states[0].observation["point"][:, 0] - problem.upper) > 0).any()
    for query in queries:
        assert (query["query"] >= problem.lower.unsqueeze(1)).all()
        assert (query["query"] <= problem.upper.unsqueeze(1)).all()


def test_the_first_population_has_the_deviation_asked_for() -> None:
    for std, expected in ((0.02, 0.02), (None, 0.3 * 10.0)):  # the box is -5 .. 5
        queries, states, _ = talk(ranking(shown=200, start_std=0.0), agents.CMA(std=std, bounded=False), 1)
        assert (states[0].problem.upper - states[0].problem.lower == 10.0).all()
        assert float(queries[0]["query"].std()) == pytest.approx(expected, rel=0.1)


def test_a_population_of_several_queries() -> None:
    env = Ramp(points=4, tolerance=None)
    run = optenvs.rollout(env, agents.CMA(population=10), batch=2, steps=6)
    assert run.calls["value"][:, 0].tolist() == [1, 5, 9, 11, 15, 19, 21]
    # of a swarm the rest stays where it is, and is not billed
    run = optenvs.rollout(swarm(), agents.CMA(population=4), batch=2, steps=3)
    assert run.calls["value"][:, 0].tolist() == [10, 14, 18, 22]
    run = optenvs.rollout(ranking(), agents.CMA(population=4), batch=2, steps=3)
    assert run.calls["points"][:, 0].tolist() == [1, 5, 9, 13]


def test_the_recommendation() -> None:
    queries, states, _ = talk(swarm(), agents.CMA(), 8)
    for t in range(1, 8):
        seen = torch.cat([state.observation["point"] for state in states[: t + 1]], 1)
        value = torch.cat([state.observation["value"] for state in states[: t + 1]], 1).squeeze(-1)
        best = seen[torch.arange(4), value.argmin(1)]
        assert torch.equal(queries[t]["recommendation"], best)
    queries, states, _ = talk(ranking(), agents.CMA(), 8)
    for t in range(1, 8):
        best = states[t].observation["order"][:, 0]
        assert torch.equal(queries[t]["recommendation"], queries[t - 1]["query"][torch.arange(4), best])


def test_points_without_a_value_are_the_worst() -> None:
    def hole(x: torch.Tensor) -> torch.Tensor:
        return torch.where(x[:, 0] > 0.8, torch.nan, x.square().sum(-1))

    env = optenvs.from_function(hole, dim=2, batched=True, start=(0.7, 0.5), dtype="float64", budget=None)
    keys = keys_from_seed(0, 3)
    state, agent = env.reset(keys), agents.CMA(std=0.5)
    memory, lost = agent.init(state.problem, state.observation, agent_keys(keys)), 0
    for _ in range(200):
        query, memory = agent.act(memory, state.observation)
        state = env.step(state, query)
        lost += int((query[:, 0] > 0.8).sum())
    assert lost > 5
    assert (state.best < 1e-6).all()
    assert memory.best.isfinite().all()


def test_numpys_generator_is_left_alone() -> None:
    before = np.random.get_state(legacy=False)["state"]  # noqa: NPY002 - the global one, which must not move
    optenvs.rollout(FORMS["point"], agents.CMA(), batch=2, steps=20)
    after = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    assert before["pos"] == after["pos"]
    assert np.array_equal(before["key"], after["key"])


def test_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="CMA: std: expected a number > 0 or None, got 0"):
        agents.CMA(std=0.0)
    with pytest.raises(ValueError, match="CMA: population: expected a whole number >= 2"):
        agents.CMA(population=1)
    with pytest.raises(ValueError, match="population: expected at most 10.*got 11"):
        optenvs.rollout(ranking(), agents.CMA(population=11), steps=1)
    with pytest.raises(ValueError, match="population: expected 10.*got 9"):
        optenvs.rollout(ranking(recommend="top"), agents.CMA(population=9), steps=1)
    with pytest.raises(ValueError, match="at least 2 coordinates"):
        optenvs.rollout(optenvs.make("Quadratic", oracle="value", dim=1), agents.CMA(), steps=1)
    for points in (None, 3):
        with pytest.raises(ValueError, match="CMA: formulation: expected 'penalty'"):
            optenvs.rollout(TanhDisc(formulation="constraints", points=points), agents.CMA(), steps=1)
    with pytest.raises(OracleMismatch, match="CMA needs the oracle.s. value or ranking, but"):
        optenvs.rollout(optenvs.make("NetworkQuadratic", nodes=3), agents.CMA(), steps=1)
    with pytest.raises(TypeError, match="CMA moves all 10 agents"):
        agents.bind(agents.CMA(), optenvs.parallel_env("Particles", particles=10, landscape="Quadratic"))


def test_another_past_is_noticed() -> None:
    env = FORMS["point"]
    run = optenvs.rollout(env, agents.CMA(), batch=2, steps=20)
    state = replace(run.agent_state, asked=run.agent_state.asked + 1e-3)
    with pytest.raises(RuntimeError, match="CMA: pycma asks something else"):
        agents.CMA().act(state, run.state.observation)


def test_without_the_package_it_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cma", None)
    ends = np.array([-1.0, -1.0]), np.array([1.0, 1.0])
    with pytest.raises(ImportError, match=r"pip install 'optenvs\[peers\]'"):
        CMARun(np.zeros(2), np.ones(2), *ends, 6, keys_from_seed(0, 1))
    with pytest.raises(ImportError, match="cma needs the package cma"):
        optenvs.rollout(FORMS["ranking"], agents.CMA(), steps=1)

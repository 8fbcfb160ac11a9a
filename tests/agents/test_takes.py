"""What agents say that they can do with: they run on it, and the others of their kind refuse it."""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import pytest

import agents
import optenvs
from agents import adapters, bilevel, constrained, surrogate
from agents.spec import TAKES

PROGRAMS: dict[str, dict[str, Any]] = {
    "equations": {"equalities": 1},
    "inequalities": {"equalities": 0, "inequalities": 1},
    "bounds": {"equalities": 1, "bounded": True},
}
SOLVERS = ("cobyqa", "ipopt", "lbfgsb", "slsqp", "trust_constr")


@functools.cache
def program(name: str) -> Any:
    return optenvs.make("ConstrainedQuadratic", dim=2, budget=40, **PROGRAMS[name])


def test_every_word_is_known_and_only_these_families_have_some() -> None:
    families = (adapters, bilevel, constrained, surrogate)
    differing = {spec.name for family in families for spec in family.AGENTS}
    for name in agents.list_agents():
        assert set(agents.takes(name)) <= set(TAKES)
        assert not agents.takes(name) or name in differing


@pytest.mark.filterwarnings("ignore:Singular Jacobian")  # scipy's, where a constraint is not active
@pytest.mark.parametrize("name", [*SOLVERS, *(spec.name for spec in constrained.AGENTS)])
def test_of_programs_it_runs_on_what_it_takes_and_refuses_the_rest(name: str) -> None:
    if name == "ipopt" and importlib.util.find_spec("casadi") is None:
        pytest.skip("IPOPT comes with casadi, the extra ipopt")
    programs = set(agents.takes(name)) & {"equations", "inequalities"}
    for word in PROGRAMS:
        if word == "bounds" and not programs:
            box = optenvs.make("StyblinskiTang", bounds="domain", start=(-4.9, 4.9), budget=30)
            point = optenvs.rollout(box, agents.make(name), record=("point",)).recorded["point"]
            assert bool((point.abs() <= 5).all()) and bool((point[-1] != point[0]).all())
            continue
        if word in agents.takes(name):
            run = optenvs.rollout(program(word), agents.make(name), steps=3)
            assert bool(run.merit.isfinite().all()), word
            continue
        with pytest.raises(ValueError, match="constraints|equations|bounds"):
            optenvs.rollout(program(word), agents.make(name), steps=1)


@pytest.mark.parametrize("name", [spec.name for spec in surrogate.AGENTS])
def test_of_surrogates_it_sees_constraints_apart_or_refuses_them(name: str) -> None:
    agent = agents.make(name)
    oracle = next((kind for kind in ("vjp", "jacobian") if kind in agent.needs), "value")
    env = optenvs.make("Biodiesel", formulation="constraints", oracle=oracle, points=4)
    if "inequalities" in agents.takes(name):
        assert optenvs.rollout(env, agent, steps=3).metrics["true_violation"].isfinite().all()
        return
    with pytest.raises(ValueError, match="formulation|white_box|constraints"):
        optenvs.rollout(env, agent, steps=1)

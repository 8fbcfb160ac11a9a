"""The problems on which every registered agent is tested: a quadratic that answers what the agent needs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from federated_problems import Quadratics
from grokking_problems import Shown
from lesson_problems import Lesson
from level_problems import OneInequality, SmallToy, TwoQuadratics
from policy_problems import Hill
from surrogate_problems import Ramp

import agents
import optenvs
from agents.surrogate import _program
from optenvs.core.env import OptimizationEnv

NAMES = agents.list_agents()
LEARNED = [name for name in NAMES if hasattr(agents.make(name), "parameters")]
"""Agents with a network: untrained, they solve nothing."""
PARTICLES = 40
NODES = 8
SHOWN = 10
TRIED = 4
ASKED = 2


def network(agent: Any, dtype: str, rotate: bool = False, **keywords: Any) -> OptimizationEnv:
    """Three nodes that start far away: beside that, what a fixed step leaves of the way is small."""
    oracle = next(kind for kind in ("gradient", "conjugate") if kind in agent.needs)
    clock = "rounds" if "gossip" in agent.needs else "edges" if oracle == "conjugate" else "poisson"
    small: dict[str, Any] = {"nodes": 3, "L": 3.0, "t_max": 300.0, "dtype": dtype}
    if oracle == "gradient":  # dual methods begin at 0
        small["start_std"] = 100.0
    return optenvs.make("NetworkQuadratic", clock=clock, oracle=oracle, **(small | keywords))


def ranking(agent: Any, dtype: str, noise: float = 0.0, **keywords: Any) -> OptimizationEnv:
    """Orders of points on a quadratic, and as many queries as the budget counts."""
    if "budget" in keywords:
        keywords["budget"] *= SHOWN
    mistakes = {"noise": "thurstone", "noise_scale": noise} if noise else {}
    quadratic = {"objective": "Quadratic", "dim": 2, "condition": 3.0, "tolerance": None, "dtype": dtype}
    return optenvs.make("Ranking", **(quadratic | {"shown": SHOWN} | mistakes | keywords))


def surrogate(agent: Any, dtype: str, noise: float = 0.0, rotate: bool = False, **keywords: Any) -> Ramp:
    """A network in the form of a query of some points; it has neither noise nor rotations."""
    if "budget" in keywords:  # that of as many queries, or until it is solved
        keywords |= {"budget": keywords["budget"] * TRIED, "tolerance": 0.0}
    oracle = next((kind for kind in ("vjp", "jacobian") if kind in agent.needs), "value")
    return Ramp(points=TRIED, oracle=oracle, white_box=True, dtype=dtype, **keywords)


def swarm(agent: Any, dtype: str, **keywords: Any) -> OptimizationEnv:
    """Many points at once, and as many queries as the budget counts."""
    if "budget" in keywords:
        keywords["budget"] *= PARTICLES
    start = {"start_mean": (1.0, -2.0), "particles": PARTICLES}
    return optenvs.make("Particles", landscape="Quadratic", **(_quadratic(agent, dtype) | start | keywords))


def constrained(
    agent: Any, dtype: str, noise: float = 0.0, rotate: bool = False, **keywords: Any
) -> OptimizationEnv:
    """A quadratic program with one equation; it has neither noise nor rotations."""
    small = {"dim": 2, "equalities": 1, "condition": 3.0, "tolerance": None, "dtype": dtype}
    return optenvs.make("ConstrainedQuadratic", **(small | keywords))


def gated(
    agent: Any, dtype: str, noise: float = 0.0, rotate: bool = False, **keywords: Any
) -> OptimizationEnv:
    """A convex program of rectified units with one input; it has neither noise nor rotations."""
    data = {"X": [[1.0], [0.5], [-1.0], [-0.7]], "y": [2.0, 0.4, -1.0, 0.5], "gates": [[1.0], [-1.0]]}
    small = {"data": data, "beta": 0.3, "tolerance": None, "dtype": dtype}
    return optenvs.make("ConvexRelu", **(small | keywords))


def control(agent: Any, dtype: str, noise: float = 0.0, **keywords: Any) -> OptimizationEnv:
    """Trials of Newton steps on a quadratic; it has no noise."""
    own = {"dim": 2, "condition": 3.0, "shift": 1.0, "tolerance": None, "dtype": dtype}
    return optenvs.make("GnsControl", landscape="Quadratic", **(own | keywords))


def point(agent: Any, dtype: str, **keywords: Any) -> OptimizationEnv:
    """One point a query."""
    return optenvs.make("Quadratic", **(_quadratic(agent, dtype) | keywords))


def two_levels(
    agent: Any, dtype: str, noise: float = 0.0, rotate: bool = False, **keywords: Any
) -> OptimizationEnv:
    """One upper and one lower variable, or what the agent assumes; three derivatives a query or so."""
    if "budget" in keywords:
        keywords["budget"] *= ASKED
    own = {"tolerance": None, "dtype": dtype, "kinds": _asked(agent)}
    assumed = ASSUMED.get(type(agent).__name__)
    if assumed is not None:
        return TwoQuadratics(**(own | assumed | keywords))
    if type(agent).__name__ == "BiCGaffa":  # F has no slope at the solution, which no finite penalty moves
        return SmallToy(**(own | {"dim": 2, "objective": "bilinear"} | keywords))
    return OneInequality(**(own | keywords))


def _asked(agent: Any) -> tuple[str, ...]:
    """The kinds of two levels that an agent asks, with what it asks of constraints beside them."""
    needs = _needs(agent)
    places = {"": "lower_gradient|upper_gradient|product", "inner_": "inner_gradient|inner_product"}
    beside = [
        f"{place}{kind}"
        for place, kinds in places.items()
        if {*kinds.split("|")} & {*needs}
        for kind in ("constraints", "pullback")
    ]
    return (*needs, *beside)


def clients(
    agent: Any, dtype: str, rotate: bool = False, noise: float = 0.0, **keywords: Any
) -> OptimizationEnv:
    """Clients with two quadratics each, all of which take part; a round costs a few queries."""
    if "budget" in keywords:
        keywords["budget"] //= 2 * ASKED
    return Quadratics(**({"fraction": 1.0, "noise": noise, "dtype": dtype} | keywords))


def policy(
    agent: Any, dtype: str, rotate: bool = False, noise: float = 0.0, **keywords: Any
) -> OptimizationEnv:
    """A hill of two weights; two trajectories a query or so."""
    if "budget" in keywords:
        keywords["budget"] *= ASKED
    return Hill(**({"noise": noise, "dtype": dtype} | keywords))


def lesson(
    agent: Any, dtype: str, rotate: bool = False, noise: float = 0.0, **keywords: Any
) -> OptimizationEnv:
    """A learner's life of one state; its budget counts steps of sixteen workers."""
    if "budget" in keywords:
        keywords["budget"] *= 16
    query = "rates" if "rates" in agent.needs else "policy"
    return Lesson(**({"query": query, "noise": noise, "dtype": dtype} | keywords))


def features(
    agent: Any, dtype: str, rotate: bool = False, noise: float = 0.0, **keywords: Any
) -> OptimizationEnv:
    """Nodes on spheres; its budget counts their ascents."""
    if "budget" in keywords:
        keywords["budget"] *= NODES
    own = {"group": "Z5", "nodes": NODES, "tolerance": None, "dtype": dtype}
    return optenvs.make("FeatureEnergy", **(own | keywords))


def pairs(
    agent: Any, dtype: str, rotate: bool = False, noise: float = 0.0, **keywords: Any
) -> OptimizationEnv:
    """A network that is shown all pairs of three elements; it has neither noise nor rotations."""
    own: dict[str, Any] = {"dtype": dtype}
    return Shown(**(own | keywords))


def _quadratic(agent: Any, dtype: str) -> dict[str, Any]:
    needs = _needs(agent)
    oracle = next((kind for kind in ("hessian", "hvp", "gradient") if kind in needs), "value")
    return {"dim": 2, "condition": 3.0, "tolerance": None, "oracle": oracle, "dtype": dtype}


ASSUMED: dict[str, dict[str, Any]] = {
    "AiPOD": {"equalities": True},
    "BVFSM": {},
    "EAiPOD": {"equalities": True},
    "F2SA": {},
    "ImplicitGradient": {"equalities": True},
    "StocBiO": {},
    "Unrolled": {},
}
"""Agents of two levels that assume a lower problem without inequalities, or without constraints."""

SETTINGS: dict[str, dict[str, Any]] = {
    "admm_rbcd": {"thresh": 1e-5, "decay": 1.0},  # near enough to exact that the precision matters little
    "barrier_attack": {"rounds": 1},  # each is recorded line by line
    "bvfsm": {"lower": 1, "inner": 2},  # so that a few steps move it, as the next ones
    "f2sa": {"inner": 2},
    "stoc_bio": {"inner": 1, "terms": 1},
    "unrolled": {"inner": 2},
    "bic_gaffa": {"alpha": 0.2, "beta": 0.2, "eta": 0.4},
    "blocc": {"rounds": 1, "primal": 1, "eta": 0.3},
    "implicit_gradient": {"steps": 2},
    # two weights need no more; each iteration is recorded line by line
    "npg": {"iterations": 2},
    "npg_hm": {"iterations": 2},
    # by default they move after ten queries
    **{name: {"batch": 2} for name in ("hapg", "srvr_pg", "storm_pg", "svrpg")},
    "lpg": {"categories": 2, "embedding": 2, "hidden": 3},
    "tabular_dpo": {"epochs": 2},
    "tabular_ppo": {"epochs": 2},
    "lpo": {"hidden": 4, "like_ppo": True, "epochs": 2},
    "velo": {"lstm_hidden": 4, "bank": 4},
    "ipopt": {"bounded": False},  # with a box it asks points that differ in the last bit of float64
}
"""Settings of agents in these tests, beside those that several have."""
PACKAGES = {"Ipopt": "casadi"}
"""The package without which an agent cannot run, where it is in no extra that the tests install."""


def _needs(agent: Any) -> list[str]:
    return [need.split("|")[0] for need in agent.needs]  # the other forms have tests of their own


PROBLEMS: dict[str, Callable[..., OptimizationEnv]] = {
    "policy": lesson,
    "rates": lesson,
    "policy_gradient": policy,
    "trajectory": policy,
    "exchange": network,
    "gossip": network,
    "ranking": ranking,
    "poll": surrogate,
    "swarm": swarm,
    "round": clients,
    "inner_gradient": two_levels,
    "upper_gradient": two_levels,
    "hypergradient": two_levels,
    "constraints": constrained,
    "violation": gated,
    "trial": control,
    "ascent": features,
    "minibatch": pairs,
    "hessian": point,
    "hvp": point,
    "gradient": point,
    "value": point,
}
"""What makes the problem of an agent, by the first of these kinds that it needs; a family adds its own."""


def problem(agent: Any, dtype: str = "float32", **keywords: Any) -> OptimizationEnv:
    """A quadratic that answers what ``agent`` needs, to a swarm, a ranker or the nodes of a network."""
    if type(agent).__name__ in PACKAGES:
        pytest.importorskip(PACKAGES[type(agent).__name__])
    needs = _needs(agent) or ["value"]
    form = next((kind for kind in PROBLEMS if kind in needs), None)
    assert form is not None, f"no problem of these tests answers {agent.needs}: add one to PROBLEMS"
    return PROBLEMS[form](agent, dtype, **keywords)


def made(name: str, dtype: str = "float32") -> Any:
    """The agent, at settings with which a few steps move it."""
    known = inspect.signature(type(agents.make(name))).parameters
    # the weights' precision where it has weights
    # no power of two times a curvature of the quadratic, where rounding would decide a line search
    options = {"lr": 0.05, "dtype": dtype, "L": 0.7}
    options = {key: value for key, value in options.items() if key in known}
    return agents.make(name, **options, **SETTINGS.get(name, {}))


def only_recorded(patch: pytest.MonkeyPatch) -> None:
    """What a compiled rollout compiles, without the compiler; loops inside of a step are shorter.

    A loop is recorded line by line: three of twenty iterations show as much.
    """
    patch.setattr("optenvs.core.compiled._compile", lambda recorded, _: recorded)
    patch.setattr(inspect.unwrap(_program.solve), "__defaults__", (3,))

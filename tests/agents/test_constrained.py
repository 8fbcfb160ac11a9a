"""Methods for equality constraints: what they refuse, pay, keep and say."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from constrained_runs import courses, residual

import agents
import optenvs
from agents.constrained._system import system
from agents.constrained.adasketch_newton import AdaSketchNewton
from optenvs.core.errors import OracleMismatch
from optenvs.core.random import keys_from_seed
from optenvs.core.rollout import agent_keys
from optenvs.envs.constrained.base import Constrained
from optenvs.envs.constrained.formulas import FORMULAS
from optenvs.envs.constrained.parts import Draw

NAMES = ("adasketch_newton", "augmented_lagrangian", "l1_sqp", "l1_sqp_adaptive", "minres_newton")
MATRICES = NAMES[:4]
EXACT = agents.AdaSketchNewton(solve="exact")


def cutest(problem: str = "HS7", **keywords: Any) -> Any:
    return optenvs.make("ConstrainedCutest", problem=problem, **{"tolerance": None, **keywords})


def quadratic(**keywords: Any) -> Any:
    small = {"dim": 4, "equalities": 2, "condition": 5.0, "tolerance": None}
    return optenvs.make("ConstrainedQuadratic", **(small | keywords))


# What they solve, and what they refuse ------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_it_finds_the_solution_and_its_multipliers(name: str) -> None:
    env = quadratic()
    run = optenvs.rollout(env, agents.make(name, tolerance=1e-4), batch=2, steps=200)
    memory = run.agent_state
    assert run.finished.all()
    assert not memory.singular.any()
    assert (run.metrics["distance"][-1] < 1e-3).all()
    assert (residual(memory) <= 1e-4).all(), "its multipliers are those of the solution"


@pytest.mark.parametrize("name", NAMES)
def test_it_refuses_inequalities_and_bounds_by_name(name: str) -> None:
    agent = agents.make(name)
    with pytest.raises(ValueError, match=f"agent {type(agent).__name__} .* 1 of the 3 .* inequalities"):
        optenvs.rollout(quadratic(inequalities=1), agent, steps=1)
    with pytest.raises(ValueError, match=f"agent {type(agent).__name__} .* bounds of x"):
        optenvs.rollout(quadratic(bounded=True), agent, steps=1)


def test_it_says_that_it_needs_the_objectives_hessian() -> None:
    agent = agents.AdaSketchNewton(hessian="objective")
    assert "objective_hessian" in agent.needs
    assert "objective_hessian" not in agents.AdaSketchNewton().needs
    with pytest.raises(OracleMismatch, match="objective_hessian"):
        optenvs.rollout(optenvs.make("Rosenbrock", oracle="hessian"), agent, steps=1)


def test_on_host_is_said_of_what_looks() -> None:
    assert agents.AdaSketchNewton().on_host
    assert agents.AugmentedLagrangian().on_host
    assert not EXACT.on_host
    assert not agents.AugmentedLagrangian(solve="exact").on_host


def test_exact_solves_are_recorded_without_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optenvs.core.compiled._compile", lambda recorded, _: recorded)
    env = quadratic()
    found, expected = (optenvs.rollout(env, EXACT, batch=2, steps=4, compile=n) for n in (1, 0))
    torch.testing.assert_close(found.state.observation["x"], expected.state.observation["x"])


# What they pay ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MATRICES)
def test_nothing_is_bought_twice_and_a_trial_pays_what_its_merit_needs(name: str) -> None:
    agent = agents.make(name)
    env = cutest(budget=40)
    run = optenvs.rollout(env, agent, batch=1, steps=60, record=("x", "multipliers"))
    spent = run.calls.counts.diff(dim=0)[:, 0].tolist()
    kinds = run.calls.kinds
    alone = [kind for kind in kinds if kind in agent.tried]
    bought, trials = {(kind, tuple(run.recorded["x"][0, 0].tolist())) for kind in kinds[:4]}, 0
    for bill, x, at in zip(
        spent, run.recorded["x"][1:, 0].tolist(), run.recorded["multipliers"][1:, 0].tolist(), strict=True
    ):
        paid = [kind for kind, count in zip(kinds, bill, strict=True) if count]
        assert max(bill) <= 1
        trials += paid == alone
        for kind in paid:
            place = (kind, (*x, *at) if kind == "hessian" else tuple(x))
            assert place not in bought, "bought twice"
            bought.add(place)
    assert trials == int(run.calls["value"][-1]) - 1 > 5


def test_where_the_budget_does_not_pay_it_finishes() -> None:
    run = optenvs.rollout(cutest(budget={"value": 50, "hessian": 3}), EXACT, batch=2)
    assert run.done[-1].all()
    assert (run.calls["hessian"][-1] <= 3).all()


def test_work_is_on_its_own_ledger() -> None:
    sketched = optenvs.rollout(quadratic(), agents.AdaSketchNewton(cap=600), batch=2, steps=3)
    assert sketched.work is not None
    assert (sketched.work["sketches"][-1] > 0).all()
    assert (sketched.work["factorisations"] == 0).all()
    exact = optenvs.rollout(quadratic(), EXACT, batch=2, steps=3)
    assert exact.work is not None
    assert exact.work["factorisations"][-1].tolist() == exact.work["reductions"][-1].tolist()
    assert exact.work["factorisations"][:3].tolist() == [[0, 0], [0, 0], [1, 1]], "the Hessian is asked first"
    inner = optenvs.rollout(quadratic(), agents.L1Sqp(products=3), batch=2, steps=3)
    assert inner.work is not None
    assert (inner.work["products"][2] % 3 == 0).all()
    assert (inner.work["products"][2] > 0).all()


# What they keep -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_where_they_are(name: str) -> None:
    agent = agents.make(name, **({"cap": 2000} if name == "adasketch_newton" else {}))
    env = cutest("HS6", perturbation=0.1)
    many = optenvs.rollout(env, agent, batch=4, steps=12)
    for i in (0, 3):
        alone = optenvs.rollout(env, agent, keys=many.state.key[i : i + 1], steps=12)
        torch.testing.assert_close(alone.merit[:, 0], many.merit[:, i], rtol=1e-6, atol=1e-9)
        assert alone.calls.counts[:, 0].tolist() == many.calls.counts[:, i].tolist()


def test_a_warm_start_takes_point_and_multipliers() -> None:
    env = cutest("HS7")
    first = courses(env, EXACT)[0]
    x, multipliers = first.point.tolist(), first.multipliers.tolist()
    warm = env.replace(start=x, start_multipliers=multipliers)
    again = courses(warm, EXACT.replace(tolerance=1e-8))[0]
    assert again.steps == []
    assert again.residual[0] < 1e-8
    cold = courses(env.replace(start=x), EXACT.replace(tolerance=1e-8))[0]
    assert len(cold.steps) > 0, "without the multipliers it is no solution"


@pytest.mark.parametrize("hessian", ["lagrangian", "objective"])
def test_penalties_of_an_exact_solve_are_those_of_the_loop(hessian: str) -> None:
    """They come in closed form; the loop of the sketches says what they should be."""
    agent = AdaSketchNewton(solve="exact", hessian=hessian, eta2=5.0)
    env = cutest("BT10")
    keys = keys_from_seed(0, 1)
    state = env.reset(keys)
    memory = agent.init(state.problem, state.observation, agent_keys(keys))
    changed = 0
    for _ in range(12):
        action, after = agent.act(memory, state.observation)
        if int(after.work["factorisations"]) > int(memory.work["factorisations"]):
            at = system(after.notes, after.multipliers, agent.xi, agent.reduced)
            z = torch.cat((after.dx, after.dmultipliers), -1)
            own, parts = memory.own, agent._slopes(after, at, z)
            while True:
                slope = parts[0] - own.eta1 * parts[1] - own.eta2 * parts[2]
                if bool(slope <= -own.eta2 / 2 * at.b.square().sum()):
                    break
                own, changed = agent._stricter(own, at), changed + 1
            for name in ("eta1", "eta2"):
                torch.testing.assert_close(getattr(after.own, name), getattr(own, name))
            torch.testing.assert_close(after.slope, slope)
        state, memory = env.step(state, action), after
    assert changed


def test_z_is_kept_where_the_penalties_change() -> None:
    """A loop that meets its aim at once makes no sketch more."""
    agent = agents.AdaSketchNewton(solve="kaczmarz", eta2=3.0)
    run = optenvs.rollout(cutest("BT10"), agent, batch=1, steps=2)
    memory = run.agent_state
    assert memory.own.eta1 > 1
    assert memory.own.delta == 1e-6
    once = optenvs.rollout(
        cutest("BT10"),
        agent.replace(eta1=float(memory.own.eta1), eta2=float(memory.own.eta2)),
        batch=1,
        steps=2,
    )
    assert once.agent_state.work["sketches"].tolist() == memory.work["sketches"].tolist()


def test_superlinear_accuracy_follows_the_residual() -> None:
    env = cutest("HS28", start=[0.51, -0.5, 0.5])  # |b| is 0.03
    sketches = {}
    for theta in (1.0, None):
        run = optenvs.rollout(env, agents.AdaSketchNewton(theta=theta, chunk=16), steps=2)
        sketches[theta] = int(run.agent_state.work["sketches"])
    assert sketches[None] > sketches[1.0]


# What goes wrong ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class Given(Constrained):
    """Functions of the coordinates ``(B,)``."""

    f: Any
    c: Any
    begin: tuple[float, ...]
    rows: int = 1

    @property
    def size(self) -> int:
        return len(self.begin)

    @property
    def equality_count(self) -> int:
        return self.rows

    def draw(self, keys: Any) -> Draw:
        start = torch.tensor(self.begin, dtype=self.torch_dtype)
        return Draw(data=None, start=start.expand(len(keys), -1))

    def objective(self, data: Any, x: Any) -> Any:
        return self.f(*x.unbind(-1))

    def constraints(self, data: Any, x: Any) -> Any:
        return torch.stack(self.c(*x.unbind(-1)), -1)


def test_a_trial_that_is_no_number_is_halved() -> None:
    env = Given(
        f=lambda x: x**2,
        c=lambda x: (torch.log(x),),  # no number where a step is too long
        begin=(5.0,),
        tolerance=1e-6,
    )
    for agent in (EXACT, agents.L1Sqp(), agents.L1SqpAdaptive()):
        run = optenvs.rollout(env, agent, batch=1, steps=300, record=("x",))
        assert bool((run.recorded["x"][:, 0, 0] <= 0).any()), "it has tried one"
        assert run.merit[-1].isfinite().all()
        assert not run.diverged.any()
        assert run.best[-1] < 1e-6


@pytest.mark.parametrize("name", ["adasketch_newton", "l1_sqp", "l1_sqp_adaptive"])
def test_dependent_gradients_end_that_row_only_and_are_said(name: str) -> None:
    env = cutest("DENSCHNCNE", perturbation=0.0)
    keys = keys_from_seed(0, 2)
    state = env.reset(keys)
    agent = agents.make(name)
    bad = {**state.observation, "jacobian": state.observation["jacobian"].clone()}
    bad["jacobian"][0, 1] = bad["jacobian"][0, 0]
    memory = agent.init(state.problem, bad, agent_keys(keys))
    action, memory = agent.act(memory, bad)  # asks the Hessian
    state = env.step(state, action)
    _, memory = agent.act(memory, state.observation)
    assert memory.singular.tolist() == [True, False]
    assert memory.finished.tolist() == [True, False]
    assert memory.trying.tolist() == [False, True]


def test_more_equations_than_variables_are_singular_and_never_solved() -> None:
    env = Given(f=lambda x, y: x**2 + y**2, c=lambda x, y: (x, y - 1, x + y), begin=(1.0, 2.0), rows=3)
    run = optenvs.rollout(env, EXACT, batch=1)
    assert run.finished.all()
    assert run.agent_state.singular.all()
    assert not run.state.terminated.any()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("second", [2.0, 3.0])
def test_equations_without_a_solution_end_and_are_never_solved(name: str, second: float) -> None:
    """x + y = 1 with x + y = 2, which is told as linear, or with (x + y)^2 = 3, which is not."""
    twice = (lambda s: s) if second == 2.0 else torch.square
    env = Given(
        f=lambda x, y: x**2 + 3 * y**2,
        c=lambda x, y: (x + y - 1, twice(x + y) - second),
        begin=(1.0, 2.5),
        rows=2,
        tolerance=1e-3,
    )
    run = optenvs.rollout(
        env, agents.make(name, **({"cap": 100} if "cap" in fields(name) else {})), steps=150
    )
    assert not run.state.terminated.any()
    assert run.best[-1] > 0.1
    assert (run.metrics["least_squares_kkt"] > 0.1).all()


def fields(name: str) -> set[str]:
    return {field.name for field in dataclasses.fields(agents.make(name))}


def test_the_subproblem_of_hs40_has_no_minimum() -> None:
    """f + mu/2 |c|^2 falls without end along the curve of the docstring, whatever mu is."""
    problem = FORMULAS["HS40"]
    assert problem.f is not None
    for mu in (1.0, 1e4):
        for s in (torch.tensor([1e8], dtype=torch.float64), torch.tensor([1e10], dtype=torch.float64)):
            x1 = -((s**4 - 1) ** (1 / 3))
            x = (x1, s**2, x1**2 * s + x1 * s**3 / mu, s)
            value = problem.f(x) + mu / 2 * torch.stack(problem.c(x)).square().sum(0)
            assert value < 0
            assert float(value) == pytest.approx(-(float(s) ** (26 / 3)) / (2 * mu), rel=0.15)


def test_a_cap_is_counted_and_the_run_goes_on() -> None:
    run = optenvs.rollout(cutest("HS6"), agents.AdaSketchNewton(solve="kaczmarz", cap=64, chunk=16), steps=12)
    memory = run.agent_state
    assert run.work is not None
    assert memory.capped > 0
    assert (run.work["sketches"].diff(dim=0) % 64 == 0).all()
    assert memory.iterations > 0


def test_a_subproblem_without_a_minimum_is_given_up() -> None:
    agent = agents.AugmentedLagrangian(solve="exact", steps=4)
    run = optenvs.rollout(cutest("HS40"), agent, batch=1, steps=200)
    assert run.finished.all()
    assert (run.agent_state.own.steps <= 5).all()


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("adasketch_newton", {"solve": "cholesky"}),
        ("adasketch_newton", {"block": 0}),
        ("adasketch_newton", {"cap": 1.5}),
        ("adasketch_newton", {"weights": "none"}),
        ("adasketch_newton", {"start": "b"}),
        ("adasketch_newton", {"hessian": "none"}),
        ("adasketch_newton", {"eta1": 0.0}),
        ("adasketch_newton", {"nu": 1.0}),
        ("adasketch_newton", {"theta": 2.0}),
        ("adasketch_newton", {"singular": -1.0}),
        ("adasketch_newton", {"tolerance": -1.0}),
        ("l1_sqp", {"armijo": 0.5}),
        ("l1_sqp", {"products": 0}),
        ("l1_sqp", {"tau": 1.0}),
        ("l1_sqp", {"kappa1": 0.0}),
        ("l1_sqp_adaptive", {"sigma": 1.0}),
        ("l1_sqp_adaptive", {"kappa": math.nan}),
        ("l1_sqp_adaptive", {"mu": 0.0}),
        ("augmented_lagrangian", {"solve": "gaussian"}),
        ("augmented_lagrangian", {"shrink": 0.0}),
        ("augmented_lagrangian", {"grow": 0.5}),
        ("augmented_lagrangian", {"steps": 0}),
        ("augmented_lagrangian", {"accuracy": 0.0}),
        ("minres_newton", {"cap": 0}),
        ("minres_newton", {"delta": 1.0}),
        ("minres_newton", {"nu": 1.0}),
        ("minres_newton", {"xi": 0.0}),
        ("minres_newton", {"theta": 0.0}),
    ],
)
def test_bad_parameters(name: str, bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(bad))}: expected"):
        agents.make(name, **bad)

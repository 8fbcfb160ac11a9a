"""Attacks inside a progressive barrier: the model, its programs, and what the agent asks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from surrogate_problems import Linear, PrintedReluBox, Ramp, TanhDisc, disc_optima

import agents
import optenvs
from agents.surrogate._program import solve
from optenvs.core.random import Keys, keys_from_seed, normal, uniform
from optenvs.core.rollout import rollout
from optenvs.core.struct import replace
from optenvs.envs.surrogate.parts import Draw

DISC: dict[str, Any] = {"formulation": "constraints", "points": 1, "oracle": "jacobian"}


class FarDisc(TanhDisc):
    """Its starts are three times as far from the middle."""

    def draw(self, keys: Keys) -> Draw:
        draw = super().draw(keys)
        return replace(draw, start=(3 * draw.start).clamp(-1, 1))


@pytest.mark.parametrize("curved", [0, 2, 5])
def test_quadratic_programs_are_those_of_scipy(curved: int) -> None:
    from scipy.optimize import linprog, minimize

    keys, n, m = keys_from_seed(curved, 6), 5, 25
    G = normal(keys, "G", (m, n), dtype=torch.float64)
    eye = torch.eye(n, dtype=torch.float64).expand(6, -1, -1)
    G = torch.cat((G, eye, -eye), 1)
    h = torch.cat((uniform(keys, "h", m, dtype=torch.float64), torch.ones(6, 2 * n, dtype=torch.float64)), 1)
    b = normal(keys, "b", n, dtype=torch.float64)
    R = normal(keys, "R", (n, n), dtype=torch.float64)[..., :curved]
    P = R @ R.mT
    found = solve(P, b, G, h)
    assert (torch.einsum("bmn,bn->bm", G, found) <= h + 1e-12).all()
    for i in range(6):
        p, q, rows, most = P[i].numpy(), b[i].numpy(), G[i].numpy(), h[i].numpy()
        if not curved:
            best = linprog(q, rows, most, bounds=(None, None)).fun
        else:

            def value(x: np.ndarray, p: np.ndarray = p, q: np.ndarray = q) -> float:
                return float(0.5 * x @ p @ x + q @ x)

            limit = {"type": "ineq", "fun": lambda x, rows=rows, most=most: most - rows @ x}
            best = minimize(value, np.zeros(n), constraints=limit, method="SLSQP", tol=1e-12).fun
        u = found[i].numpy()
        assert 0.5 * u @ p @ u + q @ u == pytest.approx(best, abs=1e-6)


def test_the_first_attack_on_a_linear_network_is_that_of_the_paper() -> None:
    env = Linear(u=(1.0, -2.0, 0.5), **DISC)
    run = rollout(env, agents.BarrierAttack(radius=0.1), batch=4, steps=1, record=("point",))
    weights = run.state.hidden.data
    step = run.recorded["point"][1] - run.recorded["point"][0]
    direction = (weights.mT @ torch.tensor(env.u, dtype=torch.float64)).sign()
    # the box is 2 wide, and a radius a share of it
    assert torch.allclose(step[:, 0], 0.2 * direction, atol=1e-8)


def test_it_reaches_the_corner_of_bio_diesel() -> None:
    env = optenvs.make("Biodiesel", surrogate="ode", **DISC)
    run = rollout(env, agents.BarrierAttack(), steps=8)
    spent = int(run.calls["value"][-1, 0])
    assert spent <= 9
    assert float(run.best[-1, 0]) == pytest.approx(-1.862628, abs=1e-5)
    design = run.state.hidden.best_point[0] * torch.tensor([120.0, 20.0])
    assert torch.allclose(design, torch.tensor([120.0, 25 / 6]).double(), rtol=1e-6)
    assert float(run.metrics["true_violation"][-1, 0]) == 0.0


def test_it_ends_at_optima_of_the_constrained_problem() -> None:
    run = rollout(TanhDisc(**DISC), agents.BarrierAttack(), batch=4, steps=60)
    for value, optima in zip(run.best[-1].tolist(), disc_optima(TanhDisc(**DISC), 4), strict=True):
        assert min(abs(value - optimum) for optimum in optima) < 1e-4


def test_points_without_a_value_do_not_lead_it_astray() -> None:
    # beyond 0.25 in the first coordinate the network gives no numbers
    env = TanhDisc(edge=0.25, **DISC)
    run = rollout(env, agents.BarrierAttack(), batch=6, steps=40)
    assert float(run.metrics["failed"].sum()) > 0
    started_well = run.metrics["failed"][0] == 0
    assert (run.best[-1] < run.best[0] - 0.05)[started_well].all()
    assert (run.state.hidden.best_point[:, 0] <= 0.25)[started_well].all()


def test_an_infeasible_start_becomes_feasible() -> None:
    env = FarDisc(**DISC)
    run = rollout(env, agents.BarrierAttack(), batch=6, steps=15)
    outside = run.metrics["feasible"][0] == 0
    assert int(outside.sum()) >= 3
    assert run.metrics["feasible"][-1].bool().all()
    assert (run.best[-1] < -0.5).all()


def test_new_starts_come_near_the_exact_optimum_of_small_networks() -> None:
    env = PrintedReluBox(dim=10, widths=(20,), points=1, oracle="jacobian")
    run = rollout(env, agents.BarrierAttack(), batch=3, steps=60)
    optima = torch.tensor([0.109287, 0.117356, 0.123009], dtype=torch.float64)
    assert torch.allclose(-run.best[-1], optima, atol=2e-4)
    assert (-run.best[-1] <= optima + 1e-6).all()


def test_the_bundle_sees_kinks() -> None:
    # the floor of the valley is where two slopes have ended: with one piece alone each step goes too far
    env = Ramp(points=1, oracle="jacobian", tolerance=0.0)
    run = rollout(env, agents.BarrierAttack(), batch=8, steps=12)
    assert (run.best[-1] == 0).all()


def test_it_asks_at_most_one_point_and_the_jacobian_there() -> None:
    env = TanhDisc(**(DISC | {"points": 3}))
    run = rollout(env, agents.BarrierAttack(), batch=3, steps=10)
    asked = run.calls["value"].diff(dim=0)
    assert int(asked.min()) >= 0 and int(asked.max()) == 1
    assert (run.calls["jacobian"].diff(dim=0) == 1).all()
    alone = rollout(TanhDisc(**DISC), agents.BarrierAttack(), batch=3, steps=10)
    assert torch.equal(run.best, alone.best)


@pytest.mark.parametrize(("env", "rounds", "each"), [("disc", 2, 2), ("ramp", 3, 1)])
def test_quadratic_programs_are_on_record(env: str, rounds: int, each: int) -> None:
    # a straight value without constraints is the model itself: one program is all
    problem = TanhDisc(**DISC) if env == "disc" else Ramp(points=1, oracle="jacobian")
    run = rollout(problem, agents.BarrierAttack(rounds=rounds, limits=(1e-2, 1.0)), batch=4, steps=40)
    assert run.work is not None
    solved = run.work["quadratic_program"].diff(dim=0)
    live = ~run.done[:-1]
    # none where a start is over, and the next point is drawn
    assert set(solved[live].unique().tolist()) == ({0, each} if env == "disc" else {each})
    assert (solved[~live] == 0).all()
    # the first attack is made at once, from what the first answer says
    assert (solved[0] == each).all()


def test_it_refuses_constraints_in_a_penalty() -> None:
    env = TanhDisc(formulation="penalty", points=1, oracle="jacobian")
    with pytest.raises(ValueError, match="BarrierAttack: formulation: expected 'constraints'"):
        rollout(env, agents.BarrierAttack(), steps=1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("radius", 2.0),
        ("limits", (0.5, 0.1)),
        ("margin", -1.0),
        ("rounds", 0),
        ("bundle", 0),
        ("near", -1.0),
        ("trust", -0.1),
        ("tolerance", -1e-9),
        ("trigger", -1.0),
    ],
)
def test_bad_settings(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"BarrierAttack: {field}: expected"):
        agents.BarrierAttack(**{field: value})

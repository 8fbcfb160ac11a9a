"""Mesh adaptive direct search and its barrier, against the rules applied one point at a time."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from surrogate_problems import Ramp, TanhDisc, disc_optima

import agents
from agents.surrogate._barrier import Seen, absorb, empty, reopen, tighten
from optenvs.core.random import keys_from_seed, uniform
from optenvs.core.rollout import agent_keys, rollout

DISC = TanhDisc(formulation="constraints", points=3)


def answers(turns: int, batch: int = 40, count: int = 3) -> list[Seen]:
    """Random points of one coordinate, some of them feasible, some without a value."""
    found = []
    for turn in range(turns):
        draw = uniform(keys_from_seed(1, batch), "answers", (count, 3), turn, torch.float64)
        violation = torch.where(draw[..., 0] < 0.3, 0.0, draw[..., 0])
        lost = (draw[..., 2] < 0.1).unsqueeze(-1)
        none = torch.tensor(torch.inf, dtype=draw.dtype)
        found.append(
            Seen(
                point=draw[..., 2:],
                value=torch.where(lost.squeeze(-1), none, draw[..., 1] - violation),
                violation=torch.where(lost.squeeze(-1), none, violation),
            )
        )
    return found


class Reference:
    """The barrier of one instance, with all its past, one answer an iteration."""

    def __init__(self) -> None:
        self.past: list[tuple[float, float]] = []
        self.feasible, self.f, self.h, self.limit = math.inf, math.inf, math.inf, math.inf

    def iterate(self, trials: list[tuple[float, float]]) -> bool:
        f, h = self.f, self.h
        known = f < math.inf
        inside = min([value for value, violation in trials if violation == 0], default=math.inf)
        gained, self.feasible = inside < self.feasible, min(inside, self.feasible)
        outside = [(a, b) for a, b in trials if 0 < b < math.inf]
        self.past += outside
        dominated = known and any(a <= f and b <= h and (a < f or b < h) for a, b in outside)
        better = any(b < h for _, b in outside)
        if known and better and not dominated and not gained:
            self.limit = max(b for _, b in self.past if b < h)
        allowed = [(a, b) for a, b in self.past if b <= self.limit]
        if allowed:
            self.f, self.h = min(allowed)
            self.limit = self.h
        return gained or dominated


def test_the_barrier_is_that_of_the_rules() -> None:
    turns = answers(12)
    barrier = empty(turns[0].point[:, 0])
    references = [Reference() for _ in range(len(turns[0].point))]
    moved = 0
    for seen in turns:
        before = barrier.violation
        barrier, dominated = absorb(barrier, seen)
        barrier = tighten(barrier, dominated)
        moved += int((barrier.violation != before).sum())
        for i, reference in enumerate(references):
            trials = list(zip(seen.value[i].tolist(), seen.violation[i].tolist(), strict=True))
            assert reference.iterate(trials) == bool(dominated[i])
            found = [barrier.feasible_value, barrier.infeasible_value, barrier.violation, barrier.limit]
            expected = [reference.feasible, reference.f, reference.h, reference.limit]
            assert [float(leaf[i]) for leaf in found] == expected
    assert moved > 60, "the infeasible incumbents hardly move: nothing is compared"


def test_a_reopened_barrier_keeps_its_incumbents_only() -> None:
    barrier = empty(answers(1)[0].point[:, 0])
    for seen in answers(4):
        barrier, dominated = absorb(barrier, seen)
        barrier = tighten(barrier, dominated)
    rows = torch.arange(len(barrier.limit)) % 2 == 0
    after = reopen(barrier, rows)
    assert after.limit[rows].isinf().all() and torch.equal(after.limit[~rows], barrier.limit[~rows])
    assert torch.equal(after.infeasible_value, barrier.infeasible_value)
    assert (after.values[rows].isfinite().sum(-1) <= 1).all()
    assert torch.equal(after.values[~rows], barrier.values[~rows])


def episode(agent: Any, env: Any, steps: int, batch: int = 3) -> list[tuple[Any, Any, Any]]:
    """Memories, the actions that they led to, and the states that came of them."""
    keys = keys_from_seed(0, batch)
    state = env.reset(keys)
    memory = agent.init(state.problem, state.observation, agent_keys(keys))
    path = []
    with torch.no_grad():
        for _ in range(steps):
            action, memory = agent.act(memory, state.observation)
            state = env.step(state, action)
            path.append((memory, action, state))
    return path


def test_trials_are_on_the_mesh_around_an_incumbent() -> None:
    inner = 0
    for memory, action, _ in episode(agents.MADS(), DISC, 40):
        mesh = torch.minimum(memory.frame, memory.frame**2)[:, None, None] * memory.span.unsqueeze(1)
        points, barrier = action["points"], memory.barrier
        free = ((points > -1) & (points < 1)).all(-1)  # not cut to the box
        off = []
        for centre in (barrier.feasible, barrier.infeasible):
            steps = (points - centre.unsqueeze(1)) / mesh
            off.append((steps - steps.round()).abs().amax(-1))
        asked = torch.arange(points.shape[1]) < action["count"]
        assert (torch.minimum(*off)[free & asked] < 1e-6).all()
        inner += int((free & asked).sum())
    assert inner > 100


def test_it_ends_near_an_optimum_of_the_constrained_problem() -> None:
    found = {
        barrier: rollout(DISC, agents.MADS(barrier=barrier), batch=4, steps=400).best[-1]
        for barrier in ("progressive", "extreme")
    }
    for best in found.values():
        for value, optima in zip(best.tolist(), disc_optima(DISC, 4), strict=True):
            # polls slide slowly along the sphere: a hundredth of what the values range over
            assert min(abs(value - optimum) for optimum in optima) < 0.02
    assert (found["progressive"] <= found["extreme"] + 2e-2).all()


def test_the_extreme_barrier_has_no_infeasible_incumbent() -> None:
    kinds = {}
    for barrier in ("progressive", "extreme"):
        path = episode(agents.MADS(barrier=barrier), DISC, 30)
        kinds[barrier] = bool(torch.stack([m.barrier.infeasible_value for m, _, _ in path]).isfinite().any())
    assert kinds == {"progressive": True, "extreme": False}


def test_a_collapsed_frame_begins_anew() -> None:
    env = Ramp(points=4)
    frames = {}
    for restart in (1e-2, None):
        path = episode(agents.MADS(restart=restart), env, 60)
        frames[restart] = torch.stack([memory.frame for memory, _, _ in path])
    assert frames[1e-2].min() >= 1e-2
    jumps = frames[1e-2][1:] / frames[1e-2][:-1]
    assert (jumps > 2.1).any(), "no frame has begun anew"
    assert frames[None].min() < 1e-4


def test_a_query_asks_no_product_that_it_does_not_need() -> None:
    env = TanhDisc(formulation="constraints", points=3, oracle="vjp")
    run = rollout(env, agents.MADS(), batch=2, steps=20)
    plain = rollout(DISC, agents.MADS(), batch=2, steps=20)
    assert int(run.calls["vjp"].sum()) == 0
    assert torch.equal(run.best, plain.best)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("frame", 0.0),
        ("frame", 2.0),
        ("largest", 1.5),
        ("restart", 0.5),
        ("barrier", "soft"),
        ("trigger", -1.0),
        ("pairs", 0.5),
    ],
)
def test_bad_settings(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"MADS: {field}: expected"):
        agents.MADS(**{field: value})

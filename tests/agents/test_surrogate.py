"""Agents of surrogates against the same methods written as loops over one point at a time."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from surrogate_problems import Ramp, TanhDisc
from torch import Tensor

import agents
import optenvs
from agents.surrogate import _geometry as geometry
from agents.surrogate import relax_and_walk
from agents.surrogate._relu import activations
from optenvs.core.random import keys_from_seed
from optenvs.core.rollout import agent_keys
from optenvs.envs.surrogate.relu_box import ReluBox

BATCH = 4
SHORT: dict[str, Any] = {"radius": 0.1}
AGENTS = {
    "cdsm": agents.CDSM(limits=(5e-3, 0.5), **SHORT),
    "random_line_search": agents.RandomLineSearch(limits=(5e-3, 0.5), **SHORT),
    "attack_only": agents.AttackOnly(limits=(5e-3, 0.5), **SHORT),
    "directional_attack": agents.DirectionalAttack(
        attack_limits=(5e-3, 1.0), poll_limits=(1e-2, 0.5), tau=0.05, **SHORT
    ),
    "rotated": agents.DirectionalAttack(
        attack_limits=(5e-3, 1.0), poll_limits=(1e-2, 0.5), tau=0.05, rotation="common", **SHORT
    ),
}


def disc(agent: Any, points: int, **keywords: Any) -> TanhDisc:
    oracle = "vjp" if "vjp" in agent.needs else "value"
    return TanhDisc(points=points, oracle=oracle, budget=None, **keywords)


class Loop:
    """One instance: counts the points tried, keeps the incumbent."""

    def __init__(self, env: TanhDisc, row: int) -> None:
        keys = keys_from_seed(0, BATCH)
        state = env.reset(keys)
        self.look, self.data = env.look, state.hidden.data[row : row + 1]
        self.key = agent_keys(keys)[row : row + 1]
        self.x = state.observation["point"][row, 0]
        self.value = self.at(self.x)
        self.points, self.turn, self.searches = 0, 0, 0

    def at(self, x: Tensor) -> Tensor:
        return self.look(self.data, x[None, None]).value[0, 0]

    def slope(self) -> Tensor:
        with torch.enable_grad():
            leaf = self.x.clone().requires_grad_()
            return -torch.autograd.grad(self.at(leaf), leaf)[0]

    def try_all(self, trials: Tensor) -> int | None:
        """Which of the trials is the first success, if any; the incumbent moves there."""
        for place, x in enumerate(trials):
            self.points += 1
            value = self.at(x)
            if value < self.value:
                self.x, self.value = x, value
                return place
        return None

    def drawn(self, draw: Callable[..., Tensor], *before: Any, **after: Any) -> Tensor:
        return draw(self.key, *before, torch.tensor([self.turn]), self.x[None], **after)[0]

    def covering(self, radius: float) -> Tensor:
        share = geometry.uniform(self.key, "covering length", 1, torch.tensor([self.turn]), self.x.dtype)
        return self.x + radius * share[0] ** (1 / len(self.x)) * self.drawn(geometry.unit_inf, "covering")

    def search(self, radius: float, most: float) -> Tensor:
        length = min(most, radius * math.sqrt(self.searches + 1))
        return self.x + length * self.drawn(geometry.unit_inf, "search")


def slow_cdsm(run: Loop, agent: agents.CDSM) -> None:
    low, high = agent.limits
    r = agent.radius
    while r > low:
        done = run.try_all(run.covering(agent.radius)) is not None
        if not done:
            done = run.try_all(run.search(agent.radius, high)) is not None
            if not done:
                poll = run.x + r * geometry.poll_both(run.drawn(geometry.householder)[None])[0]
                r = min(high, 2 * r) if run.try_all(poll) is not None else max(low, r / 2)
            run.searches += 1
        run.turn += 1


def slow_line_search(run: Loop, agent: agents.RandomLineSearch) -> None:
    low, high = agent.limits
    r, failures = agent.radius, 0
    while r > low:
        directions = run.drawn(geometry.unit_inf, "line", count=2)
        trials = torch.stack([run.x + r * t * d for d in directions for t in (1.1, 1, 1 / 1.1)])
        hit = run.try_all(trials)
        if hit is not None:
            r, failures = min(high, max(low, r * (1.1, 1, 1 / 1.1)[hit % 3])), 0
        else:
            failures += 1
            if failures > len(run.x) + 1:
                r = max(low, r / 1.3)
        run.turn += 1


def slow_attacks(run: Loop, agent: agents.AttackOnly) -> None:
    low, high = agent.limits
    r = agent.radius
    while r >= low:
        radii = [min(high, max(low, t * r)) for t in (1.1, 1)]
        hit = run.try_all(torch.stack([run.x + t * run.slope().sign() for t in radii]))
        r = r / 1.5 if hit is None else radii[hit]


def slow_hybrid(run: Loop, agent: agents.DirectionalAttack) -> None:
    (least, most), (low, high) = agent.attack_limits, agent.poll_limits
    r_a = r_d = agent.radius
    while r_a > least or r_d > low:
        before = run.value
        hit = run.try_all((run.x + r_a * run.slope().sign())[None]) is not None
        if hit and (before - run.value) / (abs(before) + 1e-10) >= agent.tau:
            r_a = min(most, 1.3 * r_a)
            r_d = 2 * r_d if r_d <= low else r_d
        else:
            r_a = min(most, 1.1 * r_a) if hit else max(least, r_a / 1.3)
            if run.try_all(run.covering(agent.radius)) is None:
                won = False
                if r_d > low:
                    won = run.try_all(run.search(agent.radius, high)) is not None
                run.searches += 1
                if r_d > low and not won:
                    p = geometry.poll_simplex(run.drawn(geometry.householder)[None])
                    if agent.rotation == "common":
                        p = geometry.rotated(p, run.key, torch.tensor([run.turn]), common=True)
                    p = p[0] / p[0].abs().amax(-1, keepdim=True)
                    won = run.try_all(run.x + r_d * p) is not None
                r_d = min(high, 2 * r_d) if won else max(low, r_d / 2)
        run.turn += 1


LOOPS: dict[str, Callable[..., None]] = {
    "cdsm": slow_cdsm,
    "random_line_search": slow_line_search,
    "attack_only": slow_attacks,
    "directional_attack": slow_hybrid,
    "rotated": slow_hybrid,
}


@functools.cache
def walked(name: str, row: int) -> Loop:
    """The loop of an instance, over: it tries the same points however many a query may ask."""
    loop = Loop(disc(AGENTS[name], 3), row)
    LOOPS[name](loop, AGENTS[name])
    return loop


@pytest.mark.parametrize("points", [3, 20])
@pytest.mark.parametrize("name", AGENTS)
def test_it_is_the_method_point_by_point(name: str, points: int) -> None:
    agent = AGENTS[name]
    env = disc(agent, points)
    run = optenvs.rollout(env, agent, batch=BATCH, steps={3: 500, 20: 200}[points])
    assert run.agent_state.finished.all()
    for row in range(BATCH):
        loop = walked(name, row)
        assert int(run.calls["value"][-1, row]) == loop.points + 1
        assert torch.allclose(run.agent_state.best.point[row], loop.x, atol=1e-9)
        assert float(run.best[-1, row]) == pytest.approx(float(loop.value), abs=1e-9)
    # a search that is over asks nothing
    action, _ = agent.act(run.agent_state, run.state.observation)
    assert isinstance(action, dict)
    assert not action["count"].any()
    assert "cotangent" not in action or not action["cotangent"].any()


@pytest.mark.parametrize("name", AGENTS)
def test_where_the_network_fails_is_no_incumbent(name: str) -> None:
    run = optenvs.rollout(disc(AGENTS[name], 8, edge=0.3), AGENTS[name], batch=BATCH, steps=120)
    best = run.agent_state.best
    assert run.metrics["failed"].sum() > 0
    assert (best.point[:, 0] <= 0.3).all()
    assert torch.equal(best.value, run.best[-1])


@pytest.mark.parametrize("name", AGENTS)
def test_no_point_leaves_a_hard_box(name: str) -> None:
    agent = AGENTS[name]
    oracle = "vjp" if "vjp" in agent.needs else "value"
    env = ReluBox(dim=4, widths=(5,), points=8, oracle=oracle, budget=None)
    run = optenvs.rollout(env, agent, batch=4, steps=80, record=("point",))
    points = run.recorded["point"]
    assert points.min() >= 0 and points.max() <= 1
    assert ((points == 0) | (points == 1)).any()
    assert (run.best[-1] < run.best[0]).all()


def test_official_options_change_the_run() -> None:
    changed = [{}, {"official_covering": True}, {"rotation": "independent"}, {"rotation": "common"}]
    changed += [{"rotation": "independent", "official_rotation": True}, {"loss": "ce"}]
    found = set()
    for options in changed:
        agent = AGENTS["directional_attack"].replace(**options)
        run = optenvs.rollout(disc(agent, 8), agent, batch=2, steps=60)
        found.add(tuple(run.agent_state.best.point.flatten().tolist()))
    assert len(found) == len(changed)


def test_the_official_covering_is_longer_where_the_radius_is_small() -> None:
    keys, turn = keys_from_seed(0, 400), torch.arange(400)
    like = torch.zeros(400, 2, dtype=torch.float64)
    ours = geometry.covering(keys, turn, 1e-3, like).abs().amax((-2, -1))
    theirs = geometry.covering(keys, turn, 1e-3, like, official=True).abs().amax((-2, -1))
    assert 0.95e-3 < float(ours.max()) <= 1e-3
    assert 0.030 < float(theirs.max()) <= 1e-3**0.5
    assert float((ours < 1e-3 * 0.5**0.5).double().mean()) == pytest.approx(0.5, abs=0.08)  # uniform in area


@pytest.mark.parametrize("name", ["cdsm", "directional_attack"])
def test_constraints_apart_are_refused(name: str) -> None:
    agent = AGENTS[name]
    env = disc(agent, 8, formulation="constraints")
    with pytest.raises(ValueError, match=f"{type(agent).__name__}: formulation: expected 'penalty'"):
        optenvs.rollout(env, agent, steps=1)


@pytest.mark.parametrize("agent", [agents.PiecewiseLinearAscent(), agents.RelaxAndWalk()])
def test_walks_need_a_relu_network_in_the_open(agent: Any) -> None:
    with pytest.raises(ValueError, match="white_box: the network is hidden"):
        optenvs.rollout(ReluBox(points=2), agent, steps=1)
    with pytest.raises(ValueError, match="expected a ReLU network.*got TanhTask"):
        optenvs.rollout(disc(agent, 2, white_box=True), agent, steps=1)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (agents.CDSM, {"radius": 0.0}, "radius: expected a number > 0"),
        (agents.CDSM, {"limits": (1.0, 0.1)}, "limits: expected two numbers"),
        (agents.CDSM, {"covering_radius": -1.0}, "covering_radius"),
        (agents.RandomLineSearch, {"shrink": 1.0}, "shrink: expected a number > 1"),
        (agents.RandomLineSearch, {"multipliers": ()}, "multipliers"),
        (agents.AttackOnly, {"loss": "hinge"}, "loss: expected linear or ce"),
        (agents.DirectionalAttack, {"attack": "cw"}, "attack: expected fgsm or pgd"),
        (agents.DirectionalAttack, {"tau": -1.0}, "tau"),
        (agents.DirectionalAttack, {"official_rotation": True}, "rotation='independent' with it"),
        (agents.ProjectedGradient, {"lr": 0.0}, "lr"),
        (agents.ProjectedGradient, {"period": 0}, "period"),
        (agents.PiecewiseLinearAscent, {"overshoot": 0.0}, "overshoot"),
        (agents.RelaxAndWalk, {"starts": "warm"}, "starts: expected relaxation or random"),
        (agents.RelaxAndWalk, {"memory": 0}, "memory"),
    ],
)
def test_bad_hyperparameters_are_named(make: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_projected_gradient_is_the_loop() -> None:
    env = ReluBox(dim=5, widths=(8, 6), points=2, oracle="vjp", budget=None)
    agent = agents.ProjectedGradient(lr=0.5, period=7)
    run = optenvs.rollout(env, agent, batch=3, steps=30, record=("point", "evaluated"))
    data = run.state.hidden.data
    answered = run.recorded["evaluated"][:, 0, 0] > 0
    path = run.recorded["point"][answered][:, :, 0]  # (T, B, n)
    assert len(path) == 1 + 15  # one point and one product an iteration
    assert run.calls["vjp"][-1].tolist() == [15] * 3
    x, t = path[0], 1
    for step in range(1, 8):
        with torch.enable_grad():
            leaf = x.clone().requires_grad_()
            value = env.task.network(data, leaf.unsqueeze(1)).sum()
            (g,) = torch.autograd.grad(value, leaf)
        x = (x + 0.5 / math.sqrt(t) * g).clamp(0, 1)
        assert torch.allclose(path[step], x, atol=1e-12)
        t += 1
    assert (path[8] - path[7]).abs().amax(-1).min() > 0.05  # anew


def test_an_ascent_goes_just_beyond_its_piece() -> None:
    env = ReluBox(dim=5, widths=(8, 6), points=3, white_box=True, budget=None)
    agent = agents.PiecewiseLinearAscent(overshoot=1e-3)
    keys = keys_from_seed(0, 4)
    state = env.reset(keys)
    memory = agent.init(state.problem, state.observation, agent_keys(keys))
    layers, crossed = state.problem.weights, 0
    for _ in range(25):
        before, value = state.observation["point"], -state.observation["value"]
        starts = memory.starts
        action, memory = agent.act(memory, state.observation)
        state = env.step(state, action)
        after = state.observation["point"]
        # at a ridge each step is a thousandth of the one before, until nothing is left of it
        goes = (memory.starts == starts) & ((after - before).abs().amax(-1) > 1e-9)
        # the output is linear as far as the end of the piece
        end = before + (after - before) / (1 + 1e-3)
        middle = env.task.network(layers, (before + end) / 2).squeeze(-1)
        last = env.task.network(layers, end).squeeze(-1)
        assert torch.allclose(middle[goes], ((value + last) / 2)[goes], atol=1e-12)
        signs = [torch.cat(activations(layers, x), -1) > 0 for x in (before, after)]
        face = ((after != before) & ((after == 0) | (after == 1))).any(-1)
        changed = (signs[0] != signs[1]).any(-1)
        assert (changed | face)[goes].all()
        crossed += int(changed[goes].sum())
    assert crossed > 20


def test_a_walk_stops_where_its_neighbours_are_worse() -> None:
    run = optenvs.rollout(Ramp(points=1, white_box=True), agents.RelaxAndWalk(), batch=5, steps=6)
    assert (run.best[-1] == 0).all()
    memory = run.agent_state
    assert (memory.draws >= 1).all() and (memory.pieces == 6).all()


def test_linear_programs_are_on_record(monkeypatch: pytest.MonkeyPatch) -> None:
    solved: list[int] = []

    def counted(*arguments: Any) -> Any:
        solved.append(1)
        return minimum(*arguments)

    minimum = relax_and_walk._minimum
    monkeypatch.setattr(relax_and_walk, "_minimum", counted)
    env = ReluBox(dim=4, widths=(6,), points=1, white_box=True, budget=None)
    run = optenvs.rollout(env, agents.RelaxAndWalk(), batch=2, steps=12)
    assert run.work is not None
    assert torch.equal(run.work["piece"][-1], run.agent_state.pieces)
    assert (run.work["relaxation"][-1] >= run.agent_state.fixed).all()
    assert int(run.work.counts[-1].sum()) == len(solved)
    # starts drawn at random relax nothing
    random = optenvs.rollout(env, agents.RelaxAndWalk(starts="random"), batch=2, steps=3)
    assert random.work is not None and random.work.counts[-1].tolist() == [[0, 3], [0, 3]]


def test_relaxations_skip_what_was_walked() -> None:
    env = ReluBox(dim=4, widths=(6,), points=1, white_box=True, budget=None)
    run = optenvs.rollout(env, agents.RelaxAndWalk(), batch=2, steps=12)
    memory = run.agent_state
    assert (memory.draws > 1).all()
    assert ((memory.fixed > 0) | (memory.cycle > 0)).all()
    # a memory of one piece forgets, and walks the same pieces more often
    short = optenvs.rollout(env, agents.RelaxAndWalk(memory=1), batch=2, steps=12).agent_state
    assert short.cycle.sum() < memory.cycle.sum() or short.fixed.sum() < memory.fixed.sum()

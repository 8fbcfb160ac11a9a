"""Policy-search agents against their formulas, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from policy_problems import Hill
from torch import Tensor

import agents
import optenvs
from optenvs.core.errors import OracleMismatch
from optenvs.core.random import keys_from_seed, normal
from optenvs.core.rollout import agent_keys

DOUBLE = torch.float64


class Told:
    """An agent that is told drawn numbers; ``asked`` are its queries, ``points`` its iterates."""

    def __init__(self, agent: Any, steps: int) -> None:
        state = Hill(dtype="float64", budget=None).reset(keys_from_seed(0, 1))
        memory = agent.init(state.problem, state.observation, agent_keys(state.key))
        self.points, self.asked, self.answers = [memory.x], [], [state.observation]
        for t in range(steps):
            action, memory = agent.act(memory, self.answers[-1])
            self.points.append(memory.x)
            self.asked.append(action)
            drawn = {
                "policy_gradient": normal(state.key, "g", 2, t, DOUBLE),
                "product": normal(state.key, "v", 2, t, DOUBLE),
                "pair": normal(state.key, "pair", (2, 2), t, DOUBLE),
            }
            self.answers.append(state.observation | drawn | {"answered": action["want"]})

    def wanted(self, t: int) -> list[str]:
        kinds = Hill(budget=None).card.offer.kinds
        return [kind for kind, want in zip(kinds, self.asked[t]["want"][0].tolist(), strict=True) if want]


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_look_ahead_and_average_are_as_printed() -> None:
    run, d = Told(agents.NPGIGT(lr=0.3, eta0=0.7), 6), None
    for t in range(6):
        eta = min(1.0, 0.7 * (2 / (t + 2)) ** 0.8)
        g = run.answers[t]["policy_gradient"]
        d = g if d is None else (1 - eta) * d + eta * g
        close(run.points[t + 1], run.points[t] + 0.3 * 2 / (t + 2) * d / d.norm())
        after = min(1.0, 0.7 * (2 / (t + 3)) ** 0.8)
        step = run.points[t + 1] - run.points[t]
        close(run.asked[t]["x"], run.points[t + 1] + (1 - after) / after * step)
        close(run.asked[t]["recommendation"], run.points[t + 1])


@pytest.mark.parametrize(("name", "hvp"), [("harpg", "paper"), ("n_harpg", "causal"), ("sharp", "paper")])
def test_hessian_aided_momentum_is_as_printed(name: str, hvp: str) -> None:
    agent = agents.make(name, lr=0.3, hvp=hvp)
    run, power = Told(agent, 5), {"harpg": (0.5, 1.0), "n_harpg": (1.0, 1.0), "sharp": (2 / 3, 2 / 3)}[name]
    kind, d = {"paper": "product", "causal": "causal_product"}[hvp], torch.zeros(1, 2, dtype=DOUBLE)
    for t in range(5):
        g, v = run.answers[t]["policy_gradient"], run.answers[t][kind]
        eta = (2 / (t + 2)) ** power[1]
        d = g if t == 0 else (1 - eta) * (d + v) + eta * g
        way = d if name == "harpg" else d / d.norm()
        close(run.points[t + 1], run.points[t] + 0.3 * (2 / (t + 2)) ** power[0] * way)
        asked, step = run.asked[t], run.points[t + 1] - run.points[t]
        assert run.wanted(t) == ["policy_gradient", kind]
        close(asked["vector"], step)
        share = (asked["second"] - run.points[t]) / step
        close(share[0, 0], share[0, 1])  # one number for all weights
        assert 0 <= float(share[0, 0]) <= 1


def test_recursions_in_epochs_are_as_printed() -> None:
    for name in ("svrpg", "srvr_pg"):
        run = Told(agents.make(name, lr=0.1, batch=3, period=2), 8)
        g = [answer["policy_gradient"] for answer in run.answers]
        mean = (g[0] + g[1] + g[2]) / 3
        assert torch.equal(run.points[2], run.points[0])
        close(run.points[3], run.points[0] + 0.1 * mean)
        here, there = run.answers[3]["pair"].unbind(1)
        close(run.points[4], run.points[3] + 0.1 * (mean + here - there))
        close(run.asked[2]["second"], run.points[0])
        assert [run.wanted(t) for t in range(5)] == [["policy_gradient"]] * 2 + [["pair"]] + [
            ["policy_gradient"]
        ] * 2
        close(run.points[7], run.points[4] + 0.1 * (g[4] + g[5] + g[6]) / 3)


def test_momentum_with_corrections_is_as_printed() -> None:
    run = Told(agents.STORMPG(lr=0.1, batch=1, alpha=0.2), 4)
    d = run.answers[0]["policy_gradient"]
    for t in range(1, 4):
        here, there = run.answers[t]["pair"].unbind(1)
        d = here + 0.8 * (d - there)
        close(run.points[t + 1], run.points[t] + 0.1 * d)
        close(run.asked[t - 1]["second"], run.points[t - 1])
    run = Told(agents.HAMBPG(lr=0.5, m=2.0, c=2.0), 4)
    squares, d, step = 0.0, torch.zeros(1, 2, dtype=DOUBLE), 0.0
    for t in range(4):
        g, v = run.answers[t]["policy_gradient"], run.answers[t]["product"]
        alpha = min(1.0, 2 * step**2)
        d = g if t == 0 else (1 - alpha) * (d + v) + alpha * g
        squares += float(g.square().sum())
        step = 0.5 / (2 + squares) ** (1 / 3)
        close(run.points[t + 1], run.points[t] + step * d)


def test_a_direction_of_no_length_moves_nothing() -> None:
    agent = agents.NPGIGT()
    state = Hill(dtype="float64", budget=None).reset(keys_from_seed(0, 2))
    memory = agent.init(state.problem, state.observation, agent_keys(state.key))
    flat = state.observation | {"policy_gradient": torch.zeros_like(memory.x)}
    action, after = agent.act(memory, flat)
    assert torch.equal(after.x, memory.x) and action["x"].isfinite().all()


def test_baselines_leave_the_mean_and_lessen_the_spread() -> None:
    env = optenvs.make(
        "PolicySearch", task="tabular", trajectories=8, episode_length=40, start_std=1.0, budget=None
    )
    found = {}
    for baseline in ("none", "mean", "time", "linear"):
        agent = agents.Reinforce(
            lr=1e-9, baseline=baseline
        )  # it stands, so that steps are draws of one gradient
        run = optenvs.rollout(env, agent, batch=1, steps=61, record=("point",))
        found[baseline] = run.recorded["point"][:, 0].diff(dim=0)[2:] / 1e-9
    state = env.reset(keys_from_seed(0, 1))
    exact = env.exact(state, state.observation["x"])[1][0]  # type: ignore[attr-defined]
    spread = {name: float(steps.var(0).sum()) for name, steps in found.items()}
    assert max(spread["time"], spread["linear"]) < 0.6 * spread["none"], spread
    for name, steps in found.items():
        error = float((steps.mean(0) - exact).norm())
        assert error < 0.25 * float(exact.norm()) + 3 * (spread[name] / len(steps)) ** 0.5, name


@pytest.mark.parametrize("name", ["npg", "npg_hm"])
def test_natural_steps_solve_the_fisher_system(name: str) -> None:
    env = optenvs.make("PolicySearch", task="tabular", trajectories=6, episode_length=15, budget=None)
    state = env.reset(keys_from_seed(0, 2))
    agent = agents.make(name, lr=1.0, damping=0.1, iterations=40)
    memory = agent.init(state.problem, state.observation, agent_keys(state.key))
    with torch.no_grad():
        action, memory = agent.act(memory, state.observation)  # asks trajectories first
        assert torch.equal(memory.x, state.observation["x"])
        state = env.step(state, action)
        _, after = agent.act(memory, state.observation)
        u, played = after.x - memory.x, state.problem.unpacked(state.observation["trajectory"])
        estimator = state.problem.estimator
        scores = torch.stack(
            [estimator.scores(memory.x, e.expand(2, -1), played) for e in torch.eye(15, dtype=DOUBLE)], -1
        ).flatten(1, 2)
        fisher = scores.mT @ scores / scores.shape[1] + 0.1 * torch.eye(15, dtype=DOUBLE)
        close_to = estimator.gradient(memory.x, played)
    left = (fisher @ u.unsqueeze(-1)).squeeze(-1) - close_to
    assert float((left.norm(dim=-1) / close_to.norm(dim=-1)).max()) < 1e-8


def test_a_row_that_cannot_pay_has_finished() -> None:
    run = optenvs.rollout(Hill(budget={"trajectories": 50, "product": 2}), agents.HARPG(), batch=2, steps=10)
    assert run.done[-1].all() and run.calls["product"][-1].tolist() == [2, 2]
    env = optenvs.make("PolicySearch", task="cartpole", episode_length=20, budget=30, test_episodes=1)
    run = optenvs.rollout(env, agents.NHARPG(), batch=2)
    assert run.calls["trajectories"].max() <= 30 and run.merit.isfinite().all()


def test_problems_of_another_kind_are_refused() -> None:
    with pytest.raises(OracleMismatch, match="NPGIGT needs the oracle\\(s\\) policy_gradient"):
        optenvs.rollout(optenvs.make("Quadratic"), agents.NPGIGT(), steps=1)
    state = optenvs.make("Rosenbrock", oracle="hessian").reset(keys_from_seed(0, 1))
    with pytest.raises(TypeError, match="expected a policy search"):
        agents.NPGIGT().init(state.problem, state.observation, state.key)


@pytest.mark.parametrize(
    ("name", "message", "settings"),
    [
        ("n_pg_igt", "lr: expected a number > 0", {"lr": 0.0}),
        ("n_pg_igt", "eta0: expected a number > 0", {"eta0": 0.0}),
        ("n_mpg", "eta_power: expected a number >= 0", {"eta_power": -1.0}),
        ("vanilla_pg", "power: expected a number >= 0", {"power": -1.0}),
        ("harpg", "hvp: expected 'paper' or 'causal', got 'code'", {"hvp": "code"}),
        ("hapg", "hvp: expected 'paper' or 'causal'", {"hvp": ""}),
        ("storm_pg", "alpha: expected a number in \\(0, 1\\]", {"alpha": 0.0}),
        ("storm_pg", "batch: expected a whole number >= 1", {"batch": 0}),
        ("svrpg", "period: expected a whole number >= 1, or None", {"period": 0}),
        ("is_mbpg", "m: expected a number > 0", {"m": 0.0}),
        ("reinforce", "baseline: expected one of none, mean, time, linear", {"baseline": "state"}),
        ("npg", "damping: expected a number > 0", {"damping": 0.0}),
        ("npg_hm", "iterations: expected a whole number >= 1", {"iterations": 0}),
    ],
)
def test_it_says_what_is_wrong(name: str, message: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=message):
        agents.make(name, **settings)

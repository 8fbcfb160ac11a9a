"""Policy search: its tasks against their definitions, what is asked, answered, billed and refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import InvalidAction
from torch import Tensor

import optenvs
from optenvs.core.oracles import value_and_gradient
from optenvs.core.random import keys_from_seed, normal
from optenvs.core.struct import rows
from optenvs.envs.policy.search import PolicySearch
from optenvs.models.trajectories import log_probs

DOUBLE = torch.float64
SMALL: dict[str, dict[str, Any]] = {
    "lqr": {"episode_length": 4, "actions": 2, "dim": 3},
    "tabular": {"episode_length": 4, "explore": 0.1, "start_std": 1.0},
    "cartpole": {"episode_length": 5, "widths": (3,), "test_episodes": 2},
    "acrobot": {"episode_length": 3, "widths": (3,), "test_episodes": 2},
    "pendulum": {"episode_length": 3, "widths": (3,), "test_episodes": 2},
}


def search(task: str, **keywords: Any) -> PolicySearch:
    return optenvs.make("PolicySearch", task=task, **(SMALL.get(task, {}) | keywords))  # type: ignore[return-value]


def ask(env: PolicySearch, state: Any, *kinds: str, **places: Tensor) -> Any:
    at = dict.fromkeys(("x", "second", "recommendation"), state.observation["recommendation"]) | places
    with torch.no_grad():
        return env.step(state, env.card.offer.query(dict.fromkeys(kinds, True), **at))


@pytest.mark.parametrize("task", SMALL)
def test_the_checker_passes_each_task(task: str) -> None:
    assert optenvs.check(search(task), batch=2, steps=2).ok


def test_the_tables_return_is_that_of_its_series() -> None:
    env = search("tabular", budget=None)
    state = env.reset(keys_from_seed(0, 3))
    world, x = state.hidden.world, normal(state.key, "x", 15, dtype=DOUBLE)
    shares = env.process.shares(x)  # type: ignore[attr-defined]
    assert torch.allclose(shares.sum(-1), torch.ones(3, 5, dtype=DOUBLE)) and float(shares.min()) >= 0.1 / 3
    assert torch.allclose(world.P.sum(-1), torch.ones(3, 5, 3, dtype=DOUBLE))
    assert ((world.P > 0).sum(-1) == 2).all()
    at, total = world.rho, torch.zeros(3, dtype=DOUBLE)
    visits = torch.zeros_like(at)
    for t in range(400):
        total = total + 0.9**t * (at.unsqueeze(-1) * shares * world.r).sum((1, 2))
        visits = visits + 0.1 * 0.9**t * at
        at = torch.einsum("bs,bsa,bsat->bt", at, shares, world.P)
    value = env.process.value(world, x)
    torch.testing.assert_close(value, total, rtol=1e-10, atol=0)
    # of all policies of that form the best: those of each single action, over many weights
    far = 50 * normal(keys_from_seed(1, 3), "far", (200, 15), dtype=DOUBLE)
    reached = torch.stack([env.process.value(world, far[:, i]) for i in range(200)])
    assert (state.hidden.best >= reached.amax(0) - 1e-9).all()
    assert (state.hidden.best - reached.amax(0) < 0.35).all()
    # the Fisher matrix of one state, by scores
    policy, unit = env.process.policy, torch.eye(5, dtype=DOUBLE)

    def blocks() -> Tensor:
        found = []
        for s in range(5):
            block = torch.zeros(3, 3, 3, dtype=DOUBLE)
            for a in range(3):
                seen, done = unit[s].expand(3, 1, 5), torch.full((3, 1), a)
                score = value_and_gradient(lambda y, z=(seen, done): policy.log_prob(y, *z)[:, 0], x)[1]
                part = score.unflatten(1, (3, 5))[:, :, s]
                block += shares[:, s, a, None, None] * part.unsqueeze(-1) * part.unsqueeze(-2)
            found.append(visits[:, s] * torch.linalg.eigvalsh(block)[:, 0])
        return torch.stack(found, -1).amin(-1)

    torch.testing.assert_close(env.process.fisher(world, x), blocks(), rtol=0, atol=1e-12)


def test_the_regulators_covariance_and_optimum() -> None:
    env = search("lqr", budget=None, episode_length=100)
    state = env.reset(keys_from_seed(0, 4))
    world, x = state.hidden.world, state.observation["x"]
    K, n = x.unflatten(1, (2, 3)), 3
    M = world.A + world.B @ K
    covariance, total = torch.eye(n, dtype=DOUBLE).expand(4, n, n), torch.zeros(4, n, n, dtype=DOUBLE)
    cost = torch.zeros(4, dtype=DOUBLE)
    for t in range(2000):
        total = total + 0.1 * 0.9**t * covariance
        inner = (world.Q + K.mT @ world.R @ K) @ covariance
        cost = cost + 0.9**t * (torch.diagonal(inner, dim1=1, dim2=2).sum(-1) + 0.25 * 2)
        covariance = M @ covariance @ M.mT + 0.25 * world.B @ world.B.mT
    torch.testing.assert_close(env.process.value(world, x), -cost, rtol=1e-9, atol=0)
    least = torch.linalg.eigvalsh(total)[:, 0] / 0.25
    torch.testing.assert_close(env.process.fisher(world, x), least, rtol=1e-9, atol=0)
    best = env.process.optimal(world)[0].flatten(1)  # type: ignore[attr-defined]
    value, slope, bend = env.exact(state, best)
    torch.testing.assert_close(value, state.hidden.best, rtol=1e-10, atol=0)
    assert float(slope.abs().max()) < 1e-6 and float(torch.linalg.eigvalsh(bend).max()) < 0


def test_answers_are_means_of_what_is_exact() -> None:
    env = search("gauss_bandit", trajectories=20_000, product_trajectories=20_000, budget=None)
    state = env.reset(keys_from_seed(0, 2))
    x, vector = (normal(state.key, name, 2, dtype=DOUBLE) for name in ("x", "vector"))
    second = x + 0.3 * vector
    kinds = ("policy_gradient", "product", "causal_product", "pair")
    reached = ask(env, state, *kinds, x=x, second=second, vector=vector)
    told = reached.observation
    _, slope, bend = env.exact(state, second)
    here, curved = env.exact(state, x)[1], (bend @ vector.unsqueeze(-1)).squeeze(-1)
    for found, exact, allowed in (
        (told["policy_gradient"], here, 0.04),
        (told["pair"][:, 0], here, 0.04),
        (told["pair"][:, 1], slope, 0.08),
        (told["product"], curved, 0.15),
        (told["causal_product"], curved, 0.15),
    ):
        assert float((found - exact).abs().max()) < allowed
        assert float(exact.abs().max()) > 2 * allowed
    torch.testing.assert_close(told["product"], told["causal_product"])  # of one step
    assert reached.calls["trajectories"].tolist() == [5 * 20_000] * 2


def test_luck_is_drawn_anew_by_query_and_kind_and_never_kept() -> None:
    env = search("gauss_bandit", budget=None)
    state = env.reset(keys_from_seed(0, 2))
    one, again = (ask(env, state, "policy_gradient", "pair") for _ in range(2))
    assert torch.equal(one.observation["policy_gradient"], again.observation["policy_gradient"])
    assert not torch.equal(one.observation["policy_gradient"], one.observation["pair"][:, 0])
    other = ask(env, one, "policy_gradient")
    assert not torch.equal(one.observation["policy_gradient"], other.observation["policy_gradient"])
    # at one point both gradients of a pair are the same
    torch.testing.assert_close(one.observation["pair"][:, 0], one.observation["pair"][:, 1])


def test_a_white_box_agent_finds_the_answers_in_trajectories() -> None:
    env = search("cartpole", episode_length=60, budget=None)
    state = env.reset(keys_from_seed(0, 3))
    reached = ask(env, state, "trajectory")
    played = state.problem.unpacked(reached.observation["trajectory"])
    x = state.observation["x"]
    assert torch.equal(played.transitions, reached.calls["transitions"] - state.calls["transitions"])
    assert len(played.mask.sum(-1).unique()) > 1, "all episodes are alike"
    assert not played.rewards[~played.mask].any()
    torch.testing.assert_close(played.returns.mean(-1) * 60, reached.metrics["return"])
    likely = log_probs(state.problem.estimator.policy, x, played)
    assert not likely[~played.mask].any() and (likely[played.mask] < 0).all()
    # the same trajectories, seen by the estimator that answers
    direct = env.process.play(None, x, state.key, "trajectory", reached.k, 4)
    scaled = dataclasses.replace(direct, rewards=direct.rewards / 60)
    with torch.no_grad():
        expected = env.estimator.gradient(x, scaled)
        torch.testing.assert_close(state.problem.estimator.gradient(x, played), expected)


def test_an_episode_that_never_ends_is_cut() -> None:
    env = search("pendulum", episode_length=7, budget=None)
    state = env.reset(keys_from_seed(0, 2))
    assert state.calls["transitions"].tolist() == [4 * 7] * 2


def test_weights_that_overflow_are_dropped_and_told() -> None:
    env = search("gauss_bandit", budget=None, dim=2000)
    state = env.reset(keys_from_seed(0, 2))
    x, next_query = state.observation["x"], torch.ones_like(state.k)
    drawn = env.process.play(state.hidden.world, x, state.key, "pair", next_query, 1).actions[:, 0, 0]
    # at the action itself the ratio of densities is exp(1000 or so)
    reached = ask(env, state, "pair", second=torch.stack((x[0], drawn[1])))
    assert reached.metrics["dropped"].tolist() == [0.0, 1.0]
    assert reached.observation["pair"].isfinite().all() and not reached.observation["pair"][1, 1].any()
    assert not reached.diverged.any()
    assert ask(env, reached, "policy_gradient").metrics["dropped"].tolist() == [0.0, 1.0]  # of the last pair


def test_an_unstable_row_diverges_alone() -> None:
    env = search("lqr", budget=None)
    state = env.reset(keys_from_seed(0, 3))
    x = state.observation["x"].clone()
    x[1] += 30.0
    reached = ask(env, state, "policy_gradient", recommendation=x)
    assert reached.diverged.tolist() == [False, True, False]
    assert reached.merit.isfinite().all()


def test_held_out_returns_are_measured_on_time_and_not_billed() -> None:
    env = search("cartpole", evaluation_period=2, episode_length=40, budget=None)
    state = env.reset(keys_from_seed(0, 2))
    assert torch.equal(state.merit, -state.metrics["mean_return"])
    x = state.observation["x"] + normal(state.key, "way", state.observation["x"].shape[1], dtype=DOUBLE)
    moved = ask(env, state, "return", x=x, recommendation=x)
    assert torch.equal(moved.merit, state.merit)
    measured = env.evaluate(moved)
    assert not torch.equal(measured.merit, state.merit)
    assert torch.equal(measured.best, torch.minimum(state.best, measured.merit))
    assert torch.equal(measured.reward, state.best - measured.best)
    assert torch.equal(measured.calls.counts, moved.calls.counts)
    assert torch.equal(env.evaluate(rows(moved, slice(1, 2))).merit, measured.merit[1:])


def test_a_budget_that_does_not_pay_the_product_answers_the_gradient_alone() -> None:
    env = search("gauss_bandit", budget=2)
    state = env.reset(keys_from_seed(0, 1))
    reached = ask(env, state, "policy_gradient", "product")
    assert reached.observation["answered"].tolist() == [[1, 0, 0, 0, 0, 0]]
    assert reached.truncated.all() and reached.calls["trajectories"].tolist() == [2]


def test_it_draws_a_neural_search() -> None:
    env = gym.make("optenvs/PolicySearch-v0", render_mode="rgb_array", task="cartpole", episode_length=5)
    env.reset(seed=0)
    picture = env.render()
    assert isinstance(picture, np.ndarray) and len(np.unique(picture)) > 10


def test_weights_of_another_shape_are_refused() -> None:
    env = gym.make("optenvs/PolicySearch-v0")
    env.reset(seed=0)
    action = env.action_space.sample()
    with pytest.raises(InvalidAction, match=r"x: expected shape \(2,\)"):
        env.step(action | {"x": np.zeros(3)})
    core = search("gauss_bandit")
    state = core.reset(keys_from_seed(0, 2))
    with pytest.raises(ValueError, match=r"x: expected the weights of 2 policies, \(B, 2\), got \(2, 3\)"):
        core.exact(state, torch.zeros(2, 3))
    neural = search("pendulum")
    with pytest.raises(ValueError, match="task: J of pendulum has no closed form"):
        neural.exact(neural.reset(keys_from_seed(0, 1)), torch.zeros(1, 3))


@pytest.mark.parametrize(
    ("message", "keywords"),
    [
        ("task: expected one of gauss_bandit, lqr", {"task": "cart"}),
        ("widths: the task lqr has none, expected None", {"task": "lqr", "widths": (3,)}),
        ("explore: the task gauss_bandit has none", {"explore": 0.1}),
        ("episode_length: expected a whole number >= 1, got 0", {"task": "pendulum", "episode_length": 0}),
        ("episode_length: a bandit acts once, expected 1, got 3", {"episode_length": 3}),
        ("discount: expected a number in \\(0, 1\\], got 1.5", {"task": "lqr", "discount": 1.5}),
        ("discount: expected a number in \\(0, 1\\) for lqr", {"task": "lqr", "discount": 1.0}),
        ("discount: expected a number in \\(0, 1\\) for tabular", {"task": "tabular", "discount": 1.0}),
        ("trajectories: expected a whole number >= 1, got 0", {"trajectories": 0}),
        ("baseline: the mean over one trajectory is all", {"baseline": "time", "trajectories": 3}),
        ("baseline: expected one of none, time, got 'mean'", {"baseline": "mean"}),
        ("credit: expected one of absolute, relative, got 'late'", {"task": "lqr", "credit": "late"}),
        ("credit: of trajectories of one step both are one", {"credit": "relative"}),
        ("reward_scale: expected a number > 0, got -1", {"reward_scale": -1}),
        ("std: expected a number > 0, got 0", {"std": 0}),
        ("explore: expected a number in \\[0, 1\\), got 1", {"task": "tabular", "explore": 1.0}),
        ("branches: expected at most dim, 5, got 9", {"task": "tabular", "branches": 9}),
        ("test_episodes: J of lqr is exact, expected None", {"task": "lqr", "test_episodes": 3}),
        ("widths: expected a tuple of whole numbers >= 1, got \\(0,\\)", {"task": "acrobot", "widths": (0,)}),
        ("data: cartpole has no instance to be given", {"task": "cartpole", "data": {}}),
        ("data: start: missing", {"data": {"optimum": [1.0, 1.0]}}),
        (
            "data: optimum: expected finite numbers of shape \\(2,\\)",
            {"data": {"optimum": [1.0], "start": [0, 0]}},
        ),
        (
            "data: P, rho: expected numbers >= 0 that sum to 1",
            {
                "task": "tabular",
                "dim": 2,
                "actions": 2,
                "data": {"P": np.ones((2, 2, 2)), "r": np.ones((2, 2)), "rho": [1, 0], "start": [0] * 4},
            },
        ),
    ],
)
def test_it_says_what_is_wrong(message: str, keywords: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=message):
        optenvs.make("PolicySearch", **keywords)

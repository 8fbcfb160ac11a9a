"""Simulated tasks: the dynamics are Gymnasium's; episodes of any policy, batched and differentiable."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from optenvs.core.random import keys_from_seed, normal, uniform
from optenvs.dynamics import Acrobot, CartPole, Draws, Episode, Pendulum, Task, episodes, returns
from optenvs.models import Categorical, Gaussian, make_model


def tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_the_cart_pole_is_gymnasiums() -> None:
    env, task = gym.make("CartPole-v1").unwrapped, CartPole()
    for seed in range(5):
        env.reset(seed=seed)
        state = tuple(tensor(value) for value in env.state)  # type: ignore[attr-defined]
        rng, over = np.random.default_rng(seed), False
        steps = 0
        while not over:
            push = int(rng.integers(2))
            _, reward, over, _, _ = env.step(push)
            state, paid, fallen = task.step(state, tensor(2.0 * push - 1.0), 0.0)
            steps += 1
            assert np.allclose(torch.stack(state).numpy(), env.state, rtol=0, atol=1e-12)  # type: ignore[attr-defined]
            assert bool(fallen) == over
            assert float(paid) == reward
        assert steps > 5


def test_the_acrobot_is_gymnasiums() -> None:
    env, task, ended = gym.make("Acrobot-v1").unwrapped, Acrobot(), 0
    for seed in range(3):
        env.reset(seed=seed)
        state = tuple(tensor(value) for value in env.state)  # type: ignore[attr-defined]
        for _ in range(200):
            # with the second joint, which swings it up
            choice = int(2 * (float(state[3]) > 0))
            seen, reward, over, *_ = env.step(choice)
            state, paid, up = task.step(state, tensor(choice - 1.0), 0.0)
            assert np.allclose(torch.stack(state).numpy(), env.state, rtol=0, atol=1e-9)  # type: ignore[attr-defined]
            assert np.allclose(task.observe(state).numpy(), seen, rtol=0, atol=1e-6)
            assert (float(paid), bool(up)) == (reward, over)
            ended += over
            if over:
                break
    assert ended == 3


def test_the_pendulum_is_gymnasiums() -> None:
    env, task = gym.make("Pendulum-v1").unwrapped, Pendulum()
    for seed in range(3):
        env.reset(seed=seed)
        state = tuple(tensor(value) for value in env.state)  # type: ignore[attr-defined]
        rng = np.random.default_rng(seed)
        for _ in range(200):
            torque = float(rng.uniform(-2, 2))
            seen, reward, *_ = env.step(np.array([torque]))
            state, paid, over = task.step(state, tensor(torque), 0.0)
            assert np.allclose(torch.stack(state).numpy(), env.state, rtol=0, atol=1e-9)  # type: ignore[attr-defined]
            assert np.allclose(task.observe(state).numpy(), seen, rtol=0, atol=1e-6)
            assert float(paid) == pytest.approx(reward, abs=1e-9)
            assert not over


def test_starts_fill_the_boxes_of_gymnasium() -> None:
    tasks = ((CartPole(), "CartPole-v1"), (Acrobot(), "Acrobot-v1"), (Pendulum(), "Pendulum-v1"))
    for task, name in tasks:
        env = gym.make(name).unwrapped
        states = []
        for seed in range(300):
            env.reset(seed=seed)
            states.append(env.state)  # type: ignore[attr-defined]
        low, high = np.array(task.start).T
        assert (np.min(states, 0) >= low).all()
        assert (np.max(states, 0) <= high).all()
        assert np.allclose(np.min(states, 0), low, rtol=0.05, atol=0.01)
        assert np.allclose(np.max(states, 0), high, rtol=0.05, atol=0.01)


def linear(weights: Tensor) -> Any:
    return lambda seen, _: torch.linalg.vecdot(weights, seen)


def test_episodes_are_those_of_a_plain_loop() -> None:
    keys = keys_from_seed(0, 2)
    weights = normal(keys, "w", (3, 4), dtype=torch.float64) * 3
    start = uniform(keys, "start", (3, 4), dtype=torch.float64)
    pushes = 0.3 * normal(keys, "pushes", (1, 60), dtype=torch.float64)  # the same for three policies
    found = episodes(CartPole(), linear(weights), Draws(start=start, pushes=pushes), 60)
    assert found.states.shape == (2, 3, 61, 4)
    assert found.actions.shape == found.rewards.shape == found.mask.shape == (2, 3, 60)
    lengths = found.mask.sum(-1)
    assert len(lengths.unique()) > 2, "all episodes are alike"
    for b in range(2):
        for m in range(3):
            state, t, fallen = tuple(-0.05 + 0.1 * start[b, m]), 0, torch.tensor(False)
            while t < 60 and not fallen:
                assert torch.allclose(found.states[b, m, t], torch.stack(state), rtol=0, atol=1e-12)
                action = torch.linalg.vecdot(weights[b, m], torch.stack(state))
                assert float(found.actions[b, m, t]) == pytest.approx(float(action), abs=1e-12)
                state, paid, fallen = CartPole().step(state, action.clamp(-1, 1), pushes[b, 0, t])
                assert found.mask[b, m, t] and float(found.rewards[b, m, t]) == float(paid)
                t += 1
            assert int(lengths[b, m]) == t
            # it stays where it ended, and earns nothing
            assert torch.allclose(found.states[b, m, t:], torch.stack(state), rtol=0, atol=1e-12)
            assert not found.mask[b, m, t:].any() and not found.rewards[b, m, t:].any()
            assert not found.actions[b, m, t:].any()
    total = returns(CartPole(), linear(weights), Draws(start=start, pushes=pushes), 60)
    assert torch.equal(total, found.returns)


def test_a_neural_policy_balances_by_its_luck() -> None:
    # a network's logits, one of two pushes by its share of the policy's own uniform numbers
    policy = Categorical(make_model("mlp", shape=(4,), classes=2, widths=(8,)))
    keys = keys_from_seed(1, 3)
    flat = 2 * normal(keys, "flat", policy.size)
    draws = Draws(start=uniform(keys, "start", (5, 4)), policy=uniform(keys, "luck", (5, 40)))

    def act(seen: Tensor, luck: Tensor | None) -> Tensor:
        assert luck is not None
        return 2.0 * policy.act(flat, seen, luck) - 1

    found = episodes(CartPole(), act, draws, 40)
    assert set(found.actions[found.mask].unique().tolist()) == {-1.0, 1.0}
    # what was done is what the policy does there, and its likelihood can be taken afterwards
    states = found.states[:, :, :-1].flatten(1, 2)
    taken = policy.act(flat, states, draws.policy.flatten(1, 2))  # type: ignore[union-attr]
    assert torch.equal(taken.unflatten(1, (5, 40))[found.mask], ((found.actions + 1) / 2)[found.mask].long())
    assert policy.log_prob(flat, states, taken).shape == (3, 200)
    # a row does not see the others
    alone = episodes(
        CartPole(),
        lambda seen, luck: 2.0 * policy.act(flat[1:2], seen, luck) - 1,  # type: ignore[arg-type]
        Draws(start=draws.start[1:2], policy=draws.policy[1:2]),  # type: ignore[index]
        40,
    )
    assert torch.equal(alone.mask[0], found.mask[1])
    torch.testing.assert_close(alone.states[0], found.states[1])


def test_returns_are_differentiable_through_the_dynamics() -> None:
    policy = Gaussian(make_model("mlp", shape=(3,), classes=2, widths=(4,), activation="tanh"), std=0.1)
    keys = keys_from_seed(2, 2)
    flat = 0.4 * normal(keys, "flat", policy.size, dtype=torch.float64)  # within the limit
    draws = Draws(
        start=uniform(keys, "start", (3, 2), dtype=torch.float64),
        policy=normal(keys, "luck", (3, 12, 2), dtype=torch.float64),
    )

    def total(flat: Tensor) -> Tensor:
        act = lambda seen, luck: policy.act(flat, seen, luck)[..., 0]  # noqa: E731
        return episodes(Pendulum(), act, draws, 12).returns.mean(-1)

    leaf = flat.clone().requires_grad_()
    (slope,) = torch.autograd.grad(total(leaf).sum(), leaf)
    along = normal(keys, "along", policy.size, dtype=torch.float64)
    differences = (total(flat + 1e-6 * along) - total(flat - 1e-6 * along)) / 2e-6
    torch.testing.assert_close((slope * along).sum(-1), differences, rtol=1e-6, atol=1e-7)


def test_an_action_beyond_the_limit_is_cut_and_on_record_as_it_was() -> None:
    draws = Draws(start=tensor([[0.5, 0.5]]))
    strong, most = (
        episodes(Pendulum(), lambda seen, _, a=a: torch.full_like(seen[..., 0], a), draws, 5)
        for a in (9.0, 2.0)
    )
    assert torch.equal(strong.states, most.states) and torch.equal(strong.rewards, most.rewards)
    assert strong.actions.unique().tolist() == [9.0]


def test_it_runs_under_vmap() -> None:
    draws = Draws(start=uniform(keys_from_seed(0, 4), "start", 4, dtype=torch.float64))
    weights = normal(keys_from_seed(1, 3), "w", 4, dtype=torch.float64)

    def play(w: Tensor) -> Episode:
        return episodes(CartPole(), linear(w), draws, 20)

    many = torch.func.vmap(play)(weights)
    torch.testing.assert_close(many.states[1], play(weights[1]).states)
    assert torch.equal(many.mask[2], play(weights[2]).mask)


@pytest.mark.parametrize(
    ("message", "task", "draws", "length"),
    [
        ("length: expected a whole number >= 1, got 0", CartPole(), {"start": (2, 4)}, 0),
        (r"start: expected 4 coordinates, got \(2, 3\)", CartPole(), {"start": (2, 3)}, 5),
        (r"pushes: expected \(2, 5\), or more steps", Pendulum(), {"start": (2, 2), "pushes": (2, 4)}, 5),
        (r"policy: expected \(2, 5\), or more steps", Pendulum(), {"start": (2, 2), "policy": (5,)}, 5),
    ],
)
def test_it_says_what_is_wrong(message: str, task: Task, draws: dict[str, Any], length: int) -> None:
    made = Draws(**{name: torch.zeros(shape) for name, shape in draws.items()})
    with pytest.raises(ValueError, match=message):
        episodes(task, lambda seen, _: seen[..., 0], made, length)

"""Clients of two levels: who takes part, what a round costs, what is told; the long tail and LV-HBA on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from federated_problems import Quadratics

import agents
import optenvs
from optenvs.core.random import keys_from_seed
from optenvs.envs.bilevel.long_tail import BilevelLongTail

SMALL: dict[str, Any] = {"clients": 4, "widths": (3,), "solve_steps": 2}


def said(env: Any, state: Any, compute: int, send: int, shift: float = 1.0) -> dict[str, torch.Tensor]:
    """All clients say the same, client i with ``shift`` times i added to its message."""
    action = {name: state.observation[name] for name in ("x", "y", "inner")}
    whole = torch.ones_like(state.observation["active"], dtype=torch.int64)
    number = torch.arange(env.clients, dtype=env.torch_dtype).reshape(1, -1, 1)
    message = state.observation["mean"].unsqueeze(1) + shift * number
    return action | {"compute": compute * whole, "send": send * whole, "message": message}


def test_only_those_who_take_part_are_heard_and_billed() -> None:
    env = Quadratics(clients=6, fraction=0.5)
    state = env.reset(keys_from_seed(0, 3))
    active = state.observation["active"].squeeze(-1) > 0
    assert (active.sum(-1) == 3).all() and not state.calls.counts.any()
    assert torch.equal(env.asked(state), active)
    computed = env.step(state, said(env, state, 2, 0))
    for kind in ("upper_gradient", "lower_gradient", "inner_gradient"):
        assert (computed.calls[kind] == 3).all()
        assert torch.equal((computed.observation[kind] != 0).any(-1), active)
    assert not computed.calls["round"].any() and torch.equal(
        computed.observation["active"][..., 0] > 0, active
    )
    inner = env.step(state, said(env, state, 1, 0))
    assert (inner.calls["inner_gradient"] == 3).all() and not inner.calls["upper_gradient"].any()
    torch.testing.assert_close(inner.observation["inner_gradient"], computed.observation["inner_gradient"])
    sent = env.step(computed, said(env, computed, 0, 1))
    assert (sent.calls["round"] == 1).all() and (sent.calls["upload"] == 3).all()
    number = torch.arange(6, dtype=torch.float64)
    expected = state.observation["mean"] + (active * number).sum(-1, keepdim=True) / 3
    torch.testing.assert_close(sent.observation["mean"], expected)
    after = sent.observation["active"].squeeze(-1) > 0
    assert (after.sum(-1) == 3).all() and not torch.equal(after, active)


def test_a_round_that_is_not_paid_does_not_happen() -> None:
    env = Quadratics(budget={"upload": 6, "upper_gradient": 5})
    state = env.reset(keys_from_seed(0, 2))
    first = env.step(state, said(env, state, 2, 1))
    assert (first.calls["upload"] == 2).all() and (first.calls["upper_gradient"] == 2).all()
    for _ in range(3):
        first = env.step(first, said(env, first, 2, 1))
    assert (first.calls["upload"] <= 6).all() and (first.calls["upper_gradient"] <= 5).all()
    assert first.truncated.all()
    assert (first.calls["lower_gradient"] == 8).all()  # of which there is no limit


def test_a_client_alone_gives_what_the_tensor_gives() -> None:
    env, agent = Quadratics(clients=4, budget=6), agents.make("federated_lv_hba", local=2)
    run = optenvs.rollout(env, agent, batch=1, seed=3)
    face = optenvs.aec_env(env)
    policy = agents.bind(agent, face)
    face.reset(seed=3)
    for name in face.agent_iter():
        observation, _, terminated, truncated, _ = face.last()
        face.step(None if terminated or truncated else policy(name, observation))
    found = face.get_state().state
    torch.testing.assert_close(found.observation["mean"], run.state.observation["mean"])
    assert torch.equal(found.calls.counts, run.state.calls.counts)


def test_an_iteration_is_that_of_the_paper() -> None:
    env = Quadratics(clients=1, fraction=1.0, budget=1)
    agent = agents.make("federated_lv_hba", alpha=0.2, eta=0.3, gamma1=5.0, c=2.0)
    keys = keys_from_seed(1, 1)
    data, x, y = env.draw(keys)
    a, b = data["a"][:, 0], data["b"][:, 0]
    theta = y - 0.3 * b * (y - x)
    dx = a * (x - 1) / 2 - b * (y - x) + b * (theta - x)
    dy = a * (y - 1) / 2 + b * (y - x) - (y - theta) / 5
    run = optenvs.rollout(env, agent, keys=keys)
    expected = torch.cat((x - 0.2 * dx, y - 0.2 * dy, theta), -1)
    torch.testing.assert_close(run.state.observation["mean"], expected)
    assert run.state.calls["round"].item() == 1
    assert [run.state.calls[f"{kind}_gradient"].item() for kind in ("upper", "lower", "inner")] == [1, 1, 2]


def test_classes_thin_out_and_are_weighed_up() -> None:
    env = BilevelLongTail(clients=5, ratio=0.1)
    assert env.counts[0] == 142 and env.counts[9] == 14
    counts = torch.tensor(env.counts, dtype=torch.float64)
    assert abs(float((env.weights * counts).sum() / counts.sum()) - 1) < 1e-12
    torch.testing.assert_close(env.weights[9] / env.weights[0], torch.tensor(10.0).double())
    share = env.draw(keys_from_seed(0, 2))[0]
    rows = torch.cat((share.train, share.validation), -1).flatten(1)
    assert all(len(set(row.tolist())) == rows.shape[1] for row in rows)  # nobody's sample is another's
    found = torch.stack([torch.bincount(env._tensors.train_y[row], minlength=10) for row in rows])
    assert (found <= torch.tensor(env.counts)).all() and (found.sum(-1) == rows.shape[1]).all()
    by_class = BilevelLongTail(clients=5, split="class").draw(keys_from_seed(0, 1))[0]
    few = [len(env._tensors.train_y[rows].unique()) for rows in by_class.train[0]]
    assert max(few) < 8


def test_the_lower_loss_is_scaled_and_shifted_class_by_class() -> None:
    env = BilevelLongTail(**SMALL)
    share, x, y = env.draw(keys_from_seed(0, 1))
    rows = share.train[:, 0]
    x = x + torch.linspace(-1, 1, 20, dtype=torch.float64)
    logits = env._logits(y, rows)[0] * x[0, :10].sigmoid() + x[0, 10:]
    labels = env._tensors.train_y[rows[0]]
    each = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(env.lower(rows, x, y)[0], (env.weights[labels] * each).mean())
    plain = torch.nn.functional.cross_entropy(env._logits(y, rows)[0], labels)
    torch.testing.assert_close(env.upper(rows, x, y)[0], plain)


def test_training_on_lowers_the_lower_loss_only() -> None:
    env = BilevelLongTail(clients=4, widths=(), solve_steps=10)
    state = env.reset(keys_from_seed(0, 2))
    m = state.metrics
    assert (m["lower_gap"] > 0).all()
    torch.testing.assert_close(state.merit, m["value"] + m["lower_gap"])


@pytest.mark.parametrize(
    ("keywords", "told"),
    [
        ({"clients": 0}, "clients: expected a whole number >= 1, got 0"),
        ({"clients": 400}, "clients: expected at most 290, two of the 581 samples each, got 400"),
        ({"fraction": 0.0}, r"fraction: expected a number in \(0, 1\]"),
        ({"ratio": 2.0}, r"ratio: expected a number in \(0, 1\]"),
        ({"split": "random"}, "split: expected one of iid, class"),
        ({"batch_size": 0}, "batch_size: expected a whole number >= 1"),
        ({"solve_steps": 0}, "solve_steps: expected a whole number >= 1"),
        ({"solve_rate": -1.0}, "solve_rate: expected a number > 0"),
    ],
)
def test_bad_input_is_told(keywords: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        BilevelLongTail(**(SMALL | keywords))
    for field, value in (("local", 0), ("gamma1", 0.0), ("alpha", -1.0)):
        with pytest.raises(ValueError, match=f"FederatedLVHBA: {field}: expected"):
            agents.make("federated_lv_hba", **{field: value})


def test_its_picture() -> None:
    env = BilevelLongTail(**SMALL)
    state = env.reset(keys_from_seed(0, 1))
    picture = env.picture([state, env.step(state, said(env, state, 0, 1))])
    assert picture.dtype == np.uint8 and picture.shape == (400, 900, 3)
    assert (picture != env.picture([state])).any()


def test_a_round_whose_clients_have_all_left_ends_without_them() -> None:
    """They never send; an episode by turns would wait for their message for ever."""
    env = optenvs.aec_env("BilevelLongTail", clients=4, widths=(3,), solve_steps=2, max_cycles=4)
    env.reset(seed=0)
    turns = dict.fromkeys(env.possible_agents, 0)
    for name in env.agent_iter(100):
        over = env.terminations[name] or env.truncations[name]
        action = None if over else env.action_space(name).sample() | {"send": np.zeros(1, dtype=np.int64)}
        turns[name] += not over
        env.step(action)
    assert not env.agents and set(turns.values()) == {4}

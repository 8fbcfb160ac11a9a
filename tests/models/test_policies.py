"""Policies against torch's distributions."""

from __future__ import annotations

import pytest
import torch
from torch import distributions

from optenvs.core import keys_from_seed
from optenvs.core.random import normal, uniform
from optenvs.models import MLP, Categorical, Gaussian, Linear

KEYS = keys_from_seed(0, 3)
DOUBLE = torch.float64
MODEL = MLP((4,), 3, (5,), "tanh")
STATES = normal(KEYS, "states", (6, 4), dtype=DOUBLE)


def flat(size: int) -> torch.Tensor:
    return normal(KEYS, "weights", size, dtype=DOUBLE)


def test_categorical_is_torchs() -> None:
    policy = Categorical(MODEL)
    weights = flat(policy.size)
    theirs = distributions.Categorical(logits=MODEL.apply(weights, STATES))
    actions = policy.act(weights, STATES, uniform(KEYS, "u", (6, *policy.draws), dtype=DOUBLE))
    torch.testing.assert_close(policy.log_prob(weights, STATES, actions), theirs.log_prob(actions))
    torch.testing.assert_close(policy.entropy(weights, STATES), theirs.entropy())
    assert torch.equal(policy.mode(weights, STATES), theirs.probs.argmax(-1))


def test_exploration_mixes_the_uniform_distribution_in() -> None:
    policy = Categorical(MODEL, explore=0.3)
    weights = 20 * flat(policy.size)
    shares = 0.7 * MODEL.apply(weights, STATES).softmax(-1) + 0.1
    theirs = distributions.Categorical(probs=shares)
    actions = policy.act(weights, STATES, uniform(KEYS, "u", 6, dtype=DOUBLE))
    torch.testing.assert_close(policy.log_prob(weights, STATES, actions), theirs.log_prob(actions))
    torch.testing.assert_close(policy.entropy(weights, STATES), theirs.entropy())
    assert float(policy.log_prob(weights, STATES, actions).min()) >= torch.tensor(0.1).log() - 1e-6
    with pytest.raises(ValueError, match="explore: expected a number in \\[0, 1\\), got 1"):
        Categorical(MODEL, explore=1.0)


def test_a_linear_model_is_a_matrix() -> None:
    model = Linear((4,), 3)
    weights = flat(model.size)
    expected = STATES @ weights.view(3, 3, 4).mT
    torch.testing.assert_close(model.apply(weights, STATES), expected)
    assert model.size == 12


def test_categorical_acts_by_its_shares() -> None:
    policy = Categorical(MODEL)
    weights = flat(policy.size)
    many = STATES[:1, :1].expand(3, 20_000, 4)
    actions = policy.act(weights, many, uniform(KEYS, "u", 20_000, dtype=DOUBLE))
    shares = torch.nn.functional.one_hot(actions, 3).double().mean(1)
    expected = MODEL.apply(weights, many[:, :1]).softmax(-1).squeeze(1)
    assert (shares - expected).abs().max() < 0.015  # 4 standard errors
    assert policy.act(weights, many, torch.full((3, 20_000), 1 - 1e-16).double()).max() == 2


@pytest.mark.parametrize("std", [None, 0.3])
def test_gaussian_is_torchs(std: float | None) -> None:
    policy = Gaussian(MODEL, std)
    weights = flat(policy.size).requires_grad_()
    assert policy.size == MODEL.size + (3 if std is None else 0)
    mean = MODEL.apply(weights[:, : MODEL.size], STATES)
    scale = weights[:, MODEL.size :].exp().unsqueeze(1) if std is None else torch.tensor(std).double()
    theirs = distributions.Independent(distributions.Normal(mean, scale.expand_as(mean)), 1)
    draws = normal(KEYS, "n", (6, *policy.draws), dtype=DOUBLE)
    actions = policy.act(weights, STATES, draws)
    torch.testing.assert_close(actions, mean + scale * draws)
    torch.testing.assert_close(policy.log_prob(weights, STATES, actions), theirs.log_prob(actions))
    torch.testing.assert_close(policy.entropy(weights, STATES), theirs.entropy())
    torch.testing.assert_close(policy.mode(weights, STATES), mean)
    (slope,) = torch.autograd.grad(actions.sum(), weights)  # the action moves with every parameter
    assert (slope[:, MODEL.size :] != 0).all() and slope.abs().sum() > 0
    with pytest.raises(ValueError, match="std: expected a number > 0 or None, got 0"):
        Gaussian(MODEL, 0.0)


def test_policies_share_states() -> None:
    policy = Gaussian(MODEL)
    weights, draws = flat(policy.size), normal(KEYS, "n", (6, 3), dtype=DOUBLE)
    shared = policy.act(weights, STATES[:1], draws)
    torch.testing.assert_close(shared, policy.act(weights, STATES[:1].expand(3, -1, -1), draws))

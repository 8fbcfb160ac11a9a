"""Temporally-aware discovery of reinforcement learning (Jackson et al., ICLR 2024): the rules, cheaply."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from optenvs.core.random import keys_from_seed
from optenvs.core.struct import replace
from optenvs.dynamics import grid
from optenvs.dynamics.grid_levels import LEVELS
from optenvs.envs.meta.discovery.learner import born, play
from optenvs.models.drift import DPO, LPO, PPO
from optenvs.models.lpg import LPG
from optenvs.models.tabular.drifting import Drifting
from optenvs.models.tabular.rules import (
    Clock,
    LearnedGradient,
    Optimiser,
    Reinforce,
    Said,
    View,
    follow,
)
from optenvs.models.tabular.tables import Learner, Window, look

pytestmark = pytest.mark.paper
DOUBLE = torch.float64


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


# B3: the inner loss ----------------------------------------------------------------------------


def met(rows: int = 3, workers: int = 4, steps: int = 6, seed: int = 0) -> tuple[Any, Learner, Window]:
    """Learners with tables of their own, and what they met."""
    keys = keys_from_seed(seed, rows)
    level = LEVELS["tiny"].draw(keys, DOUBLE)
    learner = born(level, 4)
    learner = Learner(
        actor=learner.actor + normal(1, *learner.actor.shape), critic=normal(2, *learner.critic.shape)
    )
    window, _ = play(level, learner.actor, grid.begin(level, workers), keys, 0, steps)
    return level, learner, window


def dense(window: Window, states: int) -> Tensor:
    """The tabular observations, ``(L, n, states + 1)``: a unit vector and the time."""
    state, time = window.before
    hot = torch.nn.functional.one_hot(state, states).to(DOUBLE)
    return torch.cat((hot, time.unsqueeze(-1)), -1)


PLAIN = Optimiser(actor=1.0, critic=1.0, clip=1e9)


def test_b3_the_step_is_autograds_reinforce_and_the_table_a_linear_network() -> None:
    level, learner, window = met()
    advantage = normal(5, *window.reward.shape)
    view = View(learner, window)
    said = Said(push=-advantage, wanted=view.critic[..., : window.count])
    after = follow(learner, window, view, said, None, PLAIN, alpha_y=0.5)
    seen = dense(window, level.states)
    actor, critic = (table.clone().requires_grad_() for table in (learner.actor, learner.critic))
    logs = ((seen @ actor.mT).softmax(-1) + 1e-8).gather(-1, window.action.unsqueeze(-1)).squeeze(-1).log()
    y = (seen @ critic.mT).softmax(-1)
    wanted = y.detach()
    distance = (y * ((y + 1e-8).log() - (wanted + 1e-8).log())).sum(-1)
    loss = (logs * -advantage).mean(1).sum() + 0.5 * distance.mean(1).sum()
    slope, critics = torch.autograd.grad(loss, (actor, critic))
    torch.testing.assert_close(learner.actor - after.actor, slope, rtol=0, atol=1e-6)
    assert slope.abs().max() > 1e-2
    assert torch.equal(after.critic, learner.critic)
    assert critics.abs().max() < 1e-7


def test_b3_the_critic_steps_towards_its_target() -> None:
    level, learner, window = met()
    wanted = normal(6, 3, 4, window.count).softmax(1)
    said = Said(push=torch.zeros_like(window.reward), wanted=wanted)
    after = follow(learner, window, View(learner, window), said, None, PLAIN, alpha_y=0.5)
    critic = learner.critic.clone().requires_grad_()
    y = (dense(window, level.states) @ critic.mT).softmax(-1)
    loss = 0.5 * (y * ((y + 1e-8).log() - (wanted.mT + 1e-8).log())).sum(-1).mean(1).sum()
    torch.testing.assert_close(
        learner.critic - after.critic, torch.autograd.grad(loss, critic)[0], rtol=0, atol=1e-6
    )
    assert torch.equal(after.actor, learner.actor)


def test_b3_gradients_are_clipped_before_the_rate() -> None:
    _, learner, window = met()
    said = Said(push=1e4 * normal(5, *window.reward.shape))
    after = follow(learner, window, View(learner, window), said, None, Optimiser(), alpha_y=0.5)
    moved = (after.actor - learner.actor).flatten(1).norm(dim=1)
    torch.testing.assert_close(moved, torch.full_like(moved, 20.0), rtol=1e-12, atol=0)


def test_b3_reinforce_is_the_return_to_the_end() -> None:
    _, learner, window = met(steps=3, workers=1)
    window = replace(
        window,
        reward=torch.tensor([[1.0, 2.0, 4.0]] * 3, dtype=DOUBLE),
        over=torch.tensor([[0.0, 1.0, 0.0]] * 3, dtype=DOUBLE),
    )
    said = Reinforce().targets(torch.zeros(3, 0), window, View(learner, window), clock(3))
    assert said.push.tolist() == [[-3, -2, -4]] * 3 and said.wanted is None


# B4: causality of the rule ---------------------------------------------------------------------

NET = LPG(categories=4, embedding=4, hidden=8)
STEPS = 7


def inputs(seed: int = 0) -> dict[str, Tensor]:
    """Three rollouts of two candidates; an episode of the first ends with step 3."""
    over = torch.zeros(2, STEPS, 3, dtype=DOUBLE)
    over[:, 3, 0] = 1.0
    return {
        "reward": normal(seed, 2, STEPS, 3),
        "over": over,
        "chosen": normal(seed + 1, 2, STEPS, 3).sigmoid(),
        "critic": normal(seed + 2, 2, STEPS + 1, 3, 4).softmax(-1),
    }


def told(given: dict[str, Tensor]) -> Tensor:
    weights = NET.draw(keys_from_seed(0, 2), DOUBLE)
    push, wanted = NET(weights, **given)
    return torch.cat((push.unsqueeze(-1), wanted), -1)  # (R, T, n, 1 + m)


@pytest.mark.parametrize("name", ["reward", "chosen", "critic"])
def test_b4_outputs_see_later_transitions_of_their_episode_alone(name: str) -> None:
    given, step = inputs(), 5
    changed = given | {name: given[name].clone()}
    changed[name][:, step] = changed[name][:, step].flip(-1) + (0.3 if name != "critic" else 0.0)
    moved = (told(changed) - told(given)).abs().amax((0, 3)) > 0  # (T, n)
    # y before a transition is also y after the one before it
    assert not moved[step + 1 :].any()
    assert moved[4 : step + 1].all()
    assert moved[:4, 1:].all(), "it is seen from the beginning on"
    assert not moved[:4, 0].any(), "but not across the end of an episode"


def test_b4_an_end_is_seen_by_what_comes_before_it() -> None:
    given = inputs()
    changed = given | {"over": given["over"].clone()}
    changed["over"][:, 5] = 1.0
    moved = (told(changed) - told(given)).abs().amax((0, 3)) > 0
    assert not moved[6:].any() and moved[4:6].all() and not moved[:4, 0].any() and moved[:4, 1:].all()


# B5: time inputs -------------------------------------------------------------------------------


def clock(rows: int, share: float = 0.25) -> Clock:
    whole = torch.full((rows,), 20.0, dtype=DOUBLE)
    return Clock(done=share * whole, whole=whole, steps=torch.full_like(whole, 80.0), alive=whole > 0)


def with_time(weights: Tensor) -> Tensor:
    """The weights of the same rule with two more inputs that it does not heed."""
    timed = LPG(NET.categories, NET.embedding, NET.hidden, timed=True)
    size, start = 0, 0
    for slot in NET.layout:
        if slot.name == "input.weight":
            start = size
        size += slot.size
    width = 3 * NET.hidden
    entered = weights[:, start : start + 5 * width].view(-1, width, 5)
    entered = torch.cat((entered, torch.zeros_like(entered[..., :2])), -1).flatten(1)
    whole = torch.cat((weights[:, :start], entered, weights[:, start + 5 * width :]), 1)
    assert whole.shape[1] == timed.size == NET.size + 2 * width
    return whole


def test_b5_without_weights_on_the_time_the_rule_is_the_plain_one() -> None:
    _, learner, window = met()
    weights = NET.draw(keys_from_seed(0, 3), DOUBLE)
    timed = LearnedGradient(LPG(4, 4, 8, timed=True))
    raw = LearnedGradient(LPG(4, 4, 8, timed=True), raw_time=True)
    plain, _ = LearnedGradient(NET).learn(weights, learner, window, clock(3), keys_from_seed(0, 3), PLAIN)
    for rule in (timed, raw):
        after, _ = rule.learn(with_time(weights), learner, window, clock(3), keys_from_seed(0, 3), PLAIN)
        torch.testing.assert_close(after.actor, plain.actor, rtol=0, atol=1e-6)
        torch.testing.assert_close(after.critic, plain.critic, rtol=0, atol=1e-6)
    drawn = timed.draw(keys_from_seed(0, 3), DOUBLE)
    early, late, other = (
        rule.learn(drawn, learner, window, clock(3, share), keys_from_seed(0, 3), PLAIN)[0].actor
        for rule, share in ((timed, 0.25), (timed, 0.75), (raw, 0.25))
    )
    assert (early - late).abs().max() > 1e-4 and (early - other).abs().max() > 1e-4


def test_b5_the_inputs_are_the_share_and_the_logarithm_in_interactions() -> None:
    timed = LPG(4, 4, 8, timed=True)
    seen = LearnedGradient(timed)._time(clock(2), 1, 1)
    assert seen is not None
    assert seen[0, 0].tolist() == pytest.approx([0.25, math.log(20 * 80)])
    raw = LearnedGradient(timed, raw_time=True)._time(clock(2), 1, 1)
    assert raw is not None and raw[0, 0].tolist() == [5, 20]


@pytest.mark.parametrize("like_ppo", [False, True])
def test_b5_a_drift_is_nothing_at_the_old_policy(like_ppo: bool) -> None:
    drift = LPO(16, aware=True, like_ppo=like_ppo)
    weights = 10 * drift.draw(keys_from_seed(0, 6), DOUBLE)
    ratio, advantage = torch.ones(6, 5, dtype=DOUBLE), normal(0, 6, 5)
    for share in (0.0, 0.3, 1.0):
        value, slope = drift(weights, ratio, advantage, torch.full_like(ratio, share))
        assert not value.any() and not slope.any()


def test_b5_at_the_start_of_a_life_the_aware_drift_is_the_plain_one() -> None:
    aware, plain = LPO(16, aware=True), LPO(16)
    weights = aware.draw(keys_from_seed(0, 6), DOUBLE) * 5
    first = torch.cat((weights[:, :256].view(6, 16, 16)[..., :8].flatten(1), weights[:, 256:]), 1)
    ratio, advantage = normal(0, 6, 50).exp(), normal(1, 6, 50)
    found = aware(weights, ratio, advantage, torch.zeros_like(ratio))
    for one, other in zip(found, plain(first, ratio, advantage), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    assert found[0].any()


# B6: values of drifts --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        (2, 1, 0.075766),
        (4, 1, 1.189703),
        (1.2, 2, 0.005249),
        (0.5, -1, 0.201457),
        (0.8, -2, 0.067422),
        (0.5, -2, 0.797991),
        (0.7, 1, 0),
        (1.6, -1, 0),
        (1, 2, 0),
        (1, -2, 0),
    ],
)
def test_b6_values_of_dpo(ratio: float, advantage: float, expected: float) -> None:
    at, along = (torch.tensor([[x]], dtype=DOUBLE) for x in (ratio, advantage))
    value, slope = DPO()(torch.zeros(1, 0), at, along)
    assert float(value) == pytest.approx(expected, abs=1e-6)
    if ratio == 1:  # the gradient of rho A - drift is A
        assert float(slope) == 0


@pytest.mark.parametrize(
    "drift",
    [DPO(), PPO(), LPO(16), LPO(16, aware=True), LPO(16, like_ppo=True), LPO(16, limit=2.0)],
    ids=repr,
)
def test_b6_slopes_are_those_of_the_values(drift: Any) -> None:
    weights = 5 * drift.draw(keys_from_seed(0, 4), DOUBLE)
    ratio, advantage = normal(0, 4, 200).exp().requires_grad_(), normal(1, 4, 200)
    time = (torch.full_like(advantage, 0.4),) if drift.timed else ()
    value, slope = drift(weights, ratio, advantage, *time)
    torch.testing.assert_close(torch.autograd.grad(value.sum(), ratio)[0], slope, rtol=1e-9, atol=1e-9)
    assert (value >= 0).all() and value.any()


def test_b6_the_step_with_a_drift_is_autograds() -> None:
    level, learner, window = met()
    learner = replace(learner, critic=learner.critic[:, :1])
    rule = Drifting(PPO(), epochs=3, entropy=0.01)
    after, _ = rule.learn(torch.zeros(3, 0), learner, window, clock(3), keys_from_seed(0, 3), PLAIN)
    seen = dense(window, level.states)
    value = look(learner.critic, window.state, window.time).squeeze(1)
    now, later = value[:, : window.count], value[:, window.workers :]
    surprise = window.reward + 0.99 * (1 - window.over) * later - now
    advantage, carried = torch.zeros_like(surprise), 0.0
    for t in reversed(range(0, window.count, window.workers)):
        part = slice(t, t + window.workers)
        carried = surprise[:, part] + 0.99 * 0.95 * (1 - window.over[:, part]) * carried
        advantage[:, part] = carried
    target = now + advantage
    unit = (advantage - advantage.mean(1, keepdim=True)) / (
        advantage.std(1, correction=0, keepdim=True) + 1e-8
    )
    actor, critic = learner.actor, learner.critic
    old = (seen @ actor.mT).log_softmax(-1).gather(-1, window.action.unsqueeze(-1)).squeeze(-1)
    for _ in range(3):
        actor, critic = (table.detach().requires_grad_() for table in (actor, critic))
        logs = (seen @ actor.mT).log_softmax(-1)
        ratio = (logs.gather(-1, window.action.unsqueeze(-1)).squeeze(-1) - old).exp()
        gain = torch.minimum(ratio * unit, ratio.clamp(0.8, 1.2) * unit)
        spread = -(logs.exp() * logs).sum(-1)
        error = ((seen @ critic.mT).squeeze(-1) - target).square() / 2
        loss = (-gain - 0.01 * spread + 0.5 * error).mean(1).sum()
        slopes = torch.autograd.grad(loss, (actor, critic))
        actor, critic = actor - slopes[0], critic - slopes[1]
    torch.testing.assert_close(after.actor, actor.detach(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(after.critic, critic.detach(), rtol=1e-9, atol=1e-9)

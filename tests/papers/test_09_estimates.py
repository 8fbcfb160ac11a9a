"""N-PG-IGT and (N-)HARPG (Fatkhullin, Barakat, Kireeva, He, ICML 2023): what is estimated, and its bill."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import agents
import optenvs
from optenvs.core.oracles import hessian
from optenvs.core.random import keys_from_seed
from optenvs.envs.policy.search import PolicySearch
from optenvs.models import Categorical, Estimator, Linear, Trajectories

pytestmark = pytest.mark.paper
DOUBLE = torch.float64


def search(**keywords: Any) -> PolicySearch:
    usual: dict[str, Any] = {"budget": None, "tolerance": None, "evaluation_period": None}
    return optenvs.make("PolicySearch", **(usual | keywords))  # type: ignore[return-value]


# A1 and A2: a process of which all trajectories are listed --------------------------------------

STEPS, DISCOUNT = 4, 0.9


class Listed:
    """|S| = |A| = 2, H = 4, tabular softmax: all 256 trajectories, and J_H as a function of the weights."""

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=DOUBLE)

        self.P, self.rho = draw(2, 2, 2).softmax(-1), draw(2).softmax(-1)
        self.r, self.x, self.vector = draw(2, 2), draw(1, 4), draw(1, 4)
        paths = torch.tensor(list(itertools.product((0, 1), repeat=2 * STEPS)))
        self.states, self.actions = paths[:, :STEPS], paths[:, STEPS:]
        rewards = self.r[self.states, self.actions]
        self.returns = (DISCOUNT ** torch.arange(STEPS).to(DOUBLE) * rewards).sum(-1)
        self.played = Trajectories(
            states=torch.eye(2, dtype=DOUBLE)[self.states].unsqueeze(1),
            actions=self.actions.unsqueeze(1),
            rewards=rewards.unsqueeze(1),
            mask=torch.ones(256, 1, STEPS, dtype=torch.bool),
        )
        self.estimator = Estimator(Categorical(Linear((2,), 2)), DISCOUNT)

    def shares(self, x: Tensor) -> Tensor:
        """The probability of each trajectory under the weights (action, state)."""
        logits = x.view(2, 2).T.log_softmax(-1)
        told = self.rho[self.states[:, 0]].log() + logits[self.states, self.actions].sum(-1)
        for t in range(STEPS - 1):
            told = told + self.P[self.states[:, t], self.actions[:, t], self.states[:, t + 1]].log()
        return told.exp()

    def value(self, x: Tensor) -> Tensor:
        return torch.stack([(self.shares(row) * self.returns).sum() for row in x])

    def mean(self, found: Tensor, x: Tensor) -> Tensor:
        return self.shares(x) @ found

    def each(self, x: Tensor) -> Tensor:
        return x.expand(256, -1)


@dataclass(frozen=True)
class AtStates(Estimator):
    """A baseline that depends on the state, and a form of its own for linear policies or not."""

    written_out: bool = True

    def levels(self, credits: Tensor) -> Tensor:
        return 0.7 * LISTED.states.unsqueeze(1).to(DOUBLE) + 0.3

    def _linear(self, x: Tensor, played: Trajectories) -> Any:
        return super()._linear(x, played) if self.written_out else None


LISTED = Listed(0)


@pytest.mark.parametrize("form", ["paper", "causal"])
@pytest.mark.parametrize("written_out", [True, False])
@pytest.mark.parametrize("baseline", ["none", "time"])
def test_a1_gradients_and_products_are_unbiased(form: str, written_out: bool, baseline: str) -> None:
    case = LISTED
    _, gradient, bend = hessian(case.value, case.x)
    policy = case.estimator.policy
    estimator = AtStates(policy, DISCOUNT, "absolute", baseline, written_out)
    x, vector = case.each(case.x), case.each(case.vector)
    with torch.no_grad():
        found = case.mean(estimator.gradient(x, case.played), case.x)
        product = case.mean(estimator.product(x, vector, case.played, form), case.x)
    assert float((found - gradient[0]).abs().max()) < 1e-10
    assert float((product - bend[0] @ case.vector[0]).abs().max()) < 1e-10


def test_a1_without_the_outer_product_or_with_its_sign_turned_it_is_another_matrix() -> None:
    case = LISTED
    x, vector, played, estimator = case.each(case.x), case.each(case.vector), case.played, case.estimator
    exact = hessian(case.value, case.x)[2][0] @ case.vector[0]
    with torch.no_grad():
        outer = estimator.scores(x, vector, played).sum(-1) * estimator.gradient(x, played)
        whole = estimator.product(x, vector, played)
    for wrong in (whole - outer, whole - 2 * outer):
        error = torch.linalg.vector_norm(case.mean(wrong, case.x) - exact) / torch.linalg.vector_norm(exact)
        assert float(error) > 0.1


def test_a1_importance_weights_are_unbiased_at_the_second_point() -> None:
    case = LISTED
    second = case.x + 0.3 * case.vector
    with torch.no_grad():
        both, lost = case.estimator.pair(case.each(case.x), case.each(second), case.played)
    assert not lost.any()
    for place, x in enumerate((case.x, second)):
        found = case.mean(both[:, place], case.x)
        assert float((found - hessian(case.value, x)[1][0]).abs().max()) < 1e-10


def test_a2_hessians_between_two_points_are_the_difference_of_gradients() -> None:
    case = LISTED
    last, way = case.x, case.vector / torch.linalg.vector_norm(case.vector)
    nodes, weights = np.polynomial.legendre.leggauss(12)

    def product(q: float) -> Tensor:
        """The mean of B(tau, last + q way) way."""
        at = last + q * way
        with torch.no_grad():
            return case.mean(case.estimator.product(case.each(at), case.each(way), case.played), at)

    along = sum(w / 2 * product((q + 1) / 2) for q, w in zip(nodes, weights, strict=True))
    difference = hessian(case.value, last + way)[1][0] - hessian(case.value, last)[1][0]
    assert float((along - difference).abs().max()) < 1e-9
    assert float((product(0.5) - difference).abs().max()) > 1e-5


# A5: the scalar regulator ------------------------------------------------------------------------

PLANT = {"A": [[1.0]], "B": [[1.0]], "Q": [[1.0]], "R": [[1.0]], "start": [-0.2]}


def test_a5_closed_forms_of_the_regulator() -> None:
    env = search(task="lqr", dim=1, data=PLANT)
    state = env.reset(keys_from_seed(0, 1))
    K, P = env.process.optimal(state.hidden.world)  # type: ignore[attr-defined]
    value, slope, bend = env.exact(state, state.observation["x"])
    found = [float(part) for part in (K, P, state.hidden.best, value, slope, bend)]
    expected = [-0.5884033, 1.5884033, -7.6623109, -10.4716981, -24.00765, -212.243]
    assert found == pytest.approx(expected, rel=1e-6)


def test_a5_sampled_gradients_and_products_have_these_means() -> None:
    env = search(task="lqr", dim=1, data=PLANT)
    world = env.reset(keys_from_seed(0, 1)).hidden.world
    rows, each, estimator = 40, 5000, env.estimator  # the estimates of a row are means over its trajectories
    x, one, found = torch.full((1, 1), -0.2, dtype=DOUBLE), torch.ones(1, 1, dtype=DOUBLE), []
    with torch.no_grad():
        for key in keys_from_seed(1, rows).split(1):  # one at a time, which the processor's cache holds
            played = env.process.play(world, x, key, "trajectories", None, each)
            product = estimator.product(x, one, played)
            scores = estimator.scores(x, one, played).sum(-1, keepdim=True)
            outer = estimator.ascent(x, played, estimator.gains(played) * scores)
            found.append(torch.cat((estimator.gradient(x, played), product, product - outer), 1))
    g, B, curved = torch.cat(found).unbind(1)
    for drawn, exact, spread in ((g, -24.00765, 0.21), (B, -212.243, 6.3)):
        error = float(drawn.std() / rows**0.5)
        assert error == pytest.approx(spread, rel=0.5)
        assert abs(float(drawn.mean()) - exact) < 4 * error
    assert float(curved.mean()) == pytest.approx(420, abs=5)


# A8: accounting ----------------------------------------------------------------------------------


def test_a8_calls_and_transitions() -> None:
    T = 6
    env = search(task="cartpole", episode_length=30, test_episodes=1)
    played: list[Tensor] = []

    def noted(process: Any) -> Any:
        play = process.play

        def counting(world: Any, x: Tensor, keys: Tensor, stream: str, counter: Any, count: int) -> Any:
            found = play(world, x, keys, stream, counter, count)
            if stream != "test":
                played.append(found.transitions)
            return found

        object.__setattr__(process, "play", counting)
        return env

    noted(env.process)
    for method, gradients, products in (("n_pg_igt", T, 0), ("harpg", T, T - 1)):
        played.clear()
        run = optenvs.rollout(env, agents.make(method), batch=3, steps=T - 1)
        calls = {name: run.calls[name][-1].tolist() for name in run.calls.kinds}
        assert calls["policy_gradient"] == [gradients] * 3
        assert calls["product"] == [products] * 3
        assert calls["trajectories"] == [4 * gradients + 2 * products] * 3
        assert calls["transitions"] == torch.stack(played).sum(0).tolist()

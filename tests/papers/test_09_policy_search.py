"""N-PG-IGT and (N-)HARPG (Fatkhullin, Barakat, Kireeva, He, ICML 2023): the cheap acceptance checks.

Tens of thousands of iterations on the bandit are asked directly (:class:`Course`), which is the environment's
step without its bill and its metrics; a test holds the two together.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import agents
import optenvs
from optenvs.core.oracles import hessian
from optenvs.core.random import keys_from_seed, normal
from optenvs.core.rollout import agent_keys
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


# A3: exact gradients of a quadratic -------------------------------------------------------------


def quadratic() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(6, 6, generator=generator, dtype=DOUBLE)
    return (root + root.T) / 2, torch.randn(6, generator=generator, dtype=DOUBLE)


def errors(agent: Any, answers: Callable[[dict[str, Tensor]], dict[str, Tensor]], steps: int) -> float:
    """The largest |d_t - exact gradient at theta_t|."""
    matrix, b = quadratic()
    env = search(dim=6)
    state = env.reset(keys_from_seed(0, 1))
    memory = agent.init(state.problem, state.observation, agent_keys(state.key))
    seen = state.observation | answers({name: state.observation[name] for name in ("x", "second", "vector")})
    worst = 0.0
    for _ in range(steps):
        at = memory.x
        action, memory = agent.act(memory, seen)
        worst = max(worst, float(torch.linalg.vector_norm(memory.d - (at @ matrix + b))))
        seen = state.observation | answers(action) | {"answered": torch.ones_like(action["want"])}
    return worst


def test_a3_transport_keeps_the_gradient_of_a_quadratic() -> None:
    matrix, b = quadratic()

    def answers(asked: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"policy_gradient": asked["x"] @ matrix + b, "product": asked["vector"] @ matrix}

    with torch.no_grad():
        assert errors(agents.NPGIGT(lr=0.1), answers, 200) < 1e-10
        assert errors(agents.NPGIGT(lr=0.1, eta_lag=True), answers, 200) > 1e-3
        # of a quadratic every point between has the same Hessian, so that HARPG needs no integral
        assert errors(agents.NHARPG(lr=0.1), answers, 200) < 1e-10


# A4 and A6: the bandit ---------------------------------------------------------------------------

BANDIT = {"optimum": [1.0, 1.0], "start": [0.0, 0.0]}


class Course:
    """Iterations of an agent on the bandit, one row a key; the luck is drawn a block at a time."""

    block = 250

    def __init__(self, agent: Any, batch: int, turned: int = 0, scale: float = 1.0) -> None:
        self.env, self.agent = search(data=BANDIT, reward_scale=scale), agent
        self.state = self.env.reset(keys_from_seed(0, batch))
        self.memory = agent.init(self.state.problem, self.state.observation, agent_keys(self.state.key))
        self.seen = dict(self.state.observation)
        self.turned = turned  # the last so many rows have products with the outer product's sign turned
        self.asked = 0
        self.luck: dict[str, Tensor] = {}

    def __call__(self, iterations: int) -> Any:
        """The memory after so many more."""
        with torch.no_grad():
            for _ in range(iterations):
                action, self.memory = self.agent.act(self.memory, self.seen)
                self._answer(action)
        return self.memory

    def _answer(self, action: dict[str, Tensor]) -> None:
        self.seen["policy_gradient"] = self._gradient(action["x"], *self._played("g", action["x"]))
        if "product" in self.agent.needs:
            at, vector = action["second"], action["vector"]
            e, r = self._played("product", at)
            bent = self._product(e, r, vector)
            if self.turned:
                outer = 2 * r * (e * vector).sum(-1, keepdim=True) * e
                bent[-self.turned :] -= outer[-self.turned :]
            self.seen["product"] = bent
        self.seen["answered"] = action["want"]
        self.asked += 1

    def _played(self, name: str, x: Tensor) -> tuple[Tensor, Tensor]:
        """The score, and the reward, of one action each."""
        place = self.asked % self.block
        if not place:
            number = self.asked // self.block
            self.luck[name] = 2 * normal(self.state.key, name, (self.block, x.shape[1]), number, DOUBLE)
        score = self.luck[name][:, place]
        away = torch.add(x - self.state.hidden.world, score, alpha=0.25)
        reward = away.square().sum(-1, keepdim=True).mul_(-0.5).exp_()
        return score, reward if self.env.scale == 1 else self.env.scale * reward

    def _gradient(self, x: Tensor, e: Tensor, r: Tensor) -> Tensor:
        return r * e

    def _product(self, e: Tensor, r: Tensor, vector: Tensor) -> Tensor:
        return r * ((e * vector).sum(-1, keepdim=True) * e - 4 * vector)

    def gaps(self) -> Tensor:
        world, hidden = self.state.hidden.world, self.state.hidden
        return hidden.best - self.env.process.value(world, self.memory.x)


def test_a_course_asks_what_the_environment_answers() -> None:
    env = search(data=BANDIT)
    state = env.reset(keys_from_seed(0, 5))
    course = Course(agents.NHARPG(), 5)
    with torch.no_grad():
        x, vector = (normal(state.key, name, 2, dtype=DOUBLE) for name in ("x", "vector"))
        places = {"x": x, "second": x, "vector": vector, "recommendation": x}
        wanted = dict.fromkeys(("policy_gradient", "product"), True)
        told = env.step(state, env.card.offer.query(wanted, **places)).observation
        one = torch.ones_like(state.k)
        for kind in wanted:
            played = env.process.play(state.hidden.world, x, state.key, kind, one, 1)
            e = 4 * (played.actions.flatten(1) - x)
            r = played.rewards.flatten(1)
            found = course._gradient(x, e, r) if kind != "product" else course._product(e, r, vector)
            torch.testing.assert_close(told[kind], found, rtol=1e-12, atol=1e-12)


def test_a4_the_bandit_is_as_printed() -> None:
    env = search(data=BANDIT)
    state = env.reset(keys_from_seed(0, 1))
    assert float(state.metrics["value"]) == pytest.approx(0.359463, abs=5e-7)
    assert float(state.hidden.best) == pytest.approx(0.8, abs=1e-12)


@pytest.mark.ci
@pytest.mark.slow  # twenty thousand iterations, one after the other
def test_a4_gaps_after_ten_thousand_iterations() -> None:
    igt = Course(agents.NPGIGT(lr=0.3), 400)
    path = []
    for more in (100, 900, 9000):
        igt(more)
        path.append(float(igt.gaps().mean()))
    assert path[0] == pytest.approx(0.092, abs=0.02) and path[1] == pytest.approx(0.0044, abs=0.001)
    assert path[2] < 0.002
    harpg = Course(agents.NHARPG(lr=0.3), 800, turned=400)
    harpg(10_000)
    right, wrong = harpg.gaps().split(400)
    assert float(right.median()) < 0.001 and float(right.mean()) < 0.01
    assert float(wrong.median()) > 0.015 and float(wrong.mean()) > 0.015


def test_a4_normalised_gradients_without_momentum_are_a_random_walk() -> None:
    walk = Course(agents.VanillaPG(lr=0.3, power=2 / 3, normalise=True), 400)
    walk(10_000)
    assert float(walk.gaps().mean()) > 0.3


def path(method: str, scale: float, batch: int = 10) -> Tensor:
    """The iterates of 300 iterations, ``(301, batch, 2)``."""
    course = Course(agents.make(method, lr=0.05), batch, scale=scale)
    return torch.stack([course.memory.x, *(course(1).x for _ in range(300))])


@pytest.mark.parametrize("method", ["n_pg_igt", "n_harpg"])
def test_a6_normalised_steps_have_the_length_of_the_schedule_whatever_the_rewards(method: str) -> None:
    one, other = path(method, 1.0), path(method, 7.0)
    lengths = torch.linalg.vector_norm(one.diff(dim=0), dim=-1)
    expected = 0.05 * 2 / (torch.arange(300, dtype=DOUBLE) + 2)
    torch.testing.assert_close(lengths, expected.unsqueeze(-1).expand_as(lengths), rtol=1e-6, atol=0)
    assert float((one - other).abs().max()) < 1e-5


@pytest.mark.parametrize("method", ["vanilla_pg", "harpg"])
def test_a6_other_steps_grow_with_the_rewards(method: str) -> None:
    one, other = path(method, 1.0), path(method, 7.0)
    assert float(torch.linalg.vector_norm(one - other, dim=-1).max()) > 1


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


# A7: cart-pole -----------------------------------------------------------------------------------


@pytest.mark.ci
@pytest.mark.slow  # thirty thousand steps of the dynamics, one after the other
@pytest.mark.parametrize(
    ("trajectories", "lr", "steps", "batch", "least"), [(4, 0.3, 100, 16, 175), (25, 1.0, 50, 8, 185)]
)
def test_a7_the_pole_is_balanced(trajectories: int, lr: float, steps: int, batch: int, least: float) -> None:
    env = search(
        task="cartpole",
        trajectories=trajectories,
        test_episodes=50,
        evaluation_period=(steps,),
        dtype="float32",
    )
    run = optenvs.rollout(env, agents.NPGIGT(lr=lr), batch=batch, steps=steps)
    assert float(run.metrics["mean_return"][-1].mean()) >= least


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

"""N-PG-IGT and (N-)HARPG (Fatkhullin, Barakat, Kireeva, He, ICML 2023): the methods.

Tens of thousands of iterations on the bandit are asked directly (:class:`Course`), which is the environment's
step without its bill and its metrics; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import agents
import optenvs
from optenvs.core.random import keys_from_seed, normal
from optenvs.core.rollout import agent_keys
from optenvs.envs.policy.search import PolicySearch

pytestmark = pytest.mark.paper
DOUBLE = torch.float64


def search(**keywords: Any) -> PolicySearch:
    usual: dict[str, Any] = {"budget": None, "tolerance": None, "evaluation_period": None}
    return optenvs.make("PolicySearch", **(usual | keywords))  # type: ignore[return-value]


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

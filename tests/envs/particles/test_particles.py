"""Swarms: what is asked, billed and measured."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from PIL import Image
from torch import Tensor

import agents
import optenvs
from optenvs.core.env import State
from optenvs.core.errors import UnknownKeyword
from optenvs.core.random import keys_from_seed
from optenvs.envs.landscapes.classic import Rastrigin
from optenvs.envs.particles.base import PATIENCE
from optenvs.envs.particles.particles import Particles
from optenvs.envs.particles.training import ParticlesTraining
from optenvs.wrappers import Displacement

KEYS = keys_from_seed(0, 3)


def made(**keywords: Any) -> Particles:
    env = optenvs.make("Particles", **({"dtype": "float64", "particles": 5, "tolerance": None} | keywords))
    assert isinstance(env, Particles)
    return env


def ask(env: Any, state: State, points: Tensor, recommendation: Tensor | None = None) -> State:
    if env.recommend != "agent":
        return env.step(state, points)
    given = points.mean(1) if recommendation is None else recommendation
    return env.step(state, {"query": points, "recommendation": given})


LANDSCAPES: dict[str, dict[str, Any]] = {
    "plain": {"landscape": "Rastrigin", "dim": 3},
    "moved": {"landscape": "Ackley", "dim": 3, "shift": 1.0, "rotate": True},
    "eigenvalues": {"landscape": "Quadratic", "dim": 3, "rotate": True, "spectrum": "random"},
    "matrices": {"landscape": "LeastSquares", "dim": 3},
}


@pytest.mark.parametrize("name", LANDSCAPES)
def test_every_particle_is_answered_as_the_landscape_answers_it(name: str) -> None:
    env = made(oracle="gradient", **LANDSCAPES[name])
    landscape = optenvs.make(dtype="float64", tolerance=None, env_id=LANDSCAPES[name]["landscape"], **{
        key: value for key, value in LANDSCAPES[name].items() if key != "landscape"
    })  # fmt: skip
    state, single = env.reset(KEYS), landscape.reset(KEYS)
    points = state.observation["point"]
    for i in range(5):
        alone = landscape.step(single, points[:, i])
        for field in ("value", "gradient"):
            torch.testing.assert_close(state.observation[field][:, i], alone.observation[field])
    # the metrics are those of the recommendation, here the mean
    mean = landscape.step(single, points.mean(1))
    for metric in ("value", "gap", "distance"):
        torch.testing.assert_close(state.metrics[metric], mean.metrics[metric])
    offset = (points - single.hidden.optimum.unsqueeze(1)).square().sum(-1).mean(1)
    torch.testing.assert_close(state.metrics["mean_square_distance"], offset)
    torch.testing.assert_close(state.metrics["variance"], points.var(1, correction=0).sum(-1))
    torch.testing.assert_close(state.metrics["best_particle"], state.observation["value"].amin((1, 2)))


def test_what_has_not_moved_is_not_billed_again() -> None:
    env = made(oracle="gradient")
    state = env.reset(KEYS)
    assert state.calls.counts.tolist() == [[5, 5, 1]] * 3
    points = state.observation["point"].clone()
    points[0, 2] += 1e-9
    points[1] += 1.0
    state = ask(env, state, points)
    assert state.calls["value"].tolist() == [6, 10, 5]
    assert state.calls["gradient"].tolist() == [6, 10, 5]
    assert state.calls["swarm"].tolist() == [2, 2, 2]
    assert not env.fixed_cost


def test_noisy_answers_are_new_ones_each_time() -> None:
    env = made(noise=0.5, oracle="gradient")
    state = env.reset(KEYS)
    again = ask(env, state, state.observation["point"])
    assert again.calls["value"].tolist() == [10, 10, 10]
    for field in ("value", "gradient"):
        difference = (again.observation[field] - state.observation[field]).flatten(1)
        assert (difference.abs().amin(1) > 0).all()
    assert torch.equal(again.metrics["value"], state.metrics["value"]), "the truth has no noise"
    assert torch.equal(again.metrics["best_particle"], state.metrics["best_particle"])
    assert env.fixed_cost


def test_a_partial_update_costs_what_it_moves() -> None:
    env = made(particles=12, budget=None)
    run = optenvs.rollout(env, agents.CBO(batch_size=3, partial=True), batch=2, steps=6)
    spent = run.calls["value"].diff(dim=0)
    # the best of a batch may be its consensus to the last bit, and stay
    assert (spent <= 3).all() and (spent >= 2).all()
    full = optenvs.rollout(env, agents.CBO(batch_size=3), batch=2, steps=6)
    assert (full.calls["value"].diff(dim=0) >= 11).all()


@pytest.mark.parametrize("recommend", ["best", "mean"])
def test_recommendations_of_the_environment(recommend: str) -> None:
    env = made(recommend=recommend, landscape="Rastrigin", dim=2)
    assert isinstance(env.action_space, spaces.Box) and env.action_space.shape == (5, 2)
    state = env.reset(KEYS)
    first = state.observation["point"]
    best = first[torch.arange(3), state.observation["value"][..., 0].argmin(1)]
    expected = best if recommend == "best" else first.mean(1)
    assert torch.equal(state.hidden.recommendation, expected)
    worse = ask(env, state, first + 100.0)
    expected = best if recommend == "best" else (first + 100.0).mean(1)
    torch.testing.assert_close(worse.hidden.recommendation, expected)
    assert torch.equal(worse.metrics["best_ever"], state.metrics["best_particle"])
    better = ask(env, worse, torch.zeros_like(first))
    assert (better.metrics["value"] == 0).all()


def holed(x: Tensor) -> Tensor:
    """A bowl with a hole in which there is no number."""
    return torch.where(x[:, 0] > 10, torch.nan, x.square().sum(-1))


def test_no_number_at_a_particle_does_not_count() -> None:
    landscape = optenvs.from_function(holed, dim=2, batched=True, minimum=0.0)
    env = made(landscape=landscape, recommend="best")
    state = env.reset(KEYS)
    points = torch.ones_like(state.observation["point"])
    points[0, 1:, 0] = 20.0
    points[1, :, 0] = 20.0
    after = ask(env, state, points)
    assert after.observation["value"][0].isnan().sum() == 4
    assert after.metrics["best_particle"].tolist() == [2.0, float("inf"), 2.0]
    # one good particle is enough; a swarm without any has diverged, wherever it was before
    assert after.diverged.tolist() == [False, True, False]
    first = state.metrics["best_particle"]
    assert torch.equal(after.metrics["best_ever"], first.minimum(after.metrics["best_particle"]))


@pytest.mark.parametrize("name", ["cbo", "memory_cbo", "polarized_cbo", "consensus_hopping", "pso"])
def test_methods_survive_particles_without_value(name: str) -> None:
    landscape = optenvs.from_function(holed, dim=2, batched=True, minimum=0.0, bounds=(-5.0, 5.0))
    env = made(landscape=landscape, particles=40, start_mean=(9.0, 1.0), start_std=2.0)
    agent = agents.make(name)
    run = optenvs.rollout(env, agent, batch=4, steps=30, record=("point", "value"))
    assert run.recorded["value"][0].isnan().any()
    assert run.recorded["point"].isfinite().all()
    assert run.merit.isfinite().all() and not run.diverged.any()


def test_a_swarm_without_any_value_has_no_gap() -> None:
    landscape = optenvs.from_function(lambda x: x.sum(-1) + torch.inf, dim=2, batched=True, minimum=0.0)
    for recommend in ("best", "mean", "agent"):
        env = made(landscape=landscape, particles=5, recommend=recommend, tolerance=1e-3)
        state = env.reset(KEYS)
        assert not (state.metrics["gap"] < 1e-3).any()
        assert state.diverged.all() and not state.terminated.any()
    best = made(landscape=landscape, particles=5, recommend="best").reset(KEYS)
    assert torch.equal(best.hidden.recommendation, best.observation["point"][:, 0])


def test_recommendations_are_recorded() -> None:
    env = made(particles=30, start_mean=(3.0, 1.0))
    run = optenvs.rollout(env, agents.make("cbo"), batch=2, steps=4, record=("recommendation", "point"))
    told = run.recorded["recommendation"]
    assert told.shape == (5, 2, 2)
    assert torch.equal(told[-1], run.state.hidden.recommendation)
    # a query recommends the consensus of the answer before it
    again = optenvs.rollout(
        env, agents.make("consensus_hopping"), batch=2, steps=4, record=("recommendation",)
    )
    for name, record in (("cbo", told), ("consensus_hopping", again.recorded["recommendation"])):
        agent, state = agents.make(name), env.reset(optenvs.core.random.keys_from_seed(0, 2))
        memory = agent.init(state.problem, state.observation, state.key)
        action, _ = agent.act(memory, state.observation)
        torch.testing.assert_close(record[1], action["recommendation"])
    with pytest.raises(ValueError, match="record: no field 'consensus' in .*'recommendation'"):
        optenvs.rollout(env, agents.make("cbo"), steps=1, record=("consensus",))
    wrapped = Displacement(env=optenvs.make("ReluBox"))
    still = agents.from_function(lambda seen: torch.zeros_like(seen["point"]))
    assert optenvs.rollout(wrapped, still, steps=2, record=("best_point",)).recorded["best_point"].shape == (
        3,
        1,
        10,
    )


def test_starts() -> None:
    gaussian = made(particles=4000, start_mean=(8.0, -2.0), start_std=0.5).reset(KEYS).observation["point"]
    torch.testing.assert_close(
        gaussian.mean(1), torch.tensor([[8.0, -2.0]]).double().expand(3, 2), atol=0.05, rtol=0
    )
    assert (gaussian.std(1) - 0.5).abs().max() < 0.03
    box = made(particles=4000).reset(KEYS).observation["point"]
    assert box.abs().max() <= 10 and (box.mean(1).abs() < 0.4).all()
    assert (box.std(1) - 20 / 12**0.5).abs().max() < 0.2
    point = made(start_mean=3.0, start_std=0.0).reset(KEYS).observation["point"]
    assert (point == 3).all()
    clipped = made(start_mean=9.0, start_std=3.0, bounds="domain", particles=50)
    assert clipped.reset(KEYS).observation["point"].max() == 10
    assert clipped.action_space["query"].high.max() == 10


def test_minima_are_counted() -> None:
    env = made(landscape="RastriginProduct", particles=4, shift=1.0, rotate=True)
    state = env.reset(KEYS)
    hidden = state.hidden.oracle
    minima = env.function.known_minima()
    assert minima is not None
    moved = hidden.shift.unsqueeze(1) + minima @ hidden.rotation.mT
    far = torch.full_like(moved[:, :1], 50.0)
    nudged = moved + 0.17  # 0.24 away
    two = torch.cat((nudged[:, :2], far, far), 1)
    assert ask(env, state, two).metrics["minima_found"].tolist() == [2, 2, 2]
    three = torch.cat((moved, far), 1)
    assert ask(env, state, three).metrics["minima_found"].tolist() == [3, 3, 3]
    assert ask(env, state, three + 0.18).metrics["minima_found"].tolist() == [0, 0, 0]


def test_what_a_particle_sees() -> None:
    open_, closed = made(), made(sees="self")
    fields = set(open_.agent_observation_space)
    assert fields == {"point", "value", "k", "N", "spent", "all_point", "all_value"}
    assert set(closed.agent_observation_space) == {"point", "value", "k", "N", "spent"}
    assert open_.agent_name == "particle" and open_.agents == 5
    assert set(open_.agent_action_space) == {"query", "recommendation"}
    assert made(recommend="mean").agent_action_space.shape == (2,)


def test_an_environment_inside_an_environment() -> None:
    env = made(landscape="optenvs/Rastrigin-v0", dim=4, amplitude=2.5, budget=600)
    assert (env.landscape.dim, env.landscape.dtype, env.limits) == (4, "float64", {"value": 600})
    assert isinstance(env.landscape, Rastrigin) and env.landscape.amplitude == 2.5
    with pytest.raises(
        UnknownKeyword,
        match="Particles-v0 on optenvs/Rastrigin-v0 got an unexpected .* 'amplitud'; did",
    ):
        made(landscape="Rastrigin", amplitud=2.5)
    own = Particles(landscape=Rastrigin(dim=3), particles=7)
    assert own.action_space["query"].shape == (7, 3)
    with pytest.raises(UnknownKeyword, match="got an unexpected keyword argument 'dim'"):
        optenvs.make("Particles", landscape=Rastrigin(dim=3), dim=4)
    sb3 = optenvs.make_sb3("Particles", recommend="mean", particles=3)
    assert sb3.action_space.is_bounded() and sb3.action_space.shape == (3, 2)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"particles": 0}, ValueError, "particles: expected a whole number >= 1, got 0"),
        ({"recommend": "me"}, ValueError, "recommend: expected agent or best or mean, got 'me'"),
        ({"sees": "all"}, ValueError, "sees: expected swarm or self"),
        ({"oracle": "hvp"}, ValueError, "oracle: expected value or gradient, got 'hvp'"),
        ({"start_std": 1.0}, ValueError, "start_std: expected a start_mean with it"),
        ({"start_mean": (1.0, 2.0, 3.0)}, ValueError, "start_mean: expected a number or 2 of them"),
        ({"start_mean": 0.0, "start_std": -1.0}, ValueError, "start_std: expected a number >= 0, got -1.0"),
        ({"landscape": 3}, TypeError, "landscape: expected a Landscape, got 3"),
        ({"budget": 4}, ValueError, "budget: 4 value calls do not pay the first query, which costs 5"),
    ],
)
def test_bad_input(keywords: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        made(**keywords)


def test_only_make_knows_ids() -> None:
    with pytest.raises(
        TypeError, match="landscape: expected a Landscape, got 'Rastrigin'; optenvs.make takes an id"
    ):
        Particles(landscape="Rastrigin")  # type: ignore[arg-type]


def states(env: Any, steps: int = 3) -> list[State]:
    path: list[State] = []
    optenvs.rollout(env, agents.CBO(), steps=steps, on_step=lambda _, state: path.append(state))
    return path


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_pictures(dim: int) -> None:
    env = made(landscape="Rastrigin", dim=dim)
    path = states(env)
    one, other = env.picture(path[:1]), env.picture(path)
    assert one.shape == other.shape and (one != other).any()


def test_a_film_has_a_picture_a_state(tmp_path: Path) -> None:
    env = made()
    path = states(env, 4)
    env.film(path, tmp_path / "swarm.gif", fps=5)
    with Image.open(tmp_path / "swarm.gif") as film:
        assert film.n_frames == 4  # type: ignore[attr-defined]
        film.seek(0)
        first = np.asarray(film.convert("RGB"))
        film.seek(3)
        assert (np.asarray(film.convert("RGB")) != first).any()
    with pytest.raises(ValueError, match="ends in .gif or .mp4, got 'swarm.avi'"):
        env.film(path, tmp_path / "swarm.avi")
    with pytest.raises(ValueError, match="states: expected at least one"):
        env.film([], tmp_path / "swarm.gif")


# networks ----------------------------------------------------------------------------------------


def digits(**keywords: Any) -> ParticlesTraining:
    small = {"particles": 4, "samples": 64, "batch_size": 8, "queries_per_minibatch": 3, "dtype": "float64"}
    env = optenvs.make("ParticlesDigits", **(small | keywords))
    assert isinstance(env, ParticlesTraining)
    return env


def test_networks_share_minibatches_for_some_queries() -> None:
    env = digits()
    state = env.reset(KEYS)
    points = state.observation["point"]
    values, spent = [state.observation["value"]], [state.calls.counts]
    for _ in range(6):
        state = ask(env, state, points)
        values.append(state.observation["value"])
        spent.append(state.calls.counts)
    same = [torch.equal(a, b) for a, b in pairwise(values)]
    assert same == [True, True, False, True, True, False]
    # where nothing has moved, only a new minibatch costs something
    bills = torch.stack(spent).diff(dim=0)
    assert bills[:, 0].tolist() == [[0, 0, 1], [0, 0, 1], [4, 32, 1], [0, 0, 1], [0, 0, 1], [4, 32, 1]]
    assert env.evaluations == 8 * 3 and env.limits["value"] == 4 * (20 * 24 + 1)


def test_the_value_is_a_tenth_of_the_cross_entropy() -> None:
    env = digits()
    state = env.reset(KEYS)
    training = env.training.replace(dtype="float64", oracle="minibatch")
    for i in range(4):
        point = state.observation["point"][:, i]
        alone = training.step(dataclasses.replace(training.reset(KEYS), k=state.k - 1), point)
        torch.testing.assert_close(state.observation["value"][:, i, 0], 0.1 * alone.merit)
    assert state.metrics["loss"].tolist() == pytest.approx((10 * state.metrics["value"]).tolist())


def test_scores_are_of_all_data() -> None:
    env = digits()
    state = env.reset(KEYS)
    training = env.training.replace(dtype="float64")
    losses = torch.stack([_score(training, state.observation["point"][:, i])[0] for i in range(4)])
    torch.testing.assert_close(state.metrics["best_train_loss"], losses.amin(0))
    best = losses.argmin(0)
    point = state.observation["point"][torch.arange(3), best]
    torch.testing.assert_close(state.metrics["best_test_accuracy"], _score(training, point)[1])
    recommended = _score(training, state.hidden.recommendation)
    torch.testing.assert_close(state.metrics["train_loss"], recommended[0])
    torch.testing.assert_close(state.metrics["test_accuracy"], recommended[1])


def _score(training: Any, point: Tensor) -> tuple[Tensor, Tensor]:
    """Training loss and test accuracy of one network an instance, by the environment of one network."""
    state = training.reset(KEYS)
    state = training.evaluate(training.step(state, point))
    return state.metrics["train_loss"], state.metrics["test_accuracy"]


def test_a_swarm_that_has_come_together_ends_its_episode() -> None:
    env = optenvs.make("Particles", landscape="optenvs/Rastrigin-v0", dim=2, particles=3, recommend="best")
    state = env.reset(keys_from_seed(0, 2))
    here, ended = state.observation["point"], []
    for turn in range(PATIENCE + 5):
        moved = here + (turn == 3) * torch.tensor([0.0, 1.0]).reshape(2, 1, 1)  # of the second row
        state = env.step(state, moved)
        ended.append(state.truncated.tolist())
    assert ended[PATIENCE - 2] == [False, False] and ended[PATIENCE - 1] == [True, False]
    # the second row moved away in turn 3 and back in turn 4
    assert ended[PATIENCE + 3] == [True, False] and ended[PATIENCE + 4] == [True, True]
    assert state.calls["value"].tolist() == [3, 9]

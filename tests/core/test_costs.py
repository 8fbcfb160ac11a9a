"""What an episode costs: budgets are never exceeded, and a run lasts until its budget is spent."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import agents
import optenvs
from agents.core import Agent
from optenvs.core import Answer, Instance, OptimizationEnv, State, keys_from_seed, rollout, struct
from optenvs.core.evaluations import check_evaluations, due, stretched, times, until_next
from optenvs.core.spaces import box
from optenvs.core.stepper import Idle
from optenvs.wrappers import Wrapper

RASTRIGIN = "optenvs/Rastrigin-v0"
TIGHT: dict[str, tuple[str, dict[str, Any], str]] = {
    # budgets that no whole number of queries fills
    "swarm": ("Particles", {"landscape": RASTRIGIN, "dim": 2, "particles": 7, "budget": 10}, "cbo"),
    "swarm with gradients": (
        "Particles",
        {"landscape": RASTRIGIN, "dim": 2, "particles": 7, "oracle": "gradient", "budget": {"gradient": 17}},
        "langevin",
    ),
    "minibatches": ("TrainDigits", {"budget": {"samples": 100}}, "sgd"),
    "exchanges": ("NetworkQuadratic", {"nodes": 5, "budget": {"exchange": 23}}, "dadao"),
    "gradients of nodes": ("NetworkQuadratic", {"nodes": 5, "budget": 21}, "dadao"),
    "rounds": ("NetworkQuadratic", {"nodes": 5, "clock": "rounds", "budget": {"exchange": 18}}, "dgd"),
    "comparisons": ("Ranking", {"shown": 10, "budget": 33}, "zo_ranksgd"),
    "comparisons of fewer": ("Ranking", {"shown": 10, "budget": 100}, "scobo"),
    "polls": ("ReluBox", {"points": 8, "budget": 41}, "mads"),
}


@pytest.mark.parametrize("name", TIGHT)
def test_no_budget_is_exceeded_and_all_of_it_is_offered(name: str) -> None:
    environment, keywords, agent = TIGHT[name]
    env = optenvs.make(environment, **keywords)
    run = rollout(env, agents.make(agent), batch=3)
    for kind, limit in env.limits.items():
        assert (run.calls[kind] <= limit).all(), f"{kind}: {run.calls[kind][-1].tolist()} of {limit}"
    assert run.done[-1].all()
    if not env.fixed_cost and keywords.get("clock") != "rounds":
        assert any((run.calls[kind][-1] == limit).all() for kind, limit in env.limits.items())
    else:  # a whole query more was not to be paid
        (kind,) = env.limits
        assert (run.calls[kind][-1] > env.limits[kind] - env.bill[kind]).all()


def test_particles_that_cannot_be_paid_stay_where_they_were_answered() -> None:
    env = optenvs.make("Particles", landscape=RASTRIGIN, dim=2, particles=4, budget=6, recommend="best")
    before = env.reset(keys_from_seed(0, 3))
    after = env.step(before, before.observation["point"] + 1.0)
    point, value = (after.observation[name] for name in ("point", "value"))
    assert torch.equal(point[:, :2], before.observation["point"][:, :2] + 1.0)
    assert torch.equal(point[:, 2:], before.observation["point"][:, 2:])
    assert torch.equal(value[:, 2:], before.observation["value"][:, 2:])
    assert after.calls["value"].tolist() == [6, 6, 6] and after.truncated.all()


def test_where_cost_varies_a_run_lasts_until_the_budget_is_spent() -> None:
    env = optenvs.make("ReluBox", points=20, budget=60)
    assert env.horizon is not None
    run = rollout(env, agents.make("random_line_search"))
    assert len(run.reward) > env.horizon
    assert bool(run.done[-1].all()) and int(run.calls["value"][-1]) == 60


def test_the_share_of_the_budget_is_observed_where_cost_varies() -> None:
    env = optenvs.make("ReluBox", points=8, budget={"value": 40, "poll": 100})
    run = rollout(env, agents.make("mads"), record=("spent", "k"), batch=2)
    used = torch.maximum(run.calls["value"] / 40, run.calls["poll"] / 100)
    assert torch.allclose(run.recorded["spent"][..., 0].to(used), used)
    assert "spent" not in optenvs.make("Quadratic").observation_space.spaces


def test_schedules_read_the_share_that_is_spent() -> None:
    seen: list[Tensor] = []

    def schedule(k: Tensor, N: Tensor) -> Tensor:
        seen.append(k / N)
        return torch.ones_like(k)

    env = optenvs.make("Particles", landscape=RASTRIGIN, dim=2, particles=4, budget=20)
    run = rollout(env, agents.CBO(alpha_schedule=schedule), record=("spent",))
    assert torch.allclose(torch.stack(seen[1:]), run.recorded["spent"][1:-1].reshape(-1, 1, 1).to(seen[0]))


def test_the_first_query_is_priced_as_it_is() -> None:
    for name, keywords in (("Ranking", {"shown": 10}), ("ReluBox", {"points": 20})):
        env = optenvs.make(name, budget=9, **keywords)
        state = env.reset(keys_from_seed(0, 2))
        assert state.calls.counts[:, 0].tolist() == [1, 1] and not state.done.any()
    with pytest.raises(ValueError, match="budget: 6 value calls do not pay the first query, which costs 7"):
        optenvs.make("Particles", landscape=RASTRIGIN, dim=2, particles=7, budget=6)


# An agent that asks nothing, and one that says so -----------------------------------------------


@struct
class Silence:
    """How often it was called, and whether it has finished, ``(B,)``."""

    count: Tensor
    finished: Tensor


@dataclass(frozen=True, eq=False)
class Silent(Agent):
    """Asks the first point again, for nothing; finishes after ``patience`` calls, row by row one later."""

    patience: int | None = None

    def init(self, problem: Any, observation: dict[str, Tensor], keys: Tensor) -> Silence:
        return Silence(count=torch.zeros_like(keys), finished=torch.zeros_like(keys, dtype=torch.bool))

    def act(self, state: Silence, observation: dict[str, Tensor]) -> tuple[Tensor, Silence]:
        count = state.count + 1
        ended = torch.zeros_like(state.finished)
        if self.patience is not None:
            ended = count > self.patience + torch.arange(len(count))
        return observation["point"], Silence(count=count, finished=ended)


SWARM = {"landscape": RASTRIGIN, "dim": 2, "particles": 3, "budget": 30, "recommend": "best"}


def test_a_run_that_nothing_would_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Idle, "PATIENCE", 40)
    with pytest.raises(
        RuntimeError, match="Silent has asked nothing of Particles that its budget limits for 40"
    ):
        rollout(optenvs.make("Particles", **SWARM), Silent())


def test_rows_whose_agent_has_finished_are_done_and_unbilled() -> None:
    env = optenvs.make("Rosenbrock", dim=2, budget=20)
    run = rollout(env, Silent(patience=4), batch=3)
    # the call that finishes a row asks nothing: 4, 5, 6 steps after the first query
    assert run.calls["gradient"][-1].tolist() == [5, 6, 7]
    assert run.done.int().argmax(0).tolist() == [5, 6, 7]
    assert run.finished.all() and not run.state.terminated.any()
    spent = rollout(env.replace(budget=6), Silent(patience=4), batch=3, steps=30)
    assert spent.finished.tolist() == [True, False, False], "the others' budget ended first"
    assert not rollout(env, agents.SGD(lr=1e-4), batch=3).finished.any()


def test_bound_agents_end_the_episode_when_they_have_finished() -> None:
    env = optenvs.GymEnv(optenvs.make("Rosenbrock", dim=2, budget=20))
    policy = agents.bind(Silent(patience=2), env)
    observation, info = env.reset(seed=0)
    for _ in range(3):
        observation, reward, terminated, truncated, info = env.step(policy(observation))
    assert truncated and not terminated and info["calls"]["gradient"] == 3 and reward == 0
    observation, info = env.reset()
    assert not env.step(policy(observation))[3]


def test_bound_agents_end_rows_of_a_batch() -> None:
    env = optenvs.TorchVectorEnv(optenvs.make("Rosenbrock", dim=2, budget=20), 3, autoreset_mode="disabled")
    policy = agents.bind(Silent(patience=2), env)
    observation, info = env.reset(seed=0)
    ended = []
    for _ in range(5):
        observation, _, _, truncated, info = env.step(policy(observation))
        ended.append(truncated.tolist())
    assert ended[1:] == [[False] * 3, [True, False, False], [True, True, False], [True] * 3]
    assert info["calls"]["gradient"].tolist() == [3, 4, 5]


# Points outside of a box ------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Leaves(Agent):
    """Asks where no one may be, which is better than all that is allowed."""

    def init(self, problem: Any, observation: dict[str, Tensor], keys: Tensor) -> Tensor:
        return keys

    def act(self, state: Tensor, observation: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return torch.ones_like(observation["point"]), state


@pytest.mark.parametrize("reward", ["improvement", "negative_value", "log_improvement"])
def test_a_point_outside_of_its_box_is_billed_without_credit(reward: str) -> None:
    # the minimum of Rosenbrock's function, (1, 1), lies outside
    env = optenvs.make("Rosenbrock", dim=2, bounds=(-2.0, 0.5), budget=5, tolerance=1e-3, reward=reward)
    run = rollout(env, Leaves(), batch=2)
    assert run.calls["gradient"][-1].tolist() == [5, 5], "answered and billed"
    assert (run.metrics["gap"][1:] == 0).all(), "the metric is the truth"
    assert (run.best == run.best[0]).all() and not run.state.terminated.any()
    assert (run.reward == (-run.best[1:] if reward == "negative_value" else 0)).all()
    assert run.outside.tolist() == [4, 4]


@pytest.mark.parametrize("nan", ["diverge", "infeasible"])
@pytest.mark.parametrize("reward", ["improvement", "negative_value", "log_improvement"])
def test_a_point_without_a_value_earns_nothing_for_one_outside_before_it(reward: str, nan: str) -> None:
    env = optenvs.from_function(
        lambda x: x.sum() + 10.0 + (0.5 - x[0]).sqrt() * 0,
        dim=2,
        minimum=0.0,
        bounds=(-1.0, 1.0),
        bounded=True,
        start=(0.0, 0.0),
        nan=nan,
        reward=reward,
        oracle="value",
        tolerance=None,
    )
    state, told = env.reset(keys_from_seed(0, 1)), []
    for point in ((0.1, 0.1), (-2.0, -2.0), (0.9, 0.0), (-0.5, -0.5)):
        state = env.step(state, torch.tensor([point]))
        told.append((state.best.item(), state.reward.item()))
    # the second lies outside, the third has no value: nothing came of them, the fourth improves on the first
    best = [10.0, 10.0, 10.0, 9.0]
    if reward == "negative_value":
        expected = [-10.2, -10.0, -10.0, -9.0]
    else:
        expected = [0.0, 0.0, 0.0, 1.0 if reward == "improvement" else 1 - math.log10(9.0)]
    assert [pair[0] for pair in told] == pytest.approx(best)
    assert [pair[1] for pair in told] == pytest.approx(expected, abs=1e-6)


def test_a_particle_outside_is_neither_best_nor_recommended() -> None:
    env = optenvs.make(
        "Particles", landscape=RASTRIGIN, dim=2, bounds=(1.0, 3.0), particles=3, recommend="best"
    )
    before = env.reset(keys_from_seed(0, 2))
    query = before.observation["point"].clone()
    query[:, 1] = 0.0  # the minimum, outside of the box
    after = env.step(before, query)
    assert (after.observation["value"][:, 1] == 0).all()
    assert (after.metrics["best_ever"] > 0).all() and (after.best > 0).all()
    assert (after.metrics["outside"] == 0).all(), "the recommendation lies inside"


def test_a_design_outside_is_no_best() -> None:
    env = optenvs.make("Biodiesel", formulation="constraints", points=3)
    before = env.reset(keys_from_seed(0, 2))
    start = env.sample(keys_from_seed(0, 2)).start
    query = {**start, "points": start["points"] + 2.0, "count": torch.full_like(start["count"], 3)}
    after = env.step(before, query)
    assert torch.equal(after.best, before.best) and (after.calls["value"] > before.calls["value"]).all()
    assert (after.metrics["outside"] == 1).all()


# When dear things are measured ------------------------------------------------------------------


def test_times_of_evaluation() -> None:
    assert [k for k in range(1, 8) if due(3, k)] == [3, 6] == times(3, 8)[1:]
    assert [k for k in range(1, 9) if due((2, 7), k)] == [2, 7] == times((2, 7), 8)[1:]
    assert (until_next(3, 4), until_next((2, 7), 2), until_next((2, 7), 7)) == (2, 5, float("inf"))
    assert (until_next(None, 1), times(None, 5), due(None, 3)) == (float("inf"), [0], False)
    assert (stretched(5, 2), stretched((1, 2, 5), 2), stretched(None, 2)) == (3, (1, 3), None)
    for wrong in (0, True, 1.5, (3, 2), (1, 1), "3"):
        with pytest.raises(ValueError, match="evaluation_period: expected a whole number >= 1"):
            check_evaluations(wrong)


def test_training_is_evaluated_when_it_is_asked_to_be() -> None:
    env = optenvs.make("TrainDigits", samples=96, widths=(4,), epochs=3, evaluation_period=(1, 4))
    run = rollout(env, agents.SGD(lr=0.1))
    loss = run.metrics["train_loss"][:, 0]
    assert [i for i in range(1, len(loss)) if loss[i] != loss[i - 1]] == [1, 4]
    assert env.replace(batch_size=48, evaluation_period=None).evaluations == 2


@dataclass(frozen=True, eq=False, kw_only=True)
class Dear(OptimizationEnv):
    """x^2, whose value is measured every third query only."""

    tolerance: float | None = None

    oracles = ("gradient",)
    bill = {"gradient": 1}  # noqa: RUF012 (declared like a property)
    measures_merit = True  # type: ignore[assignment]

    def action_fields(self) -> Any:
        return box((1,), self.dtype)

    def observation_fields(self) -> Any:
        return {"point": box((1,), self.dtype), "gradient": box((1,), self.dtype)}

    @property
    def evaluation_period(self) -> int:
        return 3

    def sample(self, keys: Tensor) -> Instance:
        start = torch.ones(len(keys), 1)
        return Instance(problem=None, hidden=None, start=start, floor=torch.zeros(len(keys)))

    def answer(self, state: State, action: Any) -> Answer:
        merit = torch.where(state.merit < torch.inf, state.merit, 100.0)
        return Answer({"point": action, "gradient": 2 * action}, merit, {"value": merit})

    def evaluate(self, state: State) -> State:
        value = state.observation["point"][:, 0] ** 2
        best = torch.minimum(state.best, value)
        return dataclasses.replace(
            state, merit=value, best=best, reward=state.best - best, metrics={"value": value}
        )


def test_an_evaluation_may_set_the_merit_where_that_is_dear() -> None:
    optenvs.check(Dear())
    for env in (Dear(), Wrapper(Dear())):
        run = rollout(env, agents.SGD(lr=0.25), steps=6)
        assert run.merit[:, 0].tolist() == [1, 1, 1, 2.0**-6, 2.0**-6, 2.0**-6, 2.0**-12]
        assert float(run.reward.sum()) == 1 - 2.0**-12

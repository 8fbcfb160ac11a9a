"""rollout, unroll and unroll_windows."""

from __future__ import annotations

import dataclasses
import gc
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from menu_problems import Program
from torch import Tensor

import agents
import optenvs
from agents import from_function
from optenvs.core.env import State
from optenvs.core.errors import OracleMismatch
from optenvs.core.menu import Judgement, Query
from optenvs.core.nested import advance
from optenvs.core.random import keys_from_seed, normal
from optenvs.core.rollout import agent_keys, rollout, unroll, unroll_windows
from optenvs.core.stepper import History
from optenvs.core.struct import struct, tensors


@struct
class Memory:
    mu: Tensor
    key: Tensor
    count: Tensor


@dataclass(frozen=True, eq=False)
class Descent:
    """Heavy-ball descent with noise of its own: it has a memory and a key, so that a resume can go wrong."""

    lr: Any = 0.1
    noise: float = 0.0
    needs = ("gradient",)

    def init(self, problem: Any, observation: dict[str, Tensor], keys: Tensor) -> Memory:
        point = observation["point"]
        return Memory(mu=torch.zeros_like(point), key=keys, count=torch.zeros_like(keys))

    def act(self, state: Memory, observation: dict[str, Tensor]) -> tuple[Tensor, Memory]:
        mu = 0.5 * state.mu + observation["gradient"]
        point = observation["point"] - self.lr * mu
        if self.noise:
            draw = normal(state.key, "noise", point.shape[1], state.count, point.dtype)
            point = point + self.noise * draw
        return point, dataclasses.replace(state, mu=mu, count=state.count + 1)


class Away:
    """Squares its distance: diverges to infinity."""

    def init(self, problem: Any, observation: dict[str, Tensor], keys: Tensor) -> tuple[()]:
        return ()

    def act(self, state: Any, observation: dict[str, Tensor]) -> tuple[Tensor, Any]:
        return observation["point"] ** 2 * 1e6 + 1e6, state


def equal(one: Any, other: Any) -> None:
    left, right = tensors(one), tensors(other)
    assert left.keys() == right.keys()
    for path, value in left.items():
        if path != "seconds":
            assert torch.equal(value, right[path]), path


def test_shapes() -> None:
    run = rollout(optenvs.make("Quadratic", dim=3), Descent(), batch=4, steps=6, record=("point", "k"))
    assert run.merit.shape == run.best.shape == run.done.shape == (7, 4)
    assert run.reward.shape == (6, 4)
    assert run.calls["gradient"].shape == (7, 4)
    assert run.calls["gradient"][:, 0].tolist() == list(range(1, 8))
    assert run.metrics["gap"].shape == (7, 4)
    assert run.recorded["point"].shape == (7, 4, 3)
    assert run.recorded["k"][:, 0, 0].tolist() == list(range(7))
    assert run.seconds.shape == (7,)
    assert run.seconds[0] == 0
    assert (run.seconds.diff() > 0).all()
    assert not run.merit.requires_grad


def test_a_record_in_parts_is_in_order() -> None:
    env, agent = optenvs.make("Quadratic", dim=3, budget=None), Descent(lr=1e-3, noise=0.1)
    whole = rollout(env, agent, batch=2, steps=2 * History.TOGETHER + 22, record=("k",))
    assert whole.recorded["k"][:, 0, 0].tolist() == list(range(2 * History.TOGETHER + 23))
    first = rollout(env, agent, batch=2, steps=40)
    rest = rollout(env, agent, steps=2 * History.TOGETHER - 18, resume=first)
    assert torch.equal(whole.merit, torch.cat((first.merit, rest.merit[1:])))
    assert torch.equal(whole.reward, torch.cat((first.reward, rest.reward)))
    assert torch.equal(whole.calls.counts, torch.cat((first.calls.counts, rest.calls.counts[1:])))


def test_it_is_the_loop_that_a_user_would_write() -> None:
    env, agent, keys = optenvs.make("Rastrigin", dim=3), Descent(lr=1e-3, noise=0.1), keys_from_seed(4, 2)
    run = rollout(env, agent, keys=keys, steps=5)
    state = env.reset(keys)
    memory = agent.init(state.problem, state.observation, agent_keys(keys))
    for t in range(5):
        action, memory = agent.act(memory, state.observation)
        state = env.step(state, action)
        assert torch.equal(run.merit[t + 1], state.merit)
        assert torch.equal(run.reward[t], state.reward)


def test_without_steps_it_spends_the_budget() -> None:
    run = rollout(optenvs.make("Quadratic", budget=12, tolerance=None), Descent(), batch=2)
    assert len(run.reward) == 11
    assert run.calls["gradient"][-1].tolist() == [12, 12]
    assert run.state.truncated.all()
    assert run.done[-1].all()
    assert not run.done[-2].any()


def test_budgets_of_several_kinds_end_at_the_first() -> None:
    env = optenvs.make("Quadratic", budget={"gradient": 30, "value": 7}, tolerance=None)
    assert env.horizon == 6
    run = rollout(env, Descent(), batch=2, steps=20)
    assert run.calls["value"][-1].tolist() == [7, 7]
    assert run.done.sum(0).tolist() == [15, 15]


def test_finished_rows_rest() -> None:
    # rows that begin at the same distance of the optimum with other spectra finish at other times
    env = optenvs.make("Quadratic", dim=4, spectrum="random", condition=50.0, tolerance=1e-3)
    run = rollout(env, Descent(lr=0.9), batch=8, steps=120)
    ends = run.done.int().argmax(0)
    assert run.done[-1].all()
    assert len(set(ends.tolist())) > 2
    for row, end in enumerate(ends.tolist()):
        assert (run.merit[end:, row] == run.merit[end, row]).all()
        assert (run.calls["gradient"][end:, row] == end + 1).all(), "a row at rest is not billed"
        assert (run.reward[end:, row] == 0).all()
        assert run.reward[end - 1, row] > 0
        alone = rollout(env, Descent(lr=0.9), keys=run.state.key[row : row + 1], steps=120)
        assert torch.equal(alone.merit[:, 0], run.merit[:, row])


def test_a_row_that_is_over_wants_nothing_of_a_menu() -> None:
    asked = []

    class Watched(Program):
        def judge(self, state: State, query: Query) -> Judgement:
            asked.append({kind: int(rows.sum()) for kind, rows in query.paid.items() if rows.any()})
            found = super().judge(state, query)
            return found._replace(ended=torch.arange(3) < state.k - 1)  # a row a step, from the second on

    agent = from_function(lambda seen: seen | {"want": torch.ones_like(seen["answered"])})
    run = rollout(Watched(budget=None, block=2), agent, batch=3, steps=5)
    assert run.done.sum(0).tolist() == [4, 3, 2]
    assert [found.get("product", 0) for found in asked] == [0, 3, 3, 2, 1]
    assert run.calls["product"].tolist()[-1] == [2, 3, 4]


def test_rewards_sum_to_progress_over_finished_rows() -> None:
    run = rollout(optenvs.make("Quadratic", tolerance=1e-2), Descent(lr=1.0), batch=5, steps=300)
    assert run.done[-1].all()
    assert torch.allclose(run.reward.sum(0), run.best[0] - run.best[-1], atol=1e-5)


def test_divergence_ends_a_row_and_is_told() -> None:
    run = rollout(optenvs.make("Quadratic"), Away(), batch=3, steps=10)
    assert run.diverged.all()
    assert run.state.truncated.all()
    assert not run.state.terminated.any()
    for name in ("merit", "best", "reward"):
        assert getattr(run, name).isfinite().all(), name


@pytest.mark.parametrize("pieces", [(1, 29), (10, 10, 10), (29, 1)])
def test_a_resumed_run_is_the_long_run_bit_for_bit(pieces: tuple[int, ...]) -> None:
    env = optenvs.make("Rastrigin", dim=3, noise=0.1)
    agent = Descent(lr=1e-3, noise=0.01)
    whole = rollout(env, agent, seed=3, batch=4, steps=30)
    run, merits, rewards = None, [], []
    for steps in pieces:
        run = rollout(env, agent, seed=3, batch=4, steps=steps, resume=run)
        merits.append(run.merit[0 if not merits else 1 :])
        rewards.append(run.reward)
    assert run is not None
    assert torch.equal(torch.cat(merits), whole.merit)
    assert torch.equal(torch.cat(rewards), whole.reward)
    equal(whole.state, run.state)
    equal(whole.agent_state, run.agent_state)


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        (agents.SGD(lr=0.1), agents.make("adam"), "a memory of agent SGD is none of agent Adam"),
        (Descent(), agents.SGD(), "a memory of agent Descent is none of agent SGD"),
        (
            agents.from_torch(torch.optim.SGD, lr=0.1),
            agents.from_torch(torch.optim.Adam),
            r"a memory of agent TorchOptimizer\(SGD\) is none of agent TorchOptimizer\(Adam\)",
        ),
        (
            agents.from_scipy("CG"),
            agents.from_scipy("BFGS"),
            r"a memory of agent ScipyMethod\(CG\) is none of agent ScipyMethod\(BFGS\)",
        ),
    ],
)
def test_a_run_goes_on_with_its_own_agent_only(one: Any, other: Any, told: str, tmp_path: Any) -> None:
    env = optenvs.make("Quadratic", dim=3, dtype="float64")
    run = rollout(env, one, batch=2, steps=2)
    saved = optenvs.load(optenvs.save(tmp_path / "run", run), classes=(Memory,))
    for go_on in (rollout, unroll):
        with pytest.raises(ValueError, match=f"^resume: {told}$"):
            go_on(env, other, steps=1, resume=saved)
    by_hand = other.init(run.state.problem, run.state.observation, agent_keys(run.state.key))
    anew = rollout(env, other, steps=1, resume=dataclasses.replace(run, agent_state=by_hand, agent=""))
    assert torch.equal(anew.merit[0], run.merit[-1])


def test_a_run_goes_on_with_other_hyper_parameters() -> None:
    env = optenvs.make("Quadratic", dim=3)
    run = rollout(env, Descent(lr=0.1), batch=2, steps=2)
    still = rollout(env, Descent(lr=0.0), steps=2, resume=run)
    assert torch.equal(still.merit[-1], run.merit[-1])


def test_the_batch_does_not_matter_to_a_row() -> None:
    env, agent = optenvs.make("Rastrigin", dim=2, noise=0.1), Descent(lr=1e-3, noise=0.1)
    many = rollout(env, agent, seed=9, batch=6, steps=5)
    for row in (0, 5):
        one = rollout(env, agent, keys=keys_from_seed(9, 1, first=row), steps=5)
        assert torch.allclose(one.merit[:, 0], many.merit[:, row], rtol=1e-5)


def test_two_runs_are_equal() -> None:
    env = optenvs.make("Rosenbrock", noise=0.5)
    equal(rollout(env, Descent(1e-4), batch=3, steps=8), rollout(env, Descent(1e-4), batch=3, steps=8))


def test_on_step_is_told_of_every_step() -> None:
    seen: list[tuple[int, int]] = []
    rollout(
        optenvs.make("Quadratic"),
        Descent(),
        steps=4,
        on_step=lambda number, state: seen.append((number, int(state.k))),
    )
    assert seen == [(1, 1), (2, 2), (3, 3), (4, 4)]


def final(lr: Tensor, second_order: bool = True, steps: int = 6) -> Tensor:
    env = optenvs.make("Quadratic", dim=4, dtype="float64", rotate=True)
    run = unroll(env, Descent(lr), batch=3, steps=steps, second_order=second_order)
    return run.merit[-1].sum()


def test_unrolled_gradients_agree_with_differences() -> None:
    lr = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(final(lr), lr)
    with torch.no_grad():
        difference = (final(lr + 1e-6) - final(lr - 1e-6)) / 2e-6
    assert torch.allclose(slope, difference, rtol=1e-7)
    assert slope.abs() > 1e-3


@pytest.mark.parametrize("nested", [False, True])
def test_a_row_that_diverges_can_be_left_out_of_a_gradient(nested: bool) -> None:
    env, keys = optenvs.make("Rosenbrock", dim=2, budget=100), keys_from_seed(0, 8)
    lr = torch.full((1, 1), 0.002)

    def end(keys: Tensor, lr: Tensor) -> State:
        if not nested:
            return unroll(env, Descent(lr=lr), keys=keys, steps=20).state
        state = env.reset(keys)
        return advance(env, Descent(lr=lr), Descent().init(None, state.observation, keys), state, 20)[1]

    one_a_row = lr.expand(len(keys), 1).requires_grad_()
    state = end(keys, one_a_row)
    good = ~state.diverged
    assert 0 < int(good.sum()) < len(keys)
    (by_row,) = torch.autograd.grad(state.merit[good].sum(), one_a_row)
    alone = lr.clone().requires_grad_()
    (expected,) = torch.autograd.grad(end(keys[good], alone).merit.sum(), alone)
    torch.testing.assert_close(by_row[good].sum(0, keepdim=True), expected)


def test_first_order_unrolling_takes_answers_as_constants() -> None:
    lr = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    (second,) = torch.autograd.grad(final(lr), lr)
    (first,) = torch.autograd.grad(final(lr, second_order=False), lr)
    assert not torch.allclose(first, second, rtol=1e-3)
    # by hand: d/dlr of the point is minus the sum of the momenta, which are constants
    env = optenvs.make("Quadratic", dim=4, dtype="float64", rotate=True)
    run = rollout(env, Descent(0.3), batch=3, steps=6, record=("point", "gradient"))
    mu, total = torch.zeros(3, 4, dtype=torch.float64), torch.zeros(3, 4, dtype=torch.float64)
    for gradient in run.recorded["gradient"][:-1]:
        mu = 0.5 * mu + gradient
        total = total + mu
    assert torch.allclose(first, -(run.recorded["gradient"][-1] * total).sum(), rtol=1e-9)


def test_after_one_step_both_orders_are_the_same() -> None:
    lr = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    one = torch.autograd.grad(final(lr, steps=1), lr)[0]
    other = torch.autograd.grad(final(lr, second_order=False, steps=1), lr)[0]
    assert torch.allclose(one, other, rtol=1e-12)


def live_tensors() -> int:
    gc.collect()
    return sum(1 for found in gc.get_objects() if issubclass(type(found), Tensor))


def test_windows_are_the_long_run_and_their_memory_is_flat() -> None:
    env = optenvs.make("Quadratic", dim=3, budget=None, tolerance=None)
    lr = torch.tensor(0.05, requires_grad=True)
    merits, counts = [], []
    windows = unroll_windows(env, Descent(lr), steps=600, truncation=2, batch=2)
    for number, run in enumerate(windows):
        run.merit[-1].sum().backward()
        merits.append(run.merit[1:].detach())
        if number in (100, 299):
            counts.append(live_tensors() - len(merits))
    assert number == 299
    assert counts[1] <= counts[0], "a window holds on to the graph of the one before"
    whole = rollout(env, Descent(lr), steps=100, batch=2)
    assert torch.equal(torch.cat(merits)[:100], whole.merit[1:])
    assert lr.grad is not None
    assert lr.grad.isfinite()


def test_windows_detach_what_they_carry() -> None:
    env = optenvs.make("Quadratic", dim=3)
    lr = torch.tensor(0.05, requires_grad=True)
    first, second = unroll_windows(env, Descent(lr), steps=5, truncation=3, batch=2)
    assert torch.autograd.grad(first.merit[3].sum(), lr, retain_graph=True)[0] != 0
    assert torch.autograd.grad(second.merit[0].sum(), lr, retain_graph=True)[0] == 0
    assert torch.autograd.grad(second.merit[1].sum(), lr)[0] != 0
    assert len(first.reward) == 3
    assert len(second.reward) == 2


def test_an_environment_without_gradients_is_not_unrolled() -> None:
    env = optenvs.from_function(lambda x: float(x.sum()), grad=lambda x: 0 * x + 1, dim=2, backend="numpy")
    with pytest.raises(TypeError, match="FunctionLandscape is not differentiable; train by evolution"):
        unroll(env, Descent(), steps=2)


def test_errors_name_what_is_missing() -> None:
    env = optenvs.make("Quadratic")
    with pytest.raises(OracleMismatch, match=r"agent Descent needs the oracle\(s\) gradient, but Quadratic"):
        rollout(optenvs.make("Quadratic", oracle="value"), Descent(), steps=1)
    with pytest.raises(ValueError, match="record: no field 'points'"):
        rollout(env, Descent(), steps=1, record=("points",))
    with pytest.raises(ValueError, match="steps: needed for an environment without a budget"):
        rollout(optenvs.make("Quadratic", budget=None), Descent())
    with pytest.raises(TypeError, match=r"agent: expected an object with init and act, got function"):
        rollout(env, lambda o: o["point"], steps=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="truncation: expected at least 1 step, got 0"):
        next(unroll_windows(env, Descent(), steps=3, truncation=0))


@dataclass(frozen=True, eq=False, kw_only=True)
class Measured(type(optenvs.make("Quadratic"))):  # type: ignore[misc]
    """Counts its evaluations in a metric."""

    @property
    def evaluation_period(self) -> int:
        return 3

    def evaluate(self, state: State) -> State:
        return dataclasses.replace(state, metrics=state.metrics | {"evaluated_at": state.k.float()})

    def answer(self, state: State, action: Tensor) -> Any:
        answer = super().answer(state, action)
        stale = state.metrics.get("evaluated_at", torch.full_like(answer.merit, -1.0))
        return dataclasses.replace(answer, metrics=answer.metrics | {"evaluated_at": stale})


def test_evaluation_comes_at_its_period_also_after_a_resume() -> None:
    whole = rollout(Measured(), Descent(), steps=8)
    assert whole.metrics["evaluated_at"][:, 0].tolist() == [0, 0, 0, 3, 3, 3, 6, 6, 6]
    first = rollout(Measured(), Descent(), steps=4)
    rest = rollout(Measured(), Descent(), steps=4, resume=first)
    assert rest.metrics["evaluated_at"][1:, 0].tolist() == [3, 6, 6, 6]

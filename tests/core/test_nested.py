"""Episodes inside something else: pure steps, and windows over streams of episodes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

import agents
import optenvs
from optenvs.core import (
    Episodes,
    OptimizationEnv,
    State,
    Stream,
    Window,
    advance,
    fold_in,
    keys_from_seed,
    nested,
)
from optenvs.core.random import Keys, integers
from optenvs.core.rollout import agent_keys, rollout, unroll
from optenvs.core.struct import detach, rows, struct, tensors
from optenvs.core.tracing import recording
from optenvs.wrappers import StepSizeControl


def quadratic(**keywords: Any) -> OptimizationEnv:
    settings = {"dim": 3, "dtype": "float64", "tolerance": None, "noise": 0.1} | keywords
    return optenvs.make("Quadratic", **settings)


def started(env: OptimizationEnv, agent: Any, keys: Keys) -> tuple[Any, State]:
    state = env.reset(keys, evaluate=False)
    return agent.init(state.problem, state.observation, agent_keys(keys)), state


def assert_equal(one: Any, other: Any) -> None:
    left, right = tensors(one), tensors(other)
    assert left.keys() == right.keys()
    for path, value in left.items():
        assert torch.equal(value, right[path]), path


# Pure steps ------------------------------------------------------------------------------------


def test_it_is_the_rollout() -> None:
    env, agent, keys = quadratic(), agents.Adam(lr=0.1), keys_from_seed(1, 4)
    run = rollout(env, agent, keys=keys, steps=7)
    memory, state = advance(env, agent, *started(env, agent, keys), 3)
    assert_equal(advance(env, agent, memory, state, 4), (run.agent_state, run.state))


def test_rows_that_are_done_are_frozen() -> None:
    env = quadratic(noise=0.0, tolerance=1e-3, spectrum="random", condition=50.0)
    agent, keys = agents.SGD(lr=0.5, momentum=0.5), keys_from_seed(0, 8)
    run = rollout(env, agent, keys=keys, steps=30)
    memory, state = advance(env, agent, *started(env, agent, keys), 30)
    assert torch.equal(state.k, (~run.done[:-1]).sum(0)), "a row stops with the query that ends it"
    assert len(state.k.unique()) > 2
    later_memory, later = advance(env, agent, memory, state, 5)
    assert bool(state.done.any()) and not bool(state.done.all())
    done = state.done.nonzero()[:, 0]
    still = dataclasses.replace(state, reward=torch.zeros_like(state.reward))
    assert_equal(rows((later_memory, later), done), rows((memory, still), done))
    assert_equal(
        dataclasses.replace(later, reward=run.state.reward), rollout_state(env, agent, keys, 35, run)
    )


def rollout_state(env: OptimizationEnv, agent: Any, keys: Keys, steps: int, run: Any) -> State:
    return dataclasses.replace(rollout(env, agent, keys=keys, steps=steps).state, reward=run.state.reward)


def test_it_runs_under_vmap() -> None:
    env, keys = quadratic(), keys_from_seed(2, 3)
    start = started(env, agents.SGD(), keys)

    @dataclasses.dataclass(frozen=True, eq=False)
    class Rate:
        """Gradient descent whose rate is a number of the transform's."""

        rate: Tensor

        def init(self, problem: Any, observation: dict[str, Tensor], keys: Keys) -> Any:
            return keys

        def act(self, state: Any, observation: dict[str, Tensor]) -> tuple[Tensor, Any]:
            return observation["point"] - self.rate * observation["gradient"], state

    def losses(rate: Tensor) -> Tensor:
        return advance(env, Rate(rate), keys, start[1], 5)[1].merit

    rates = torch.tensor([0.01, 0.1, 0.3], dtype=torch.float64)
    found = torch.func.vmap(losses)(rates)
    for rate, row in zip(rates, found, strict=True):
        expected = rollout(env, agents.SGD(lr=float(rate)), keys=keys, steps=5).merit[-1]
        torch.testing.assert_close(row, expected)
    slope = torch.func.vmap(torch.func.grad(lambda rate: losses(rate).sum()))(rates)
    higher, lower = losses(rates[1] + 1e-6).sum(), losses(rates[1] - 1e-6).sum()
    torch.testing.assert_close(slope[1], (higher - lower) / 2e-6, rtol=1e-6, atol=0.0)


def test_it_can_be_recorded() -> None:
    env, agent = quadratic(tolerance=0.05), agents.SGD(lr=0.5)

    def merit(keys: Keys) -> tuple[Tensor, Tensor]:
        state = advance(env, agent, *started(env, agent, keys), 3)[1]
        return state.merit, state.k

    with recording(), torch.no_grad():
        recorded = make_fx(merit)(keys_from_seed(0, 4))
    for seed in (0, 5):
        keys = keys_from_seed(seed, 4)
        for found, expected in zip(recorded(keys), merit(keys), strict=True):
            torch.testing.assert_close(found, expected)
    assert len(merit(keys_from_seed(5, 4))[1].unique()) > 1


def test_an_environment_advances_another_in_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optenvs.core.compiled._compile", lambda recorded, _: recorded)
    inner = quadratic(budget=40, tolerance=0.2, noise=0.0)
    env = StepSizeControl(inner, agents.SGD(momentum=0.9), repeat=4)
    agent = agents.from_function(lambda seen: 0.3 * torch.tanh(seen["features"][:, :1]))
    expected = rollout(env, agent, batch=6)
    assert bool(expected.state.terminated.any())
    run = rollout(env, agent, batch=6, compile=1)
    torch.testing.assert_close(run.merit, expected.merit)
    assert torch.equal(run.calls.counts, expected.calls.counts)


def test_first_order_is_that_of_unroll() -> None:
    env, keys, slopes = quadratic(noise=0.0), keys_from_seed(3, 2), {}
    for second_order in (True, False):
        rate = torch.full((2,), 0.1, dtype=torch.float64, requires_grad=True)
        agent = agents.SGD(lr=rate)
        run = unroll(env, agent, keys=keys, steps=4, second_order=second_order)
        (expected,) = torch.autograd.grad(run.merit[-1].sum(), rate)
        start = started(env, agent, keys)
        merit = advance(env, agent, *start, 4, second_order=second_order)[1].merit
        (found,) = torch.autograd.grad(merit.sum(), rate)
        assert torch.equal(found, expected)
        slopes[second_order] = found
    assert not torch.allclose(slopes[True], slopes[False])


def test_what_is_dear_is_not_measured() -> None:
    env = optenvs.make("TrainBreastCancer", model="logistic", batch_size=128)
    keys, agent = keys_from_seed(0, 2), agents.SGD(lr=0.1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(env), "evaluate", lambda self, state: pytest.fail("measured"))
        _, state = advance(env, agent, *started(env, agent, keys), 2)
        episodes = Episodes(env, lengths=lambda keys, episode: torch.full_like(keys, 2))
        window, _ = episodes.window(agent, episodes.begin(agent, keys), 3)
    assert bool(window.born.any())
    assert bool(window.metrics["test_loss"].isnan().all())
    # who wants it asks for it
    assert bool(env.evaluate(state).metrics["test_loss"].isfinite().all())


# Windows over streams of episodes --------------------------------------------------------------


@pytest.mark.parametrize(("size", "births", "share"), [(1, 1, 0.95), (20, 1, 0.6), (20, 9, 1.0)])
def test_windows_hold_the_episodes_in_order(size: int, births: int, share: float) -> None:
    # rows end by their budget, before it when they are solved, or with their first answer
    env = quadratic(noise=0.0, tolerance=0.03, spectrum="random", condition=30.0, budget=13)
    agent, keys = agents.SGD(lr=0.2), keys_from_seed(0, 6)
    episodes, turns = Episodes(env, births=births), 60
    stream, windows = episodes.begin(agent, keys), []
    for _ in range(turns // size):
        window, stream = episodes.window(agent, stream, size)
        assert bool((window.alive | window.since).all()), "only what has begun in a window rests in it"
        windows.append(window)
    merit, born, alive = (
        torch.cat([getattr(w, name) for w in windows]) for name in ("merit", "born", "alive")
    )
    runs = [rollout(env, agent, keys=fold_in(keys, i)) for i in range(15)]
    found = []
    for row in range(len(keys)):
        steps = [int((~run.done[:, row]).sum()) for run in runs]
        expected = torch.cat([run.merit[1 : n + 1, row] for run, n in zip(runs, steps, strict=True)])
        mine = merit[alive[:, row], row]
        assert torch.equal(mine, expected[: len(mine)])
        begun = torch.tensor(steps).cumsum(0).tolist()
        if births == 1:
            # one began after so many turns as the episodes before it had
            before = (alive[:, row].cumsum(0) - alive[:, row].long())[born[:, row]].tolist()
            assert before == begun[: len(before)]
        found += steps[: int(stream.episode[row])]
    assert {0, 12} < set(found)
    assert bool((stream.episode >= born.sum(0)).all())
    assert float(alive.double().mean()) >= share


@pytest.mark.parametrize(("size", "births"), [(5, 1), (20, 3), (4, 0)])
def test_what_is_left_out_changes_no_number(size: int, births: int, monkeypatch: pytest.MonkeyPatch) -> None:
    env = quadratic(noise=0.0, tolerance=0.03, spectrum="random", condition=30.0, budget=13)
    agent, keys = agents.SGD(lr=0.2, momentum=0.3), keys_from_seed(0, 6)
    episodes = Episodes(env, births=births)
    begun = episodes.begin(agent, keys)

    def played() -> Any:
        stream, windows = begun, []
        for _ in range(4):
            window, stream = episodes.window(agent, stream, size)
            windows.append(window)
        return windows, stream, advance(env, agent, begun.memory, begun.state, 20)

    looked = played()
    monkeypatch.setattr(nested, "unset", lambda mask: False)  # as where nobody may look
    assert_equal(looked, played())
    assert births == 0 or any(window.born.any() for window in looked[0])


def test_no_episode_is_made_that_no_row_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    env, agent = quadratic(budget=6), agents.SGD(lr=0.1)
    episodes = Episodes(env)
    stream = episodes.begin(agent, keys_from_seed(0, 2))
    made, reset = [], type(env).reset
    monkeypatch.setattr(type(env), "reset", lambda *given, **more: made.append(1) or reset(*given, **more))
    counts = []
    for _ in range(5):  # episodes of five steps in windows of two
        _, stream = episodes.window(agent, stream, 2)
        counts.append(len(made))
    assert counts == [0, 0, 1, 1, 1]


def test_without_births_a_row_rests_until_it_is_renewed() -> None:
    env = quadratic(noise=0.0, budget=4)
    agent, keys = agents.SGD(lr=0.1), keys_from_seed(0, 2)
    episodes = Episodes(env, births=0)
    window, stream = episodes.window(agent, episodes.begin(agent, keys), 5)
    assert window.alive[:, 0].tolist() == [True] * 3 + [False] * 2
    assert not window.born.any()
    assert window.calls["gradient"].tolist() == [3, 3]
    assert stream.over.all()
    first = rollout(env, agent, keys=fold_in(keys, 0)).merit[1:]
    assert torch.equal(window.merit[:3], first)
    stream = episodes.renew(agent, stream)
    assert stream.episode.tolist() == [1, 1]
    window, stream = episodes.window(agent, stream, 2)
    assert torch.equal(window.merit, rollout(env, agent, keys=fold_in(keys, 1)).merit[1:3])
    assert torch.equal(episodes.renew(agent, stream).state.merit, stream.state.merit)  # nothing is over


def test_what_a_window_says() -> None:
    env = quadratic(noise=0.0, budget={"gradient": 5, "value": 100})
    agent, keys = agents.SGD(lr=0.1), keys_from_seed(0, 2)
    episodes = Episodes(env, record=("point", "k"))
    stream = episodes.begin(agent, keys)
    window, stream = episodes.window(agent, stream, 10)
    # four steps, the next episode's four, and no third in this window
    assert window.alive[:, 0].tolist() == [True] * 8 + [False] * 2
    assert window.born[:, 0].nonzero().tolist() == [[4]]
    assert window.over[:, 0].nonzero()[:, 0].tolist() == [3, 7, 8, 9]
    assert window.since[:, 0].tolist() == [False] * 4 + [True] * 6
    assert window.recorded["k"][:, 0, 0].tolist() == [1, 2, 3, 4, 1, 2, 3, 4, 4, 4]
    assert window.recorded["point"].shape == (10, 2, 3)
    # eight turns, and the first answer of the episode that was born
    assert window.calls["gradient"].tolist() == [9, 9]
    assert window.merit.shape == window.reward.shape == window.metrics["gap"].shape == (10, 2)
    assert (window.reward[8:] == 0).all()
    assert not bool(window.diverged.any())
    # the third begins with the next window
    window, stream = episodes.window(agent, stream, 1)
    assert window.born.all() and window.alive.all() and (stream.episode == 2).all()
    assert torch.equal(stream.state.key, fold_in(keys, 2))
    assert window.calls["gradient"].tolist() == [2, 2]


def test_rows_that_diverge_begin_anew() -> None:
    env = optenvs.make("Rosenbrock", dim=2, dtype="float64", budget=200)
    agent, keys = agents.SGD(lr=torch.tensor([1.0, 1e-4], dtype=torch.float64)), keys_from_seed(0, 2)
    episodes = Episodes(env)
    window, stream = episodes.window(agent, episodes.begin(agent, keys), 30)
    assert bool(window.diverged[:, 0].any()) and not bool(window.diverged[:, 1].any())
    assert stream.episode.tolist() == [1, 0]
    first = int(window.diverged[:, 0].int().argmax())
    assert window.born[first + 1, 0] and bool(window.merit.isfinite().all())
    assert bool(stream.state.merit.isfinite().all())


def test_lengths_are_the_streams_own() -> None:
    env = quadratic(budget=None)

    def lengths(keys: Keys, episode: Tensor) -> Tensor:
        drawn = 4 + integers(keys, "length", 1, 4, episode)[:, 0]
        return torch.where(episode == 0, 1 + integers(keys, "stagger", 1, 4, episode)[:, 0], drawn)

    with pytest.raises(ValueError, match=r"lengths: needed, as \w+ has no budget"):
        Episodes(env)
    agent, keys = agents.SGD(lr=0.1), keys_from_seed(0, 16)
    episodes = Episodes(env, lengths=lengths, record=("k", "N"))
    stream, windows = episodes.begin(agent, keys), []
    for _ in range(20):
        window, stream = episodes.window(agent, stream, 3)
        windows.append(window)
    ends = torch.cat([w.over for w in windows])
    k, N = (torch.cat([w.recorded[name] for w in windows])[..., 0] for name in ("k", "N"))
    assert torch.cat([w.alive for w in windows]).all()
    assert torch.equal(ends, k == N)
    assert len(ends.int().argmax(0).unique()) == 4, "no lockstep"
    for row in (0, 7):
        found = N[ends[:, row], row].long()
        number = torch.arange(len(found))
        assert torch.equal(found, lengths(keys[row].expand(len(found)), number))
    # a budget may end an episode before, and agents know it
    short = Episodes(quadratic(budget=4), lengths=lambda keys, episode: torch.full_like(keys, 50))
    begun = short.begin(agent, keys)
    assert (begun.length == 3).all() and (begun.state.observation["N"] == 3).all()


def test_rows_of_one_key_meet_the_same_episodes() -> None:
    env, key = quadratic(budget=6), keys_from_seed(0, 1)
    agent = agents.SGD(lr=torch.tensor([0.1, 0.1, 0.2], dtype=torch.float64))
    episodes = Episodes(env, record=("point",))
    stream = episodes.begin(agent, torch.cat((key, key, key)))
    window, stream = episodes.window(agent, stream, 9)
    assert torch.equal(window.merit[:, 0], window.merit[:, 1])
    assert not torch.equal(window.merit[:, 0], window.merit[:, 2])
    assert (stream.state.key == fold_in(key, 1)).all()


def test_windows_can_be_recorded_and_vectorised() -> None:
    env, agent, keys = quadratic(budget=3), agents.SGD(lr=0.2), keys_from_seed(0, 5)
    episodes = Episodes(env)
    stream = episodes.begin(agent, keys)

    def turn(keys: Keys) -> tuple[Tensor, ...]:
        begun = episodes.begin(agent, keys)
        window, after = episodes.window(agent, begun, 3)
        return window.merit, window.alive, window.born, after.episode, window.calls.counts

    with recording(), torch.no_grad():
        recorded = make_fx(turn)(keys_from_seed(3, 5))
    for found, expected in zip(recorded(keys), turn(keys), strict=True):
        torch.testing.assert_close(found, expected)
    assert bool(turn(keys)[2].any())

    def rate(lr: Tensor) -> Tensor:
        scaled = dataclasses.replace(agent, lr=1.0, schedule=lambda k, N: lr.expand_as(k))
        return episodes.window(scaled, stream, 3)[0].merit

    many = torch.func.vmap(rate)(torch.tensor([0.1, 0.2], dtype=torch.float64))
    torch.testing.assert_close(many[1], episodes.window(agent, stream, 3)[0].merit)


def test_windows_are_differentiable_and_detached_between() -> None:
    env, keys = quadratic(noise=0.0, budget=7), keys_from_seed(0, 2)
    rate = torch.full((2,), 0.1, dtype=torch.float64, requires_grad=True)
    agent, episodes = agents.SGD(lr=rate), Episodes(env)

    def losses(sizes: tuple[int, ...], cut: bool) -> Tensor:
        stream, total = episodes.begin(agent, keys), torch.zeros((), dtype=torch.float64)
        for size in sizes:
            window, stream = episodes.window(agent, stream, size)
            total = total + window.merit.sum()
            stream = detach(stream) if cut else stream
        return torch.autograd.grad(total, rate)[0]

    # two whole episodes of six steps; the second begins inside a window
    assert torch.allclose(losses((12,), False), losses((4, 4, 4), False), rtol=1e-12)
    assert torch.allclose(losses((6, 6), True), losses((12,), False), rtol=1e-12)
    assert not torch.allclose(losses((4, 4, 4), True), losses((12,), False))


def test_an_agent_that_is_finished_begins_anew() -> None:
    @struct
    class Count:
        count: Tensor
        finished: Tensor

    class Short:
        """Descends twice, and asks nothing with its third turn."""

        def init(self, problem: Any, observation: dict[str, Tensor], keys: Keys) -> Count:
            return Count(count=torch.zeros_like(keys), finished=torch.zeros_like(keys) > 0)

        def act(self, state: Count, observation: dict[str, Tensor]) -> tuple[Tensor, Count]:
            count = state.count + 1
            query = observation["point"] - 0.1 * observation["gradient"]
            return query, Count(count=count, finished=count > 2)

    env, keys = quadratic(noise=0.0), keys_from_seed(0, 2)
    episodes = Episodes(env, record=("k",))
    window, _ = episodes.window(Short(), episodes.begin(Short(), keys), 5)
    assert window.alive[:, 0].tolist() == [True, True, False, True, True]
    assert window.born[:, 0].tolist() == [False, False, False, True, False]
    assert window.calls["gradient"].tolist() == [5, 5]
    state = advance(env, Short(), *started(env, Short(), keys), 9)[1]
    assert state.k.tolist() == [2, 2] and bool(state.truncated.all())


def test_bad_input() -> None:
    env, agent = quadratic(), agents.SGD()
    with pytest.raises(ValueError, match="births: expected a whole number >= 0, got -1"):
        Episodes(env, births=-1)
    with pytest.raises(ValueError, match="record: no field 'hessian' in"):
        Episodes(env, record=("hessian",))
    episodes = Episodes(env)
    with pytest.raises(ValueError, match="steps: expected at least 1, got 0"):
        episodes.window(agent, episodes.begin(agent, keys_from_seed(0, 1)), 0)


def test_streams_and_windows_are_trees() -> None:
    env, agent = quadratic(budget=5), agents.SGD(momentum=0.9)
    episodes = Episodes(env)
    window, stream = episodes.window(agent, episodes.begin(agent, keys_from_seed(0, 3)), 4)
    assert isinstance(stream, Stream) and isinstance(window, Window)
    part = rows(stream, slice(1, 3))
    alone, after = episodes.window(agent, part, 4)
    both, whole = episodes.window(agent, stream, 4)
    assert torch.equal(alone.merit, both.merit[:, 1:3])
    assert_equal(after, rows(whole, slice(1, 3)))

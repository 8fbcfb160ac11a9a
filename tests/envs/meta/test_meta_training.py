"""Meta-training: what a query answers, costs and keeps, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import meta_rules
import pytest
import torch
from meta_rules import THETA, Descent, made
from torch import Tensor

import agents
import optenvs
from optenvs.core.errors import OracleMismatch
from optenvs.core.random import keys_from_seed
from optenvs.core.snapshot import load, save
from optenvs.core.struct import rows, tensors, tree_map
from optenvs.envs.meta.families import SPLITS, family
from optenvs.envs.meta.losses import KINDS, META_LOSSES
from optenvs.envs.meta.particles import Lengths

KEYS = keys_from_seed(0, 3)
SMALL: dict[str, Any] = {"particles": 2, "window": 2, "length": 4, "staggered": False}


def values(steps: int, theta: float = THETA) -> Tensor:
    """Of the steps after the start."""
    return 0.5 * (1 - theta) ** (2 * torch.arange(1, steps + 1, dtype=torch.float64))


def assert_same(one: Any, other: Any) -> None:
    left, right = tensors(one), tensors(other)
    assert left.keys() == right.keys()
    for path, leaf in left.items():
        assert torch.allclose(leaf, right[path], rtol=1e-12, atol=1e-14, equal_nan=True), path


# Losses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", META_LOSSES)
def test_a_lifetimes_loss_is_its_name(name: str) -> None:
    course = values(6)
    expected = {
        "average": course.mean(),
        "sum": course.sum(),
        "last": course[-1],
        "minimum": course.min(),
        "recomputed_last": course[-1],  # exact values are the same on any data
    }[name.removeprefix("log_")]
    expected = expected.log() if name.startswith("log_") else expected
    state = made(estimator="full_es", length=6, meta_loss=name, std=1e-9, particles=2).reset(KEYS)
    assert state.merit.tolist() == pytest.approx([expected.item()] * 3)
    assert state.metrics["meta_loss"].tolist() == pytest.approx([expected.item()] * 3, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_terms_of_windows_add_up_to_a_lifetime(kind: str) -> None:
    env = made(estimator="truncated_bptt", meta_loss=kind, particles=1, window=3, length=6, staggered=False)
    state = env.reset(KEYS)
    total = state.metrics["meta_loss"]
    for _ in range(3):
        state = env.step(state, state.observation["point"])
        total = total + state.metrics["meta_loss"]
    # two lifetimes of two windows; an average is that of each window
    expected = 2 * state.merit * (2 if kind == "average" else 1)
    assert torch.allclose(total, expected)


def test_values_on_data() -> None:
    options = {"widths": (3,), "batch_size": 8, "samples": 64, "rule": "lolv2", "dtype": "float32"}
    common: dict[str, Any] = {"tasks": "TrainDigits", "held_out_tasks": 4} | options | SMALL | {"length": 3}
    found = {
        (loss, part): optenvs.make("MetaTraining", **common, meta_loss=loss, part=part).reset(KEYS[:1])
        for loss in ("last", "recomputed_last", "average")
        for part in ("train", "validation")
    }
    merits = {name: state.merit.item() for name, state in found.items()}
    # validation values are of fresh samples already
    assert merits["last", "validation"] == merits["recomputed_last", "validation"]
    assert len(set(merits.values())) == 5
    for merit in merits.values():
        assert merit == pytest.approx(math.log(10), rel=0.3)  # of a net that has learned nothing yet
    for part in ("train", "validation"):
        assert (found["average", part].observation["gradient"] != 0).any()


def test_normalisers_cut_off() -> None:
    worst = 1.5 * math.log(10)
    options: dict[str, Any] = {"widths": (3,), "batch_size": 8, "samples": 64, "length": 2}
    env = made(
        tasks=optenvs.make("TrainDigits", **{k: v for k, v in options.items() if k != "length"}),
        estimator="full_es",
        length=3,
        particles=2,
    )
    state = env.step(env.reset(KEYS[:1]), torch.full((1, 1), 1e6, dtype=torch.float64))
    assert state.metrics["meta_loss"].item() <= worst
    assert env.evaluate(state).merit.item() == pytest.approx(worst, rel=0.4)
    other = env.replace(normaliser="parametric")
    assert other.reset(KEYS[:1]).merit.item() == pytest.approx(10 * math.log(5) / math.log(10), rel=0.3)


# What is no number -----------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ["full_es", "truncated_bptt", "pes", "noise_reuse_es", "bptt"])
def test_a_rule_that_breaks_has_the_worst_score(estimator: str) -> None:
    settings = SMALL if estimator not in ("full_es", "bptt") else {"particles": 2, "length": 4}
    env = made(rule=Descent(broken=0.5), estimator=estimator, worst=7.0, **settings)
    sound = env.reset(KEYS)
    broken = env.step(sound, torch.full((3, 1), 0.9, dtype=torch.float64))
    assert broken.metrics["diverged"].tolist() == [1.0] * 3
    assert broken.observation["value"].flatten().tolist() == pytest.approx([7.0] * 3)
    assert broken.observation["gradient"].isfinite().all()
    assert env.evaluate(broken).merit.tolist() == [7.0] * 3
    assert env.evaluate(broken).metrics["failures"].tolist() == [1.0] * 3
    if estimator.endswith("bptt"):
        assert broken.metrics["lost"].tolist() == [1.0] * 3
    # the next lifetimes begin
    after = env.step(broken, sound.observation["point"])
    assert after.metrics["diverged"].tolist() == [0.0] * 3


def test_one_broken_member_counts_and_spoils_no_other() -> None:
    env = made(rule=Descent(broken=0.5), oracle="fitness", particles=4, length=4, worst=7.0)
    state = env.reset(KEYS)
    query = torch.tensor([0.1, 0.6, 0.2, 0.3], dtype=torch.float64).expand(3, 4).unsqueeze(-1)
    state = env.step(state, {"query": query, "recommendation": query[:, 0]})
    expected = [7.0 if theta > 0.5 else values(4, theta).mean().item() for theta in (0.1, 0.6, 0.2, 0.3)]
    assert state.observation["value"][0, :, 0].tolist() == pytest.approx(expected)
    assert state.metrics["diverged"].tolist() == [0.25] * 3
    assert state.metrics["meta_loss"][0].item() == pytest.approx(sum(expected) / 4)
    # steps that it has not played have the worst value, too, and not the mean of those before
    late = made(rule=Descent(broken=0.5), oracle="fitness", particles=4, length=4, meta_loss="sum", worst=7.0)
    asked = late.step(late.reset(KEYS), {"query": query, "recommendation": query[:, 0]})
    assert asked.observation["value"][0, 1, 0].item() == pytest.approx(28.0)


# Estimates -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("clip", "sign"), [(1e-4, False), (None, True)])
def test_differences_are_cut_off_or_their_sign_is_taken(clip: float | None, sign: bool) -> None:
    plain = made(estimator="full_es", particles=2, length=5)
    other = plain.replace(clip=clip, sign=sign)
    found = plain.reset(KEYS).observation["gradient"]
    shaped = other.reset(KEYS).observation["gradient"]
    assert torch.equal(found.sign(), shaped.sign())
    # found = d e / (2 s^2) with the difference d; d is near slope * 2 e
    ratio = shaped / found
    course = found.abs().sqrt() * plain.std * math.sqrt(2)  # |e| sqrt(|d / e|)
    assert (ratio[course.abs() > 0] > 0).all()
    if sign:
        assert torch.allclose(shaped.abs() * 2 * plain.std**2, _noise(plain).abs())
    else:
        assert torch.allclose(shaped.abs() * 2 * plain.std**2, 1e-4 * _noise(plain).abs())


def _noise(env: Any) -> Tensor:
    """The perturbation of the only pair of the first query."""
    signed = env.replace(sign=True, clip=None).reset(KEYS)
    return signed.observation["gradient"] * 2 * env.std**2


def test_backpropagated_gradients_are_cut_off_one_by_one() -> None:
    env = made(estimator="bptt", particles=3, length=5)
    found = env.reset(KEYS).observation["gradient"]
    assert torch.allclose(env.replace(clip=1e-3).reset(KEYS).observation["gradient"], 1e-3 * found.sign())


def test_lengths() -> None:
    keys, episode = keys_from_seed(0, 4000), torch.ones(4000, dtype=torch.int64)
    found = Lengths(10, 1000)(keys, episode).double()
    assert 10 <= found.min() < 12
    assert 980 < found.max() <= 1000
    assert found.log().mean().item() == pytest.approx((math.log(10) + math.log(1000)) / 2, rel=0.02)
    assert Lengths(7, 7)(keys, episode).unique().tolist() == [7]
    first = Lengths(20, 20, staggered=True)(keys, torch.zeros_like(episode))
    assert sorted(first.unique().tolist()) == list(range(1, 21))
    assert Lengths(20, 20, staggered=True)(keys, episode).unique().tolist() == [20]


# Rows, classes, costs --------------------------------------------------------------------------

TWO: tuple[Any, ...] = (
    optenvs.make("Quadratic", dim=1, start=(1.0,)),
    optenvs.make("Quadratic", dim=2, start=(1.0, 1.0)),
)


@pytest.mark.parametrize("estimator", ["pes", "truncated_es"])
def test_each_query_draws_one_shape_class(estimator: str) -> None:
    env = made(tasks=TWO, estimator=estimator, **SMALL)
    assert not env.vectorizable
    assert optenvs.check(env, batch=2, steps=3).ok
    state = env.reset(KEYS)
    assert [len(particles.stream.state.merit[0]) for particles in state.hidden.classes] == [
        2 if estimator == "pes" else 1
    ] * 2
    moved = set()
    for _ in range(8):
        after = env.step(state, state.observation["point"])
        changed = [
            not torch.equal(one.stream.state.k, other.stream.state.k)
            for one, other in zip(state.hidden.classes, after.hidden.classes, strict=True)
        ]
        assert sum(changed) == 1
        moved.add(changed.index(True))
        state = after
    assert moved == {0, 1}
    # rows of other ages draw other classes, and are what they are alone
    mixed = tree_map(lambda a, b: torch.cat((a[:2], b[2:])), state, env.reset(KEYS))
    for _ in range(4):
        alone = env.step(rows(mixed, slice(2, 3)), mixed.observation["point"][2:])
        mixed = env.step(mixed, mixed.observation["point"])
        assert_same(rows(mixed, slice(2, 3)), alone)


def test_the_bill_is_what_was_asked() -> None:
    env = made(estimator="truncated_bptt", **SMALL)
    state = env.reset(KEYS[:1])
    course = []
    for _ in range(4):
        course.append(dict(zip(state.calls.kinds, state.calls.counts[0].tolist(), strict=True)))
        state = env.step(state, state.observation["point"])
    # two particles: a first answer each and two steps; lifetimes of four steps begin with every other query
    assert [bill["inner"] for bill in course] == [6, 10, 16, 20]
    assert [bill["backward"] for bill in course] == [4, 8, 12, 16]
    assert [bill["lifetimes"] for bill in course] == [2, 2, 4, 4]
    whole = made(oracle="fitness", particles=4, length=5).reset(KEYS[:1])
    assert dict(zip(whole.calls.kinds, whole.calls.counts[0].tolist(), strict=True)) == {
        "inner": 24,
        "backward": 0,
        "lifetimes": 4,
        "value": 4,
        "swarm": 1,
    }


def test_members_of_a_pair_meet_the_same() -> None:
    tasks = optenvs.make("Quadratic", dim=2)
    for paired in (True, False):
        env = made(tasks=tasks, oracle="fitness", particles=4, length=(2, 9), paired=paired)
        value = env.reset(KEYS).observation["value"][..., 0]  # of the same weights
        assert torch.equal(value[:, 0], value[:, 1]) == paired
        assert not torch.equal(value[:, 0], value[:, 2])


@pytest.mark.parametrize("estimator", ["pes", "noise_reuse_es", "truncated_bptt"])
def test_a_resumed_run_is_the_long_run_bit_for_bit(estimator: str, tmp_path: Path) -> None:
    env = optenvs.make(
        "MetaTraining",
        dim=2,
        rule={"name": "lstm_optimizer", "hidden": 2},
        estimator=estimator,
        evaluation_period=2,
        held_out_tasks=2,
        **SMALL,
    )
    agent = agents.Adam(lr=0.05)
    whole = optenvs.rollout(env, agent, batch=2, steps=7)
    half = optenvs.rollout(env, agent, batch=2, steps=3)
    rest = optenvs.rollout(env, agent, steps=4, resume=load(save(tmp_path / "run", half)))
    for path, leaf in tensors((whole.state, whole.agent_state)).items():
        assert torch.equal(leaf, tensors((rest.state, rest.agent_state))[path]), path
    carried = whole.state.hidden.classes[0].carried
    assert (carried is None) == (estimator != "pes")  # what PES alone keeps
    assert carried is None or carried.shape == (2, 2, env.rule.size)


# Learning --------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ["truncated_bptt", "pes"])
def test_a_gradient_agent_learns_the_rate(estimator: str) -> None:
    env = made(estimator=estimator, particles=4, window=2, length=4, evaluation_period=5)
    run = optenvs.rollout(env, agents.Adam(lr=0.1), batch=2, steps=30, record=("point",))
    assert run.merit[-1].max() < 0.1 * run.merit[0].min()  # the best rate is 1
    assert (run.merit[1:5] == run.merit[0]).all()  # carried between measurements
    assert torch.allclose(run.reward.sum(0), run.merit[0] - run.best[-1])


@pytest.mark.parametrize("name", ["open_es", "pgpe", "batched_cma", "cma"])
def test_a_population_learns_the_rate(name: str) -> None:
    if name == "cma":
        pytest.importorskip("cma")
    rule = optenvs.agents.LOLv2(hidden=1, layers=1, step_multiplier=0.1, dtype="float64")
    env = made(rule=rule, oracle="fitness", particles=6, length=4, evaluation_period=5)
    agent = agents.make(name) if name == "cma" else agents.make(name, std=0.3)
    run = optenvs.rollout(env, agent, batch=2, steps=15)
    assert run.best[-1].max() < 0.8 * run.merit[0].min()


# Families --------------------------------------------------------------------------------------


def test_families_are_drawn_once() -> None:
    table = {
        "env": "optenvs/Quadratic-v0",
        "classes": 5,
        "seed": 1,
        "dim": {"log_whole": [2, 20]},
        "condition": {"log_uniform": [1.0, 1e3]},
        "noise": {"choice": [0.0, 0.1]},
        "reparam": {"scale": (0.1, 10.0), "level": "tensor"},
    }
    one, other = family(table), family(table)
    assert [env.name for env in one] == ["Reparametrise(Quadratic)"] * 5
    drawn = [(env.unwrapped.dim, env.unwrapped.condition, env.unwrapped.noise) for env in one]
    assert drawn == [(env.unwrapped.dim, env.unwrapped.condition, env.unwrapped.noise) for env in other]
    assert len({dim for dim, _, _ in drawn}) > 1
    assert all(2 <= dim <= 20 and 1 <= condition <= 1e3 for dim, condition, _ in drawn)
    assert {noise for _, _, noise in drawn} <= {0.0, 0.1}
    (shared,) = family({"env": "TrainDigits", "batch_size": 40, "batch_share": 0.25, "data_share": 0.5})
    whole = optenvs.make("TrainDigits")
    assert (shared.batch_size, shared.samples) == (10, round(0.5 * whole.train_count))


@pytest.mark.parametrize("name", SPLITS)
def test_published_splits(name: str) -> None:
    env = made(held_out=name, length=2, estimator="full_es", particles=2)
    assert [setting.lengths.high for setting in env.judges] == [2 * SPLITS[name].stretch] * len(env.judges)
    assert env.held_out.seed > 10**6
    if "networks" not in name:  # its tasks take a second
        merit = env.reset(KEYS[:2]).merit
        assert merit.isfinite().all()
        assert merit[0] == merit[1]  # the same tasks for all
    if name == "horizons":
        assert merit[0].item() == pytest.approx(values(10).mean().item())


# What is refused -------------------------------------------------------------------------------

REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"rule": None}, TypeError, "rule: expected a learned agent, got None; optenvs.make takes a name"),
    (
        {"rule": agents.Adam()},
        TypeError,
        "rule: expected an agent with init, act.*got Adam without flat, size",
    ),
    ({"rule": agents.LOLv2(hidden=1).replace(weights=torch.zeros(1, 26))}, ValueError, "rule: weights"),
    ({"tasks": ()}, ValueError, "tasks: expected at least one shape class"),
    ({"tasks": 3}, TypeError, "tasks: expected an id, an environment, a table"),
    ({"tasks": {"dim": 3}}, TypeError, "tasks: expected a table with an id under 'env'"),
    (
        {"tasks": {"env": "Quadratic", "classes": 3}},
        ValueError,
        "tasks: classes and seed would have no effect",
    ),
    (
        {"tasks": {"env": "Quadratic", "dim": {"whole": [5, 2]}}},
        ValueError,
        "tasks: dim: expected low <= high",
    ),
    ({"tasks": {"env": "Quadratic", "batch_share": 0.5}}, ValueError, "has no training samples"),
    ({"tasks": optenvs.make("Quadratic", budget=3)}, ValueError, "tasks: budget=3 of Quadratic would have"),
    ({"tasks": optenvs.make("Quadratic", oracle="value")}, OracleMismatch, "Descent needs the oracle"),
    ({"window": 60}, ValueError, "window: 60 inner steps are more than the 50 of the shortest lifetime"),
    ({"window": 30, "length": (20, 90)}, ValueError, "window: 30 inner steps are more than the 20"),
    ({"estimator": "pes", "particles": 3}, ValueError, "particles: expected an even number, for the pairs"),
    ({"oracle": "fitness", "particles": 3}, ValueError, "particles: expected an even number.*paired=True"),
    ({"estimator": "es"}, ValueError, "estimator: got 'es'"),
    ({"meta_loss": "mean"}, ValueError, "meta_loss: got 'mean'"),
    ({"length": (5, 2)}, ValueError, "length: expected a whole number >= 1, or a pair"),
    ({"part": "validation"}, ValueError, "part: Quadratic has no validation data"),
    ({"normaliser": "parametric"}, ValueError, "normaliser: 'parametric' needs a task with classes"),
    ({"worst": -1.0}, ValueError, "worst: expected a number > 0"),
    ({"estimator": "pes", "std": 0.0}, ValueError, "std: expected a number > 0"),
    ({"sign": True}, ValueError, "sign: True would have no effect on estimator='truncated_bptt'"),
    ({"estimator": "pes", "second_order": True}, ValueError, "second_order: True would have no effect"),
    ({"estimator": "bptt", "window": 3}, ValueError, "window: 3 would have no effect on estimator='bptt'"),
    *(
        (
            {"oracle": "fitness", "particles": 4} | changes,
            ValueError,
            f"{next(iter(changes))}: .* would have no effect on oracle='fitness'",
        )
        for changes in (
            {"estimator": "pes"},
            {"window": 3},
            {"std": 0.1},
            {"staggered": False},
            {"clip": 1.0},
        )
    ),
    ({"held_out": "test"}, ValueError, "held_out: no split 'test'"),
    ({"held_out": {"stretch": 0}}, ValueError, "held_out: stretch: expected a whole number >= 1"),
    ({"held_out": 3}, TypeError, "held_out: expected one of seeds"),
    ({"reward": "log_improvement"}, ValueError, "reward: log_improvement needs a known lower bound"),
    ({"budget": 10}, ValueError, "budget: 10 inner calls do not pay the first query"),
    ({"rule": {"hidden": 2}}, TypeError, "rule: expected a table with an agent's 'name'"),
]


@pytest.mark.parametrize(("keywords", "error", "message"), REFUSED)
def test_bad_input(keywords: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        meta_rules.made(**keywords)


def test_a_task_without_gradients_is_refused() -> None:
    host = optenvs.from_function(lambda x: float((x**2).sum()), dim=2)
    with pytest.raises((TypeError, OracleMismatch), match="differentiable|needs the oracle"):
        made(tasks=host)


def test_long_windows_are_not_compiled() -> None:
    env = made(window=20, particles=1)
    with pytest.raises(TypeError, match="compile: a query of MetaTraining plays more than 10 inner steps"):
        optenvs.rollout(env, agents.SGD(lr=0.1), steps=3, compile=1)

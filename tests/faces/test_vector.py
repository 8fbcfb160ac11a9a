"""The vector face: its options, its errors, and what it leaves alone."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from face_rows import DIM, ROWS, actions, core, row, same
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.vector import AutoresetMode
from torch import Tensor

import optenvs
from optenvs.core.env import Answer, State
from optenvs.core.random import keys_from_seed
from optenvs.core.snapshot import load, save
from optenvs.core.struct import tensors
from optenvs.envs.landscapes.quadratic import Quadratic
from optenvs.faces.single import GymEnv
from optenvs.faces.vector import TorchVectorEnv


def test_max_episode_steps() -> None:
    batch = gym.make_vec("optenvs/Quadratic-v0", 3, max_episode_steps=4, budget=None, tolerance=None)
    assert isinstance(batch.unwrapped, TorchVectorEnv)
    batch.reset(seed=0)
    action = torch.ones(3, 10)
    ends = [batch.step(action)[3].tolist() for _ in range(9)]
    # the fourth step is the last; the fifth only resets
    assert [any(end) for end in ends] == [False] * 3 + [True] + [False] * 4 + [True]


def test_reset_masks() -> None:
    batch = TorchVectorEnv(core(), ROWS, autoreset_mode="disabled")
    mask = torch.tensor([True, False, False, True])
    with pytest.raises(ResetNeeded, match="reset_mask: no episode has begun"):
        batch.reset(options={"reset_mask": mask})
    batch.reset(seed=0)
    batch.step(actions()[0])
    before = batch.state
    shown, _ = batch.reset(options={"reset_mask": mask})
    assert batch.state.k.tolist() == [0, 1, 1, 0]
    for name in shown:
        assert torch.equal(shown[name][1:3], before.observation[name][1:3])
    batch.reset(seed=9, options={"reset_mask": mask.numpy()})
    expected = torch.where(mask, keys_from_seed(9, ROWS), before.key)
    assert torch.equal(batch.state.key, expected)
    for bad in (mask[:2], mask.int(), [1, 0, 0, 1]):
        with pytest.raises(ValueError, match=r"reset_mask: expected bool of shape \(4,\)"):
            batch.reset(options={"reset_mask": bad})


def test_without_validation_bad_rows_stay_and_are_marked() -> None:
    for mode in AutoresetMode:
        batch = TorchVectorEnv(
            core(bounds=(-2.0, 2.0), budget=None, tolerance=None), ROWS, autoreset_mode=mode, validate=False
        )
        batch.reset(seed=0)
        before = batch.state
        action = actions()[0].clamp(-1, 1)
        action[1, 0] = torch.nan
        action[2, 1] = 2.5
        shown, reward, _, _, info = batch.step(action)
        assert info["invalid"].tolist() == [False, True, True, False]
        assert batch.state.k.tolist() == [1, 0, 0, 1]
        assert info["calls"]["gradient"].tolist() == [2, 1, 1, 2]
        assert reward[1:3].tolist() == [0, 0]
        for name in shown:
            assert torch.equal(shown[name][1:3], before.observation[name][1:3])
        good = core(bounds=(-2.0, 2.0), budget=None, tolerance=None).step(before, action)
        assert torch.equal(batch.state.merit[[0, 3]], good.merit[[0, 3]])


def test_validation_leaves_all_episodes_as_they_were() -> None:
    batch = TorchVectorEnv(core(), ROWS)
    batch.reset(seed=0)
    before = batch.get_state()
    action = actions()[0].clone()
    action[2, 0] = torch.inf
    with pytest.raises(InvalidAction, match="for instance 2"):
        batch.step(action)
    with pytest.raises(InvalidAction, match=r"expected shape \(4, 2\), got \(3, 2\)"):
        batch.step(action[:3])
    assert batch.get_state() is before


def test_a_row_does_not_depend_on_the_batch() -> None:
    many, few = TorchVectorEnv(core(), ROWS), TorchVectorEnv(core(), 2)
    shown, small = many.reset(seed=4)[0], few.reset(seed=4)[0]
    for action in actions(1):
        for i in range(2):
            assert same(row(shown, i), row(small, i))
        shown, *rest = many.step(action)
        small, *others = few.step(action[:2])
        for one, other in zip(rest[:3], others[:3], strict=True):
            assert torch.allclose(one[:2].float(), other.float(), rtol=1e-4, atol=1e-6)
    assert torch.equal(many.get_state().episodes.count[:2], few.get_state().episodes.count)
    assert many.get_state().episodes.count.sum() > 4


def test_lists_of_seeds() -> None:
    batch = TorchVectorEnv(core(), 3)
    batch.reset(seed=[5, 6, 5])
    expected = torch.cat([keys_from_seed(s, 1) for s in (5, 6, 5)])
    assert torch.equal(batch.state.key, expected)
    with pytest.raises(ValueError, match="seed: expected a whole number or 3 of them, got 2"):
        batch.reset(seed=[1, 2])


def test_instances_by_key() -> None:
    batch = TorchVectorEnv(core(), 3)
    _, info = batch.reset(seed=8)
    keys = info["key"].flip(0)
    batch.reset(options={"instance": keys})
    assert torch.equal(batch.state.key, keys)
    batch.reset(options={"instance": int(keys[0])})
    assert batch.state.key.tolist() == [int(keys[0])] * 3
    with pytest.raises(ValueError, match="instance: expected a whole number or 3 of them, got 2"):
        batch.reset(options={"instance": keys[:2]})


@pytest.mark.parametrize("mode", ["next_step", "same_step", "disabled"])
def test_fork_bit_for_bit(mode: str, tmp_path: Any) -> None:
    one = TorchVectorEnv(core(noise=0.2), ROWS, autoreset_mode=mode)
    other = TorchVectorEnv(core(noise=0.2), ROWS, autoreset_mode=mode)
    one.reset(seed=0)
    for action in actions()[:5]:
        one.step(action)
    other.set_state(load(save(tmp_path / "face", one.get_state())))
    for action in actions()[5:]:
        left, right = one.step(action), other.step(action)
        for path, value in tensors(left).items():
            assert torch.equal(value, tensors(right)[path]), path
    with pytest.raises(ValueError, match="set_state: expected what get_state of 3 instances returned"):
        TorchVectorEnv(core(), 3).set_state(one.get_state())


@dataclass(frozen=True, eq=False, kw_only=True)
class Measured(Quadratic):
    """Notes in a metric when it was evaluated last."""

    @property
    def evaluation_period(self) -> int:
        return 3

    def evaluate(self, state: State) -> State:
        noted = {"evaluated": state.k.float() + 100 * state.merit}
        return dataclasses.replace(state, metrics=state.metrics | noted)

    def answer(self, state: State, action: Any) -> Answer:
        answer = super().answer(state, action)
        stale = state.metrics.get("evaluated", torch.zeros_like(answer.merit))
        return dataclasses.replace(answer, metrics=answer.metrics | {"evaluated": stale})


def test_a_fork_keeps_the_clock_of_evaluations(tmp_path: Any) -> None:
    problem = Measured(dim=DIM, tolerance=None, budget=5)  # episodes of four steps against a period of three
    one, other = TorchVectorEnv(problem, ROWS), TorchVectorEnv(problem, ROWS)
    one.reset(seed=0)
    for action in actions()[:7]:
        one.step(action)
    other.set_state(load(save(tmp_path / "face", one.get_state())))
    seen = set()
    for action in actions()[7:]:
        left, right = one.step(action), other.step(action)
        assert torch.equal(left[4]["metrics"]["evaluated"], right[4]["metrics"]["evaluated"])
        seen.add(tuple(left[4]["metrics"]["evaluated"].tolist()))
    assert len(seen) > 3


@dataclass(frozen=True, eq=False, kw_only=True)
class MeasuredAt(Measured):
    """Measured when it is asked to be."""

    when: Any = None

    @property
    def evaluation_period(self) -> Any:  # type: ignore[override]
        return self.when


@pytest.mark.parametrize("when", [3, (1, 4)])
@pytest.mark.parametrize("mode", ["next_step", "same_step", "disabled"])
def test_what_is_dear_is_measured_by_the_queries_of_each_rows_episode(mode: str, when: Any) -> None:
    # tolerances end the rows' episodes at different steps: no two rows are in step for long
    problem = MeasuredAt(dim=2, tolerance=0.05, budget=9, when=when)
    face = TorchVectorEnv(problem, 4, autoreset_mode=mode)
    observation, info = face.reset(seed=5)
    told: dict[tuple[int, int], float] = {}
    for _ in range(40):
        if mode == "disabled" and bool(face.state.done.any()):
            observation, info = face.reset(options={"reset_mask": face.state.done})
        observation, *_, info = face.step(0.6 * observation["point"])
        for key, k, noted in zip(
            info["key"].tolist(), face.state.k.tolist(), info["metrics"]["evaluated"].tolist(), strict=True
        ):
            told[key, k] = noted
    alone = GymEnv(problem)
    compared = 0
    for first in {key for key, _ in told}:
        observation, info = alone.reset(options={"instance": first})
        done = False
        while not done:
            observation, _, terminated, truncated, info = alone.step(0.6 * observation["point"])
            done, k = terminated or truncated, int(alone.state.k)
            if (first, k) in told:  # the end of an episode is not shown where the next one is in its place
                assert told[first, k] == pytest.approx(float(info["metrics"]["evaluated"])), (first, k)
                compared += 1
    assert compared > 60


def test_an_end_that_was_announced_is_that_of_the_running_episode() -> None:
    face, rows = TorchVectorEnv(core(), ROWS), torch.arange(ROWS) < 2
    action = actions()[0]
    face.reset(seed=0)
    kept = face.get_state()
    face.finish(rows)
    with pytest.raises(InvalidAction):
        face.step(torch.where(rows.unsqueeze(1), action, torch.nan))
    assert face.step(action)[3].tolist() == rows.tolist(), "an action that was refused changes nothing"
    face.set_state(kept)
    face.finish(rows)
    face.reset(options={"reset_mask": torch.arange(ROWS) == 0})
    assert face.step(action)[3].tolist() == [False, True] + [False] * (ROWS - 2)
    for begin in (lambda: face.reset(seed=1), lambda: face.set_state(kept)):
        face.finish(rows)
        begin()
        assert not face.step(action)[3].any()
    with pytest.raises(ValueError, match="rows: expected bool of shape"):
        face.finish(rows[1:])
    unchecked = TorchVectorEnv(core(), ROWS, validate=False)
    unchecked.reset(seed=0)
    unchecked.finish(rows)
    *_, truncated, info = unchecked.step(torch.full_like(action, torch.nan))
    assert truncated.tolist() == rows.tolist() == (~info["invalid"]).tolist()


def test_tensors_stay_tensors_and_carry_no_graph() -> None:
    batch = TorchVectorEnv(core(), ROWS)
    batch.reset(seed=0)
    action = actions()[0].requires_grad_()
    shown, reward, terminated, truncated, info = batch.step(action)
    for value in (*shown.values(), reward, terminated, truncated, *tensors(info).values()):
        assert isinstance(value, Tensor)
        assert not value.requires_grad
        assert len(value) == ROWS


def test_spaces_hold_what_comes() -> None:
    batch = gym.make_vec("optenvs/Rosenbrock-v0", num_envs=3, oracle="hvp")
    shown, _ = batch.reset(seed=0)
    assert batch.observation_space.contains({name: value.numpy() for name, value in shown.items()})
    asked = batch.action_space.sample()
    shown, *_ = batch.step(asked)
    assert torch.equal(shown["point"], torch.from_numpy(asked["point"]))
    assert batch.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert set(batch.single_action_space) == {"point", "vector"}


def test_divergence_shows_the_last_good_answer() -> None:
    batch = TorchVectorEnv(optenvs.make("Quadratic", dim=DIM), ROWS, autoreset_mode="same_step")
    start, _ = batch.reset(seed=0)
    start = {name: value.clone() for name, value in start.items()}
    action = actions()[0].clone()
    action[1] = 1e30
    _, reward, terminated, truncated, info = batch.step(action)
    assert truncated.tolist() == [False, True, False, False]
    assert not terminated.any()
    assert reward.isfinite().all()
    assert info["final_info"]["diverged"].tolist() == [False, True, False, False]
    for name, value in info["final_obs"].items():
        assert value[[0, 1, 3]][:, 0].isfinite().all()
        if name != "N":
            assert torch.equal(value[1], start[name][1])


@pytest.mark.parametrize("mode", ["next_step", "same_step", "disabled"])
def test_pictures_are_one_an_instance_of_its_running_episode(mode: str) -> None:
    problem = core(tolerance=None, budget=4)
    batch = TorchVectorEnv(problem, 2, render_mode="rgb_array", autoreset_mode=mode)
    batch.reset(seed=0)
    # of three steps each is an episode; which of five steps belong to the one that runs after the fifth
    mine = {"next_step": (4, 5), "same_step": (3, 5), "disabled": (0, 3)}[mode]
    for t in range(5):
        batch.step(actions()[t][:2])
    pictures = batch.render()
    assert len(pictures) == 2
    for i, picture in enumerate(pictures):
        single = GymEnv(problem, render_mode="rgb_array")
        single.reset(options={"instance": int(batch.state.key[i])})
        for asked in actions()[slice(*mine)]:
            single.step(asked[i].numpy())
        assert picture.dtype == np.uint8
        assert np.array_equal(single.render(), picture)


def test_pictures_of_rows_that_a_mask_leaves_go_on() -> None:
    batch = TorchVectorEnv(core(tolerance=None), 2, render_mode="rgb_array", autoreset_mode="disabled")
    batch.reset(seed=0)
    batch.step(actions()[0][:2])
    before = batch.render()
    batch.reset(options={"reset_mask": torch.tensor([True, False])})
    assert np.array_equal(batch.render()[1], before[1])
    assert not np.array_equal(batch.render()[0], before[0])

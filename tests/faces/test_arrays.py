"""The vector face in numpy: what it shows, and Gymnasium's own vector wrappers on it."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers import vector as wrappers

import optenvs
from optenvs.faces.vector import TorchVectorEnv

ROWS = 3
ID = "optenvs/Quadratic-v0"
PROBLEM: dict[str, Any] = {"dim": 2, "spectrum": "random", "tolerance": 0.3, "budget": 6, "shift": 0.5}
MODES = ["next_step", "same_step"]


def made(mode: str = "next_step", **options: Any) -> optenvs.NumpyVectorEnv:
    env = gym.make_vec(ID, ROWS, to="numpy", autoreset_mode=mode, **(PROBLEM | options))
    assert isinstance(env, optenvs.NumpyVectorEnv)
    return env


def actions(steps: int = 17) -> np.ndarray:
    return 0.7 * np.random.default_rng(0).normal(size=(steps, ROWS, 2)).astype(np.float32)


@pytest.mark.parametrize("mode", [*MODES, "disabled"])
def test_it_is_the_torch_face_in_numpy(mode: str) -> None:
    env = made(mode)
    torch_face = gym.make_vec(ID, ROWS, autoreset_mode=mode, **PROBLEM)
    assert type(torch_face) is TorchVectorEnv
    shown, expected = env.reset(seed=3)[0], torch_face.reset(seed=3)[0]
    ends = 0
    for action in actions():
        assert env.observation_space.contains(shown)
        assert all(np.array_equal(shown[name], value.numpy()) for name, value in expected.items())
        (shown, *rest, info), (expected, *others, facts) = env.step(action), torch_face.step(action)
        for one, other in zip(rest, others, strict=True):
            assert isinstance(one, np.ndarray) and np.array_equal(one, other.numpy())
        assert rest[0].dtype == np.float64
        for name in ("calls", "metrics"):
            assert info[f"_{name}"].all()
            for part, value in facts[name].items():
                assert info[name][f"_{part}"].all() and np.array_equal(info[name][part], value.numpy())
        if "final_obs" in facts:
            ended = facts["_final_obs"].numpy()
            assert np.array_equal(info["_final_obs"], ended) and np.array_equal(info["_final_info"], ended)
            for i in range(ROWS):
                final = info["final_obs"][i]
                assert (final is not None) == ended[i]
                if final is not None:
                    assert np.array_equal(final["point"], facts["final_obs"]["point"][i].numpy())
            ends += ended.sum()
    assert ends > 5 or mode != "same_step"


def _forms(info: Any) -> Any:
    """The names of an info with the type and shape of what they stand for."""
    if isinstance(info, dict):
        return {name: _forms(value) for name, value in sorted(info.items())}
    return info.dtype.kind, info.shape


@pytest.mark.parametrize("mode", MODES)
def test_infos_have_the_form_of_gymnasiums_own(mode: str) -> None:
    env = made(mode)
    own = SyncVectorEnv(
        [lambda: gym.make(ID, **PROBLEM)] * ROWS, autoreset_mode=env.metadata["autoreset_mode"]
    )
    assert _forms(env.reset(seed=3)[1]) == _forms(own.reset(seed=3)[1])
    met = set()
    for action in actions():
        info, form = env.step(action)[4], own.step(action)[4]
        for name in info.keys() & form.keys():
            assert _forms(info[name]) == _forms(form[name]), name
        met |= info.keys() | form.keys()
        if mode == "next_step":
            assert info.keys() == form.keys()
    assert "final_obs" in met or mode == "next_step"


def test_what_it_shows_belongs_to_the_caller() -> None:
    env = made()
    shown, info = env.reset(seed=0)
    for array in (shown["point"], info["key"], info["metrics"]["gap"]):
        array[:] = 77
    shown, reward, terminated, truncated, info = env.step(actions()[0])
    terminated[:], truncated[:], reward[:] = True, True, 77.0
    state = env.state
    assert (state.observation["point"] < 70).all() and (state.key != 77).all() and (state.reward != 77).all()
    assert not state.done.all() and not state.metrics["gap"].eq(77).any()


def through(env: Any, steps: int = 17) -> list[Any]:
    found = [env.reset(seed=3)]
    found += [env.step(action) for action in actions(steps)]
    return found


@pytest.mark.parametrize("mode", MODES)
def test_episode_statistics(mode: str) -> None:
    env = wrappers.RecordEpisodeStatistics(made(mode))
    plain, seen = through(made(mode)), through(env)
    returns, lengths, counted = np.zeros(ROWS), np.zeros(ROWS, int), 0
    renewed = np.zeros(ROWS, bool)
    for (_, reward, terminated, truncated, _), (*_, info) in zip(plain[1:], seen[1:], strict=True):
        done = terminated | truncated
        returns, lengths = returns + reward, lengths + ~renewed
        for i in np.flatnonzero(done):
            assert info["episode"]["r"][i] == pytest.approx(returns[i])
            assert info["episode"]["l"][i] == lengths[i]
            returns[i], lengths[i], counted = 0, 0, counted + 1
        renewed = done if mode == "next_step" else renewed
    assert counted > 5


@pytest.mark.parametrize("mode", MODES)
def test_infos_as_lists(mode: str) -> None:
    plain, listed = through(made(mode)), through(wrappers.DictInfoToList(made(mode)))
    ends = 0
    for before, after in zip(plain, listed, strict=True):
        info, infos = before[-1], after[-1]
        for i in range(ROWS):
            assert infos[i]["key"] == info["key"][i]
            assert infos[i]["metrics"] == {
                name: value[i] for name, value in info["metrics"].items() if not name.startswith("_")
            }
            assert ("final_info" in infos[i]) == ("final_info" in info and info["_final_info"][i])
            ends += "final_info" in infos[i]
    assert ends > 5 or mode == "next_step"


def test_normalised_rewards_and_observations() -> None:
    rewards = [step[1] for step in through(made())[1:]]
    scaled = [step[1] for step in through(wrappers.NormalizeReward(made()))[1:]]
    assert np.isfinite(scaled).all() and not np.allclose(rewards, scaled)
    env = wrappers.NormalizeObservation(
        wrappers.FlattenObservation(wrappers.FilterObservation(made(), ("point", "gradient")))
    )
    points = np.stack([step[0] for step in through(env)])
    assert points.shape == (18, ROWS, 4) and np.isfinite(points).all()
    assert abs(points[9:].mean()) < 1


def test_transformed_rewards() -> None:
    plain, doubled = through(made()), through(wrappers.TransformReward(made(), lambda reward: 2 * reward))
    for before, after in zip(plain[1:], doubled[1:], strict=True):
        assert np.array_equal(2 * before[1], after[1])


@pytest.mark.parametrize("to", ["torch", "numpy"])
def test_videos(to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips: list[list[np.ndarray]] = []

    class Clip:
        """Stands for moviepy's, which only writes the frames to a file."""

        def __init__(self, frames: list[np.ndarray], fps: int) -> None:
            clips.append(frames)

        def write_videofile(self, *_: Any, **__: Any) -> None: ...

    for name in ("moviepy", "moviepy.video", "moviepy.video.io", "moviepy.video.io.ImageSequenceClip"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["moviepy.video.io.ImageSequenceClip"].ImageSequenceClip = Clip  # type: ignore[attr-defined]
    env = gym.make_vec(ID, ROWS, to=to, render_mode="rgb_array", **PROBLEM)
    single = gym.make(ID, render_mode="rgb_array", **PROBLEM)
    single.reset(seed=0)
    height, width, _ = single.render().shape  # type: ignore[union-attr]
    video = wrappers.RecordVideo(env, str(tmp_path / "videos"), episode_trigger=lambda _: True)
    through(video, 3)
    video.close()
    assert sum(map(len, clips)) >= 3
    for frames in clips:
        assert all(frame.shape[0] * frame.shape[1] == ROWS * height * width for frame in frames)


def test_unknown_forms() -> None:
    with pytest.raises(ValueError, match="to: expected one of 'torch', 'numpy', got 'jax'"):
        gym.make_vec(ID, ROWS, to="jax")

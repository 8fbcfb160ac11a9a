"""What every registered environment is held to, through every face."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from agent_problems import only_recorded
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from stable_baselines3 import A2C

import optenvs
from envs_registry import ENVIRONMENTS
from optenvs.core.checks.probe import near
from optenvs.core.compiled import Program
from optenvs.core.random import keys_from_seed
from optenvs.core.snapshot import load, save
from optenvs.core.struct import rows, tensors, tree_map

# what Gymnasium's checker says of unbounded actions and observations, which are so by design
EXPECTED = (
    r".*A Box action space (maximum|minimum) value is -?infinity\. This is probably too (high|low)",
    r".*A Box observation space (maximum|minimum) value is -?infinity\. This is probably too (high|low)",
    r".*For Box action spaces, we recommend using a symmetric and normalized space",
)

WITH_EACH_ORACLE = {"points": 3}
BY_THEMSELVES = {"clock": "rounds", "hessian": "fisher_term", "oracle": "fitness"}
"""Keywords on which it depends which oracles answer, with another value than the default."""
WAYS = {"query": tuple({"query": way, "rule": None} for way in ("targets", "policy"))}
"""The same for a keyword with several such values, each with what goes with it."""
WITHOUT = {"fitness": {"estimator": "truncated_bptt"}}
"""Keywords that then stay at their defaults, since they would have no effect."""


def queries(core: Any, keys: torch.Tensor, steps: int) -> list[Any]:
    start = core.sample(keys).start
    return [near(core, keys, start, t) for t in range(steps)]


def as_numpy(action: Any) -> Any:
    return {k: v.numpy() for k, v in action.items()} if isinstance(action, dict) else action.numpy()


def test_the_checker_passes(environment: Any) -> None:
    report = optenvs.check(environment.make(), batch=3, steps=3)
    assert report.ok


def test_the_declaration_is_true(environment: Any) -> None:
    spec, core = ENVIRONMENTS[environment.id], environment.make()
    assert set(core.oracles) <= set(spec.oracles)
    assert type(core).__module__.startswith(f"optenvs.envs.{spec.family}")
    assert type(core).__doc__, "the page of an environment is its docstring"
    assert spec.summary
    assert spec.reference or spec.needs or spec.family == "training"


def test_every_declared_oracle_is_answered(environment: Any) -> None:
    answered: set[str] = set()
    keywords = vars(environment.make())
    variants: list[dict[str, Any]] = [{}]
    if "oracle" in keywords:
        variants += [{"oracle": oracle} for oracle in ENVIRONMENTS[environment.id].oracles]
    for name in WITH_EACH_ORACLE.keys() & keywords.keys():
        variants += [changes | {name: WITH_EACH_ORACLE[name]} for changes in variants]
    for name in BY_THEMSELVES.keys() & keywords.keys():
        value = BY_THEMSELVES[name]
        beside = {other: usual for other, usual in WITHOUT.get(value, {}).items() if other in keywords}
        variants.append({name: value} | beside)
    variants += [changes for name in WAYS.keys() & keywords.keys() for changes in WAYS[name]]
    for changes in variants:
        try:
            core = environment.make(**changes)
        except ValueError:  # an oracle that only comes with another
            continue
        answered |= set(core.oracles)
        assert set(core.oracles) <= set(core.bill)
        if changes:  # test_the_checker_passes has the environment as it is
            optenvs.check(core, batch=2, steps=2)
    assert answered == set(ENVIRONMENTS[environment.id].oracles)


def test_a_recorded_step_is_the_step(environment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    only_recorded(monkeypatch)
    core = environment.make()
    keys = keys_from_seed(0, 3, core.torch_device)
    with torch.no_grad():
        state = core.reset(keys)
        first, second, third = queries(core, keys, 3)
        state = core.step(state, first)

        def step(leaves: list[torch.Tensor]) -> list[torch.Tensor]:
            left = iter(leaves)
            return list(tensors(core.step(*tree_map(lambda _: next(left), (state, second)))).values())

        program = Program(step, list(tensors((state, second)).values()))
        for action in (second, third):  # the second has not been recorded
            expected = core.step(state, action)
            found = program([leaf.contiguous() for leaf in tensors((state, action)).values()])
            for (name, leaf), got in zip(tensors(expected).items(), found, strict=True):
                torch.testing.assert_close(got, leaf, rtol=1e-5, atol=1e-5, equal_nan=True, msg=name)
            state = expected


def test_gymnasiums_checker_passes(environment: Any) -> None:
    env = gym.make(environment.id, **environment.keywords).unwrapped
    with warnings.catch_warnings():
        for message in EXPECTED:
            warnings.filterwarnings("ignore", message=message)
        check_env(env, skip_render_check=True)


def test_the_faces_agree(environment: Any) -> None:
    vector = gym.make_vec(environment.id, num_envs=3, **environment.keywords)
    single = gym.make(environment.id, **environment.keywords)
    core = environment.make()
    keys = keys_from_seed(7, 3)
    shown, info = vector.reset(seed=7)
    assert torch.equal(info["key"], keys)
    path = [(shown, None)]
    asked = queries(core, keys, 3)
    for action in asked:
        shown, reward, *_ = vector.step(action)
        path.append((shown, reward))
    for i in range(3):
        seen, _ = single.reset(options={"instance": int(keys[i])})
        for t, (shown, reward) in enumerate(path):
            if t:
                seen, gain, *_ = single.step(as_numpy(rows(asked[t - 1], i)))
                assert gain == pytest.approx(float(reward[i]), rel=1e-4, abs=1e-5)
            assert seen.keys() == shown.keys()
            for name, value in seen.items():
                assert np.allclose(value, shown[name][i].numpy(), rtol=1e-4, atol=1e-5), (t, name)


def test_an_episode_is_forked_bit_for_bit(environment: Any, tmp_path: Path) -> None:
    core = environment.make()
    one = gym.make_vec(environment.id, num_envs=2, **environment.keywords).unwrapped
    other = gym.make_vec(environment.id, num_envs=2, **environment.keywords).unwrapped
    one.reset(seed=1)
    asked = queries(core, keys_from_seed(1, 2), 4)
    one.step(asked[0])
    other.set_state(load(save(tmp_path / "face", one.get_state())))
    for action in asked[1:]:
        left, right = tensors(one.step(action)), tensors(other.step(action))
        assert left.keys() == right.keys()
        for path, value in left.items():
            assert torch.equal(value, right[path]), path


def test_stable_baselines_trains_or_is_told_why_not(environment: Any) -> None:
    core = environment.make()
    one = isinstance(core.action_space, spaces.Box)  # it refuses points with whole numbers beside them
    if one and ("bounds" in vars(core) or core.action_space.is_bounded()):
        env = optenvs.make_sb3(environment.id, 2, **environment.keywords)
        assert A2C("MultiInputPolicy", env, n_steps=4, seed=0).learn(16).num_timesteps == 16
    else:
        with pytest.raises(TypeError, match="takes (finite actions only|one Box of actions)"):
            optenvs.make_sb3(environment.id, 2, **environment.keywords)


def test_it_draws_its_episode(environment: Any) -> None:
    env = gym.make(environment.id, render_mode="rgb_array", **environment.keywords)
    core = environment.make()
    env.reset(seed=0)
    for action in queries(core, keys_from_seed(0, 1), 2):
        env.step(as_numpy(rows(action, 0)))
    picture = env.render()
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    assert len(np.unique(picture)) > 10, "an empty picture"


def test_both_precisions_meet_the_same_instance(environment: Any) -> None:
    keys = keys_from_seed(3, 2)
    single, double = environment.make(dtype="float32"), environment.make(dtype="float64")
    one, other = single.reset(keys), double.reset(keys)
    assert one.merit.dtype == torch.float32
    assert other.merit.dtype == torch.float64
    assert torch.allclose(one.merit.double(), other.merit, rtol=1e-3, atol=1e-5)
    for name, space in double.observation_space.items():
        if isinstance(space, spaces.Box) and space.dtype.kind == "f":
            assert space.dtype == np.float64, name


def test_it_prints_what_it_is(environment: Any) -> None:
    core = environment.make()
    assert repr(core).startswith(type(core).__name__ + "(")
    assert core.replace().oracles == core.oracles

"""The three autoreset modes, held against single environments driven by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from face_rows import ROWS, actions, core, row, same, singles
from gymnasium.error import InvalidAction
from gymnasium.vector import AutoresetMode

import optenvs
from optenvs.faces.vector import TorchVectorEnv


def test_next_step_against_a_hand_simulation() -> None:
    batch = TorchVectorEnv(core(), ROWS, autoreset_mode="next_step")
    shown, _ = batch.reset(seed=0)
    envs, first = singles()
    over, ends = [False] * ROWS, 0
    for i in range(ROWS):
        assert same(row(shown, i), first[i])
    for action in actions():
        shown, reward, terminated, truncated, info = batch.step(action)
        for i, env in enumerate(envs):
            if over[i]:
                expected, facts = env.reset()
                outcome = (0.0, False, False)
            else:
                expected, *outcome, facts = env.step(action[i].numpy())
                outcome = tuple(outcome)
            over[i] = outcome[1] or outcome[2]
            ends += over[i]
            assert same(row(shown, i), expected)
            assert float(reward[i]) == pytest.approx(outcome[0], rel=1e-4, abs=1e-6)
            assert (bool(terminated[i]), bool(truncated[i])) == outcome[1:]
            assert int(info["calls"]["gradient"][i]) == facts["calls"]["gradient"]
            assert int(info["key"][i]) == facts["key"]
    assert ends > 6, "the episodes are too long to test their ends"


def test_next_step_ignores_the_actions_of_pending_rows() -> None:
    batch = TorchVectorEnv(core(bounds=(-5.0, 5.0)), ROWS)
    batch.reset(seed=0)
    for action in actions():
        if bool(batch.get_state().pending.any()):
            break
        batch.step(action)
    pending = batch.get_state().pending
    assert pending.any()
    before = batch.get_state()
    plain = [x.clone() for x in batch.step(action)[0].values()]
    batch.set_state(before)
    wild = torch.where(pending[:, None], torch.nan, action)
    # NaN in a row that is only reset is nobody's mistake; elsewhere it is refused
    odd = list(batch.step(wild)[0].values())
    for one, other in zip(plain, odd, strict=True):
        assert torch.equal(one, other)
    batch.set_state(before)
    with pytest.raises(InvalidAction):
        batch.step(torch.where(pending[:, None], action, torch.nan))
    assert batch.get_state() is before


def test_same_step_against_a_hand_simulation() -> None:
    batch = TorchVectorEnv(core(), ROWS, autoreset_mode=AutoresetMode.SAME_STEP)
    batch.reset(seed=0)
    envs, _ = singles()
    ends = 0
    for action in actions():
        shown, reward, terminated, truncated, info = batch.step(action)
        for i, env in enumerate(envs):
            end, gain, solved, spent, facts = env.step(action[i].numpy())
            assert float(reward[i]) == pytest.approx(gain, rel=1e-4, abs=1e-6)
            assert (bool(terminated[i]), bool(truncated[i])) == (solved, spent)
            if solved or spent:
                ends += 1
                assert bool(info["_final_obs"][i])
                assert same(row(info["final_obs"], i), end)
                final = info["final_info"]
                assert int(final["calls"]["gradient"][i]) == facts["calls"]["gradient"]
                assert float(final["metrics"]["gap"][i]) == pytest.approx(facts["metrics"]["gap"], rel=1e-4)
                end, facts = env.reset()
            elif "_final_obs" in info:
                assert not bool(info["_final_obs"][i])
            assert same(row(shown, i), end)
            assert int(info["calls"]["gradient"][i]) == facts["calls"]["gradient"]
    assert ends > 6


def test_disabled_against_a_hand_simulation() -> None:
    batch = TorchVectorEnv(core(), ROWS, autoreset_mode="disabled")
    shown, _ = batch.reset(seed=0)
    envs, last = singles()
    last = list(last)
    over, ends, resets = np.zeros(ROWS, bool), 0, 0
    calls = np.ones(ROWS, int)
    for number, action in enumerate(actions()):
        if over.any() and number % 3 == 0:
            shown, info = batch.reset(options={"reset_mask": torch.from_numpy(over)})
            for i in np.flatnonzero(over):
                last[i], facts = envs[i].reset()
                assert int(info["key"][i]) == facts["key"]
                calls[i], resets = 1, resets + 1
            for i in range(ROWS):
                assert same(row(shown, i), last[i])
            over[:] = False
        shown, reward, terminated, truncated, info = batch.step(action)
        for i, env in enumerate(envs):
            if over[i]:
                assert float(reward[i]) == 0
                assert bool(terminated[i] | truncated[i]), "a row at rest stays over"
            else:
                last[i], gain, solved, spent, facts = env.step(action[i].numpy())
                calls[i] = facts["calls"]["gradient"]
                assert float(reward[i]) == pytest.approx(gain, rel=1e-4, abs=1e-6)
                assert (bool(terminated[i]), bool(truncated[i])) == (solved, spent)
                over[i] = solved or spent
                ends += over[i]
            assert same(row(shown, i), last[i])
            assert int(info["calls"]["gradient"][i]) == calls[i], "a row at rest is not billed"
    assert ends > 4
    assert resets > 2


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_instances_solved_at_their_start_take_one_step_to_say_so(mode: AutoresetMode) -> None:
    problem = optenvs.make("Rosenbrock", start=(1.0, 1.0))
    batch = TorchVectorEnv(problem, 2, autoreset_mode=mode)
    batch.reset(seed=0)
    here = torch.ones(2, 2)
    assert batch.step(here)[2].tolist() == [True, True]
    if mode is AutoresetMode.NEXT_STEP:
        assert batch.step(here)[2].tolist() == [False, False], "a reset, which cannot end"
        assert batch.state.k.tolist() == [0, 0]
    elif mode is AutoresetMode.SAME_STEP:
        assert batch.state.k.tolist() == [0, 0]
    assert batch.step(here)[2].tolist() == [True, True]


def test_a_masked_reset_keeps_what_other_rows_have_pending() -> None:
    batch = TorchVectorEnv(core(tolerance=None, budget=2), ROWS)
    batch.reset(seed=0)
    batch.step(actions()[0])
    assert batch.get_state().pending.all()
    batch.reset(options={"reset_mask": torch.tensor([True, False, False, False])})
    assert batch.get_state().pending.tolist() == [False, True, True, True]
    batch.step(actions()[1])
    assert batch.state.k.tolist() == [1, 0, 0, 0]


def test_actions_stay_the_callers() -> None:
    batch = TorchVectorEnv(core(), ROWS)
    batch.reset(seed=0)
    action = actions()[0].clone()
    shown, *_ = batch.step(action)
    before = shown["point"].clone()
    action.add_(1)
    assert torch.equal(batch.state.observation["point"], before)

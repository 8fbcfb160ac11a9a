"""Losses as steps of tuned Adam: smoothing, envelopes, the map, and which losses count."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import agents
import optenvs
from optenvs.core.struct import struct
from optenvs.scoring.normaliser import AdamSteps, counted, lower_envelope, sampled, smooth


def double(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_the_average_begins_at_the_first_value() -> None:
    course = double(1, 0, 0, 2)
    expected = [1, 0.95, 0.95**2, 0.95**3 + 0.05 * 2]
    assert smooth(course).tolist() == pytest.approx(expected)
    pair = torch.stack((course, 3 * course), 1)
    assert torch.allclose(smooth(pair)[:, 1], 3 * smooth(course))


def test_the_envelope_is_the_least_so_far_of_all() -> None:
    curves = torch.stack((double(4, 3, 5, 1, 2), double(4, 4, 2, 2, 3)), 1)
    assert lower_envelope(curves).tolist() == [4, 3, 2, 1, 1]


@pytest.mark.parametrize("points", [3, 5, 9])
def test_points_lie_on_the_curve_between_first_and_last(points: int) -> None:
    curve = double(8, 4, 2, 1, 0)
    found = sampled(curve, points)
    assert len(found) == points
    expected = {3: [8, 2, 0], 5: [8, 4, 2, 1, 0], 9: [8, 6, 4, 3, 2, 1.5, 1, 0.5, 0]}[points]
    assert found.tolist() == pytest.approx(expected)


def test_a_loss_is_the_first_step_as_low() -> None:
    scale = AdamSteps(double(8, 4, 4, 4, 1, 0), length=50)
    losses = double(9, 8, 6, 4, 3, 1, 0.25, 0, -1)
    assert scale.steps(losses).tolist() == pytest.approx([0, 0, 5, 10, 30 + 10 / 3, 40, 47.5, 50, 50])
    assert scale.beyond(losses).tolist() == [False] * 8 + [True]
    assert scale.at(double(0, 5, 10, 25, 50, 99)).tolist() == pytest.approx([8, 6, 4, 4, 0, 0])


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_no_number_is_the_worst(loss: float) -> None:
    scale = AdamSteps(double(8, 4, 2), length=10)
    assert scale.steps(double(loss)).tolist() == [0]
    assert scale.beyond(double(loss)).tolist() == [False]


def rates(*values: float) -> agents.SGD:
    return agents.SGD(lr=double(*values))


def task(**keywords: Any) -> optenvs.OptimizationEnv:
    return optenvs.make("Quadratic", dim=2, dtype="float64", **keywords)


def test_what_diverges_counts_as_its_start() -> None:
    # 100 overflows within 200 steps, 3 grows and stays a number, 0.5 converges
    run = optenvs.rollout(task(budget=201), rates(100.0, 3.0, 0.5), batch=3)
    losses, failed = counted(run, 200, 1)
    assert run.diverged.tolist() == [True, False, False]
    assert failed.tolist() == [True, True, False]
    assert losses.isfinite().all()
    first = run.merit[0].tolist()
    assert losses[-1].tolist() == [first[0], first[1], run.merit[-1, 2].item()]
    assert (losses <= losses[0]).all()
    still = optenvs.rollout(task(budget=21), agents.from_function(lambda seen: seen["point"]), batch=2)
    losses, failed = counted(still, 20, 1)
    assert not failed.any()  # nothing gained, and nothing lost
    assert torch.equal(losses, losses[:1].expand(21, -1))


def test_an_action_of_several_queries_holds_until_the_next() -> None:
    from optenvs.wrappers import StepSizeControl

    control = StepSizeControl(task(budget=8), agents.SGD(), repeat=3)
    run = optenvs.rollout(control, agents.from_function(lambda seen: 0 * seen["k"]), batch=2)
    assert run.calls["gradient"][:, 0].tolist() == [1, 4, 7, 8]
    losses, _ = counted(run, 7, 1)
    place = [0, 0, 0, 1, 1, 1, 2, 3]
    assert torch.equal(losses, torch.minimum(run.merit[place], run.merit[0]))


@struct
class Memory:
    finished: torch.Tensor


class Halves(agents.Agent):
    """Goes half the way three times, and has no more to ask."""

    def init(self, problem: Any, observation: dict[str, torch.Tensor], keys: torch.Tensor) -> Memory:
        return Memory(torch.zeros_like(keys, dtype=torch.bool))

    def act(self, state: Memory, observation: dict[str, torch.Tensor]) -> tuple[torch.Tensor, Memory]:
        return observation["point"] / 2, Memory(observation["k"][:, 0] >= 3)


def test_an_agent_that_has_finished_keeps_its_last_loss() -> None:
    run = optenvs.rollout(task(budget=101), Halves(), batch=2)
    assert run.finished.all() and not run.diverged.any()
    assert (run.calls["gradient"][-1] < 101).all()
    losses, failed = counted(run, 100, 1)
    assert losses.shape == (101, 2) and not failed.any()
    assert torch.equal(losses[-1], run.merit[-1])
    assert losses[-1].tolist() == pytest.approx((run.merit[0] / 64).tolist())

"""The functions of the diffGrad and AdaBelief papers, held to their specifications."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import optenvs
from optenvs.core.random import keys_from_seed
from optenvs.core.rollout import rollout
from optenvs.envs.landscapes.adabelief import TOYS
from optenvs.envs.landscapes.base import Landscape


def made(name: str, keywords: dict[str, Any], **more: Any) -> Landscape:
    env = optenvs.make(name, **({"dtype": "float64", "tolerance": None} | keywords | more))
    assert isinstance(env, Landscape)
    return env


# diffGrad's functions: facts of the specification, section 3 ------------------------------------


def curve(name: str, x: list[float], **keywords: Any) -> tuple[np.ndarray, np.ndarray]:
    env = made(name, {}, **keywords)
    state = env.reset(keys_from_seed(0, len(x)))
    answer = env.step(state, torch.tensor(x, dtype=torch.float64).unsqueeze(-1)).observation
    return answer["value"].numpy().ravel(), answer["gradient"].numpy().ravel()


@pytest.mark.paper
def test_diffgrad_f1() -> None:
    value, slope = curve("DiffGradF1", [-0.3, 0.2, 0.0, 1e-12, -1.0])
    assert np.allclose(value, [0, 0.05, 0.09, 0.09, 0.49])
    assert np.allclose(slope, [0, 0, 0.6, -0.4, -1.4])


@pytest.mark.paper
def test_diffgrad_f2() -> None:
    points = [-0.9, np.nextafter(-0.9, 0), -1.0, -0.64291860, 0.0, 0.58805348]
    value, slope = curve("DiffGradF2", points)
    assert np.allclose(value, [0.85, 0.835301, 4.85, 1.19771e-4, 0.85, 0.465318], atol=1e-6)
    assert slope[0] == slope[2] == -40
    assert np.allclose(slope[3:], 0, atol=1e-5)
    for place, height in ((-0.24506399, 1.061971), (0.26296378, 1.094683), (1.04664733, 2.905289)):
        value, slope = curve("DiffGradF2", [place, place - 1e-3, place + 1e-3])
        assert value[0] == pytest.approx(height, abs=1e-6)
        assert value[0] > value[1:].max(), "a maximum"
        assert abs(slope[0]) < 1e-5
    _, false = curve("DiffGradF2", [0.5], derivative="notebook")
    assert false[0] == pytest.approx(0.5 * math.cos(4) + math.sin(4) + 0.75)
    _, true = curve("DiffGradF2", [0.5])
    assert true[0] == pytest.approx(4 * math.cos(4) + math.sin(4) + 0.75)


@pytest.mark.paper
def test_diffgrad_f3() -> None:
    points = [-1.0, -0.5, -0.45, -0.4, -0.2, 0.0, 0.2, 0.4, 0.45, 0.5, 1.0]
    value, slope = curve("DiffGradF3", points)
    assert np.allclose(value, [1, 0.25, 0.3, 0.35, 0.175, 0, 0.175, 0.35, 0.3, 0.25, 1])
    assert np.allclose(slope, [-2, -1, 1, 1, -7 / 8, -7 / 8, 7 / 8, 7 / 8, -1, -1, 2])
    for kink in (-0.5, -0.4, 0.0, 0.4, 0.5):
        values, _ = curve("DiffGradF3", [kink - 1e-9, kink, kink + 1e-9])
        assert np.ptp(values) < 1e-8, "it is continuous"


@pytest.mark.paper
@pytest.mark.parametrize(
    ("name", "adam", "diffgrad"), [("DiffGradF1", 0.200077, -0.300026), ("DiffGradF2", 6e-5, -0.642998)]
)
def test_diffgrad_experiment(name: str, adam: float, diffgrad: float) -> None:
    import agents

    env = optenvs.make(name, dtype="float64")
    assert env.horizon == 300
    for agent, expected in ((agents.Adam, adam), (agents.DiffGrad, diffgrad)):
        run = rollout(env, agent(lr=0.1, betas=(0.95, 0.999)), record=("point",))
        assert run.recorded["point"][0].item() == -1
        assert run.recorded["point"][300].item() == pytest.approx(expected, abs=2e-6)


def test_random_wells_of_f1() -> None:
    env = made("DiffGradF1", {"instance": "random"})
    state = env.reset(keys_from_seed(0, 500))
    p, q = state.hidden.coefficients.unbind(-1)
    assert ((p >= 0.2) & (p < 0.6)).all()
    assert ((q >= 0.1) & (q < 0.9 * p)).all()
    right = env.step(state, q.unsqueeze(-1))
    assert torch.allclose(right.merit, p * p - q * q)
    assert right.observation["gradient"].abs().max() < 1e-12
    assert right.metrics["global_basin"].sum() == 0
    assert env.step(state, -p.unsqueeze(-1)).metrics["global_basin"].sum() == 500


# AdaBelief's toys -------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", TOYS)
def test_toys_begin_where_the_videos_do(problem: str) -> None:
    env = optenvs.make("AdaBeliefToy", problem=problem, dtype="float64")
    assert env.reset(keys_from_seed(0, 1)).observation["point"][0].tolist() == list(TOYS[problem].start)


@pytest.mark.parametrize(
    ("problem", "point", "value"),
    [
        ("valley1", (0.5, -2.0), 2.05),
        ("valley2", (0.5, -2.0), 2.5),
        ("rotvalley", (2.0, 1.0), 3.1),
        ("rotvalley_video", (2.0, 1.0), 1.3),
        ("rotquad", (2.0, 1.0), 9.1),
        ("rosen1", (0.0, 0.0), 1.0),
        ("mccormick1", (0.0, 0.0), 1.0),
    ],
)
def test_toys_are_their_formulas(problem: str, point: tuple[float, float], value: float) -> None:
    env = made("AdaBeliefToy", {"problem": problem})
    assert float(env.value(torch.tensor([point], dtype=torch.float64), None)) == pytest.approx(value)

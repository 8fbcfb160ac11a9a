"""A fixed starting point in place of the instance's own, in every surrogate."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import optenvs
from optenvs.core.random import keys_from_seed

POINTS = {
    "ReluBox": ({"dim": 3}, (0.5, 0.25, 1.0)),
    "Biodiesel": ({}, (0.5, 0.25)),
    "Barycenter": ({"images": 3}, (1.0, -2.0, 10.0)),
    "Counterfactual": ({}, (0.5,) * 12),
}


@pytest.mark.parametrize("name", POINTS)
@pytest.mark.parametrize("form", [{}, {"points": 2, "oracle": "vjp", "formulation": "constraints"}])
def test_every_instance_begins_there_and_is_otherwise_its_own(name: str, form: dict[str, Any]) -> None:
    keywords, start = POINTS[name]
    own = optenvs.make(name, **keywords, **form)
    fixed = own.replace(start=start)
    keys = keys_from_seed(0, 3)
    before, state = own.reset(keys), fixed.reset(keys)
    point = torch.tensor(start, dtype=torch.float64)
    asked = state.observation["point"]
    assert (asked == point).all()
    assert (before.observation["point"] != asked).any()
    # the instances are the same: the one that began elsewhere says the same of this point
    query = at(fixed, point.repeat(3, 1))
    here, there = fixed.step(state, query).observation, own.step(before, query).observation
    torch.testing.assert_close(there["value"], here["value"])
    torch.testing.assert_close(there["outputs"], here["outputs"])


def at(env: Any, points: torch.Tensor) -> Any:
    """The query of one point a row, with a product there where the environment gives one."""
    if env.points is None:
        return points
    one = torch.ones_like(points[:, :1])
    return {
        "points": points.unsqueeze(1).repeat(1, env.points, 1),
        "count": one.long(),
        "threshold": -1e30 * one,
        "allowance": 0 * one,
        "base": points,
        "cotangent": one.repeat(1, env.output_count),
    }


@pytest.mark.parametrize(
    ("name", "keywords", "message"),
    [
        ("ReluBox", {"dim": 2, "start": (0.5, 1.5)}, r"start: expected 2 numbers within \(0.0, 1.0\), got"),
        ("ReluBox", {"dim": 2, "start": (0.5,)}, "start: expected 2 numbers within"),
        ("ReluBox", {"start": "random"}, "start: expected 10 numbers within .*, got 'random'"),
        ("Biodiesel", {"start": "far"}, "start: expected paper, random or a point, got 'far'"),
        ("Biodiesel", {"start": (2.0, 0.5), "formulation": "constraints"}, "start: expected 2 numbers"),
        ("Counterfactual", {"start": (float("nan"),) * 12}, "start: expected 12 finite numbers, got"),
        ("Barycenter", {"images": 2, "start": ((0.0,), (0.0, 1.0))}, "start: expected 2 finite numbers, got"),
    ],
)
def test_what_fits_no_box_is_refused(name: str, keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        optenvs.make(name, **keywords)

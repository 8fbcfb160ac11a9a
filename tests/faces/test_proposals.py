"""The check of many agents' actions, on its fast ways and its slow ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gossip import Gossip
from gymnasium import spaces
from gymnasium.error import InvalidAction

from optenvs.core.spaces import box
from optenvs.faces.proposals import Proposals, _Form

SIZES = (2, 100)
"""Numbers of an action: looked at one by one, and in a pass."""

UNEVEN = box((2,), low=np.array([-1, -np.inf], np.float32), high=np.array([1, 3], np.float32))


def proposals(dim: int) -> Proposals:
    return Proposals(Gossip(dim=dim, count=3), ("node_0", "node_1", "node_2"))


def action(dim: int, **changes: Any) -> dict[str, Any]:
    return {"query": np.full(dim, 2, np.float32), "message": np.full(dim, 3, np.float32)} | changes


def array(dim: int, last: float) -> np.ndarray:
    made = np.zeros(dim, np.float32)
    made[-1] = last
    return made


@pytest.mark.parametrize("dim", SIZES)
@pytest.mark.parametrize(
    ("field", "number"),
    [
        ("query", 50.001),
        ("query", -50.001),
        ("query", np.nan),
        ("message", np.nan),
        ("message", np.inf),
        ("message", -np.inf),
    ],
)
def test_one_bad_number_is_refused(dim: int, field: str, number: float) -> None:
    made, bad = proposals(dim), action(dim, **{field: array(dim, number)})
    with pytest.raises(InvalidAction, match=f"node_1: {field}: expected finite numbers"):
        made.collect({"node_0": action(dim), "node_1": bad, "node_2": action(dim)})
    rows = {name: np.ones((3, dim), np.float32) for name in ("query", "message")}
    with pytest.raises(InvalidAction, match=f"node_1: {field}: expected finite numbers"):
        made.put(rows, 1, bad)
    assert all((value == 1).all() for value in rows.values())


@pytest.mark.parametrize("dim", SIZES)
def test_the_greatest_numbers_are_numbers(dim: int) -> None:
    most = np.finfo(np.float32).max
    good = action(dim, query=array(dim, -50), message=np.full(dim, most, np.float32))
    query = proposals(dim).collect({f"node_{i}": good for i in range(3)})
    assert isinstance(query, dict) and (query["message"] == float(most)).all()
    rows = {name: np.ones((3, dim), np.float32) for name in ("query", "message")}
    proposals(dim).put(rows, 2, good)
    assert (rows["message"][2] == most).all() and rows["query"][2, -1] == -50


@pytest.mark.parametrize("dim", SIZES)
def test_memory_of_every_form(dim: int) -> None:
    straight = np.arange(dim, dtype=np.float32) / dim
    fixed = straight.copy()
    fixed.setflags(write=False)
    for given in (straight[::-1], np.repeat(straight, 2)[::2], fixed, straight.astype(">f4")):
        rows = {name: np.ones((3, dim), np.float32) for name in ("query", "message")}
        proposals(dim).put(rows, 0, action(dim, query=given))
        assert np.array_equal(rows["query"][0], given) and (rows["query"][1:] == 1).all()
        query = proposals(dim).collect({f"node_{i}": action(dim, query=given) for i in range(3)})
        assert isinstance(query, dict)
        assert torch.equal(query["query"][0, 1], torch.from_numpy(given.astype(np.float32)))


def test_one_agent_alone() -> None:
    alone = Proposals(Gossip(count=1), ("node_0",))
    query = alone.collect({"node_0": action(2)})
    assert isinstance(query, dict) and query["query"].tolist() == [[[2, 2]]]
    with pytest.raises(InvalidAction, match="node_0: its action is missing"):
        alone.collect({})
    with pytest.raises(InvalidAction, match="node_7: is no agent"):
        alone.collect({"node_0": action(2), "node_7": action(2)})


@pytest.mark.parametrize(
    ("space", "good", "bad"),
    [
        (UNEVEN, [1, -9], [-1.1, 0]),
        (UNEVEN, [0, 3], [0, -np.inf]),
        (UNEVEN, [0, 3], [0, np.nan]),
        (box((2,), "int64", 0, 4), [0, 4], [0, 5]),
        (box((5000,), low=-1.0, high=1.0), [1] * 5000, [1] * 4999 + [1.1]),
        (spaces.Box(0, 1, (2,), np.uint8), [0, 1], [0, 2]),
    ],
)
def test_bounds_by_coordinate_and_of_whole_numbers(space: spaces.Box, good: Any, bad: Any) -> None:
    form = _Form.of(space)
    assert form.fits(np.array(good, space.dtype)) and not form.fits(np.array(bad, space.dtype))
    stacked = form.stack([np.array(good, space.dtype)] * 3)
    assert stacked is not None and np.array_equal(stacked, [good] * 3)
    assert form.stack([np.array(good, space.dtype), np.array(bad, space.dtype)]) is None

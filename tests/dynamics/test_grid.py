"""Grid worlds: moves, order of a step, levels by key, what a policy sees."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from optenvs.core.random import keys_from_seed
from optenvs.core.struct import rows, tensors
from optenvs.dynamics import grid
from optenvs.dynamics.grid_levels import LEVELS, Levels, find_levels, level_from, log_integer
from optenvs.dynamics.grid_picture import paint, write
from optenvs.dynamics.grid_value import best_policy, normalised, optimum, policy_value

UP, DOWN, LEFT, RIGHT, STAY = range(5)
DOUBLE = torch.float64


def one(**changes: Any) -> grid.Level:
    """A 3 x 3 level: start top left, a wall in the middle, a good object top right, a bad one bottom left."""
    given: dict[str, Any] = {
        "size": 3,
        "start": 0,
        "walls": (4,),
        "cells": (2, 6),
        "reward": (1.0, -0.5),
        "p_term": (0.0, 1.0),
        "p_respawn": (0.0, 1.0),
        "max_steps": 50,
    }
    return level_from(DOUBLE, **(given | changes))


def walk(level: grid.Level, moves: list[int], seed: int = 0) -> tuple[list[int], list[float], list[bool]]:
    """Cells, rewards and ends of one worker."""
    workers = grid.begin(level, 1, torch.rand(1, 1, level.slots) if level.arrival is None else None)
    luck = grid.draw_luck(keys_from_seed(seed, 1), level, len(moves), 1).by_step()
    cells, rewards, overs = [], [], []
    for move, now in zip(moves, luck, strict=True):
        workers, step = grid.step(level, workers, torch.tensor([[move]]), now)
        cells.append(int(workers.cell))
        rewards.append(float(step.reward))
        overs.append(bool(step.over))
    return cells, rewards, overs


def test_who_would_leave_or_enter_a_wall_stays() -> None:
    assert walk(one(), [UP, LEFT, RIGHT, DOWN])[0] == [0, 0, 1, 1]  # the wall is below cell 1
    assert walk(one(), [DOWN, RIGHT, DOWN, DOWN])[0] == [3, 3, 6, 6]
    assert walk(one(), [RIGHT, RIGHT, RIGHT, STAY])[0] == [1, 2, 2, 2]


def test_an_object_is_hit_once_and_returns_on_a_later_step() -> None:
    assert walk(one(), [RIGHT, RIGHT, STAY, STAY])[1] == [0, 1, 0, 0]  # it never returns
    assert walk(one(p_respawn=(1.0, 1.0)), [RIGHT, RIGHT, STAY, STAY, STAY])[1] == [0, 1, 0, 1, 0]
    _, rewards, overs = walk(one(), [DOWN, DOWN])
    assert rewards == [0, -0.5] and overs == [False, True]


def test_time_ends_an_episode_and_renewal_begins_the_next() -> None:
    level = one(max_steps=2)
    assert walk(level, [RIGHT, RIGHT])[2] == [False, True]
    workers = grid.begin(level, 2)
    luck = grid.draw_luck(keys_from_seed(0, 1), level, 1, 2).by_step()[0]
    workers, _ = grid.step(level, workers, torch.tensor([[RIGHT, DOWN]]), luck)
    kept = grid.renew(workers, torch.tensor([[True, False]]), grid.begin(level, 2))
    assert kept.cell.tolist() == [[0, 3]] and kept.time.tolist() == [[0, 1]]


def test_the_tables_of_arrivals_are_what_objects_do() -> None:
    keys = keys_from_seed(2, 40)
    level = LEVELS["small"].draw(keys, DOUBLE)
    cell = torch.randint(0, level.room, (40, 30), generator=torch.Generator().manual_seed(0))
    present = torch.randint(0, 1 << level.slots, (40, 30), generator=torch.Generator().manual_seed(1))
    there = grid.bits_of(present, level.slots) & level.used.unsqueeze(1)
    hit = there & (level.cells.unsqueeze(1) == cell.unsqueeze(-1))
    place = cell + level.room * (there * grid.powers(level.slots, cell.device)).sum(-1)
    assert level.arrival is not None
    found = level.arrival.reward.gather(1, place)
    torch.testing.assert_close(found, (hit * level.reward.unsqueeze(1)).sum(-1))
    ends = (hit * level.p_term.unsqueeze(1)).sum(-1).clamp_max(1)
    torch.testing.assert_close(level.arrival.ends.gather(1, place), ends)
    left = ((there & ~hit) * grid.powers(level.slots, cell.device)).sum(-1)
    assert torch.equal(level.arrival.kept.gather(1, place), left)


@pytest.mark.parametrize("name", sorted(LEVELS))
def test_levels_are_what_they_say(name: str) -> None:
    levels = LEVELS[name]
    drawn = levels.draw(keys_from_seed(0, 64), DOUBLE)
    inside = torch.arange(levels.room) < drawn.size.square().unsqueeze(1)
    assert ((levels.grid[0] <= drawn.size) & (drawn.size <= levels.grid[1])).all()
    assert ((levels.max_steps[0] <= drawn.max_steps) & (drawn.max_steps <= levels.max_steps[1])).all()
    enough = drawn.free.sum(1) > levels.slots
    assert enough.float().mean() > 0.8
    assert drawn.free.gather(1, drawn.start.unsqueeze(1)).all()
    taken = torch.cat((drawn.start.unsqueeze(1), drawn.cells), 1)[enough]
    assert drawn.free[enough].gather(1, taken).all()
    assert (taken.sort(1).values.diff(dim=1) > 0).all(), "start and objects are in cells of their own"
    assert inside.gather(1, drawn.target.clamp_max(levels.room - 1)).any()
    assert (drawn.used[:, 0]).all()
    again = levels.draw(keys_from_seed(0, 3, first=5), DOUBLE)
    for path, leaf in tensors(again).items():
        assert torch.equal(leaf, tensors(rows(drawn, slice(5, 8)))[path]), path


def test_published_walls() -> None:
    level = LEVELS["longer"].draw(keys_from_seed(0, 1), DOUBLE)
    free = {(row, 4) for row in range(9) if not level.walls[0, 9 * row + 4]}
    assert free == {(1, 4), (7, 4)} and level.walls.sum() == 7
    cross = LEVELS["long_dense"].draw(keys_from_seed(0, 1), DOUBLE).walls[0].view(11, 11)
    assert (~cross[:, 5]).nonzero().flatten().tolist() == [0, 7]
    assert (~cross[4]).nonzero().flatten().tolist() == [2, 8]


def test_log_integers_have_both_ends() -> None:
    drawn = log_integer(keys_from_seed(0, 20_000), "x", (3, 30))
    assert (int(drawn.min()), int(drawn.max())) == (3, 30)
    share = (drawn == 3).double().mean()
    expected = torch.tensor(4 / 3).log() / torch.tensor(31 / 3).log()
    assert abs(float(share - expected)) < 0.01


def test_roaming_objects_lie_in_free_cells_apart() -> None:
    keys = keys_from_seed(0, 8)
    level = LEVELS["rand_small"].draw(keys, DOUBLE)
    luck = grid.draw_luck(keys, level, 60, 5)
    assert luck.place is not None
    workers = grid.begin(level, 5, luck.place[:, 0])
    moves = torch.randint(0, 5, (60, 8, 5), generator=torch.Generator().manual_seed(0))
    earned, seen = torch.zeros(8, 5, dtype=DOUBLE), set()
    for move, now in zip(moves, luck.by_step(), strict=True):
        workers, step = grid.step(level, workers, move, now)
        earned += step.reward
        assert workers.cells is not None
        there = grid.bits_of(workers.present, level.slots)
        assert level.free.gather(1, workers.cells.flatten(1)).all()
        apart = torch.where(there, workers.cells, -1 - torch.arange(level.slots)).sort(-1).values
        assert (apart.diff(dim=-1) > 0).all()
        seen |= set(workers.cells.flatten().tolist())
    assert earned.abs().sum() > 0
    assert len(seen) > 30, "they roam"


def test_what_a_policy_sees() -> None:
    level = one()
    workers = grid.begin(level, 1)
    hot = grid.one_hot(level, workers)[0, 0]
    assert hot.shape == (9 * 4 + 1,) and hot.nonzero().flatten().tolist() == [9 * 3]
    assert int(grid.index(level, workers)) == 27
    shown = grid.maps(level, workers, 2)[0, 0]
    assert shown.nonzero().flatten().tolist() == [0, 9 + 2, 18 + 6]
    luck = grid.draw_luck(keys_from_seed(0, 1), level, 1, 1).by_step()[0]
    workers, _ = grid.step(level, workers, torch.tensor([[RIGHT]]), luck)
    assert float(grid.one_hot(level, workers)[0, 0, -1]) == 0.001
    assert write(level, grid.begin(level, 1)) == "@.+\n.#.\n-.."
    assert paint(level, workers).shape == (72, 72, 3)


def test_a_level_without_a_way_has_nothing_to_earn() -> None:
    level = one(size=3, walls=(1, 3), start=0, cells=(2, 6))
    assert float(optimum(level, 50)) == 0
    table = torch.zeros(1, 5, level.states + 1, dtype=DOUBLE)
    value = policy_value(level, table, 50)
    assert float(normalised(value, optimum(level, 50))) == 1
    assert float(normalised(torch.tensor([-0.3]), torch.tensor([0.0]))) == pytest.approx(0.7)


def test_the_best_policy_goes_the_short_way() -> None:
    moves = best_policy(one(max_steps=2), 2)
    everything = 3
    assert int(moves[0, 0, everything, 0]) == RIGHT and int(moves[0, 1, everything, 1]) == RIGHT


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"start": 4}, "start"),
        ({"cells": (2, 9)}, "cells"),
        ({"reward": (1.0,)}, "reward"),
        ({"max_steps": 0}, "max_steps"),
    ],
)
def test_a_wrong_level_is_refused_by_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        one(**changes)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("smal", "did you mean 'small'"),
        ({"base": "small", "gird": (3, 4)}, "no 'gird'"),
        ({"max_steps": (5, 3)}, "max_steps"),
        ({"walls": 36}, "walls"),
        ({"p_term": ((0.5, 2.0),) * 3}, "p_term"),
        ({"objects": (1, 4)}, "objects"),
        (3, "expected a name"),
    ],
)
def test_wrong_levels_are_refused_by_name(given: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        find_levels(given)


def test_keywords_change_a_distribution() -> None:
    levels = find_levels({"base": "small", "max_steps": [5, 10]})
    assert isinstance(levels, Levels) and levels.longest == 10 and levels.walls == LEVELS["small"].walls

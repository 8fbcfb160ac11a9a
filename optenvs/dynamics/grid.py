"""Grid worlds with objects to collect: the dynamics, for many levels at once with many workers each.

The family of Oh et al. 2020 (arXiv 2007.08794), as Jackson et al. 2024 (arXiv 2402.05828) publish it. A level
has n^2 cells, numbered row * n + column, some of which are walls, and K slots for objects. Actions: 0 up,
1 down, 2 left, 3 right, 4 stay; who would leave the grid or enter a wall stays. One step, in this order:

    1. the worker moves
    2. it hits an object that was there before the step, in the cell where it is now
    3. absent objects return with probability ``p_respawn``; those hit are gone (they return on later steps)
    4. the reward is the sum of the rewards of what was hit
    5. the time is one more; the episode ends with probability min(1, sum of ``p_term`` of what was hit), or
       when the time is ``max_steps``

Then a new episode begins in the start cell with all objects present. Everything is a pure function of a
level, the workers and luck that was drawn before, batched over levels ``L`` and workers ``E``.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.random import ManyKeys, uniform
from optenvs.core.struct import struct

ACTIONS = 5
NAMES = ("up", "down", "left", "right", "stay")
TIME = 1e-3
"""What the time is multiplied by where a policy sees it."""


@struct
class Level:
    """Levels, one a row.

    States are numbered ``cell + C * present``, where bit i of ``present`` says whether object i is there.

    Attributes:
        size: n, ``(L,)``.
        walls: of C cells, the most that a level of the family has; those from n^2 on are no part of it.
        start: the cell in which episodes begin.
        cells: of the objects. Where they ``roam``, each episode and each return draws others.
        used: whether the slot holds an object.
        kind: the type of each slot's object, for maps of the level.
        reward, p_term, p_respawn: of each slot; 0 where it is not used.
        max_steps: after which an episode ends.
        roam: whether objects come in random free cells.
        target: the cell that each action leads to from each cell, see :func:`targets`.
        arrival: what it means to come into a cell while these objects are there; ``None`` where they roam.
    """

    size: Int64[Tensor, "*L"]
    walls: Bool[Tensor, "*L C"]
    start: Int64[Tensor, "*L"]
    cells: Int64[Tensor, "*L K"]
    used: Bool[Tensor, "*L K"]
    kind: Int64[Tensor, "*L K"]
    reward: Float[Tensor, "*L K"]
    p_term: Float[Tensor, "*L K"]
    p_respawn: Float[Tensor, "*L K"]
    max_steps: Int64[Tensor, "*L"]
    target: Int64[Tensor, "*L C5"]
    arrival: Arrival | None = None

    @property
    def room(self) -> int:
        """C, the cells that a level may have."""
        return self.walls.shape[1]

    @property
    def slots(self) -> int:
        """K, the objects that a level may have."""
        return self.cells.shape[1]

    @property
    def states(self) -> int:
        """C 2^K, the states that a worker may be in, its time aside."""
        return self.room << self.slots

    @property
    def everything(self) -> Int64[Tensor, "L"]:
        """``present`` where all objects are there."""
        return (self.used * powers(self.slots, self.used.device)).sum(-1)

    @property
    def free(self) -> Bool[Tensor, "L C"]:
        """The cells that are no wall and part of the level."""
        cell = torch.arange(self.room, device=self.size.device)
        return ~self.walls & (cell < self.size.square().unsqueeze(1))

    @property
    def worst(self) -> Float[Tensor, "L"]:
        """A return that no episode falls below: each bad object hit every second step."""
        return self.reward.clamp_max(0).sum(-1) * ((self.max_steps + 1) // 2)


@struct
class Arrival:
    """What happens in a cell while these objects are there, by the number of that state.

    Attributes:
        reward: of what is hit.
        ends: the probability that the episode ends with it.
        kept: the objects that are left, as ``present``, before others return.
    """

    reward: Float[Tensor, "*L s"]
    ends: Float[Tensor, "*L s"]
    kept: Int64[Tensor, "*L s"]


@struct
class Workers:
    """Where workers stand.

    Attributes:
        cell: ``(L, E)``.
        present: the objects that are there, bit by bit.
        time: steps of the present episode.
        cells: of the objects, where they roam.
    """

    cell: Int64[Tensor, "*L E"]
    present: Int64[Tensor, "*L E"]
    time: Int64[Tensor, "*L E"]
    cells: Int64[Tensor, "*L E K"] | None = None


@struct
class Step:
    """What a step brought, ``(L, E)`` each: the reward, and whether the episode is over with it."""

    reward: Float[Tensor, "L E"]
    over: Bool[Tensor, "L E"]


@struct
class Luck:
    """The luck of steps, by step.

    Attributes:
        returned: the objects that return if they are absent, bit by bit.
        end: uniform numbers for the end of an episode.
        choice: uniform numbers for the policy.
        place: uniform numbers for where roaming objects go.
    """

    returned: Int64[Tensor, "L *T E"]
    end: Float[Tensor, "L *T E"]
    choice: Float[Tensor, "L *T E"]
    place: Float[Tensor, "L *T E K"] | None = None

    def by_step(self) -> list[Luck]:
        """That of each step, ``(L, E, ...)``."""
        places = [None] * self.end.shape[1] if self.place is None else self.place.unbind(1)
        steps = (part.unbind(1) for part in (self.returned, self.end, self.choice))
        return [Luck(*each) for each in zip(*steps, places, strict=True)]


def powers(slots: int, device: torch.device) -> Int64[Tensor, "K"]:
    """The bit of each slot."""
    return 1 << torch.arange(slots, device=device)


def bits_of(present: Int64[Tensor, "*n"], slots: int) -> Bool[Tensor, "*n K"]:
    """Which objects are there."""
    return (present.unsqueeze(-1) & powers(slots, present.device)) != 0


def draw_luck(
    keys: ManyKeys, level: Level, steps: int, workers: int, counter: int | Tensor | None = None
) -> Luck:
    """The luck of ``steps`` steps, of each level's key."""
    slots, dtype = level.slots, level.reward.dtype
    drawn = uniform(keys, "grid luck", (slots + 2, steps, workers), counter, dtype)
    returned = drawn[:, 2:] < level.p_respawn[:, :, None, None]
    whole = torch.zeros_like(returned[:, 0], dtype=torch.int64)
    for i in range(slots):
        whole = torch.add(whole, returned[:, i], alpha=1 << i)
    place = None
    if level.arrival is None:
        place = uniform(keys, "grid places", (steps, workers, slots), counter, dtype)
    return Luck(returned=whole, end=drawn[:, 0], choice=drawn[:, 1], place=place)


def arrivals(
    room: int, cells: Int64[Tensor, "L K"], reward: Float[Tensor, "L K"], p_term: Float[Tensor, "L K"]
) -> Arrival:
    """What happens in each of C cells, by the objects that are there."""
    slots = cells.shape[1]
    masks = torch.arange(1 << slots, device=cells.device)
    shape = (len(cells), 1 << slots, room)
    earned, ends = reward.new_zeros(shape), reward.new_zeros(shape)
    kept = masks[:, None].expand(shape)
    cell = torch.arange(room, device=cells.device)
    for i in range(slots):
        hit = (cells[:, i, None] == cell).unsqueeze(1) & ((masks >> i) % 2 > 0).unsqueeze(-1)
        earned = torch.where(hit, earned + reward[:, i, None, None], earned)
        ends = torch.where(hit, ends + p_term[:, i, None, None], ends)
        kept = torch.where(hit, kept - (1 << i), kept)
    return Arrival(reward=earned.flatten(1), ends=ends.clamp_max(1.0).flatten(1), kept=kept.flatten(1))


def targets(size: Int64[Tensor, "L"], walls: Bool[Tensor, "L C"]) -> Int64[Tensor, "L C5"]:
    """The cell that each action leads to from each cell, at ``5 * cell + action``."""
    cell = torch.arange(walls.shape[1], device=walls.device).expand(walls.shape)
    n = size.unsqueeze(1)
    row, column = cell // n, cell % n
    ways = (
        torch.where(row > 0, cell - n, cell),
        torch.where(row < n - 1, cell + n, cell),
        torch.where(column > 0, cell - 1, cell),
        torch.where(column < n - 1, cell + 1, cell),
        cell,
    )
    led = torch.stack(ways, -1).clamp_max(walls.shape[1] - 1)
    blocked = walls.gather(1, led.flatten(1)).view_as(led)
    return torch.where(blocked, cell.unsqueeze(-1), led).flatten(1)


def begin(level: Level, workers: int, place: Float[Tensor, "L E K"] | None = None) -> Workers:
    """Workers at the start of an episode; ``place`` are uniform numbers for objects that roam."""
    cell = level.start.unsqueeze(1).expand(-1, workers)
    present = level.everything.unsqueeze(1).expand(-1, workers)
    cells = None
    if level.arrival is None:
        if place is None:
            raise ValueError("place: the objects of this level roam, and need luck to begin")
        fixed = level.cells.unsqueeze(1).expand(-1, workers, -1)
        there = bits_of(present, level.slots)
        cells = _placed(level, cell, fixed, torch.zeros_like(there), there, place)
    return Workers(cell=cell, present=present, time=torch.zeros_like(cell), cells=cells)


def step(level: Level, workers: Workers, action: Int64[Tensor, "L E"], luck: Luck) -> tuple[Workers, Step]:
    """One step of all workers; who is at the end of an episode stays there, see :func:`renew`.

    Args:
        level: the levels.
        workers: where their workers stand.
        action: 0 to 4.
        luck: of this step.
    """
    cell = level.target.gather(1, torch.add(action, workers.cell, alpha=ACTIONS))
    time = workers.time + 1
    cells = workers.cells
    if level.arrival is not None:
        place = torch.add(cell, workers.present, alpha=level.room)
        reward, ends, kept = (
            part.gather(1, place) for part in (level.arrival.reward, level.arrival.ends, level.arrival.kept)
        )
        # what was hit does not return in this step
        present = (workers.present | luck.returned) & ~(workers.present - kept)
    else:
        assert cells is not None and luck.place is not None
        there = bits_of(workers.present, level.slots)
        hit = there & (cells == cell.unsqueeze(-1))
        hits = hit.to(level.reward.dtype)
        reward = (hits * level.reward.unsqueeze(1)).sum(-1)
        ends = (hits * level.p_term.unsqueeze(1)).sum(-1)
        gone = (hit * powers(level.slots, cell.device)).sum(-1)
        present = (workers.present | luck.returned) & ~gone
        returned = bits_of(present, level.slots) & ~there
        cells = _placed(level, cell, cells, there & ~hit, returned, luck.place)
    over = (luck.end < ends) | (time >= level.max_steps.unsqueeze(1))
    return Workers(cell=cell, present=present, time=time, cells=cells), Step(reward=reward, over=over)


def renew(workers: Workers, over: Bool[Tensor, "L E"], fresh: Workers) -> Workers:
    """Those whose episode is over go on as ``fresh`` ones, which :func:`begin` makes."""
    cells = workers.cells
    if cells is not None:
        assert fresh.cells is not None
        cells = torch.where(over.unsqueeze(-1), fresh.cells, cells)
    return Workers(
        cell=torch.where(over, fresh.cell, workers.cell),
        present=torch.where(over, fresh.present, workers.present),
        time=torch.where(over, 0, workers.time),
        cells=cells,
    )


def _placed(
    level: Level,
    cell: Int64[Tensor, "L E"],
    cells: Int64[Tensor, "L E K"],
    present: Bool[Tensor, "L E K"],
    wanted: Bool[Tensor, "L E K"],
    luck: Float[Tensor, "L E K"],
) -> Int64[Tensor, "L E K"]:
    """``cells`` with a random one for the ``wanted``: free, without the worker and without another object.

    The objects come one after the other. Where no cell is left one stays where it was.
    """
    room = torch.arange(level.room, device=cell.device)
    placed = list(cells.unbind(-1))
    there = list(present.unbind(-1))
    for i in range(level.slots):
        vacant = level.free.unsqueeze(1) & (room != cell.unsqueeze(-1))
        for other, at in zip(there, placed, strict=True):
            vacant = vacant & ~(other.unsqueeze(-1) & (room == at.unsqueeze(-1)))
        number = vacant.cumsum(-1)
        count = number[..., -1]
        chosen = (luck[..., i] * count).long() + 1
        found = (number < chosen.unsqueeze(-1)).sum(-1)
        goes = wanted[..., i] & (count > 0)
        placed[i] = torch.where(goes, found, placed[i])
        there[i] = there[i] | wanted[..., i]
    return torch.stack(placed, -1)


# What a policy sees ----------------------------------------------------------------------------


def index(level: Level, workers: Workers) -> Int64[Tensor, "L E"]:
    """The number of the state: the row of a policy that is a table."""
    return torch.add(workers.cell, workers.present, alpha=level.room)


def one_hot(level: Level, workers: Workers) -> Float[Tensor, "L E s"]:
    """The tabular observation: the state's number as a unit vector of C 2^K, then 0.001 times the time."""
    dtype = level.reward.dtype
    number = index(level, workers).unsqueeze(-1)
    seen = torch.zeros(*number.shape[:2], level.states, dtype=dtype, device=number.device)
    time = TIME * workers.time.to(dtype).unsqueeze(-1)
    return torch.cat((seen.scatter(-1, number, 1.0), time), -1)


def maps(level: Level, workers: Workers, kinds: int) -> Float[Tensor, "L E s"]:
    """The other observation: a map of C cells with the worker, one for each type of object, and the time."""
    dtype = level.reward.dtype
    there = bits_of(workers.present, level.slots)
    cells = level.cells.unsqueeze(1).expand_as(there) if workers.cells is None else workers.cells
    shape = (*workers.cell.shape, (kinds + 1) * level.room)
    seen = torch.zeros(shape, dtype=dtype, device=workers.cell.device)
    seen = seen.scatter(-1, workers.cell.unsqueeze(-1), 1.0)
    place = cells + level.room * (1 + level.kind.unsqueeze(1))
    seen = seen.scatter_add(-1, place, there.to(dtype)).clamp_max(1.0)
    return torch.cat((seen, TIME * workers.time.to(dtype).unsqueeze(-1)), -1)

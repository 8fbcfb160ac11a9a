"""Judges: the laws of their mistakes, ties, and what is no number."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from optenvs.core.random import keys_from_seed
from optenvs.envs.ranking.judges import MODELS, Judge

ROWS = 40_000


def orders(judge: Judge, values: list[float], shown: list[bool] | None = None, k: int = 0) -> Tensor:
    """The orders of ``ROWS`` independent judgements of the same values."""
    keys = keys_from_seed(0, ROWS)
    row = torch.tensor(values, dtype=torch.float64).expand(ROWS, -1)
    mask = torch.tensor(shown or [True] * len(values)).expand(ROWS, -1)
    return judge.order(keys, torch.full_like(keys, k), row, mask)


def share(mask: Tensor) -> float:
    return float(mask.double().mean())


def near(found: float, expected: float) -> bool:
    """Within five standard errors."""
    return abs(found - expected) <= 5 * math.sqrt(expected * (1 - expected) / ROWS)


def before(order: Tensor, i: int, j: int) -> float:
    """How often point i is ranked before point j."""
    place = order.argsort(1)
    return share(place[:, i] < place[:, j])


def test_an_exact_judge_sorts() -> None:
    assert (orders(Judge(), [0.3, -1.0, 2.0]) == torch.tensor([1, 0, 2])).all()


@pytest.mark.parametrize("difference", [0.2, 1.5])
def test_thurstones_law(difference: float) -> None:
    scale = 0.7
    found = before(orders(Judge("thurstone", scale), [0.0, difference, 9.0]), 0, 1)
    # the difference of two errors has standard deviation sqrt(2) scale
    assert near(found, 0.5 * (1 + math.erf(difference / (2 * scale))))


def test_luces_law_of_the_first_choice_and_of_whole_orders() -> None:
    values, scale = [0.0, 0.5, 1.2], 0.8
    strength = [math.exp(-value / scale) for value in values]
    found = orders(Judge("plackett_luce", scale), values)
    for first, second, third in itertools.permutations(range(3)):
        chance = strength[first] / sum(strength) * strength[second] / (strength[second] + strength[third])
        assert near(share((found == torch.tensor([first, second, third])).all(1)), chance)


@pytest.mark.parametrize(
    ("scale", "power", "most", "difference", "chance"),
    [(1.0, 1.0, 0.3, 0.1, 0.8), (0.1, 2.0, 0.3, 1.5, 0.65), (1.0, 2.0, 0.3, 5.0, 0.8), (1, 1, 0.5, 1e-9, 1)],
)
def test_a_pair_is_flipped_as_often_as_stated(
    scale: float, power: float, most: float, difference: float, chance: float
) -> None:
    judge = Judge("flips", scale, most, power)
    assert near(before(orders(judge, [0.0, difference]), 0, 1), chance)
    assert near(before(orders(judge, [difference, 0.0]), 1, 0), chance)


def test_flips_order_by_comparisons_won() -> None:
    # right with 0.8 each: 0, 1, 2 in this order needs no flip, or a flip of the last or first pair is seen
    found = orders(Judge("flips", 1.0, 0.3), [0.0, 1.0, 2.0])
    outcomes = itertools.product((True, False), repeat=3)  # of the pairs (0, 1), (0, 2), (1, 2)
    chance = 0.0
    for right in outcomes:
        losses = [0, 0, 0]
        for (i, j), so in zip(((0, 1), (0, 2), (1, 2)), right, strict=True):
            losses[j if so else i] += 1
        # a circle is a tie of all three
        first = 1 / 3 if losses == [1, 1, 1] else float(losses[0] == 0)
        chance += math.prod(0.8 if so else 0.2 for so in right) * first
    assert near(share(found[:, 0] == 0), chance)


def test_flips_do_not_see_what_is_not_shown() -> None:
    judge = Judge("flips", 1.0, 0.3)
    alone = before(orders(judge, [0.0, 1.0]), 0, 1)
    found = orders(judge, [0.0, 1.0, 0.5, 0.6], [True, True, False, False])
    assert near(before(found, 0, 1), 0.8)
    assert near(alone, 0.8)
    assert (found[:, :2] < 2).all()


@pytest.mark.parametrize("noise", MODELS)
def test_ties_are_broken_at_random(noise: str) -> None:
    judge = Judge() if noise == "none" else Judge(noise, 1e-3)
    found = orders(judge, [1.0, 1.0, 1.0])
    for order in itertools.permutations(range(3)):
        assert near(share((found == torch.tensor(order)).all(1)), 1 / 6)


def test_another_query_breaks_ties_anew() -> None:
    one, other = (orders(Judge(), [1.0] * 5, k=k) for k in (0, 1))
    assert torch.equal(one, orders(Judge(), [1.0] * 5))
    assert near(share(one[:, 0] == other[:, 0]), 1 / 5)


@pytest.mark.parametrize("noise", MODELS)
def test_what_is_no_number_is_last_and_what_is_not_shown_behind_it(noise: str) -> None:
    values = [math.nan, math.inf, 1e300, -5.0, math.nan, 7.0]
    shown = [True, True, True, True, True, False]
    scale = {"none": {}, "flips": {"most": 0.5}}.get(noise, {"scale": 1e-9})
    sure = Judge(noise, **scale)
    found = orders(sure, values, shown)
    assert (found[:, :3] == torch.tensor([3, 2, 1])).all()
    assert (found[:, 3:5].sort(1).values == torch.tensor([0, 4])).all()
    assert (found[:, 5] == 5).all()


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("noise", {"noise": "luce"}),
        ("noise_scale", {"scale": 0.0}),
        ("noise_scale", {"scale": math.nan}),
        ("noise_most", {"most": 0.6}),
        ("noise_power", {"power": 0.5}),
    ],
)
def test_it_says_what_is_wrong(field: str, fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"^{field}: expected"):
        Judge(**fields)  # type: ignore[arg-type]

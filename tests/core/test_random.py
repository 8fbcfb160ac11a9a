"""The generator against its published vectors, and its draws against their distributions (fixed seeds)."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

from optenvs.core.random import (
    _GOLDEN,
    _mix,
    _steps,
    bits,
    fold_in,
    integers,
    keys_from_seed,
    normal,
    orthogonal,
    permutation,
    rademacher,
    uniform,
    uniform_at,
)

# Every test of a distribution uses fixed keys, so that it gives the same p-value for ever.
LEVEL = 1e-3
KEYS = keys_from_seed(0, 200)


def unsigned(words: torch.Tensor) -> list[int]:
    return [word % (1 << 64) for word in words.tolist()]


def reference_splitmix64(seed: int, count: int) -> list[int]:
    """The algorithm in Python's integers, as published by Vigna."""
    mask, words = (1 << 64) - 1, []
    for _ in range(count):
        seed = (seed + 0x9E3779B97F4A7C15) & mask
        z = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        words.append(z ^ (z >> 31))
    return words


def test_splitmix64_gives_its_published_words() -> None:
    words = _mix(torch.tensor(1234567) + _steps(5, torch.device("cpu")))
    assert unsigned(words) == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@pytest.mark.parametrize("seed", [0, 1, -1, 2**63 - 1, 0xDEADBEEF])
def test_splitmix64_equals_the_reference_at_every_seed(seed: int) -> None:
    words = _mix(torch.tensor(seed) + _steps(50, torch.device("cpu")))
    assert unsigned(words) == reference_splitmix64(seed, 50)


def test_the_golden_constant_is_odd_in_every_sense() -> None:
    assert _GOLDEN % 2 == 1
    assert _GOLDEN % (1 << 64) == 0x9E3779B97F4A7C15


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uniform_numbers_are_uniform(dtype: torch.dtype) -> None:
    drawn = uniform(KEYS, "test", 500, dtype=dtype).double().numpy().ravel()
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert scipy.stats.kstest(drawn, "uniform").pvalue > LEVEL
    counts = np.histogram(drawn, bins=256, range=(0, 1))[0]
    assert scipy.stats.chisquare(counts).pvalue > LEVEL


def test_uniform_numbers_fill_their_interval() -> None:
    low, high = torch.tensor([[-3.0], [5.0]]), torch.tensor([[-1.0], [6.0]])
    drawn = uniform(KEYS[:2], "test", 4000, low=low, high=high)
    assert ((drawn >= low) & (drawn < high)).all()
    assert torch.allclose(drawn.mean(1, keepdim=True), (low + high) / 2, atol=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normal_numbers_are_normal(dtype: torch.dtype) -> None:
    drawn = normal(KEYS, "test", 1000, dtype=dtype).double().numpy().ravel()
    assert scipy.stats.kstest(drawn, "norm").pvalue > LEVEL
    count = len(drawn)
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        found = (drawn**power).mean()
        assert abs(found - moment) < 3.3 * math.sqrt(variance / count), f"moment {power}"


@pytest.mark.parametrize("level", [2.0, 3.0, 4.0])
def test_normal_tails_hold_what_they_should(level: float) -> None:
    drawn = normal(keys_from_seed(1, 1000), "tails", 2000)
    expected = 2 * scipy.stats.norm.sf(level) * drawn.numel()
    found = int((drawn.abs() > level).sum())
    assert abs(found - expected) < 3.3 * math.sqrt(expected) + 1


def test_both_halves_of_a_pair_are_normal_and_uncorrelated() -> None:
    pairs = normal(KEYS, "test", (500, 2), dtype=torch.float64).reshape(-1, 2).numpy()
    for column in pairs.T:
        assert scipy.stats.kstest(column, "norm").pvalue > LEVEL
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 3.3 / math.sqrt(len(pairs))
    # Box and Muller's pair is independent, not only uncorrelated: squares too
    assert abs(np.corrcoef((pairs**2).T)[0, 1]) < 3.3 / math.sqrt(len(pairs))


def test_the_extreme_word_gives_a_finite_number() -> None:
    # the largest radius comes from 32 zero bits, the smallest from 32 ones
    for high in (0, 0xFFFFFFFF):
        for dtype in (torch.float32, torch.float64):
            unit = torch.tensor(high, dtype=torch.int64).to(dtype).add_(0.5).mul_(2.0**-32)
            radius = unit.log_().mul_(-2.0).sqrt_()
            assert 0 <= float(radius) < 6.77


def test_streams_keys_and_counters_are_independent() -> None:
    keys, count = keys_from_seed(2, 50), 2000
    draws = {
        "stream a": normal(keys, "a", count),
        "stream b": normal(keys, "b", count),
        "counter 0": normal(keys, "a", count, counter=0),
        "counter 1": normal(keys, "a", count, counter=1),
        "counter 2": normal(keys, "a", count, counter=2),
        "folded": normal(fold_in(keys, 1), "a", count),
        "other seed": normal(keys_from_seed(3, 50), "a", count),
        "next key": normal(keys.roll(1), "a", count),
        "later words": normal(keys, "a", 2 * count)[:, count:],
    }
    size = 50 * count
    for (one, first), (other, second) in itertools.combinations(draws.items(), 2):
        correlation = float((first * second).mean())
        assert abs(correlation) < 3.9 / math.sqrt(size), f"{one} and {other}: {correlation}"
        assert not torch.equal(first, second)


def test_neighbouring_counters_do_not_collide_with_words() -> None:
    words = torch.cat([bits(KEYS[:4], "s", 1000, counter=c) for c in range(20)], 1)
    assert len(words.unique()) == words.numel()


def test_keys_do_not_collide() -> None:
    keys = torch.cat([keys_from_seed(seed, 1000) for seed in range(100)])
    assert len(keys.unique()) == len(keys)


@pytest.mark.parametrize("flips", [0, 13, 31, 50])
def test_one_bit_of_the_key_turns_half_of_the_bits_of_a_word(flips: int) -> None:
    one, other = bits(KEYS, "s", 100), bits(KEYS ^ (1 << flips), "s", 100)
    changed = (one ^ other).numpy().view(np.uint8)
    share = np.unpackbits(changed).mean()
    assert abs(share - 0.5) < 3.3 * 0.5 / math.sqrt(changed.size * 8)


def test_an_instance_does_not_depend_on_the_batch() -> None:
    many = keys_from_seed(7, 100)
    assert torch.equal(many[:3], keys_from_seed(7, 3))
    assert torch.equal(many[40:45], keys_from_seed(7, 5, first=40))
    for draw in (uniform, normal, rademacher):
        assert torch.equal(draw(many, "s", (3, 2))[40:45], draw(many[40:45], "s", (3, 2)))
    assert torch.equal(permutation(many, "s", 9)[4], permutation(many[4:5], "s", 9)[0])


def test_a_longer_draw_begins_with_the_shorter_one() -> None:
    for draw in (uniform, normal, rademacher):
        assert torch.equal(draw(KEYS, "s", 10)[:, :6], draw(KEYS, "s", 6))


def test_entries_can_be_drawn_alone() -> None:
    whole = uniform(KEYS[:3], "s", 1000)
    index = torch.tensor([[0, 999], [5, 5], [17, 400]])
    assert torch.equal(uniform_at(KEYS[:3], "s", index), whole.gather(1, index))


def test_a_counter_may_be_a_tensor() -> None:
    counters = torch.tensor([3, 0, -1])
    rows = normal(KEYS[:3], "s", 4, counters)
    for i, counter in enumerate(counters.tolist()):
        assert torch.equal(rows[i], normal(KEYS[i : i + 1], "s", 4, counter)[0])


@pytest.mark.parametrize("draw", [uniform, normal], ids=["uniform", "normal"])
def test_float32_and_float64_agree_to_rounding(draw) -> None:  # type: ignore[no-untyped-def]
    single, double = draw(KEYS, "s", 100), draw(KEYS, "s", 100, dtype=torch.float64)
    # the angle 2 pi u carries float32's rounding of u: up to 2 pi 2^-24, times the radius
    assert (single - double).abs().max() < 7 * 2 * math.pi * 2.0**-24


def test_integers_are_uniform() -> None:
    drawn = integers(KEYS, "s", 500, 37).numpy().ravel()
    counts = np.bincount(drawn, minlength=37)
    assert len(counts) == 37
    assert scipy.stats.chisquare(counts).pvalue > LEVEL


@pytest.mark.parametrize("high", [0, -1, (1 << 31) + 1])
def test_integers_refuse_a_range_that_they_cannot_fill(high: int) -> None:
    with pytest.raises(ValueError, match=f"high: expected 1 to 2\\*\\*31, got {high}"):
        integers(KEYS, "s", 1, high)


def test_signs_are_balanced() -> None:
    drawn = rademacher(KEYS, "s", 500)
    assert set(drawn.unique().tolist()) == {-1.0, 1.0}
    assert abs(float(drawn.mean())) < 3.3 / math.sqrt(drawn.numel())


def test_permutations_are_uniform() -> None:
    drawn = permutation(keys_from_seed(5, 12_000), "s", 4)
    assert torch.equal(drawn.sort(1).values, torch.arange(4).expand(12_000, 4))
    names = (drawn * torch.tensor([64, 16, 4, 1])).sum(1)
    counts = names.unique(return_counts=True)[1].numpy()
    assert len(counts) == 24
    assert scipy.stats.chisquare(counts).pvalue > LEVEL


def test_orthogonal_matrices_are_orthogonal() -> None:
    q = orthogonal(KEYS[:20], "s", 6, torch.float64)
    eye = torch.eye(6, dtype=torch.float64)
    assert torch.allclose(q @ q.mT, eye.expand_as(q), atol=1e-12)


def test_orthogonal_matrices_are_haar_distributed() -> None:
    n, keys = 5, keys_from_seed(8, 4000)
    q = orthogonal(keys, "s", n, torch.float64)
    # a column of a Haar matrix is uniform on the sphere: its squared entries are Beta(1/2, (n-1)/2)
    for i, j in ((0, 0), (2, 1), (4, 4)):
        square = scipy.stats.beta(0.5, (n - 1) / 2)
        assert scipy.stats.kstest((q[:, i, j] ** 2).numpy(), square.cdf).pvalue > LEVEL
        # without the signs of R put right, the diagonal would have one sign only
        positive = float((q[:, i, j] > 0).double().mean())
        assert abs(positive - 0.5) < 3.3 * 0.5 / math.sqrt(len(keys))
    # invariance: q times a fixed rotation is distributed alike, so the trace has mean 0 and variance 1
    trace = q.diagonal(dim1=1, dim2=2).sum(1)
    assert abs(float(trace.mean())) < 3.3 / math.sqrt(len(keys))
    assert abs(float(trace.var()) - 1) < 0.1
    determinant = torch.linalg.det(q)
    assert abs(float((determinant > 0).double().mean()) - 0.5) < 3.3 * 0.5 / math.sqrt(len(keys))


def test_draws_do_not_touch_the_global_generator() -> None:
    before = torch.get_rng_state()
    normal(KEYS, "s", 10)
    permutation(KEYS, "s", 10)
    assert torch.equal(before, torch.get_rng_state())


def test_vmap_draws_what_the_batch_draws() -> None:
    single = torch.func.vmap(lambda key: normal(key.unsqueeze(0), "s", 3).squeeze(0))(KEYS)
    assert torch.equal(single, normal(KEYS, "s", 3))


@pytest.mark.parametrize("seed", [1.5, True, "3", None, -1, 2**63, 2**64, np.float32(1), torch.tensor(1)])
def test_bad_seeds(seed: Any) -> None:
    with pytest.raises(ValueError, match=r"seed: expected a whole number in \[0, 2\*\*63\), got"):
        keys_from_seed(seed, 2)


def test_a_batch_is_not_empty() -> None:
    with pytest.raises(ValueError, match="batch: expected at least 1 instance, got 0"):
        keys_from_seed(0, 0)


def test_the_whole_range_of_seeds() -> None:
    seeds = [0, 1, 2**32, 2**63 - 1]
    for kind in (np.int64, np.uint64):
        assert all(torch.equal(keys_from_seed(s, 2), keys_from_seed(kind(s), 2)) for s in seeds)
    assert len(torch.cat([keys_from_seed(s, 1) for s in seeds]).unique()) == len(seeds)

"""The bias of truncated meta-gradients, in closed form: x <- (1 - theta) x with the losses x^2 / 2.

Twenty steps from x = 1 at theta = 0.1, in windows of five. The whole loss is 2.1000723, its derivative by
theta -23.16196; truncated backpropagation comes to -12.07055. Persistent evolution strategies (Vicol, Metz,
Sohl-Dickstein 2021) have no such bias, also where episodes begin anew inside windows.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import agents
import optenvs
from optenvs.core import Episodes, Stream, Window, keys_from_seed
from optenvs.core.random import Keys, normal
from optenvs.core.struct import detach, rows
from optenvs.envs.meta.estimators import antithetic, persistent

pytestmark = pytest.mark.paper

THETA, STD, SIZE = 0.1, 0.005, 5
EXACT, TRUNCATED = -23.16196, -12.07055
CHUNK = 25_000  # pairs at a time: as many as stay in the cache


def episodes(steps: int = 20) -> Episodes:
    """The gradient of x^2 / 2 is x, so that descent with the rate theta is the map."""
    env = optenvs.make(
        "Quadratic",
        dim=1,
        start=(1.0,),
        tolerance=None,
        budget={"gradient": steps + 1},
        dtype="float64",
    )
    return Episodes(env)


def rule(theta: Tensor) -> agents.SGD:
    """One weight a row."""
    return agents.SGD(lr=theta)


def by_member(turns: Tensor) -> Tensor:
    """``(W, 2 P)`` as ``(2, W, P)``: members of pairs, the first ones first."""
    return turns.unflatten(-1, (2, -1)).transpose(0, 1)


def loss(window: Window) -> Tensor:
    """Of each turn, ``(W, B)``; nothing where a row rested."""
    return window.merit * window.alive


@pytest.mark.parametrize(("size", "expected"), [(20, EXACT), (SIZE, TRUNCATED)])
def test_backpropagation(size: int, expected: float) -> None:
    theta = torch.full((1,), THETA, dtype=torch.float64, requires_grad=True)
    played, agent = episodes(), rule(theta)
    stream, total, slope = played.begin(agent, keys_from_seed(0, 1)), 0.0, 0.0
    for _ in range(20 // size):
        window, stream = played.window(agent, detach(stream), size)
        (part,) = torch.autograd.grad(loss(window).sum(), theta)
        total, slope = total + loss(window).sum().item(), slope + part.item()
    assert total == pytest.approx(2.1000723, abs=1e-7)
    assert slope == pytest.approx(expected, abs=1e-5)


def pes(keys: Keys, steps: int, windows: int, forget: bool = False) -> Tensor:
    """Each pair's estimate, summed over the windows, ``(P,)``.

    With ``forget`` the noise of the window in which an episode begins is not credited to it later on.
    """
    played, pairs = episodes(steps), len(keys)
    carried = torch.zeros(2, pairs, 1, dtype=torch.float64)
    total = torch.zeros(pairs, dtype=torch.float64)
    stream: Stream | None = None
    for i in range(windows):
        noise = STD * normal(keys, "perturbation", 1, i, torch.float64)
        agent = rule(THETA + torch.cat((noise, -noise))[:, 0])
        if stream is None:
            stream = played.begin(agent, keys.repeat(2))  # a pair meets the same episodes
        window, stream = played.window(agent, stream, SIZE)
        since = by_member(window.since)
        estimate, carried = persistent(by_member(loss(window)), since, noise, carried, STD)
        if forget:
            carried = torch.where(since[:, -1].unsqueeze(-1), 0, carried)
        total = total + estimate[:, 0]
    return total


def truncated_es(keys: Keys) -> Tensor:
    """As :func:`pes`, but both members start a window from the state of theta itself."""
    played, own = episodes(), rule(torch.full((1,), THETA, dtype=torch.float64))
    stream = played.begin(own, keys_from_seed(0, 1))
    total = torch.zeros(len(keys), dtype=torch.float64)
    for i in range(4):
        noise = STD * normal(keys, "perturbation", 1, i, torch.float64)
        window, _ = played.window(rule(THETA + torch.cat((noise, -noise))[:, 0]), many(stream, keys), SIZE)
        plus, minus = by_member(loss(window)).sum(1)
        total = total + antithetic(plus, minus, noise, STD)[:, 0]
        stream = played.window(own, stream, SIZE)[1]
    return total


def many(stream: Stream, keys: Keys) -> Stream:
    """The stream of one row in all rows of all pairs."""
    return rows(stream, torch.zeros(2 * len(keys), dtype=torch.int64))


def mean(estimate: object, pairs: int, seed: int = 0, **options: object) -> tuple[float, float]:
    """The mean over pairs and its standard error, a chunk of pairs at a time."""
    chunks = [
        estimate(keys_from_seed(seed, min(CHUNK, pairs - first), first=first), **options)  # type: ignore[operator]
        for first in range(0, pairs, CHUNK)
    ]
    values = torch.cat(chunks)
    return values.mean().item(), (values.std() / len(values) ** 0.5).item()


@torch.no_grad()
def test_persistent_evolution_strategies_are_unbiased() -> None:
    found, error = mean(pes, 200_000, steps=20, windows=4)
    assert error == pytest.approx(28.0 / 200_000**0.5, rel=0.03)
    assert abs(found - EXACT) < 0.01 * abs(EXACT) + 4 * error


@torch.no_grad()
def test_truncated_evolution_strategies_have_the_bias_of_truncation() -> None:
    found, error = mean(truncated_es, 50_000)
    assert error == pytest.approx(12.1 / 50_000**0.5, rel=0.03)
    assert abs(found - TRUNCATED) < 0.01 * abs(TRUNCATED) + 4 * error


@torch.no_grad()
def test_episodes_that_begin_inside_windows_are_unbiased_too() -> None:
    # five episodes of twelve steps in twelve windows of five
    exact = 5 * -18.40802
    found, error = mean(pes, 20_000, steps=12, windows=12)
    assert error == pytest.approx(53.0 / 20_000**0.5, rel=0.03)
    assert abs(found - exact) < 0.01 * abs(exact) + 4 * error
    # the known mistake: the perturbation of the window in which an episode began is forgotten
    wrong, error = mean(pes, 20_000, steps=12, windows=12, forget=True)
    assert wrong == pytest.approx(-70.10, abs=0.7 + 4 * error)

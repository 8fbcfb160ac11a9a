"""diffGrad (Dubey et al. 2020) on a network: its friction is 1/2, so it is Adam at half the learning rate.

|gradient change| << 1 on a normalised network, so xi = 1/2 + |change|/4 + O(|change|^3).
"""

from __future__ import annotations

import pytest
import torch

import agents
import optenvs
from optenvs import data

SEEDS = 3


@pytest.fixture(scope="module")
def losses() -> dict[str, torch.Tensor]:
    """Training loss after 390 updates of the small Fashion-MNIST instance, ``(SEEDS,)``, by optimizer."""
    try:
        data.load("fashion_mnist", subset=10_000)
    except data.MissingData as error:
        pytest.skip(f"the check needs the real data: {error}")
    core = optenvs.make("optenvs/TrainFashionMnist-v0")
    assert core.horizon == 390
    found = {}
    for name, agent in {
        "diffgrad 1e-3": agents.make("diffgrad", lr=1e-3),
        "adam 5e-4": agents.make("adam", lr=5e-4),
        "adam 1e-3": agents.make("adam", lr=1e-3),
    }.items():
        run = optenvs.rollout(core, agent, seed=0, batch=SEEDS)
        found[name] = run.metrics["train_loss"][-1]
    return found


def test_diffgrad_is_adam_at_half_the_rate(losses: dict[str, torch.Tensor]) -> None:
    difference = (losses["diffgrad 1e-3"] - losses["adam 5e-4"]).abs()
    assert difference.max() < 0.005, difference


def test_diffgrad_is_slower_than_adam_at_the_same_rate(losses: dict[str, torch.Tensor]) -> None:
    difference = losses["diffgrad 1e-3"] - losses["adam 1e-3"]
    assert difference.min() > 0.02, difference


def test_absolute_losses(losses: dict[str, torch.Tensor]) -> None:
    expected = {"diffgrad 1e-3": 0.380, "adam 5e-4": 0.380, "adam 1e-3": 0.335}
    for name, loss in losses.items():
        assert abs(loss.mean() - expected[name]) < 0.03, (name, loss)

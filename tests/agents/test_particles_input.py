"""Particle methods refuse hyper-parameters out of their range, by name."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import agents
import optenvs
from agents.core import by_row


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cbo", {"alpha": 0.0}, "CBO: alpha: expected a number > 0, got 0.0"),
        ("cbo", {"alpha": math.inf}, "alpha: expected a finite number"),
        ("cbo", {"sigma": -1.0}, "sigma: expected a number >= 0"),
        ("cbo", {"dt": 0.0}, "dt: expected a number > 0"),
        ("cbo", {"noise": "white"}, "noise: expected isotropic or anisotropic, got 'white'"),
        ("cbo", {"effective": 1.5}, "effective: expected a share in"),
        ("cbo", {"partial": True}, "partial: expected a batch_size with it"),
        ("cbo", {"batch_size": 0}, "batch_size: expected a whole number >= 1 or None"),
        ("cbo", {"truncation": -1.0}, "truncation: expected a number > 0"),
        ("memory_cbo", {"sigma_memory": -1.0}, "MemoryCBO: sigma_memory: expected a number >= 0 or None"),
        ("polarized_cbo", {"kernel": "box"}, "kernel: expected gaussian or laplace"),
        ("polarized_cbo", {"kernel_factor_mode": "x"}, "kernel_factor_mode: expected alpha or const"),
        ("consensus_hopping", {"width": 0.0}, "width: expected a number > 0"),
        ("langevin", {"dt": -1.0}, "dt: expected a number > 0"),
        ("gradient_descent", {"lr": 0.0}, "lr: expected a number > 0"),
        ("cbo", {"alpha": torch.tensor([1.0, -1.0])}, "alpha: expected a number > 0"),
        ("cbo", {"alpha": torch.tensor([1.0, torch.nan])}, "alpha: expected a number > 0"),
        ("cbo", {"alpha": torch.tensor([1.0, torch.inf])}, "alpha: expected a finite number"),
        ("pso", {"inertia": -1.0}, "inertia: expected a number >= 0"),
    ],
)
def test_bad_hyperparameters(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        agents.make(name, **options)


@pytest.mark.parametrize(
    ("env", "name", "field"),
    [
        ("Quadratic", "adam", "lr"),
        ("Quadratic", "sgd", "lr"),
        ("Particles", "cbo", "alpha"),
        ("Particles", "cbo", "sigma"),
        ("Particles", "consensus_hopping", "width"),
        ("Ranking", "zo_ranksgd", "lr"),
        ("Ranking", "scobo", "mu"),
        ("NetworkQuadratic", "ad_psgd", "lr"),
        ("NetworkQuadratic", "dadao", "eta"),
    ],
)
def test_a_tensor_of_a_wrong_shape_is_named(env: str, name: str, field: str) -> None:
    core = optenvs.make(env)
    agent = agents.make(name, **{field: torch.ones(4)})
    with pytest.raises(
        ValueError, match=rf"{field}: expected a number, or a tensor \(B,\).* B = 3 here, got one"
    ):
        optenvs.rollout(core, agent, batch=3, steps=2)
    agent = agents.make(name, **{field: torch.full((3,), 0.5)})
    assert optenvs.rollout(core, agent, batch=3, steps=2).merit.shape == (3, 3)


def test_columns_and_tables_are_no_numbers_of_rows() -> None:
    for shape in ((3, 1), (2, 3), (3, 3)):
        with pytest.raises(ValueError, match=r"lr: .*got one of shape \(\d, \d\)"):
            by_row("lr", torch.ones(shape), torch.zeros(3, 2))
    assert by_row("lr", torch.ones(3), torch.zeros(3, 2).double()).shape == (3, 1)
    assert by_row("lr", 0.5, torch.zeros(3, 2)) == 0.5

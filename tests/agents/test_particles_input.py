"""Particle methods refuse hyper-parameters out of their range, by name."""

from __future__ import annotations

import math
from typing import Any

import pytest

import agents


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
        ("pso", {"inertia": -1.0}, "inertia: expected a number >= 0"),
    ],
)
def test_bad_hyperparameters(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        agents.make(name, **options)

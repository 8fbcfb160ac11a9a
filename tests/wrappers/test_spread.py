"""Lifetimes among processes: the same numbers, whatever their number."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import agents
import optenvs
from optenvs.core.struct import tensors

SMALL: dict[str, Any] = {
    "tasks": "Quadratic",
    "dim": 2,
    "rule": {"name": "lolv2", "hidden": 2},
    "length": 3,
    "held_out_tasks": 5,
    "evaluation_period": 1,
}


def made(**keywords: Any) -> Any:
    return optenvs.make("MetaTraining", **(SMALL | {"oracle": "fitness", "particles": 8} | keywords))


def course(env: Any) -> Any:
    run = optenvs.rollout(env, agents.OpenES(std=0.1), batch=2, steps=2)
    return run.state.observation, run.merit, run.calls.counts, run.metrics["diverged"]


def test_the_numbers_do_not_depend_on_the_processes() -> None:
    plain = made()
    serial = course(optenvs.Spread(plain, backend="serial", block=3))
    for workers in (1, 2):
        spread = course(optenvs.Spread(plain, workers=workers, block=3))
        for path, leaf in tensors(serial).items():
            assert torch.equal(leaf, tensors(spread)[path]), (workers, path)
    for path, leaf in tensors(course(plain)).items():
        assert torch.allclose(leaf, tensors(serial)[path], rtol=1e-9, atol=1e-12), path


@pytest.mark.parametrize("keywords", [{}, {"oracle": "gradient", "estimator": "full_es"}])
def test_it_holds_the_contract(keywords: dict[str, Any]) -> None:
    env = optenvs.Spread(made(particles=2, length=2, held_out_tasks=2, **keywords), backend="serial")
    assert env.on_host
    assert optenvs.check(env, batch=2, steps=2).ok


def test_what_is_not_spread_is_refused() -> None:
    for keywords in ({"estimator": "pes", "window": 2}, {"estimator": "bptt"}):
        with pytest.raises(TypeError, match="with oracle='fitness' or estimator='full_es'"):
            optenvs.Spread(made(oracle="gradient", **keywords))
    with pytest.raises(TypeError, match="Spread: Quadratic plays no whole lifetimes"):
        optenvs.Spread(optenvs.make("Quadratic"))
    with pytest.raises(ValueError, match="workers: expected a whole number >= 1, got 0"):
        optenvs.Spread(made(), workers=0)
    with pytest.raises(ValueError, match="backend: expected one of loky, serial, got 'ray'"):
        optenvs.Spread(made(), backend="ray")

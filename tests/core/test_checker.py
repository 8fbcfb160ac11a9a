"""The checker passes healthy environments and names each planted fault."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from planted_faults import (
    FAULTS,
    CopiedOptimum,
    CutGraph,
    DoubleBill,
    EarlyEnd,
    FalseGradient,
    FalseSlope,
    Faulty,
    GlobalNoise,
    SharedOptimum,
    SilentNaN,
    WrongReward,
)

import optenvs
from optenvs.core.checker import CHECKS, CheckFailed, Report, check
from optenvs.core.env import OptimizationEnv
from optenvs.envs.landscapes.quadratic import Quadratic


def failures(env: OptimizationEnv) -> Report:
    # a fault that seeds a generator as it is already seeded, by a test before this one, would show nothing
    np.random.seed(314159)  # noqa: NPY002
    torch.manual_seed(314159)
    random.seed(314159)
    with pytest.raises(CheckFailed) as caught:
        check(env)
    return caught.value.report


@pytest.mark.parametrize("fault", FAULTS, ids=lambda cls: cls.__name__)
def test_a_planted_fault_is_found_by_the_right_check(fault: type[OptimizationEnv]) -> None:
    report = failures(fault())
    assert FAULTS[fault] in report.failed, str(report)


@pytest.mark.parametrize(
    "fault",
    [CopiedOptimum, CutGraph, EarlyEnd, FalseGradient, FalseSlope, SharedOptimum, SilentNaN, WrongReward],
    ids=lambda cls: cls.__name__,
)
def test_a_single_fault_raises_no_other_alarm(fault: type[OptimizationEnv]) -> None:
    assert set(failures(fault()).failed) == {FAULTS[fault]}


def test_global_noise_is_also_seen_as_another_answer() -> None:
    assert "determinism" in failures(GlobalNoise()).failed


def test_every_check_but_one_has_a_planted_fault() -> None:
    # refusals rest on the action space alone, which the base class makes; its fault is planted below
    assert set(CHECKS) - set(FAULTS.values()) == {"determinism", "refusals"}


def test_refusals_see_a_space_that_lets_nan_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optenvs.core.checks.contract.check_action", lambda *args: None)
    report = failures(Quadratic())
    assert set(report.failed) == {"refusals"}
    assert any("nan" in sentence for sentence in report.failed["refusals"])


def test_an_environment_that_raises_is_reported_and_not_hidden() -> None:
    @Faulty
    class Broken(Quadratic):
        def value_and_gradient(self, x, coefficients):
            raise KeyError("matrix")

    report = failures(Broken())
    assert set(report.failed) == {"episode"}
    assert "KeyError" in report.failed["episode"][0]


HEALTHY: dict[str, Callable[[], OptimizationEnv]] = {
    "torch": lambda: optenvs.from_function(lambda x: (x * x).sum(), dim=3),
    "torch, minimum known": lambda: optenvs.from_function(
        lambda x: ((x - 1) ** 2).sum(), dim=3, minimum=0.0, minimiser=(1.0, 1.0, 1.0), shift=0.5, rotate=True
    ),
    "torch, batched": lambda: optenvs.from_function(lambda x: x.cos().sum(-1), dim=4, batched=True),
    "numpy": lambda: optenvs.from_function(lambda x: float(np.abs(np.asarray(x)).sum()), dim=2),
    "numpy with a gradient": lambda: optenvs.from_function(
        lambda x: np.square(x).sum(), grad=lambda x: 2 * x, dim=2, backend="numpy", bounded=True
    ),
    "numpy, batched": lambda: optenvs.from_function(
        lambda x: np.square(x).sum(-1), grad=lambda x: 2 * x, dim=2, backend="numpy", batched=True
    ),
    "hvp": lambda: optenvs.make("Rosenbrock", oracle="hvp", dim=4),
    "hessian": lambda: optenvs.make("Ackley", oracle="hessian", dim=3, noise=0.1, bounds="domain"),
    "hessian, torch": lambda: optenvs.from_function(lambda x: (x**4).sum(), dim=3, oracle="hessian"),
    "noise": lambda: optenvs.make("Rastrigin", noise=0.1),
    "moved": lambda: optenvs.make("Quadratic", shift=1.0, rotate=True, spectrum="wishart"),
    "decades": lambda: optenvs.make("Ackley", reward="log_improvement", budget=None),
    "budgets by kind": lambda: optenvs.make("Beale", budget={"gradient": 30, "value": 10}),
    "many coordinates": lambda: optenvs.make("Rastrigin", dim=100_000),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_environments_pass(name: str) -> None:
    report = check(HEALTHY[name]())
    assert report.ok
    assert set(report.passed) | set(report.skipped) == {"episode", *CHECKS}


def test_nothing_is_left_out_silently() -> None:
    report = check(HEALTHY["numpy with a gradient"]())
    assert set(report.skipped) == {"vmap", "gradients", "menu", "slopes"}
    assert "no menu" in report.skipped["menu"]
    assert "vectorizable=False" in report.skipped["vmap"]
    assert "differentiable=False" in str(report)
    assert check(Quadratic(), skip=("vmap",)).skipped["vmap"] == "left out by the caller"


def test_the_papers_false_derivative_is_a_fault_that_can_be_allowed() -> None:
    env = optenvs.make("DiffGradF2", derivative="notebook", instance="random")
    assert set(failures(env).failed) == {"oracle"}
    assert check(env, skip=("oracle",)).ok


def test_a_users_false_gradient_is_found() -> None:
    env = optenvs.from_function(np.sum, grad=lambda x: 2 * np.ones_like(x), dim=2, backend="numpy")
    report = failures(env)
    assert set(report.failed) == {"oracle"}


def test_the_message_says_what_was_expected_and_what_came() -> None:
    with pytest.raises(CheckFailed, match=r"FAILED ledger: query 0: .* expected \[\[1, 1\].* got \[\[2, 1\]"):
        check(DoubleBill(), batch=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch": 1}, "batch: expected a whole number >= 2, got 1"),
        ({"steps": 1.5}, "steps: expected a whole number >= 2, got 1.5"),
        ({"skip": ("vmpa",)}, "skip: no check 'vmpa'; did you mean 'vmap'"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(Quadratic(), **arguments)


def test_something_else_than_an_environment() -> None:
    with pytest.raises(TypeError, match="env: expected a problem .*, got function"):
        check(lambda x: x)  # type: ignore[arg-type]


def test_the_checker_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    check(Quadratic())
    assert torch.equal(before, torch.get_rng_state())

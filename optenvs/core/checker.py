"""The checker for environments, a user's own or a registered one: ``optenvs.check(env)``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from .checks import accounting, behaviour, calculus, contract, menu, slopes
from .checks.probe import NotApplicable, Probe, run
from .env import OptimizationEnv
from .errors import suggest
from .problems import as_problem

CHECKS: dict[str, Callable[[Probe], Iterator[str]]] = {
    "declarations": contract.declarations,
    "start": contract.start,
    "shapes": contract.shapes,
    "observations": contract.observations,
    "time": contract.time,
    "secrets": contract.secrets,
    "refusals": contract.refusals,
    "purity": behaviour.purity,
    "determinism": behaviour.determinism,
    "global_randomness": behaviour.global_randomness,
    "instances": behaviour.instances,
    "independence": behaviour.independence,
    "restore": behaviour.restore,
    "divergence": behaviour.divergence,
    "ledger": accounting.ledger,
    "budget": accounting.budget,
    "reward": accounting.reward,
    "evaluation": accounting.evaluation,
    "vmap": calculus.vmap,
    "gradients": calculus.gradients,
    "oracle": calculus.oracle,
    "menu": menu.menu,
    "slopes": slopes.slopes,
}
"""Every check by name, in the order in which they run; the docstring of each says what it expects."""


@dataclass(frozen=True)
class Report:
    """What :func:`check` found.

    Attributes:
        environment: the class's name.
        passed: the checks that found nothing wrong.
        failed: sentences by check: what was expected and what came.
        skipped: reasons by check that did not apply.
        remarks: what a check could not decide.
    """

    environment: str
    passed: tuple[str, ...]
    failed: dict[str, tuple[str, ...]]
    skipped: dict[str, str]
    remarks: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return not self.failed

    def __str__(self) -> str:
        total = len(self.passed) + len(self.failed)
        lines = [f"{self.environment}: {len(self.passed)} of {total} checks passed"]
        for name, sentences in self.failed.items():
            lines += [f"  FAILED {name}: {sentence}" for sentence in sentences]
        lines += [f"  not applicable {name}: {reason}" for name, reason in self.skipped.items()]
        lines += [f"  remark {remark}" for remark in self.remarks]
        return "\n".join(lines)


class CheckFailed(AssertionError):
    """Some checks failed; the message lists them, and ``report`` holds them by name."""

    def __init__(self, report: Report) -> None:
        super().__init__(str(report))
        self.report = report


def check(
    env: OptimizationEnv | Any,
    batch: int = 5,
    steps: int = 4,
    seed: int = 0,
    skip: tuple[str, ...] = (),
) -> Report:
    """Hold an environment to the contract: 23 checks (:data:`CHECKS`), each named in the report.

    It runs short episodes of ``batch`` instances near their starting points. No check is left out silently:
    those that do not apply, and those that you skip, are in the report with the reason.

    Args:
        env: any :class:`~optenvs.core.OptimizationEnv`; :func:`optenvs.from_function` makes one.
        batch: instances, at least 2.
        steps: queries after the first, at least 2.
        seed: names the instances.
        skip: checks to leave out, for an environment that breaks one on purpose.

    Raises:
        CheckFailed: at least one check failed; ``error.report`` is the report.
        TypeError: ``env`` stands for no problem, see :func:`optenvs.core.problems.as_problem`.
        ValueError: an argument out of its range.
    """
    env = as_problem(env)
    for name, number in (("batch", batch), ("steps", steps)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 2:
            raise ValueError(f"{name}: expected a whole number >= 2, got {number!r}")
    for name in skip:
        if name not in CHECKS:
            raise ValueError(f"skip: no check {name!r}{suggest(name, CHECKS)}")

    with torch.no_grad():
        report = _report(env, batch, steps, seed, skip)
    if not report.ok:
        raise CheckFailed(report)
    return report


def _report(env: OptimizationEnv, batch: int, steps: int, seed: int, skip: tuple[str, ...]) -> Report:
    remarks: list[str] = []
    skipped = dict.fromkeys(skip, "left out by the caller")
    try:
        probe = run(env, batch, steps, seed, remarks.append)
    except Exception as error:  # noqa: BLE001 (an author's code may raise anything)
        # without an episode no other check has anything to look at
        failed = {"episode": (f"reset and {steps} steps: raised {_said(error)}",)}
        return Report(env.name, (), failed, skipped, ())
    failed = {}
    for name, look in CHECKS.items():
        if name in skipped:
            continue
        try:
            found = tuple(look(probe))
        except NotApplicable as reason:
            skipped[name] = str(reason)
            continue
        except Exception as error:  # noqa: BLE001
            found = (f"raised {_said(error)}",)
        if found:
            failed[name] = found
    passed = tuple(n for n in ("episode", *CHECKS) if n not in failed and n not in skipped)
    return Report(env.name, passed, failed, skipped, tuple(remarks))


def _said(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0] if text else 'without a message'}"

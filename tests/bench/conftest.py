"""Synthetic runs: known curves, no environment needed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from optenvs.bench.results import Measure, RunRecord, RunSpec

VERSIONS = {
    "python": "3.11",
    "numpy": "2",
    "torch": "2",
    "optenvs": "0",
    "platform": "test",
}


@pytest.fixture
def unpainted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn and not painted, most of a report's time: for tests of what it says."""
    png = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + (900).to_bytes(4, "big")
    monkeypatch.setattr("optenvs.bench.report._png", lambda figure: png)


@pytest.fixture
def make_record() -> Callable[..., RunRecord]:
    """Returns a maker of runs whose gap decays by a known rate."""

    def make(
        environment: str = "Quadratic",
        agent: str = "adam",
        repetition: int = 0,
        *,
        rate: float = 0.05,
        budget: int = 100,
        status: str = "ok",
        rows: int | None = None,
        phase: str = "judge",
        noise: float = 0.0,
        tolerances: tuple[float, ...] = (1e-1, 1e-3),
        **hyperparameters: float,
    ) -> RunRecord:
        calls = np.arange(rows if rows is not None else budget + 1)
        noisy = 1 + noise * np.random.default_rng(repetition).normal(size=len(calls))
        curves = {
            "calls/gradient": calls,
            "calls/value": 2 * calls,
            "time": 1e-3 * calls,
            "metrics/gap": (10.0 + repetition) * np.exp(-rate * calls) * np.where(calls > 0, noisy, 1),
        }
        spec = RunSpec(
            suite="demo",
            environment=f"optenvs/{environment}-v0",
            agent=agent,
            phase=phase,
            instance=repetition,
            repetition=repetition,
            seed=1000 + repetition,
            budget=budget,
            cost="calls/gradient",
            environment_kwargs={"dim": 10},
            hyperparameters=hyperparameters,
        )
        return RunRecord(
            spec,
            status,
            curves,
            Measure(tolerances=tolerances),
            environment_label=environment,
            agent_label=agent,
            config={"name": "demo", "environments": [], "agents": []},
            versions=VERSIONS,
        )

    return make

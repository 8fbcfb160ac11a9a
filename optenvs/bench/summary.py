"""From runs to the comparison: who is compared with whom, on which problems, with what result.

A problem is an environment with one seed. The profiles compare agents on the problems that every
agent has run, so that an unfinished benchmark is never mistaken for a failure.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from optenvs.bench.profiles import runtimes, target_values
from optenvs.bench.results import EVALUATED, OUTSIDE, RunRecord
from optenvs.bench.statistics import (
    Interval,
    bootstrap,
    final_value,
    iqm,
    median,
    record_curve,
    resample,
)

# As in COCO: fine enough that the distribution of runtimes shows no steps of single targets.
ECDF_TARGETS = 51


@dataclass(frozen=True)
class Cell:
    """All judged runs of one agent on one environment.

    Attributes:
        environment: Label of the environment.
        agent: Label of the agent.
        records: Runs in the order of (instance, repetition).
    """

    environment: str
    agent: str
    records: tuple[RunRecord, ...]

    @cached_property
    def finals(self) -> np.ndarray:
        """Metric at the budget, (runs,); +inf for failed runs."""
        return np.array([final_value(record) for record in self.records])

    @property
    def failures(self) -> int:
        """Number of runs that diverged or raised."""
        return sum(not record.ok for record in self.records)

    @property
    def errors(self) -> list[str]:
        """What was raised, a sentence each."""
        reasons = Counter(r.status for r in self.records if r.status.startswith("error: "))
        total = len(self.records)
        return [
            f"{count} of {total} runs raised: {status.removeprefix('error: ')}"
            for status, count in reasons.items()
        ]

    @property
    def strays(self) -> list[str]:
        """How often points outside of the bounds were asked, in a sentence, if any was."""
        counts = [int(r.curves[OUTSIDE][-1]) for r in self.records if len(r.curves.get(OUTSIDE, ()))]
        if not any(counts):
            return []
        return [
            f"{sum(counts):,} points outside of the bounds were asked, in {np.count_nonzero(counts)} of "
            f"{len(self.records)} runs; they were billed, and earned no credit"
        ]

    def curves(self, grid: np.ndarray, axis: str | None = None) -> np.ndarray:
        """Metric at given costs, (runs, G)."""
        return np.stack([record_curve(record, grid, axis) for record in self.records])

    def measured(self, axis: str) -> np.ndarray | None:
        """Costs at which the metric was measured, where that was at some rows only; else None.

        Between two epoch ends a test loss is not constant but unknown: a plot must not show it as a step.
        """
        record = next((r for r in self.records if r.ok and EVALUATED in r.curves), None)
        if record is None or axis not in record.curves:
            return None
        values, rows = record.curves[record.measure.metric], record.curves[EVALUATED].astype(bool)
        changes = np.flatnonzero(values[1:] != values[:-1]) + 1
        return None if rows.all() or not rows[changes].all() else record.curves[axis][rows]


class Comparison:
    """Judged runs, arranged.

    Attributes:
        environments: Labels, in the order of the experiment.
        agents: Labels, in the order of the experiment.
        cells: Runs by (environment, agent).
        notes: What a reader must know, for example runs that are missing.
    """

    def __init__(self, records: Iterable[RunRecord]) -> None:
        judged = [record for record in records if record.spec.phase == "judge"]
        if not judged:
            raise ValueError("no judged runs to compare")
        self.config: dict[str, Any] = dict(judged[0].config)
        self.environments = self._order("environments", [r.environment_label for r in judged])
        self.agents = self._order("agents", [r.agent_label for r in judged])
        self.cells: dict[tuple[str, str], Cell] = {}
        for environment in self.environments:
            for agent in self.agents:
                mine = [r for r in judged if (r.environment_label, r.agent_label) == (environment, agent)]
                mine.sort(key=_problem)
                if mine:
                    self.cells[environment, agent] = Cell(environment, agent, tuple(mine))
        self.notes = self._check()

    def _order(self, key: str, found: Sequence[str]) -> list[str]:
        """Labels as the experiment lists them; unknown ones after, by name."""
        listed = [entry["label"] for entry in self.config.get(key, ()) if entry["label"] in set(found)]
        return listed + sorted(set(found) - set(listed))

    def row(self, environment: str) -> list[Cell]:
        """Returns the cells of an environment, one an agent that has runs there."""
        return [c for agent in self.agents if (c := self.cells.get((environment, agent)))]

    def _check(self) -> list[str]:
        """Refuses to mix what must be equal, and notes what is missing."""
        notes = []
        for environment in self.environments:
            row = self.row(environment)
            for what in ("budget", "cost", "environment_kwargs"):
                values = {json.dumps(getattr(r.spec, what), sort_keys=True) for c in row for r in c.records}
                if len(values) > 1:
                    raise ValueError(
                        f"{environment}: cannot compare runs of different {what}: {sorted(values)}"
                    )
            for cell in row:
                values = {json.dumps(r.spec.hyperparameters, sort_keys=True) for r in cell.records}
                if len(values) > 1:
                    raise ValueError(
                        f"{environment}, {cell.agent}: different hyperparameters: {sorted(values)}"
                    )
                seeds = [_problem(r) for r in cell.records]
                if len(set(seeds)) < len(seeds):
                    raise ValueError(f"{environment}, {cell.agent}: two runs with one seed")
                notes += [f"{environment}, {cell.agent}: {reason}" for reason in cell.errors + cell.strays]
            everyone = {_problem(r) for c in row for r in c.records}
            for agent in self.agents:
                cell = self.cells.get((environment, agent))
                lacking = len(everyone) - (len(cell.records) if cell else 0)
                if lacking:
                    notes.append(f"{environment}, {agent}: {lacking} of {len(everyone)} runs not done yet")
        return notes + self._edges()

    def _edges(self) -> list[str]:
        """Names the winners at an end of their grid, beyond which a better value may lie."""
        grids = {entry["label"]: entry.get("grid", {}) for entry in self.config.get("agents", ())}
        found = []
        for cell in self.cells.values():
            chosen = cell.records[0].spec.hyperparameters
            for name, values in grids.get(cell.agent, {}).items():
                numbers = [v for v in values if isinstance(v, int | float)]
                if len(numbers) > 2 and chosen.get(name) in (min(numbers), max(numbers)):
                    end = "lowest" if chosen[name] == min(numbers) else "highest"
                    found.append(f"{cell.agent} on {cell.environment} ({end} {name}, {chosen[name]:g})")
        if not found:
            return []
        return [f"Tuned to an end of the grid, a wider one may do better: {', '.join(found)}"]

    @cached_property
    def problems(self) -> list[tuple[str, list[RunRecord]]]:
        """Problems that every agent has run: environment, and runs in the order of ``agents``."""
        problems = []
        for environment in self.environments:
            row = self.row(environment)
            if len(row) < len(self.agents):
                continue
            runs = [{_problem(r): r for r in cell.records} for cell in row]
            shared = sorted(set.intersection(*(set(r) for r in runs)))
            problems += [(environment, [r[key] for r in runs]) for key in shared]
        return problems

    def costs(self, tolerances: Sequence[float] | None = None) -> np.ndarray:
        """Cost to pass the convergence test of Moré and Wild as a share of the budget.

        Args:
            tolerances: (K,) relative accuracies; without them, each environment's own.

        Returns:
            (problems, agents, K), +inf where not passed within the budget.
        """
        costs = []
        for _, runs in self.problems:
            budget = runs[0].spec.budget
            starts = [record_start(r) for r in runs]
            start = min(starts)  # all agents meet one starting point; a run that raised has none
            best = min(_lowest(r) for r in runs)
            targets = target_values(start, best, tolerances or runs[0].measure.tolerances)
            costs.append([_cost_to(run, targets) / budget for run in runs])
        levels = len(tolerances or next(iter(self.cells.values())).records[0].measure.tolerances)
        return np.array(costs).reshape(-1, len(self.agents), levels)

    @cached_property
    def ecdf_costs(self) -> np.ndarray:
        """``costs`` on a fine ladder of targets from no progress to the tightest tolerance."""
        tightest = min(min(c.records[0].measure.tolerances) for c in self.cells.values())
        ladder = np.logspace(0, np.log10(tightest), ECDF_TARGETS + 1)
        return self.costs(tuple(ladder[1:]))  # tolerance 1 is the start itself

    @cached_property
    def scores(self) -> dict[str, Interval]:
        """Interquartile mean, over all problems, of the share of targets reached, by agent.

        The interval is the bootstrap one stratified by environment. Higher is better: 1 is the best
        known value to the tightest tolerance on the middle half of the problems, 0 is no progress.
        """
        reached = np.isfinite(self.ecdf_costs).mean(axis=-1)
        names = np.array([environment for environment, _ in self.problems])
        return {
            agent: bootstrap([reached[names == name, i] for name in dict.fromkeys(names)], iqm)
            for i, agent in enumerate(self.agents)
            if len(names)
        }

    def table(self) -> pd.DataFrame:
        """One row an environment and agent: metric at the budget, failures, hyperparameters."""
        rows = []
        for cell in self.cells.values():
            interval = bootstrap([cell.finals], iqm)
            first = cell.records[0]
            rows.append(
                {
                    "environment": cell.environment,
                    "agent": cell.agent,
                    "metric": first.measure.metric.removeprefix("metrics/"),
                    "budget": first.spec.budget,
                    "cost": first.spec.cost.removeprefix("calls/"),
                    "start": float(median([record_start(r) for r in cell.records])),
                    "median": float(median(cell.finals)),
                    "iqm": interval.estimate,
                    "ci_low": interval.low,
                    "ci_high": interval.high,
                    "failures": cell.failures,
                    "runs": len(cell.records),
                    "hyperparameters": json.dumps(first.spec.hyperparameters),
                }
            )
        return pd.DataFrame(rows)

    def other_metrics(self) -> pd.DataFrame:
        """Medians, at the budget, of every metric but the judged one: a row an environment and agent.

        Values of the last point, not the best so far, since most have no better direction of their own. NaN
        where the metric is unknown or a run failed: a failed run has no value, and must not be left out.
        """
        rows = []
        for cell in self.cells.values():
            row: dict[str, Any] = {"environment": cell.environment, "agent": cell.agent}
            judged = cell.records[0].measure.metric
            names = dict.fromkeys(name for r in cell.records for name in r.curves)
            for name in names:
                if name.startswith("metrics/") and name != judged:
                    ends = [r.curves[name][-1] if r.ok else np.nan for r in cell.records]
                    row[name.removeprefix("metrics/")] = float(np.median(ends))
            rows.append(row)
        return pd.DataFrame(rows)


def _problem(record: RunRecord) -> tuple[int, int, int]:
    """What tells the problems of an environment apart."""
    return record.spec.instance, record.spec.repetition, record.spec.seed


def record_start(record: RunRecord) -> float:
    """Returns the metric at a run's first row, before the agent acts; +inf if it has none."""
    values = record.curves.get(record.measure.metric, np.empty(0))
    return float(values[0]) if len(values) and not np.isnan(values[0]) else np.inf


def _lowest(record: RunRecord) -> float:
    """Returns the lowest metric within the budget, whatever the run's measure; +inf if it fails."""
    if not record.ok:
        return np.inf
    curves, spec = record.curves, record.spec
    return float(resample(curves[spec.cost], curves[record.measure.metric], [spec.budget])[0])


def _cost_to(record: RunRecord, targets: np.ndarray) -> np.ndarray:
    """Cost at which a run first reaches each target, (K,); +inf if it fails or overspends."""
    if not record.ok:
        return np.full(len(targets), np.inf)
    cost, values = record.curves[record.spec.cost], record.curves[record.measure.metric]
    reached = runtimes(cost, values, targets)
    return np.where(reached <= record.spec.budget, reached, np.inf)

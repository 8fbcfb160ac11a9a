"""Runs an experiment: tune each agent on tuning seeds, judge the winner on others, one file a run.

A rerun computes what is missing and nothing else. Numbers do not depend on what was there before, on the
number of workers or on the engine: a group (``plan``) is always computed as the same batch in one thread,
even when a single file of it is missing, because the rounding of a row may depend on its batch.
Only the measured times differ.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import joblib
import torch

from envs_registry import EnvSpec
from envs_registry import register as declare
from optenvs import agents
from optenvs.bench.curves import split_curves
from optenvs.bench.experiment import SELECTIONS, Experiment
from optenvs.bench.folder import held
from optenvs.bench.hashing import canonical_json
from optenvs.bench.manifest import Manifest
from optenvs.bench.plan import Group, Plan, build, make_env, run_keys
from optenvs.bench.pool import Lost, Pool
from optenvs.bench.progress import Progress
from optenvs.bench.results import Measure, RunRecord, RunSpec, current_versions, scan, write
from optenvs.bench.statistics import select
from optenvs.core.env import OptimizationEnv
from optenvs.core.rollout import rollout


@dataclass(frozen=True)
class Outcome:
    """What a call of :func:`run` did.

    Attributes:
        computed: Number of runs computed.
        reused: Number of runs that were there.
        warnings: Files that could not be read, and were computed again.
        errors: One line for each group that raised; its runs count as failures, and a rerun tries again.
        seconds: Wall-clock time.
        manifest: What is to be reported, as ``report`` takes it.
    """

    computed: int
    reused: int
    warnings: tuple[str, ...]
    errors: tuple[str, ...]
    seconds: float
    manifest: Manifest


@dataclass(frozen=True)
class _Job:
    """A group on its way to a worker, with all that the worker cannot look up.

    Attributes:
        declared: The environment, for a worker that has not seen the user's registration.
        agent: The agent itself, for the same reason.
        specs: All runs of the batch.
        missing: Those among them to write.
        labels: Fields of the records that change no number.
        folder: Where to write.
        sources: Digests of the user's own modules that it is computed with.
    """

    declared: EnvSpec | None
    agent: Any
    specs: tuple[RunSpec, ...]
    missing: tuple[RunSpec, ...]
    labels: dict[str, Any]
    folder: Path
    sources: dict[str, str]


def run(
    experiment: Experiment | Plan,
    directory: str | os.PathLike[str],
    progress: bool = True,
    source: str = "",
) -> Outcome:
    """Runs what is missing of an experiment.

    Args:
        experiment: See ``experiment.load`` and ``experiment.builtin``; or its plan.
        directory: Folder of the results; made if absent.
        progress: Whether to show on standard error how far it is.
        source: The experiment's file or packaged name, for the report.

    Returns:
        What was done. ``report.report(directory)`` makes the tables, the figures and the page.

    Raises:
        ExperimentError: Before the first run, at an entry that cannot run.
        FolderInUse: Another benchmark is writing to the folder.
        OSError: A file cannot be written; what is there stays, and a rerun goes on from it.
    """
    start = time.perf_counter()
    plan = experiment if isinstance(experiment, Plan) else build(experiment)
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder), Progress(plan.total, progress) as shown, _Engine(plan.experiment) as engine:
        execution = _Execution(plan, folder, shown, engine)
        shown.begin("tuning")
        tuned = execution.complete(list(plan.tuning()))
        judged = list(_judged(plan, tuned))
        manifest = Manifest(tuple(spec.run_id for group in judged for spec in group.specs), source)
        manifest.write(folder)
        shown.begin("judging")
        execution.complete(judged)
    return Outcome(
        computed=execution.computed,
        reused=execution.reused,
        warnings=tuple(execution.warnings),
        errors=tuple(execution.errors),
        seconds=time.perf_counter() - start,
        manifest=manifest,
    )


def _judged(plan: Plan, tuned: dict[str, RunRecord]) -> Iterator[Group]:
    """The winners of the tuning, to be judged on the other seeds."""
    score = SELECTIONS[plan.experiment.selection]
    for problem in plan.problems:
        for solver in plan.solvers:
            best = solver.candidates[0]
            if len(solver.candidates) > 1:
                tried = [plan.group(problem, solver, c, "tune") for c in solver.candidates]
                scores = [[score(tuned[spec.run_id]) for spec in group.specs] for group in tried]
                best = solver.candidates[select(scores)]
            yield plan.group(problem, solver, best, "judge")


@dataclass
class _Execution:
    """Completes groups, counting what it computes and what it finds."""

    plan: Plan
    folder: Path
    shown: Progress
    engine: _Engine
    computed: int = 0
    reused: int = 0
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        found = scan(self.folder)
        self._found, self.warnings = found.records, found.warnings
        for warning in found.warnings:
            self.shown.say(f"warning: {warning}")
        # JSON, so that what was read compares equal to what is asked (lists and tuples)
        self._config = json.loads(canonical_json(self.plan.experiment.to_dict()))

    def complete(self, groups: Sequence[Group]) -> dict[str, RunRecord]:
        """Returns every run of ``groups`` by run id; reads what is there, computes the others."""
        records: dict[str, RunRecord] = {}
        jobs = []
        for group in groups:
            labels = self._labels(group)
            sources = {**group.problem.sources, **group.solver.sources}
            missing = []
            for spec in group.specs:
                if there := self._reusable(spec, labels, sources):
                    records[spec.run_id] = there
                else:
                    missing.append(spec)
            if missing:
                agent = agents.make(group.solver.entry.name, **group.hyperparameters)
                declared = group.problem.declared
                job = _Job(declared, agent, group.specs, tuple(missing), labels, self.folder, sources)
                jobs.append((group.problem.weight, job))
        self.reused += len(records)
        self.shown.advance(len(records), found=True)
        # The dearest first, so that no worker begins the longest when the others are done.
        jobs.sort(key=lambda pair: -pair[0])
        for finished in self.engine.finished([job for _, job in jobs]):
            records |= {record.spec.run_id: record for record in finished}
            self.computed += len(finished)
            self.shown.advance(len(finished))
            first = finished[0]
            if first.status.startswith("error: "):
                line = f"{first.agent_label} on {first.environment_label}: {first.status}"
                self.errors.append(line)
                self.shown.say(line)
        return records

    def _labels(self, group: Group) -> dict[str, Any]:
        return {
            "measure": group.problem.measure,
            "environment_label": group.problem.entry.label,
            "agent_label": group.solver.entry.label,
            "config": self._config,
        }

    def _reusable(self, spec: RunSpec, labels: dict[str, Any], sources: dict[str, str]) -> RunRecord | None:
        """The run as it is in the folder, under its present labels; None if it must be computed.

        A run that raised is computed again: the reason (memory, absent data) may be gone. One that diverged
        is a result. A run of the user's own code is computed again where that has changed since.
        """
        record = self._found.get(spec.run_id)
        if record is None or record.status.startswith("error: "):
            return None
        if any(record.versions.get(name) != digest for name, digest in sources.items()):
            return None
        if all(_same(name, getattr(record, name), value) for name, value in labels.items()):
            return record
        try:
            relabelled = dataclasses.replace(record, **labels)
        except ValueError:  # the metric asked for now was not recorded then
            return None
        write(relabelled, self.folder)
        return relabelled


def _same(name: str, old: Any, new: Any) -> bool:
    """Whether a field is as before; the engine is left out, since it changes no result."""
    if name == "config":
        old, new = ({k: v for k, v in config.items() if k != "engine"} for config in (old, new))
    return old == new


class _Engine(ExitStack):
    """What computes jobs; its processes are kept from one list of jobs to the next."""

    def __init__(self, experiment: Experiment) -> None:
        super().__init__()
        self._engine = experiment.engine
        self._pool: Pool | None = None

    def finished(self, jobs: list[_Job]) -> Iterable[list[RunRecord]]:
        """The jobs' records, as they are finished."""
        if self._engine.backend == "loky" and jobs:
            self._pool = self._pool or self.enter_context(Pool(self._engine.jobs))
            return (
                _written(job, [(f"error: the runs were lost: {found.reason}", {})] * len(job.specs))
                if isinstance(found, Lost)
                else found
                for job, found in self._pool.results(_run_job, jobs)
            )
        if self._engine.backend == "threading" and jobs:
            parallel = joblib.Parallel(
                self._engine.jobs, backend="threading", return_as="generator_unordered"
            )
            return cast("Iterator[list[RunRecord]]", parallel(joblib.delayed(_run_job)(job) for job in jobs))
        return map(_run_job, jobs)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for torch: sums are rounded in the order of their parts, which the threads decide."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@lru_cache(maxsize=4)
def _environment(env_id: str, keywords: str, cost: str, budget: int) -> OptimizationEnv:
    """Environments are kept, since one may hold a data set; the keywords are JSON, to be hashable."""
    return make_env(env_id, json.loads(keywords), cost, budget)


def _run_job(job: _Job) -> list[RunRecord]:
    """Computes a batch and writes its missing runs; an exception becomes their status."""
    try:
        with _one_thread():
            results = _compute(job)
    except Exception as error:  # noqa: BLE001
        # Whatever a user's agent raises must not stop the others' runs.
        text = " ".join(str(error).split()) or "no message"
        results = [(f"error: {type(error).__name__}: {text}", {})] * len(job.specs)
    return _written(job, results)


def _written(job: _Job, results: Sequence[tuple[str, dict[str, Any]]]) -> list[RunRecord]:
    """Writes the missing runs of a batch."""
    records = []
    for spec, (status, curves) in zip(job.specs, results, strict=True):
        if spec in job.missing:
            versions = current_versions() | job.sources
            record = RunRecord(spec, status, curves, versions=versions, **job.labels)
            write(record, job.folder)
            records.append(record)
    return records


def _compute(job: _Job) -> list[tuple[str, dict[str, Any]]]:
    """Status and curves of every run of a batch."""
    first, measure = job.specs[0], job.labels["measure"]
    assert isinstance(measure, Measure)
    if job.declared is not None:
        declare(job.declared)
    keywords = canonical_json(first.environment_kwargs)
    env = _environment(first.environment, keywords, first.cost, first.budget)
    done = rollout(env, job.agent, keys=run_keys(job.specs, env.torch_device))
    curves = split_curves(env, done, first.cost, measure.metric)
    statuses = ["diverged" if failed else "ok" for failed in done.diverged.tolist()]
    return list(zip(statuses, curves, strict=True))

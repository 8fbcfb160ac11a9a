"""From an experiment to its runs: every name resolved and every mistake found before the first run.

Runs come in *groups*: one agent with one setting of its hyperparameters, on one environment, in one phase,
with all its seeds. A group is computed as one batch, because a batch costs little more than its dearest row.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from gymnasium import spaces

import optenvs
from envs_registry import ENVIRONMENTS, EnvSpec
from optenvs import agents
from optenvs.bench.experiment import AgentEntry, EnvironmentEntry, Experiment
from optenvs.bench.hashing import canonical_json
from optenvs.bench.results import CALLS, METRICS, Measure, RunSpec
from optenvs.bench.sections import ExperimentError
from optenvs.bench.seeds import derive_seed
from optenvs.core.env import OptimizationEnv
from optenvs.core.errors import check_oracles, suggest
from optenvs.core.imports import imported
from optenvs.core.random import Keys, keys_from_seed
from optenvs.making import find

# What is minimised where the experiment does not say: the gap where the optimum is known, else the loss
# that training minimises, else the environment's own merit.
_METRICS = ("gap", "train_loss", "merit")
# What a wrong entry raises: unknown names and keywords, values out of range, absent data.
_MISTAKES = (ValueError, TypeError, LookupError, OSError, ImportError)


@dataclass(frozen=True)
class Problem:
    """One environment of an experiment, resolved.

    Attributes:
        entry: As the experiment has it.
        name: What makes it anywhere: its id, or ``module:Class`` where it has none.
        declared: The registry's declaration, which travels to the workers; None where it has no id.
        cost: Ledger column that the budget counts.
        measure: How its runs are judged.
        weight: Rough cost of one run, to begin with the dearest.
        sources: Digests of the user's own module that it is in, by name.
    """

    entry: EnvironmentEntry
    name: str
    declared: EnvSpec | None
    cost: str
    measure: Measure
    weight: float
    sources: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Solver:
    """One agent of an experiment, its candidates, and digests of the user's own module that it is in."""

    entry: AgentEntry
    candidates: tuple[Mapping[str, Any], ...]
    sources: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed only, and are computed as one batch.

    Attributes:
        problem: Where they run.
        solver: Whose runs they are.
        hyperparameters: The candidate.
        specs: One a seed.
    """

    problem: Problem
    solver: Solver
    hyperparameters: Mapping[str, Any]
    specs: tuple[RunSpec, ...]


@dataclass(frozen=True)
class Plan:
    """A resolved experiment."""

    experiment: Experiment
    problems: tuple[Problem, ...]
    solvers: tuple[Solver, ...]

    def group(
        self,
        problem: Problem,
        solver: Solver,
        hyperparameters: Mapping[str, Any],
        phase: Literal["tune", "judge"],
    ) -> Group:
        """Returns the runs of one candidate; all agents meet the same instances."""
        experiment, entry = self.experiment, problem.entry
        count = experiment.tuning_seeds if phase == "tune" else experiment.judging_seeds
        where = {"id": problem.name, "kwargs": dict(entry.kwargs)}
        specs = tuple(
            RunSpec(
                suite=experiment.name,
                environment=problem.name,
                agent=solver.entry.name,
                phase=phase,
                instance=i,  # every repetition meets an instance of its own
                repetition=i,
                seed=derive_seed(
                    experiment.name, where, i, solver.entry.name, i, phase, seed=experiment.seed
                ),
                budget=entry.budget,
                cost=problem.cost,
                environment_kwargs=dict(entry.kwargs),
                hyperparameters=dict(hyperparameters),
            )
            for i in range(count)
        )
        return Group(problem, solver, hyperparameters, specs)

    def tuning(self) -> Iterator[Group]:
        """The groups that choose hyperparameters; an agent with one candidate has none."""
        for problem in self.problems:
            for solver in self.solvers:
                if len(solver.candidates) > 1:
                    for candidate in solver.candidates:
                        yield self.group(problem, solver, candidate, "tune")

    @property
    def total(self) -> int:
        """Number of runs of both phases."""
        judged = len(self.problems) * len(self.solvers) * self.experiment.judging_seeds
        return sum(len(group.specs) for group in self.tuning()) + judged


def build(experiment: Experiment) -> Plan:
    """Resolves names, ledger columns and metrics, and tries every environment and agent once.

    Raises:
        ExperimentError: At the first entry that cannot run; names the entry and the reason.
    """
    for module in experiment.modules:
        try:
            imported(f"{module}:*", "modules")
        except _MISTAKES as error:
            raise ExperimentError(str(error)) from error
    found = [_problem(i, entry) for i, entry in enumerate(experiment.environments)]
    solvers = []
    for i, agent in enumerate(experiment.agents):
        sources: dict[str, str] = {}
        for candidate in agent.candidates:
            try:
                made = agents.make(agent.name, **candidate)
                for _, env in found:
                    check_oracles(agent.name, getattr(made, "needs", ()), env.name, env.oracles)
            except _MISTAKES as error:
                raise ExperimentError(f"agents[{i}] {agent.label!r}: {error}") from error
            sources |= own_sources(agent.name, made)
        solvers.append(Solver(agent, agent.candidates, sources))
    kinds = dict.fromkeys(kind for _, env in found for kind in env.bill)
    for axis in experiment.axes:
        if axis != "time" and not axis.startswith("work:") and axis.removeprefix(CALLS) not in kinds:
            raise ExperimentError(
                f"axes: no oracle {axis!r}{suggest(axis, kinds)}, nor 'time' or 'work:KIND'"
            )
    plan = Plan(experiment, tuple(problem for problem, _ in found), tuple(solvers))
    _refuse_twins(plan)
    return plan


def make_env(env_id: str, kwargs: Mapping[str, Any], cost: str, budget: int) -> OptimizationEnv:
    """An environment whose budget counts the ledger column ``cost``."""
    return optenvs.make(env_id, **kwargs, budget={cost.removeprefix(CALLS): budget})


def run_keys(specs: tuple[RunSpec, ...], device: torch.device | str = "cpu") -> Keys:
    """One key a run, (B,): that of instance 0 of the run's seed, so that any run can be done alone."""
    return torch.cat([keys_from_seed(spec.seed, 1, device) for spec in specs])


def _problem(i: int, entry: EnvironmentEntry) -> tuple[Problem, OptimizationEnv]:
    where = f"environments[{i}] {entry.label!r}"
    if "budget" in entry.kwargs:
        raise ExperimentError(f"{where}: kwargs.budget: expected as the key budget of the entry")
    try:
        declared = find(entry.id)
        name = declared.id if declared.id in ENVIRONMENTS else entry.id
        env = optenvs.make(name, **entry.kwargs, budget=None)
        kind = (entry.cost or next(iter(env.bill))).removeprefix(CALLS)
        if kind not in env.bill:
            raise ValueError(f"cost: no oracle {kind!r}{suggest(kind, env.bill)}")
        env = env.replace(budget={kind: entry.budget})
        with torch.no_grad():
            known = [*env.reset(keys_from_seed(0, 1, env.torch_device)).metrics]
    except _MISTAKES as error:
        raise ExperimentError(f"{where}: {error}") from error
    known += [derived for name in known if (derived := error_name(name))] + ["merit"]
    metric = (entry.metric or next(m for m in _METRICS if m in known)).removeprefix(METRICS)
    if metric not in known:
        raise ExperimentError(f"{where}: metric: no {metric!r}{suggest(metric, known)}")
    measure = Measure(METRICS + metric, entry.best_so_far, entry.tolerances)
    size = math.prod(space.shape[0] if space.shape else 1 for space in _boxes(env.action_space))
    weight = float(size * env.bill.get("samples", 1) * entry.budget)
    sources = own_sources(entry.id, env)
    known = declared if name == declared.id else None
    return Problem(entry, name, known, CALLS + kind, measure, weight, sources), env


def own_sources(name: str, made: Any) -> dict[str, str]:
    """A digest of each module of the user's own that an agent or environment is from.

    Its ids have no versions, so results of an earlier text of the module are not today's.
    """
    modules = {type(made).__module__, name.partition(":")[0] if ":" in name else ""}
    files = {
        module: getattr(sys.modules.get(module), "__file__", None)
        for module in modules
        if module.partition(".")[0] not in ("", "__main__", "agents", "optenvs")
    }
    return {
        f"source of {module}": hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]
        for module, file in files.items()
        if file is not None and Path(file).is_file()
    }


def error_name(metric: str) -> str | None:
    """``test_error`` for ``test_accuracy``: every metric here is minimised."""
    stem, found, rest = metric.rpartition("accuracy")
    return f"{stem}error" if found and not rest else None


def _boxes(space: spaces.Space) -> list[spaces.Space]:
    return list(space.spaces.values()) if isinstance(space, spaces.Dict) else [space]


def _refuse_twins(plan: Plan) -> None:
    """A run has one file and so one label: two entries must not ask for the same run."""
    owners: dict[str, str] = {}
    for problem in plan.problems:
        for solver in plan.solvers:
            for candidate in solver.candidates:
                name = plan.group(problem, solver, candidate, "judge").specs[0].run_id
                owner = f"{solver.entry.label!r} on {problem.entry.label!r}"
                if name in owners:
                    raise ExperimentError(
                        f"{owner} with {canonical_json(dict(candidate))} is the same run as "
                        f"{owners[name]}; change one, or give it an experiment of its own"
                    )
                owners[name] = owner

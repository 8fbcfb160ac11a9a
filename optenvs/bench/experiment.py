"""Experiments as TOML files: environments x agents x seeds x budget, checked before the first run.

An example with every key::

    name = "demo"
    seed = 0                    # of the whole experiment
    tuning_seeds = 3            # seeds that choose among the candidates of a grid
    judging_seeds = 10          # other seeds, which are reported
    budget = 1000               # calls of each environment's main oracle
    cost = "gradient"           # main oracle; without it, the environment's own choice
    metric = "gap"              # what is minimised; without it, the environment's own choice
    best_so_far = true          # or the value at the budget, as for a last iterate
    selection = "final"         # or "area": what tuning compares
    tolerances = [0.1, 1e-3]    # of the profiles
    axes = ["value"]            # more figures of progress, along these: see below
    modules = []                # imported first: they may register agents and environments of yours

    [[environments]]            # budget, cost, metric, best_so_far, tolerances: overridden here
    id = "optenvs/Rosenbrock-v0"    # or "module:Class" of yours
    label = "Rosenbrock 10-d"
    kwargs = { dim = 10 }

    [[agents]]
    name = "adam"               # or "module:Class" of yours
    label = "Adam, tuned"
    grid = { lr = [0.001, 0.01, 0.1] }
    kwargs = { betas = [0.9, 0.99] }

    [engine]
    backend = "loky"            # processes; or "threading", "sequential"
    jobs = 2

Modules of yours are looked for beside the file, too.

An axis is a kind of oracle call ("value", "samples"), "time", or "work:KIND": what agents count of their own
work (linear systems solved, inner steps, ...) in a ledger in the field ``work`` of their memory, see
:mod:`optenvs.core.work`. No budget counts that work, and agents that count none of it have no line there. For
example ``axes = ["work:relaxation"]`` with the agent ``relax_and_walk``.
"""

from __future__ import annotations

import itertools
import math
import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from optenvs.bench.sections import ExperimentError, Section
from optenvs.bench.statistics import area, final_value

BACKENDS = ("loky", "threading", "sequential")
SELECTIONS = {"final": final_value, "area": area}
_CONFIGS = resources.files("optenvs.bench") / "configs"


@dataclass(frozen=True)
class EnvironmentEntry:
    """One environment of an experiment; what the file leaves out is filled in from the experiment.

    Attributes:
        id: Registered id.
        label: Name in tables and plots, unique in the experiment.
        budget: Calls of the main oracle.
        cost: Name of the main oracle, None for the environment's own choice.
        metric: Name of the minimised metric, None for the environment's own choice.
        best_so_far: Whether the best value so far counts, or the current one.
        tolerances: Relative accuracies of the profiles.
        kwargs: Keyword arguments of the environment.
    """

    id: str
    label: str
    budget: int
    cost: str | None
    metric: str | None
    best_so_far: bool
    tolerances: tuple[float, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AgentEntry:
    """One agent of an experiment.

    Attributes:
        name: Registered name.
        label: Name in tables and plots, unique in the experiment.
        grid: For each tuned hyperparameter its values.
        kwargs: Fixed hyperparameters.
    """

    name: str
    label: str
    grid: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def candidates(self) -> tuple[dict[str, Any], ...]:
        """Every combination of the grid, with the fixed hyperparameters, in the file's order."""
        points = itertools.product(*self.grid.values())
        return tuple({**self.kwargs, **dict(zip(self.grid, point, strict=True))} for point in points)


@dataclass(frozen=True)
class Engine:
    """How runs are spread over cores; it never changes a result.

    Attributes:
        backend: A joblib backend, or "sequential".
        jobs: Number of runs at a time.
    """

    backend: str = "sequential"
    jobs: int = 1


@dataclass(frozen=True)
class Experiment:
    """A checked experiment; see the module's docstring for the meaning of each field."""

    name: str
    seed: int
    tuning_seeds: int
    judging_seeds: int
    selection: str
    environments: tuple[EnvironmentEntry, ...]
    agents: tuple[AgentEntry, ...]
    engine: Engine = field(default_factory=Engine)
    modules: tuple[str, ...] = ()
    axes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns the experiment as plain data, for the results and the report."""
        return asdict(self)


def _label(section: Section, default: str, taken: list[str]) -> str:
    """Reads a label that no earlier entry has, or two rows of the report would look the same."""
    label = section.text("label", default)
    if label in taken:
        raise section.error("label", label, f"a label that no other entry has; taken are {taken}")
    taken.append(label)
    return label


def _parameters(section: Section, key: str) -> dict[str, Any]:
    """Reads keyword arguments."""
    values = section.table(key)
    for name, value in values.items():
        _finite(section, f"{key}.{name}", value)
    return values


def _finite(section: Section, key: str, value: Any) -> None:
    """Refuses NaN, infinity and dates: they have no JSON form, and a run is named by its JSON."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _finite(section, f"{key}.{name}", inner)
    elif isinstance(value, list):
        for inner in value:
            _finite(section, key, inner)
    elif not isinstance(value, bool | int | float | str) or (
        isinstance(value, float) and not math.isfinite(value)
    ):
        raise section.error(key, value, "a finite number, a string, a boolean, a list or a table")


def _names(section: Section, key: str, what: str) -> tuple[str, ...]:
    """Reads a list of names."""
    names = section.list(key, [])
    if not all(isinstance(name, str) and name for name in names):
        raise section.error(key, names, f"a list of {what}")
    return tuple(names)


def _tolerances(section: Section, default: tuple[float, ...]) -> tuple[float, ...]:
    """Reads relative accuracies in (0, 1), loosest first."""
    values = section.list("tolerances", list(default))
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
            raise section.error("tolerances", values, "a list of numbers in (0, 1)")
    if sorted(set(values), reverse=True) != values or not values:
        raise section.error(
            "tolerances",
            values,
            "a non-empty list in decreasing order without repetition",
        )
    return tuple(map(float, values))


def _grid(section: Section, fixed: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Reads the values to try."""
    grid = _parameters(section, "grid")
    for name, values in grid.items():
        if not isinstance(values, list) or not values:
            raise section.error(f"grid.{name}", values, "a non-empty list of values to try")
        if any(value in values[:i] for i, value in enumerate(values)):
            raise section.error(f"grid.{name}", values, "values without repetition")
        if name in fixed:
            raise section.error(
                f"grid.{name}",
                values,
                "a hyperparameter that is not fixed in kwargs as well",
            )
    return {name: tuple(values) for name, values in grid.items()}


def parse(data: Mapping[str, Any], source: str = "experiment") -> Experiment:
    """Checks an experiment.

    Args:
        data: The parsed TOML.
        source: Where it came from, for messages.

    Returns:
        The experiment with every default filled in.

    Raises:
        ExperimentError: At an unknown or missing key, or a value that makes no sense; names the
        field, the value found
            and what was expected.
    """
    top = Section(data, source)
    name, seed = top.text("name"), top.integer("seed", 0, minimum=0)
    if seed >= 1 << 63:
        raise top.error("seed", seed, "a whole number in [0, 2**63)")
    judging, tuning = (
        top.integer("judging_seeds", minimum=1),
        top.integer("tuning_seeds", 3, minimum=0),
    )
    budget, tolerances = (
        top.integer("budget", minimum=1),
        _tolerances(top, (1e-1, 1e-3, 1e-5)),
    )
    cost, metric = top.text("cost", None), top.text("metric", None)
    best = top.boolean("best_so_far", True)
    selection = top.choice("selection", tuple(SELECTIONS), "final")
    modules, axes = _names(top, "modules", "names of modules"), _names(top, "axes", "ledger columns")

    environments: list[EnvironmentEntry] = []
    labels: list[str] = []
    for entry in top.sections("environments"):
        identifier = entry.text("id")
        levels = _tolerances(entry, tolerances)
        if len(levels) != len(tolerances):
            raise entry.error(
                "tolerances",
                list(levels),
                f"{len(tolerances)} levels, as many as the experiment has",
            )
        environments.append(
            EnvironmentEntry(
                id=identifier,
                label=_label(entry, identifier, labels),
                budget=entry.integer("budget", budget, minimum=1),
                cost=entry.text("cost", cost),
                metric=entry.text("metric", metric),
                best_so_far=entry.boolean("best_so_far", best),
                tolerances=levels,
                kwargs=_parameters(entry, "kwargs"),
            )
        )
        entry.close()

    agents: list[AgentEntry] = []
    labels = []
    for entry in top.sections("agents"):
        agent, kwargs = entry.text("name"), _parameters(entry, "kwargs")
        agents.append(AgentEntry(agent, _label(entry, agent, labels), _grid(entry, kwargs), kwargs))
        entry.close()
        if tuning == 0 and len(agents[-1].candidates) > 1:
            raise top.error(
                "tuning_seeds",
                0,
                f"at least 1, because agent {agent!r} has a grid to choose from",
            )

    engine = top.section("engine")
    backend, jobs = (
        engine.choice("backend", BACKENDS, "sequential"),
        engine.integer("jobs", 1, minimum=1),
    )
    engine.close()
    top.close()
    return Experiment(
        name,
        seed,
        tuning,
        judging,
        selection,
        tuple(environments),
        tuple(agents),
        Engine(backend, jobs),
        modules,
        axes,
    )


def load(path: str | os.PathLike[str]) -> Experiment:
    """Reads and checks an experiment file.

    Its folder becomes the last one in which Python looks for modules, for those that the file names.

    Raises:
        ExperimentError: As ``parse``, and at a syntax error, with its line.
        FileNotFoundError: If there is no such file.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")  # some editors begin a file with a mark
    except UnicodeDecodeError as error:
        raise ExperimentError(f"{path}: not a TOML file, which is in UTF-8: {error}") from error
    experiment = _loads(text, str(path))
    folder = str(Path(path).resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    return experiment


def _loads(text: str, source: str) -> Experiment:
    """Parses and checks TOML text."""
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ExperimentError(f"{source}: not a TOML file: {error}") from error
    return parse(data, source)


def builtins() -> list[str]:
    """Returns the names of the packaged experiments."""
    return sorted(
        item.name.removesuffix(".toml") for item in _CONFIGS.iterdir() if item.name.endswith(".toml")
    )


def builtin(name: str) -> Experiment:
    """Returns a packaged experiment by name.

    Raises:
        ExperimentError: If there is none of that name; the message lists those that there are.
    """
    if name not in builtins():
        raise ExperimentError(f"no packaged experiment {name!r}; there are {', '.join(builtins())}")
    return _loads((_CONFIGS / f"{name}.toml").read_text(encoding="utf-8"), f"{name}.toml")

"""One file a run: what was asked, what came out, and under which versions.

A run's name is a hash of everything that can change its numbers, so a rerun finds what is there,
and results of two machines are merged by copying files into one folder. A file is a NumPy ``.npz``
archive of plain arrays, read with ``allow_pickle=False``: nothing in it can run code, and its
checksums expose damage.
"""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from optenvs.bench.hashing import canonical_json, digest
from optenvs.core.files import replace_file

FORMAT = 1
SUFFIX = ".npz"
PHASES = ("tune", "judge")
CALLS, WORK, METRICS, EVALUATED = "calls/", "work/", "metrics/", "evaluated"
OUTSIDE = METRICS + "outside"  # how many points so far were outside of their bounds, and earned no credit
_HEADER = "header"
_TEXTS = ("status", "environment_label", "agent_label", "config", "versions")
_LARGEST = 2**26  # bytes of a file's arrays; those of a run with 512 rows take some 100 kB


def _expect(name: str, value: Any, kind: type) -> None:
    """Refuses what came from a file, or from a caller, with another type."""
    # True is an int in Python, never here
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{name}: found {value!r}, expected {kind.__name__}")


class ResultError(ValueError):
    """A result file that cannot be trusted; the message names the file and the reason."""


@dataclass(frozen=True)
class RunSpec:
    """Everything that can change the numbers of a run, and nothing else.

    Versions are left out on purpose: an environment whose numbers change gets a new version in its
    id, so an upgrade of a dependency does not throw away a week of results. They are written beside
    the curves instead.

    Attributes:
        suite: Name of the experiment.
        environment: Id of the environment, with its version.
        agent: Name of the agent.
        phase: "tune" (chooses hyperparameters) or "judge" (is reported).
        instance: Index of the problem instance.
        repetition: Index of the repetition.
        seed: The resolved seed, in [0, 2**63).
        budget: Allowed calls of the main oracle.
        cost: Ledger column that the budget counts, for example "calls/gradient".
        environment_kwargs: Keyword arguments of the environment.
        hyperparameters: Keyword arguments of the agent.
    """

    suite: str
    environment: str
    agent: str
    phase: Literal["tune", "judge"]
    instance: int
    repetition: int
    seed: int
    budget: int
    cost: str
    environment_kwargs: dict[str, Any] = field(default_factory=dict)
    hyperparameters: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("suite", "environment", "agent", "phase", "cost"):
            _expect(name, getattr(self, name), str)
        for name in ("instance", "repetition", "seed", "budget"):
            _expect(name, getattr(self, name), int)
        for name in ("environment_kwargs", "hyperparameters"):
            _expect(name, getattr(self, name), Mapping)
        if self.phase not in PHASES:
            raise ValueError(f"phase: found {self.phase!r}, expected one of {PHASES}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed: found {self.seed}, expected an integer in [0, 2**63)")
        if not 0 < self.budget < 2**63:
            raise ValueError(f"budget: found {self.budget}, expected an integer in [1, 2**63)")
        # Stored as JSON: going through it now makes a tuple or a numpy scalar equal to what is read
        # back.
        for name in ("environment_kwargs", "hyperparameters"):
            object.__setattr__(self, name, json.loads(canonical_json(getattr(self, name))))

    @property
    def run_id(self) -> str:
        """Sixteen hexadecimal digits of the SHA-256 digest of all fields."""
        return digest(asdict(self)).hex()[:16]

    @property
    def filename(self) -> str:
        """A name that sorts and reads well, unique by its run id."""
        parts = (
            self.environment,
            self.agent,
            f"{self.phase}{self.repetition:03d}",
            self.run_id,
        )
        return "--".join(re.sub(r"[^A-Za-z0-9.]+", "-", part).strip("-") for part in parts) + SUFFIX


@dataclass(frozen=True)
class Measure:
    """How a run is judged; changing it needs no rerun.

    Attributes:
        metric: Curve that is minimised, for example "metrics/gap".
        best_so_far: Whether the best value up to a cost counts, rather than the value at that cost.
        tolerances: Relative accuracies of the profiles, each in (0, 1).
    """

    metric: str = "metrics/gap"
    best_so_far: bool = True
    tolerances: tuple[float, ...] = (1e-1, 1e-3, 1e-5)

    def __post_init__(self) -> None:
        _expect("metric", self.metric, str)
        _expect("best_so_far", self.best_so_far, bool)
        if not self.tolerances or not all(isinstance(t, float) and 0 < t < 1 for t in self.tolerances):
            raise ValueError(f"tolerances: found {self.tolerances}, expected numbers in (0, 1)")


@dataclass(frozen=True, eq=False)
class RunRecord:
    """One finished run.

    Attributes:
        spec: What was asked; gives the run its name.
        status: "ok", "diverged", or "error: " with the reason.
        curves: 1-D arrays of one length T: ledger columns "calls/<oracle>", "time" in seconds, what
            the agent counted itself "work/<kind>",
            "metrics/<name>"; "evaluated" where an environment measures its metrics at some rows only.
        measure: How the run is judged.
        environment_label: Name of the environment in tables and plots.
        agent_label: Name of the agent in tables and plots.
        config: The experiment as plain data, for the report.
        versions: Versions of Python, of the libraries and of the platform.
    """

    spec: RunSpec
    status: str
    curves: Mapping[str, np.ndarray]
    measure: Measure = field(default_factory=Measure)
    environment_label: str = ""
    agent_label: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=lambda: current_versions())

    def __post_init__(self) -> None:
        for name in ("status", "environment_label", "agent_label"):
            _expect(name, getattr(self, name), str)
        _expect("config", self.config, Mapping)
        _expect("versions", self.versions, Mapping)
        for name, version in self.versions.items():
            _expect(f"versions.{name}", version, str)
        if self.status not in ("ok", "diverged") and not self.status.startswith("error: "):
            raise ValueError(f"status: found {self.status!r}, expected 'ok', 'diverged' or 'error: <reason>'")
        curves = {name: _curve(name, values) for name, values in sorted(self.curves.items())}
        lengths = {name: len(values) for name, values in curves.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"curves: expected one length, found {lengths}")
        if self.ok and not (lengths and min(lengths.values())):
            raise ValueError("curves: a run with status 'ok' has at least one row")
        for name in (self.spec.cost, self.measure.metric):
            if self.ok and name not in curves:
                raise ValueError(f"curves: no column {name!r}, found {sorted(curves)}")
        object.__setattr__(self, "curves", curves)
        object.__setattr__(self, "environment_label", self.environment_label or self.spec.environment)
        object.__setattr__(self, "agent_label", self.agent_label or self.spec.agent)

    @property
    def ok(self) -> bool:
        """Whether the run neither diverged nor raised."""
        return self.status == "ok"


@dataclass(frozen=True)
class Scan:
    """What a folder holds.

    Attributes:
        records: Readable runs by run id.
        warnings: One line for each file left out, with the reason; such a run counts as missing.
    """

    records: dict[str, RunRecord]
    warnings: list[str]


def _curve(name: str, values: Any) -> np.ndarray:
    """Returns a read-only copy of a curve, (T,), after checking that it is one."""
    curve = np.array(values)
    if curve.ndim != 1 or curve.dtype.kind not in "fiub":
        raise ValueError(
            f"curves[{name!r}]: expected 1-D numbers, found {curve.dtype} of shape {curve.shape}"
        )
    paid = curve.astype(np.float64)  # unsigned integers would wrap in the differences
    falls = not np.all(np.isfinite(paid)) or np.any(np.diff(paid) < 0)
    if falls and (name == "time" or name.startswith((CALLS, WORK))):
        raise ValueError(f"curves[{name!r}]: a ledger column is finite and never decreases")
    curve.setflags(write=False)
    return curve


def current_versions() -> dict[str, str]:
    """Returns the versions that a result depends on, without importing anything heavy."""
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for name in ("optenvs", "torch", "numpy"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def write(record: RunRecord, directory: str | os.PathLike[str]) -> Path:
    """Writes a run's file, whole or not at all.

    Args:
        record: The run.
        directory: Folder of the results; made if absent.

    Returns:
        The path written. An earlier file of the same run is replaced.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    header: dict[str, Any] = {"format": FORMAT, "run_id": record.spec.run_id}
    header["curves"] = list(record.curves)
    header |= {name: getattr(record, name) for name in _TEXTS}
    header |= {"spec": asdict(record.spec), "measure": asdict(record.measure)}
    text = np.frombuffer(canonical_json(header).encode("ascii"), dtype=np.uint8)
    arrays = {f"curve:{name}": values for name, values in record.curves.items()}
    buffer = io.BytesIO()
    np.savez(buffer, **{_HEADER: text, **arrays})
    return replace_file(folder / record.spec.filename, buffer.getvalue())


def read(path: str | os.PathLike[str]) -> RunRecord:
    """Reads one run.

    Args:
        path: A file written by ``write``.

    Returns:
        The run, checked: archive checksums, format, the shape of every curve, and the run id
        against its content.

    Raises:
        ResultError: If any of that fails.
        FileNotFoundError: If there is no such file.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise ResultError(f"{path}: no file")
    try:
        arrays = _arrays(path)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ResultError(f"{path}: not a readable result file, truncated or damaged ({error})") from error
    try:
        return _record(arrays)
    except KeyError as error:
        raise ResultError(f"{path}: no entry {error} in the result file") from error
    except (TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise ResultError(f"{path}: {error}") from error


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an archive; nothing else is one of its members."""
    # Opened here: NumPy leaves its own handle open where the archive is damaged.
    with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
        size = sum(member.file_size for member in archive.zip.infolist())
        if size > _LARGEST:
            raise ValueError(f"{size:,} bytes unpacked, expected at most {_LARGEST:,}")
        arrays = {name: archive[name] for name in archive.files}
    for name, values in arrays.items():
        if not isinstance(values, np.ndarray):
            raise TypeError(f"its member {name!r} is no array")
    return arrays


def _record(arrays: dict[str, np.ndarray]) -> RunRecord:
    header = json.loads(arrays.pop(_HEADER).tobytes())
    if header["format"] != FORMAT:
        raise ValueError(f"format {header['format']}, expected {FORMAT}")
    measure = header["measure"]
    record = RunRecord(
        spec=RunSpec(**header["spec"]),
        curves={name.removeprefix("curve:"): values for name, values in arrays.items()},
        measure=Measure(**measure | {"tolerances": tuple(measure["tolerances"])}),
        **{name: header[name] for name in _TEXTS},
    )
    # Checksums guard the bytes of an array, not its name in the archive.
    if list(record.curves) != header["curves"]:
        raise ValueError(f"curves {list(record.curves)}, expected {header['curves']}")
    if record.spec.run_id != header["run_id"]:
        raise ValueError(f"run id {header['run_id']} does not belong to its content")
    for axis in record.config.get("axes", ()):
        _expect("config.axes: name", axis, str)
    for key in ("environments", "agents"):
        for entry in record.config.get(key, ()):
            _expect(f"config.{key}: label", entry["label"], str)
            _expect(f"config.{key}: grid", entry.get("grid", {}), Mapping)
    return record


def scan(directory: str | os.PathLike[str]) -> Scan:
    """Reads every run of a folder; an unreadable file is a warning, its run counts as missing."""
    records: dict[str, RunRecord] = {}
    warnings: list[str] = []
    for path in sorted(Path(directory).glob(f"*{SUFFIX}")):
        try:
            record = read(path)
        except (ResultError, FileNotFoundError) as error:
            reason = f"{path}: a link to nowhere" if isinstance(error, FileNotFoundError) else error
            warnings.append(f"{reason}; treated as missing")
            continue
        if record.spec.run_id in records:
            warnings.append(f"{path}: a second copy of run {record.spec.run_id}; left out")
        records.setdefault(record.spec.run_id, record)
    return Scan(records, warnings)

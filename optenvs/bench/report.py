"""The report of a folder of runs: tables, figures, and one HTML page that holds them all."""

from __future__ import annotations

import base64
import functools
import io
import json
import os
import re
import shlex
import tomllib
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from optenvs.bench import plots
from optenvs.bench.experiment import Experiment, builtin, builtins, parse
from optenvs.bench.hashing import canonical_json
from optenvs.bench.manifest import Manifest, read_manifest
from optenvs.bench.results import CALLS, WORK, RunRecord, scan
from optenvs.bench.summary import Comparison
from optenvs.bench.toml_text import to_toml
from optenvs.core.files import replace_file

TABLE = "table.csv"
DPI = 150

_FIGURES: dict[str, tuple[str, Callable[..., Any], str]] = {
    "scores": (
        "Overall",
        plots.scores,
        "Share of targets reached; bar: 95 % bootstrap interval, stratified by environment.",
    ),
    "progress": (
        "Progress by calls",
        plots.progress,
        (
            "Median over seeds; band: first to third quartile. Dots: where a metric is measured at some "
            "points only, such as the ends of epochs. A failed run is infinite from its "
            "last call on, so a line can rise there; cross: here half of the runs have failed."
        ),
    ),
    "progress_time": (
        "Progress by time",
        lambda comparison: plots.progress(comparison, "time"),
        (
            "The same runs by wall-clock time of agent and oracle, which depends on the machine and its "
            "other work. Seeds are computed as one batch; a run's time is its even share of the batch's."
        ),
    ),
    "finals": (
        "Final values",
        plots.finals,
        "A dot a run; tick: median; bar: first to third quartile; cross and number: failed runs.",
    ),
    "data_profiles": (
        "Data profiles",
        plots.data_profiles,
        "Share of problems solved, by the test of Moré and Wild (2009), within a cost.",
    ),
    "performance_profiles": (
        "Performance profiles",
        plots.performance_profiles,
        "Share of problems solved within a multiple of the lowest cost (Dolan and Moré 2002).",
    ),
    "ecdf": (
        "Runtime distributions",
        plots.ecdf,
        "Share of pairs of a run and one of 51 targets reached (Hansen et al. 2021).",
    ),
}

_PAIRED = ("scores", "data_profiles", "performance_profiles", "ecdf")


def report(
    directory: str | os.PathLike[str],
    destination: str | os.PathLike[str] | None = None,
    axes: Sequence[str] = (),
    manifest: Manifest | None = None,
) -> list[Path]:
    """Writes the report of a folder of runs, every file whole or not at all, and none before all are drawn.

    Only the runs of the manifest are reported, so that results of an earlier grid or budget in the same
    folder do not mix with today's.

    Args:
        directory: Folder with the run files.
        destination: Folder of the report; by default the same.
        axes: Ledger columns, such as "calls/samples" or "work:relaxation", for figures of progress besides
            those of the experiment.
        manifest: What to report; by default the folder's own ``manifest.json``, or all runs if it has none.

    Returns:
        The paths written: ``report.html`` first, then ``table.csv``, ``table.md`` and the PNG
        files.

    Raises:
        ValueError: If there are no judged runs, or runs that must not be compared, or no run has one of
            ``axes``.
    """
    source = Path(directory)
    folder = Path(destination) if destination is not None else source
    folder.mkdir(parents=True, exist_ok=True)
    manifest = manifest or read_manifest(source)
    records, notes = _selected(source, manifest)
    comparison = Comparison(records)
    table = comparison.table()
    files = {
        folder / "report.html": b"",
        folder / TABLE: table.to_csv(index=False).encode(),
        folder / "table.md": _markdown(table).encode(),
    }
    figures = []
    for key, (title, draw, caption) in (_FIGURES | _more_progress(comparison, axes, notes)).items():
        if key in _PAIRED and not comparison.problems:
            continue  # no problem that all agents have run: the notes say what is missing
        data = files[folder / f"{key}.png"] = _png(draw(comparison))
        figure = {"key": key, "title": title, "caption": caption, "data": base64.b64encode(data).decode()}
        # its size on paper, so that text is of one size in all figures
        figures.append(figure | {"width": round(int.from_bytes(data[16:20], "big") * 108 / DPI)})
    command = _command(comparison.config, manifest.source if manifest else "", source)
    page = _page(comparison, table, figures, notes + comparison.notes, command)
    files[folder / "report.html"] = page.encode()
    return [replace_file(path, content) for path, content in files.items()]


def _more_progress(comparison: Comparison, axes: Sequence[str], notes: list[str]) -> dict[str, Any]:
    """Figures of progress along other ledger columns: the experiment's own, and ``axes``."""
    known = {
        name
        for cell in comparison.cells.values()
        for record in cell.records
        for name in record.curves
        if name == "time" or name.startswith((CALLS, WORK))
    }
    found: dict[str, Any] = {}
    for axis in dict.fromkeys([*comparison.config.get("axes", ()), *axes]):
        column = axis.replace(":", "/", 1)
        column = column if column in known else CALLS + axis
        if column not in known:
            lacking = f"axes: no ledger column {axis!r}; there are {', '.join(sorted(known))}"
            if axis in axes:
                raise ValueError(lacking)
            notes.append(lacking)  # of a file, whose runs are done: all else can still be told
            continue
        name = column.removeprefix(CALLS).replace("/", "_")
        draw = functools.partial(plots.progress, axis=column)
        found["progress_" + re.sub(r"[^\w.-]", "-", name)] = (
            f"Progress by {name}",
            draw,
            "Median over seeds; band: quartiles.",
        )
    return found


def _selected(folder: Path, manifest: Manifest | None) -> tuple[list[RunRecord], list[str]]:
    """The runs to report, and what a reader must know about those that are not."""
    found = scan(folder)
    records, notes = found.records, list(found.warnings)
    if manifest is not None:
        wanted = manifest.runs
        other = sum(r.spec.phase == "judge" for name, r in records.items() if name not in set(wanted))
        if other:
            notes.append(f"{other} judged runs of earlier settings in the folder are not shown")
        records = {name: records[name] for name in wanted if name in records}
        if len(records) < len(wanted):
            notes.append(f"{len(wanted) - len(records)} of {len(wanted)} runs are not done yet")
    return list(records.values()), notes


def _png(figure: Any) -> bytes:
    """A figure as PNG, without the software's version: the same figure is the same file."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():  # a label may have signs that the font lacks: it draws a box
        warnings.filterwarnings("ignore", r"Glyph .* missing from font")
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def _number(value: float) -> str:
    """Four significant digits, or the sign of a failure."""
    return "∞" if value == np.inf else f"{value:.4g}"


def _interval(low: float, high: float) -> str:
    """An interval in words; one run has none."""
    return "one run only" if np.isnan(low) else f"[{_number(low)}, {_number(high)}]"


def _text(hyperparameters: str) -> str:
    """Hyperparameters as ``lr=0.01, beta=0.9``."""
    return ", ".join(f"{key}={value}" for key, value in json.loads(hyperparameters).items()) or "defaults"


def read_table(path: Path) -> pd.DataFrame:
    """The table of a report, with its texts as they were written: "NA", "1" and "null" are names here."""
    texts: Any = dict.fromkeys(("environment", "agent", "metric", "cost", "hyperparameters"), str)
    absent: Any = {"ci_low": [""], "ci_high": [""]}  # intervals of one run
    return pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=absent)


def table_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The table's rows as text, in the order of the table."""
    lowest = table.groupby("environment")["median"].transform("min")
    rows = []
    previous = None
    for row, best in zip(table.to_dict("records"), lowest, strict=True):
        rows.append(
            {
                **row,
                "first": row["environment"] != previous,
                # a billionth of the progress is rounding, no difference between agents
                "best": np.isfinite(best) and row["median"] <= best + 1e-9 * max(row["start"] - best, 0.0),
                "budget": f"{row['budget']:,}",
                "median": _number(row["median"]),
                "iqm": _number(row["iqm"]),
                "interval": _interval(row["ci_low"], row["ci_high"]),
                "hyperparameters": _text(row["hyperparameters"]),
            }
        )
        previous = row["environment"]
    return rows


def _markdown(table: pd.DataFrame) -> str:
    """The table for a README or a paper's appendix."""
    heads = (
        "environment",
        "agent",
        "metric",
        "budget",
        "median",
        "IQM",
        "95 % CI of IQM",
        "failures",
        "parameters",
    )
    lines = [" | ".join(heads), " | ".join("---" for _ in heads)]
    for row in table_rows(table):
        cells = [
            row["environment"],
            row["agent"],
            row["metric"],
            f"{row['budget']} {row['cost']}",
            row["median"],
        ]
        cells += [
            row["iqm"],
            row["interval"],
            f"{row['failures']} / {row['runs']}",
            row["hyperparameters"],
        ]
        lines.append(" | ".join(_as_written(str(cell)) for cell in cells))
    return "".join(f"| {line} |\n" for line in lines)


def _as_written(text: str) -> str:
    """Text whose signs mean nothing in Markdown: no emphasis, no mathematics, no end of a cell."""
    text = re.sub(r"[\\`*\[\]<>|$~&]", r"\\\g<0>", " ".join(text.split()))
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)  # within a word it means nothing


def _other_metrics(comparison: Comparison) -> list[dict[str, Any]]:
    """For each environment the table of its other metrics: their names, and a row of texts an agent."""
    tables = []
    for environment, table in comparison.other_metrics().groupby("environment", sort=False):
        known = table.drop(columns=["environment", "agent"]).dropna(axis="columns", how="all")
        rows = [
            (agent, ["–" if np.isnan(value) else _number(value) for value in values])
            for agent, values in zip(table["agent"], known.to_numpy(dtype=float), strict=True)
        ]
        names = [name.replace("_", " ") for name in known.columns]
        tables.append({"environment": environment, "names": names, "rows": rows})
    return tables


def _command(config: Mapping[str, Any], source: str, folder: Path) -> str:
    """The command that repeats an experiment: by its packaged name, or from its file."""
    name = str(config.get("name", "experiment"))
    if not source:
        source = name if name in builtins() and _same(config, builtin(name)) else f"{name}.toml"
    return f"optenvs bench {shlex.quote(source)} --out {shlex.quote(str(folder))}"


def _same(config: Mapping[str, Any], experiment: Experiment) -> bool:
    packaged = json.loads(canonical_json(experiment.to_dict()))
    return {**packaged, "engine": None} == {**config, "engine": None}


def _as_file(config: Mapping[str, Any]) -> str:
    """The experiment as its file; empty where the records hold no whole one."""
    try:
        text = to_toml(config)
        parse(tomllib.loads(text))
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""
    return text


def _page(
    comparison: Comparison,
    table: pd.DataFrame,
    figures: list[dict[str, str]],
    notes: list[str],
    command: str,
) -> str:
    """The HTML page, whole in one file."""
    import jinja2

    template = (resources.files("optenvs.bench") / "templates" / "report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    records = [record for cell in comparison.cells.values() for record in cell.records]
    versions: dict[str, set[str]] = {}
    for record in records:
        for key, value in record.versions.items():
            versions.setdefault(key, set()).add(value)
    scores = [
        {
            "agent": agent,
            "estimate": f"{s.estimate:.3f}",
            "interval": _interval(s.low, s.high),
        }
        for agent, s in comparison.scores.items()
    ]
    return environment.from_string(template).render(
        name=records[0].spec.suite,
        facts=[
            (len(comparison.environments), "environments"),
            (len(comparison.agents), "agents"),
            (len(records), "judged runs"),
            (sum(not record.ok for record in records), "failed runs"),
        ],
        notes=notes,
        scores_head=("agent", "share of targets reached (IQM)", "95 % CI"),
        scores=scores,
        tightest=f"{min(min(r.measure.tolerances) for r in records):g}",
        rows=table_rows(table),
        others=_other_metrics(comparison),
        figures=figures,
        command=command,
        experiment=_as_file(comparison.config),
        versions=[(key, ", ".join(sorted(values))) for key, values in sorted(versions.items())],
    )

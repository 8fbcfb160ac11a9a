"""Figures of a comparison; Matplotlib is imported only when one is drawn, no window is opened.

Every agent has one colour and one dash in all figures (``style``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np

from optenvs.bench.profiles import (
    data_profile,
    performance_profile,
    performance_ratios,
    runtime_ecdf,
)
from optenvs.bench.results import WORK
from optenvs.bench.statistics import bootstrap_band, median, quantile
from optenvs.bench.style import (
    FAINT,
    floor,
    is_log,
    legend,
    line_style,
    panels,
    plain,
    share_labels,
    span,
    styled,
    tidy,
    tidy_ratio,
)
from optenvs.bench.summary import Cell, Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GRID_POINTS = 200


def progress(
    comparison: Comparison,
    axis: str | None = None,
    band: Literal["quartiles", "bootstrap"] = "quartiles",
) -> Figure:
    """Metric against cost, one panel an environment: median line and band.

    Args:
        comparison: The runs.
        axis: Ledger column, "work/<kind>" or "time"; None for the column that the budget counts.
        band: Spread of the runs (first to third quartile), or the 95 % bootstrap interval of the
            median.

    Returns:
        The figure. A line ends at the budget; along another axis it ends with its longest run.
    """
    with styled():
        figure, axes_list = panels(len(comparison.environments))
        for axes, environment in zip(axes_list, comparison.environments, strict=True):
            row = [c for c in comparison.row(environment) if _reach(c, axis) > 0]
            _progress_panel(axes, comparison, row, axis, band)
            axes.set_title(plain(environment))
        legend(figure, comparison.agents)
    return figure


def _reach(cell: Cell, axis: str | None) -> float:
    """Largest cost that a cell's line is drawn to."""
    if axis is None or axis == cell.records[0].spec.cost:
        return float(cell.records[0].spec.budget)
    return max(
        (float(r.curves[axis][-1]) for r in cell.records if len(r.curves.get(axis, ()))),
        default=0.0,
    )


def _progress_panel(axes: Axes, comparison: Comparison, row: list[Cell], axis: str | None, band: str) -> None:
    """One environment of ``progress``."""
    if not row:
        axes.text(
            0.5,
            0.5,
            "no such column",
            transform=axes.transAxes,
            ha="center",
            color=FAINT,
        )
        return
    points = {c.agent: c.measured(axis or c.records[0].spec.cost) for c in row}
    grids: dict[str, np.ndarray] = {}
    for c in row:
        known = points[c.agent]
        grids[c.agent] = np.linspace(0, _reach(c, axis), GRID_POINTS) if known is None else known
    curves = {c.agent: c.curves(grids[c.agent], axis) for c in row}
    medians = np.concatenate([np.median(c, axis=0) for c in curves.values()])
    log = is_log(medians)
    low = floor(medians, log)
    for agent, values in curves.items():
        grid, line = grids[agent], line_style(comparison.agents, agent)
        if points[agent] is not None:
            line |= {"marker": "o", "ms": 3.5}
        centre = np.median(values, axis=0)
        lower, upper = (
            bootstrap_band(values) if band == "bootstrap" else (quantile(values, q) for q in (0.25, 0.75))
        )
        shown = np.isfinite(centre)
        # An infinite upper end (a failed run) leaves the panel through its top rather than
        # vanishing.
        top = np.where(np.isfinite(upper), upper, np.finfo(np.float32).max)
        axes.fill_between(
            grid,
            np.maximum(lower, low),
            np.maximum(top, low),
            where=shown,
            color=line["color"],
            alpha=0.12,
            lw=0,
        )
        axes.plot(grid, np.maximum(centre, low), **line)
        failed = comparison.cells[row[0].environment, agent].failures
        if (
            not shown[-1] and failed
        ):  # the end of a line that failed is marked, or it looks like an unfinished one
            last = np.flatnonzero(shown)[-1:]
            axes.plot(
                grid[last],
                np.maximum(centre[last], low),
                marker="X",
                ms=7,
                color=line["color"],
                mec="white",
            )
    known = medians[np.isfinite(medians)]
    if known.size:
        # The medians set the limits: one wide band must not squeeze all lines into one.
        axes.set_ylim(*span(np.maximum(known, low), log))
    tidy(axes, log)
    first = row[0].records[0]
    axes.set_xlim(0, max(_reach(c, axis) for c in row))
    axes.set_xlabel(_axis_name(axis or first.spec.cost))
    axes.set_ylabel(_metric_name(first.measure.metric, first.measure.best_so_far))


def _axis_name(column: str) -> str:
    """A ledger column in words."""
    if column.startswith(WORK):
        return plain(f"{column.removeprefix(WORK).replace('_', ' ')} (own work)")
    return "time (s)" if column == "time" else plain(f"{column.removeprefix('calls/')} calls")


def _metric_name(column: str, best: bool) -> str:
    """A metric in words."""
    name = plain(column.removeprefix("metrics/").replace("_", " "))
    return f"best {name} so far" if best else name


def finals(comparison: Comparison) -> Figure:
    """Metric at the budget, one panel an environment: a dot a run, median, interquartile range.

    Failed runs stand as crosses in a lane of their own at the right: they have no value, and must
    be seen.
    """
    with styled():
        height = 0.3 * len(comparison.agents) + 1.0
        figure, axes_list = panels(len(comparison.environments), height=height)
        for axes, environment in zip(axes_list, comparison.environments, strict=True):
            _finals_panel(axes, comparison, comparison.row(environment))
            axes.set_title(plain(environment))
            share_labels(axes)
    return figure


def _finals_panel(axes: Axes, comparison: Comparison, row: list[Cell]) -> None:
    """One environment of ``finals``."""
    values = np.concatenate([c.finals for c in row])
    known = values[np.isfinite(values)]
    log = is_log(known)
    low = floor(known, log)
    jitter = np.random.default_rng(0)
    axes.set_xlim(*span(np.maximum(known, low), log))
    tidy(axes, log, "x")
    for cell in row:
        y = comparison.agents.index(cell.agent)
        colour = line_style(comparison.agents, cell.agent)["color"]
        fine = np.maximum(cell.finals[np.isfinite(cell.finals)], low)
        axes.scatter(
            fine,
            y + jitter.uniform(-0.16, 0.16, len(fine)),
            s=14,
            color=colour,
            alpha=0.45,
            lw=0,
        )
        middle = np.maximum(median(cell.finals), low)
        ends = [np.maximum(quantile(cell.finals, q), low) for q in (0.25, 0.75)]
        ends = np.minimum(ends, axes.get_xlim()[1])
        axes.plot(ends, [y, y], color=colour, lw=2.2, solid_capstyle="butt")
        if np.isfinite(middle):
            axes.plot(middle, y, marker="|", ms=13, mew=2.6, color=colour)
        if lost := len(cell.finals) - len(fine):
            place = {"transform": axes.get_yaxis_transform(), "clip_on": False}
            axes.plot(1.03, y, marker="X", ms=6, color=colour, mec="white", **place)
            axes.text(1.07, y, str(lost), va="center", fontsize=8, **place)
    axes.set_yticks(range(len(comparison.agents)), [plain(agent) for agent in comparison.agents])
    axes.set_ylim(len(comparison.agents) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    first = row[0].records[0]
    axes.set_xlabel(_metric_name(first.measure.metric, False) + f" at {first.spec.budget:,} calls")


def _steps(
    comparison: Comparison,
    titles: list[str],
    label: str,
    lines: Callable[[int], tuple[np.ndarray, np.ndarray]],
) -> Figure:
    """Panels of step lines that rise from 0 to at most 1."""
    with styled():
        figure, axes_list = panels(len(titles))
        for i, (axes, title) in enumerate(zip(axes_list, titles, strict=True)):
            grid, shares = lines(i)
            for agent, share in zip(comparison.agents, shares, strict=True):
                axes.step(grid, share, where="post", **line_style(comparison.agents, agent))
            axes.set(ylim=(-0.02, 1.04), xlim=(grid[0], grid[-1]), xlabel=label, title=plain(title))
            tidy_ratio(axes, percent=grid[-1] == 1)
            axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
            share_labels(axes)
        axes_list[0].set_ylabel("share of problems solved")
        legend(figure, comparison.agents)
    return figure


def _levels(comparison: Comparison) -> list[str]:
    """Titles of the tolerance levels; environments may differ in them."""
    sets = {c.records[0].measure.tolerances for c in comparison.cells.values()}
    if len(sets) == 1:
        return [f"to accuracy {tolerance:g}" for tolerance in next(iter(sets))]
    return [
        "to accuracy " + " or ".join(f"{v:g}" for v in sorted(set(level), reverse=True))
        for level in zip(*sets, strict=True)
    ]


def performance_profiles(comparison: Comparison) -> Figure:
    """Performance profiles (Dolan and Moré 2002), one panel a tolerance."""
    costs = comparison.costs()

    def lines(level: int) -> tuple[np.ndarray, np.ndarray]:
        ratios = performance_ratios(costs[:, :, level])
        worst = max((float(r) for r in ratios.ravel() if np.isfinite(r)), default=1.0)
        grid = np.geomspace(1.0, max(worst * 1.1, 2.0), 400)
        return grid, performance_profile(costs[:, :, level], grid)

    return _steps(comparison, _levels(comparison), "cost relative to the cheapest agent", lines)


def data_profiles(comparison: Comparison) -> Figure:
    """Data profiles (Moré and Wild 2009) in units of the budget, one panel a tolerance."""
    costs = comparison.costs()
    grid = _budget_grid(comparison)
    units = np.ones(len(costs))
    return _steps(
        comparison,
        _levels(comparison),
        "cost as a share of the budget",
        lambda level: (grid, data_profile(costs[:, :, level], units, grid)),
    )


def _budget_grid(comparison: Comparison) -> np.ndarray:
    """Shares of the budget from one call of the largest budget, but at most three decades."""
    budget = max(c.records[0].spec.budget for c in comparison.cells.values())
    return np.geomspace(min(max(1 / budget, 1e-3), 0.1), 1.0, 400)


def ecdf(comparison: Comparison) -> Figure:
    """Runtime distributions over 51 targets (Hansen et al. 2021): overall, and by environment."""
    costs, grid = comparison.ecdf_costs, _budget_grid(comparison)
    names = np.array([environment for environment, _ in comparison.problems])
    titles = (
        ["All environments", *dict.fromkeys(names.tolist())] if len(set(names)) > 1 else sorted(set(names))
    )

    def lines(i: int) -> tuple[np.ndarray, np.ndarray]:
        everything = i == 0 and len(titles) > 1  # by place: an environment may be labelled so
        chosen = costs if everything else costs[names == titles[i]]
        return grid, runtime_ecdf(chosen, grid)

    figure = _steps(comparison, titles, "cost as a share of the budget", lines)
    figure.axes[0].set_ylabel("share of (run, target) pairs")
    return figure


def scores(comparison: Comparison) -> Figure:
    """Share of targets reached: interquartile mean, stratified 95 % bootstrap interval."""
    intervals = comparison.scores
    with styled():
        figure, (axes,) = panels(1, width=6.5, height=0.34 * len(intervals) + 0.8)
        for y, (agent, (centre, low, high)) in enumerate(intervals.items()):
            colour = line_style(comparison.agents, agent)["color"]
            axes.plot(
                [low, high],
                [y, y],
                color=colour,
                lw=9,
                alpha=0.35,
                solid_capstyle="butt",
            )
            axes.plot(centre, y, marker="|", ms=14, mew=3, color=colour)
        axes.set_yticks(range(len(intervals)), [plain(agent) for agent in intervals])
        axes.set_ylim(len(intervals) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
        axes.set(
            xlim=(-0.02, 1.02),
            xlabel="share of targets reached within the budget (interquartile mean, 95 % CI)",
        )
    return figure

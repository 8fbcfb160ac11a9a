"""The look of all figures: colours, dashes, panels, scales.

The colours are those of Okabe and Ito, which remain apart for every common kind of colour
blindness; the dashes keep them apart in print.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
INK, FAINT = "#333333", "#8a8a8a"
LOG_DECADES = 1.2  # a metric spanning more than this is read on a logarithmic axis

_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": "white",
    "figure.dpi": 110,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}


@contextmanager
def styled() -> Iterator[None]:
    """The look of all figures, without touching the user's settings."""
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        yield


def plain(text: str) -> str:
    """A user's text for Matplotlib, which would take what stands between two dollars for mathematics."""
    return text.replace("$", r"\$")


def line_style(agents: Sequence[str], agent: str) -> dict[str, Any]:
    """Colour and dash of an agent; the pairs repeat only after all colours and dashes."""
    i = list(agents).index(agent)
    turn, place = divmod(i, len(COLOURS))
    return {"color": COLOURS[place], "linestyle": DASHES[(place + turn) % len(DASHES)]}


def panels(count: int, width: float = 3.5, height: float = 2.7) -> tuple[Figure, list[Axes]]:
    """A figure of small multiples, three or four a row, with room for a legend on top."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = min(count, 4 if count > 6 and count != 9 else 3)
    rows = math.ceil(count / columns)
    figure = Figure(
        figsize=(max(width * columns, 5.0), height * rows + 0.45),
        layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06),
    )
    FigureCanvasAgg(figure)  # not pyplot: no global list of figures, no display
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for empty in axes[count:]:
        empty.remove()
    return figure, axes[:count]


def legend(figure: Figure, agents: Sequence[str]) -> None:
    """One legend for all panels, above them."""
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], **line_style(agents, agent)) for agent in agents]
    # Two rows once one would be wider than the figure; about 0.085 inch a letter and 0.55 inch a
    # line sample.
    width = sum(0.085 * len(agent) + 0.55 for agent in agents)
    rows = math.ceil(width / figure.get_figwidth())
    columns = math.ceil(len(lines) / rows)
    # labels apart from the lines, whose own are left out where they begin with "_"
    texts = [plain(agent) for agent in agents]
    figure.legend(lines, texts, loc="outside upper center", ncols=columns, handlelength=2.6)


def is_log(values: np.ndarray) -> bool:
    """Whether positive values span so many decades that a linear axis would show one of them."""
    known = values[np.isfinite(values)]
    # A gap a little below zero is the rounding of a known optimum, no reason for a linear axis.
    if not known.size or known.min() < -1e-12 * np.abs(known).max():
        return False
    positive = known[known > 0]
    return bool(positive.size and np.log10(positive.max() / positive.min()) > LOG_DECADES)


def floor(values: np.ndarray, log: bool) -> float:
    """Lowest value drawn on a logarithmic axis; zero is drawn there too.

    Just below the smallest positive value, but within the sixteen digits of a float64 of the
    largest: below that is rounding, which must not take most of the panel.
    """
    if not log:
        return -np.inf
    positive = values[(values > 0) & np.isfinite(values)]
    return max(0.5 * float(positive.min()), 1e-16 * float(positive.max()))


def span(values: np.ndarray, log: bool) -> tuple[float, float]:
    """Limits around finite values, with a margin."""
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    if log:
        pad = (high / low) ** 0.05
        return low / pad, high * pad
    pad = 0.05 * (high - low) or 0.5
    return low - pad, high + pad


def tidy(axes: Axes, log: bool, which: Literal["x", "y"] = "y") -> None:
    """Scale and tick marks of a metric's axis: few labels, and never one cut off."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    if log:
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
        axis.set_major_locator(LogLocator(numticks=6))
        axis.minorticks_off()
    else:
        axis.set_major_locator(MaxNLocator(5))


def share_labels(axes: Axes) -> None:
    """Leaves the labels of a common y axis to the first panel of each row."""
    place = axes.get_subplotspec()
    if place is not None and not place.is_first_col():
        axes.tick_params(axis="y", labelleft=False)


def tidy_ratio(axes: Axes, percent: bool) -> None:
    """Logarithmic x axis with plain numbers: ratios (1, 2, 5, 10, ...) or percents."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = axes.get_xlim()
    axes.set_xscale("log")
    # Few decades leave room for the steps between, many do not.
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 200 else (1,)))
    axes.xaxis.set_minor_locator(NullLocator())
    factor, unit = (100, " %") if percent else (1, "")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{factor * x:g}{unit}"))

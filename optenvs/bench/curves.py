"""From a batched rollout to the curves of its runs, cut at each run's end and thinned to a bounded size."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from optenvs.bench.plan import error_name
from optenvs.bench.results import CALLS, EVALUATED, METRICS, OUTSIDE, WORK
from optenvs.core.env import OptimizationEnv
from optenvs.core.evaluations import due, times
from optenvs.core.rollout import Run

ROWS = 512
_HEAD = 64  # the first rows stay whole: profiles have a logarithmic axis of costs


def measure_end(env: OptimizationEnv, run: Run) -> dict[str, Tensor]:
    """The metrics of a run, (T + 1, B) each, with the last row measured at the point where the run stopped.

    A budget need not end with an epoch; without this the value at the budget would be an epoch old.
    """
    if env.evaluations is None or all(due(env.evaluations, k) for k in run.state.k.tolist()):
        return run.metrics
    with torch.no_grad():
        end = env.evaluate(run.state).metrics
    last = run.done.int().argmax(0)  # an episode that is over repeats its last row
    last = torch.where(run.done.any(0), last, len(run.done) - 1)
    row = torch.arange(len(run.done), device=last.device).unsqueeze(-1)
    return {name: torch.where(row >= last, end[name], values) for name, values in run.metrics.items()}


def split_curves(
    env: OptimizationEnv, run: Run, cost: str, metric: str, rows: int = ROWS
) -> list[dict[str, np.ndarray]]:
    """The curves of every run of a batch.

    Args:
        env: Where it ran.
        run: The rollout, B instances.
        cost: Ledger column of the budget.
        metric: Curve that is minimised; thinning keeps its minima.
        rows: Largest length of a curve.

    Returns:
        For each instance its curves of one length: ledger columns, metrics (and an error rate beside every
        accuracy), the merit, and time: the batch's seconds divided evenly among its runs, since a batch is
        one computation and no part of it belongs to one run. Where an environment measures some metrics at
        some rows only, "evaluated" marks these. Where a query may lie outside of the bounds, every metric is
        that of the last point inside, and the metric "outside" counts the points outside so far.
    """
    batch = len(run.state.k)
    columns = {METRICS + name: _credited(run, values) for name, values in measure_end(env, run).items()}
    if OUTSIDE in columns:
        columns[OUTSIDE] = run.metrics[OUTSIDE.removeprefix(METRICS)].cumsum(0)
    columns.setdefault(METRICS + "merit", _credited(run, run.merit))
    for name in list(columns):
        if derived := error_name(name):
            columns[derived] = 1 - columns[name]
    columns |= {CALLS + kind: counts for kind, counts in run.calls.items()}
    if run.work is not None:
        columns |= {WORK + kind: counts for kind, counts in run.work.items()}
    arrays = {name: values.detach().cpu().numpy() for name, values in columns.items()}
    done, seconds = run.done.cpu().numpy(), run.seconds.cpu().numpy() / batch
    curves = []
    for i in range(batch):
        ends = np.flatnonzero(done[:, i])
        count = int(ends[0]) + 1 if ends.size else len(done)
        mine = {name: values[:count, i] for name, values in arrays.items()} | {"time": seconds[:count]}
        measured = np.arange(0)
        if env.evaluations is not None:
            measured = np.unique([*times(env.evaluations, count), count - 1])
            mine[EVALUATED] = np.isin(np.arange(count), measured)
        keep = kept_rows(mine[cost], mine[metric], measured, rows)
        curves.append({name: values[keep] for name, values in mine.items()})
    return curves


def _credited(run: Run, values: Tensor) -> Tensor:
    """A metric ``(T + 1, B)``; where the recommendation was outside of its bounds, as it was before."""
    outside = run.metrics.get("outside")
    if outside is None or not bool(outside.any()):
        return values
    row = torch.arange(len(values), device=values.device).unsqueeze(-1)
    last = torch.where(outside > 0, 0, row).cummax(0).values  # the start lies inside
    return values.gather(0, last)


def kept_rows(cost: np.ndarray, values: np.ndarray, always: np.ndarray, limit: int = ROWS) -> np.ndarray:
    """Which rows of a long curve to keep: at most ``limit``, on a grid of costs.

    The first 64 rows stay whole. Of each cell of the grid its last row and the row with the
    lowest value stay, so that on the grid both the value and the best so far are exact.

    Args:
        cost: (T,) non-decreasing.
        values: (T,) the minimised metric.
        always: Rows that stay if they are at most a quarter of the limit: those of evaluations.
        limit: Number of rows to keep.

    Returns:
        Row numbers, increasing, the first and the last of them 0 and T - 1.
    """
    count = len(cost)
    if count <= limit:
        return np.arange(count)
    always = always if len(always) <= limit // 4 else always[:0]
    head = min(_HEAD, limit // 8)
    cells = max((limit - head - len(always) - 1) // 2, 1)
    edges = np.linspace(cost[head - 1], cost[-1], cells + 1)[1:]
    ends = np.searchsorted(cost, edges, side="right")
    starts = np.append(head, ends[:-1])
    filled = ends > starts
    known = np.where(np.isnan(values), np.inf, values)
    lowest = [
        start + int(np.argmin(known[start:end]))
        for start, end in zip(starts[filled], ends[filled], strict=True)
    ]
    return np.unique(np.concatenate([np.arange(head), always, lowest, ends[filled] - 1, [count - 1]]))

"""Two levels at an equal bill: every registered method on every problem whose assumptions it meets.

    python examples/bilevel_methods.py --out bilevel.png

A bill counts derivatives as the problems do: 1 for a gradient or a pullback, 2 for a product with the lower
Hessian, 1 for an exact hypergradient; an exact lower solution is free where it is a closed form, and costs 15
where it is a support vector machine, as does, beside that 1, the hypergradient there, which rests on it. All
methods start with their defaults, from the same random starts. Drawn, and printed at two bills, is the median
over the instances of Phi(x) - Phi*, the best so far as a share of that at the start: F at the exact lower
solution of the x that the method stands behind, whatever its own y is. Where Phi* is unknown it is the least
Phi that any of the methods has found for that instance.

With ``--bill 3000 --batch 4``, at bills of 500 and 3,000; a dash where a method refuses, by name and with
the reason, a problem whose assumptions it lacks:

                             toy        strong    inequality           svm      cleaning         ridge
    at a bill of       500  3000     500  3000     500  3000     500  3000     500  3000     500  3000
    lv_hba            .075 .0086     .64  .071     .27  4e-6       1     1       1     1       1     1
    bic_gaffa          .98   .51     .99   .93     .97   .86       1     1       1     1     .98   .94
    blocc                1     1       1   .99       1   .96       1     1       1     1       1     1
    bvfsm              .95   .70     .99   .96     .93   .53       1     1       1     1       1     1
    aipod                -     -     .38  1e-4       -     -       -     -       -     -       1   .98
    e_aipod              -     -     .19     0       -     -       -     -       -     -       1   .98
    gam                  -     -   .0022  2e-9       0     0     .96   .40     .83   .20       1   .97
    implicit_gradient    -     -    8e-4 2e-12       -     -       -     -       -     -     .99  .011
    hypergradient        0     0       0     0       0     0       1     0       1     0   .0010     0
    unrolled             -     -       -     -       -     -       -     -       -     -       1   .97
    stoc_bio             -     -       -     -       -     -       -     -       -     -     .99   .95
    f2sa                 -     -       -     -       -     -       -     -       -     -       1   .99

It takes four and a half minutes of processor time. On the last three, where Phi* is unknown, 0 is the least
that any method has found at the larger bill.

Exact descent on Phi is ahead of all others even where a step of it costs 31; gam, whose steps rest on exact
solutions, too, comes next where there are inequalities. Of the methods that ask for gradients alone lv_hba is
ahead on the first three; 3,000 derivatives are 500 iterations of it. On the support vector machines, where 1
means that less than half a per cent has gone, they are too few: the default alpha of lv_hba follows from the
curvature of F, 100 and more there, and Phi is measured every 20 queries alone. BLOCC makes 400 steps below
for one of x, which 3,000 derivatives hardly pay. ``unrolled``, ``stoc_bio`` and ``f2sa`` refuse constraints:
they run on ``ridge`` alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import agents
import optenvs
from optenvs.core import OptimizationEnv, Run
from optenvs.core.picture import new_figure

METHODS = (
    "lv_hba",
    "bic_gaffa",
    "blocc",
    "bvfsm",
    "aipod",
    "e_aipod",
    "gam",
    "implicit_gradient",
    "hypergradient",
    "unrolled",
    "stoc_bio",
    "f2sa",
)
"""Names of agents; one that is not registered is passed over, and one that refuses a problem says why."""


def ridge(**keywords: Any) -> OptimizationEnv:
    """A penalty for each of ten inputs of a linear regression on the diabetes data: no constraints."""
    from sklearn.datasets import load_diabetes

    inputs, target = (torch.from_numpy(part) for part in load_diabetes(return_X_y=True))
    inputs, target = inputs / inputs.std(0), (target - target.mean()) / target.std()
    (a, c), (b, d) = inputs.split((40, len(inputs) - 40)), target.split((40, len(target) - 40))

    def upper(x: Tensor, y: Tensor) -> Tensor:
        return (c.to(y) @ y - d.to(y)).square().mean() / 2

    def lower(x: Tensor, y: Tensor) -> Tensor:
        return (a.to(y) @ y - b.to(y)).square().mean() / 2 + (x.exp() * y.square()).sum() / 2

    def solution(x: Tensor) -> Tensor:
        matrix = a.to(x).T @ a.to(x) / len(a) + torch.diag_embed(x.exp())
        return torch.linalg.solve(matrix, a.to(x).T @ b.to(x) / len(a))

    return optenvs.bilevel_from_functions(upper, lower, x=10, y=10, solution=solution, **keywords)


SVM: dict[str, Any] = {"train": 60, "validation": 60, "evaluation_period": 20}
PROBLEMS: dict[str, Callable[..., OptimizationEnv]] = {
    "toy": lambda **k: optenvs.make("BilevelToy", dim=20, **k),
    "strong": lambda **k: optenvs.make("BilevelStrong", dim=20, equations=12, upper_equations=6, **k),
    "inequality": lambda **k: optenvs.make("BilevelInequality", **k),
    "svm": lambda **k: optenvs.make("BilevelSvm", **SVM, **k),
    "cleaning": lambda **k: optenvs.make("BilevelCleaning", **SVM, **k),
    "ridge": ridge,
}
"""Those of the registry at a size at which all run in minutes, and one without constraints."""


@dataclass(frozen=True)
class Course:
    """What a method has spent, and the Phi that it has reached, ``(T, B)`` each."""

    spent: np.ndarray
    value: np.ndarray


def course(run: Run) -> Course:
    """Phi by bill; where it is measured now and then, as it stands."""
    spent = run.calls["derivatives"].numpy().astype(float)
    value = run.metrics["value"].nan_to_num(nan=float("inf")).numpy()
    return Course(spent, np.minimum.accumulate(value))


def compare(problem: str, bill: int, batch: int) -> tuple[dict[str, Course], dict[str, str], np.ndarray]:
    """The courses, why the others refuse, and the least Phi of each instance."""
    env = PROBLEMS[problem](budget=bill, tolerance=None)
    found: dict[str, Course] = {}
    refused: dict[str, str] = {}
    least = None
    for name in METHODS:
        if name not in agents.list_agents():
            refused[name] = "not registered"
            continue
        try:
            run = optenvs.rollout(env, agents.make(name), batch=batch)
        except (TypeError, ValueError) as error:  # a refusal by name
            refused[name] = str(error)
            continue
        found[name] = course(run)
        if "gap" in run.metrics:
            least = (run.metrics["value"] - run.metrics["gap"])[0].numpy()
    if least is None:
        least = np.min([each.value.min(0) for each in found.values()], axis=0)
    return found, refused, least


def shares(each: Course, least: np.ndarray, bills: np.ndarray) -> np.ndarray:
    """The median over the instances of what is left of the first gap at each bill."""
    gap = np.maximum(each.value - least, 0)
    left = []
    for row in range(gap.shape[1]):
        at = np.searchsorted(each.spent[:, row], bills, side="right") - 1
        left.append(gap[np.maximum(at, 0), row] / gap[0, row])
    return np.median(left, axis=0)


def plot(curves: dict[str, dict[str, np.ndarray]], bills: np.ndarray, path: Path) -> None:
    """One panel a problem."""
    figure = new_figure(11, 6.4)
    panels = figure.subplots(2, 3, sharex=True, sharey=True).flatten()
    shown: dict[str, Any] = {}
    for axes, (problem, found) in zip(panels, curves.items(), strict=False):
        for name, curve in found.items():
            i = METHODS.index(name)
            style = {"color": f"C{i % 10}", "linestyle": "-" if i < 10 else "--", "linewidth": 1.8 - 0.05 * i}
            shown[name] = axes.plot(bills, curve.clip(1e-12), label=name, **style)[0]
        axes.set(xscale="log", yscale="log", title=problem, ylim=(1e-11, 2))
        axes.grid(alpha=0.3)
    for axes in panels[len(curves) :]:
        axes.set_axis_off()
    for axes in panels[3:]:
        axes.set_xlabel("derivatives")
    for axes in panels[::3]:
        axes.set_ylabel("gap of Phi, share of the first")
    names = [name for name in METHODS if name in shown]
    figure.legend(
        [shown[name] for name in names], names, loc="outside lower center", ncols=6, fontsize="small"
    )
    figure.savefig(path, dpi=80)


def main(arguments: list[str] | None = None) -> None:
    """Compare, print, draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bill", type=int, default=1200, help="derivatives that an instance may cost")
    parser.add_argument("--batch", type=int, default=8, help="instances")
    parser.add_argument("--only", default="", help="problems whose name holds this")
    parser.add_argument("--out", type=Path, default=Path("bilevel.png"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    bills = np.unique(np.geomspace(4, options.bill, 60).astype(int))
    marks = [options.bill // 6, options.bill]
    curves = {}
    for problem in PROBLEMS:
        if options.only not in problem:
            continue
        found, refused, least = compare(problem, options.bill, options.batch)
        curves[problem] = {name: shares(each, least, bills) for name, each in found.items()}
        print(f"{problem:20}" + "".join(f"{f'at {mark}':>10}" for mark in marks))
        for name, curve in curves[problem].items():
            told = [curve[np.searchsorted(bills, mark, side="right") - 1] for mark in marks]
            print(f"  {name:18}" + "".join(f"{share:10.1e}" for share in told), flush=True)
        for name, why in refused.items():
            print(f"  {name:18}{why.removeprefix('agent ')}")
    plot(curves, bills, options.out)
    print(f"the picture is in {options.out}")


if __name__ == "__main__":
    main()

"""How many points do surrogates cost? Attacks in a barrier, MADS and NOMAD on four problems, data profiles.

    python examples/surrogate_profiles.py --keep runs --out profiles.png    # all; 20 minutes of one core
    python examples/surrogate_profiles.py --only ReluBox --instances 5 --points 100

Each problem has random instances, and its constraints apart from the value. A solver passes on an instance
at the first point whose value is within a share of the way from the start to the best that any solver found
there (Moré and Wild 2009); an infeasible point counts above all feasible ones. With ``--keep`` runs that are
there are read, and one that was cut off goes on.

50 instances each, torch 2.13 CPU, float64, PyNomadBBO 4.6 with its own defaults; points are medians (inf:
never, on most instances), ``of NOMAD's`` the quartiles of the share of NOMAD's points that a solver takes to
be as good as NOMAD is at its end, to 0.001 of its way:

    problem        solver         passed at 0.1 0.01 0.001 points   of NOMAD's (quartiles) with products value
    Biodiesel      barrier_attack  100%  100%  100%      4    0.03  0.04  0.05    0.11   -1.83477
    Biodiesel      mads             76%   36%    4%    inf     inf   inf   inf           -1.72452
    Biodiesel      nomad           100%  100%   84%    112    1.00  1.00  1.00           -1.83426
    ReluBox        barrier_attack  100%  100%  100%     13    0.05  0.07  0.11    0.15   -0.310418
    ReluBox        mads            100%   78%   50%    261    0.72  1.06   inf           -0.309173
    ReluBox        nomad            94%   80%   58%    190    1.00  1.00  1.00           -0.30644
    Counterfactual barrier_attack  100%   94%   86%    152    0.11  0.26  0.63    3.38   4.50641
    Counterfactual mads             56%   12%    4%    inf     inf   inf   inf           17.8851
    Counterfactual nomad            94%   42%   16%    inf    1.00  1.00  1.00           8.53576
    Barycenter     barrier_attack  100%   98%   96%      4    0.10  0.33  1.00    3.67   6.20162e-14
    Barycenter     mads            100%  100%   94%     21    0.58  1.22  2.00           1.50059e-16
    Barycenter     nomad            96%   90%   78%     25    1.00  1.00  1.00           9.06826e-12

On the 20 instances of each problem of another seed the attack's medians are 0.04, 0.05, 0.28 and 0.27.

The attack knows more: the Jacobian at each of its points, which the paper's bill leaves out. The column
``with products`` counts it as products, the lesser of the numbers of variables and of outputs, each as dear
as a point: then NOMAD is the cheaper one on Counterfactual and Barycenter. On Counterfactual the attack ends
worse than NOMAD on 7 of 50 instances (on 6 by more than 0.001 of the way): its radius collapses along the
constraint of the paths. On Barycenter NOMAD takes fewer points on 11 of 50 instances, on one of which the
attack never becomes as good. With Barycenter's target always first, as in the paper, the first poll direction
of MADS and of NOMAD happens to point at it; hence ``shuffled``. MADS has no models, and is slow along curved
constraints.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from tqdm import tqdm

import agents
import optenvs
from optenvs.bench.profiles import data_profile, runtimes, target_values
from optenvs.core.picture import new_figure
from optenvs.core.random import keys_from_seed


class Problem(NamedTuple):
    """A problem of the comparison: its keywords, what NOMAD is told of its constraints, the points a run."""

    keywords: dict[str, Any]
    groups: tuple[tuple[int, int], ...] | None
    points: int


PROBLEMS = {
    # t Q, concentrations, the coldest and the hottest; the other constraints are the box
    "Biodiesel": Problem(
        {"surrogate": "ode", "jitter": 0.1, "start": "random"},
        ((4, 5), (5, 505), (505, 605), (605, 705)),
        150,
    ),
    "ReluBox": Problem({}, (), 300),
    "Counterfactual": Problem({}, None, 300),
    "Barycenter": Problem({"shuffled": True}, (), 150),
}
SOLVERS = ("barrier_attack", "mads", "nomad")
SHARES = (1e-1, 1e-2, 1e-3)
TOGETHER = 10
"""Instances a run: as much is lost where one is cut off."""


def run(
    name: str, solver: str, problem: Problem, first: int, count: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """Points ``calls`` and the best merit ``best`` so far, ``(T, count)`` each; instances from ``first``."""
    keywords = problem.keywords | {"formulation": "constraints", "budget": problem.points}
    if solver == "nomad":
        env, agent = optenvs.make(name, **keywords), agents.make("nomad", groups=problem.groups)
    elif solver == "mads":
        env, agent = optenvs.make(name, points=4, **keywords), agents.make("mads")
    else:
        env, agent = optenvs.make(name, points=1, oracle="jacobian", **keywords), agents.make(solver)
    keys = keys_from_seed(seed, count, first=first)
    record = optenvs.rollout(env, agent, keys=keys, steps=problem.points)
    return {"calls": record.calls["value"].numpy(), "best": record.best.numpy()}


def curves(
    name: str, problem: Problem, instances: int, keep: Path | None, seed: int = 0
) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """Points and best merit, ``(T,)`` each, by solver and instance."""
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for solver in SOLVERS:
        found[solver] = []
        for first in tqdm(range(0, instances, TOGETHER), desc=f"{name} {solver}", leave=False, disable=None):
            count = min(TOGETHER, instances - first)
            part = f"{name}-{solver}-{problem.points}-{seed}-{first}-{count}.npz"
            path = None if keep is None else keep / part
            if path is not None and path.exists():
                with np.load(path) as file:
                    new = {key: file[key] for key in ("calls", "best")}
            else:
                new = run(name, solver, problem, first, count, seed)
                if path is not None:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with path.with_suffix(".part").open("wb") as file:
                        np.savez(file, calls=new["calls"], best=new["best"])
                    path.with_suffix(".part").rename(path)
            found[solver] += [(new["calls"][:, i], new["best"][:, i]) for i in range(count)]
    return found


def points_needed(
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points to pass, and to be as good as NOMAD at its end, ``(instances, solvers, shares)``; the ends."""
    ends = np.array([[best[-1] for _, best in found[solver]] for solver in SOLVERS]).T
    needed = np.empty((2, *ends.shape, len(SHARES)))
    for i, end in enumerate(ends):
        start = float(found["nomad"][i][1][0])
        for kind, goal in enumerate((end.min(), end[SOLVERS.index("nomad")])):
            targets = target_values(start, float(goal), SHARES)
            for s, solver in enumerate(SOLVERS):
                needed[kind, i, s] = runtimes(*found[solver][i], targets)
    return needed[0], needed[1], ends


def report(name: str, passed: np.ndarray, as_good: np.ndarray, ends: np.ndarray, jacobian: int) -> None:
    """Rows of the table; ``jacobian`` is the number of products that make one."""
    nomad = SOLVERS.index("nomad")
    improved = np.isfinite(
        as_good[:, nomad, -1]
    )  # NOMAD left the start: else there is no end to be as good as
    for s, solver in enumerate(SOLVERS):
        shares = " ".join(f"{np.isfinite(passed[:, s, t]).mean():5.0%}" for t in range(len(SHARES)))
        middle = np.quantile(passed[:, s, -1], 0.5, method="inverted_cdf")
        ratio = as_good[improved, s, -1] / as_good[improved, nomad, -1]
        low, mid, high = np.quantile(ratio, (0.25, 0.5, 0.75), method="inverted_cdf")
        dear = f"{mid * (1 + jacobian):6.2f}" if solver == "barrier_attack" else " " * 6
        print(
            f"{name:15s}{solver:15s}{shares}  {middle:5.0f}   {low:5.2f} {mid:5.2f} {high:5.2f}  {dear}"
            f"   {np.median(ends[:, s]):.6g}",
            flush=True,
        )


def draw(axes: Axes, name: str, passed: np.ndarray, points: int) -> None:
    """The data profiles at the smallest share."""
    grid = np.arange(1, points + 1)
    for solver, share in zip(
        SOLVERS, data_profile(passed[:, :, -1], np.ones(len(passed)), grid), strict=True
    ):
        axes.step(grid, share, where="post", label=solver)
    axes.set(xscale="log", ylim=(-0.02, 1.02), xlabel="points", title=name)


def main(arguments: list[str] | None = None) -> None:
    """Run, print the table, draw the profiles."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("profiles.png"))
    parser.add_argument("--keep", type=Path, help="a folder for the runs")
    parser.add_argument("--only", choices=sorted(PROBLEMS), nargs="+", default=list(PROBLEMS))
    parser.add_argument("--instances", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the instances")
    parser.add_argument("--points", type=int, help="points a run; by default 150 or 300, by problem")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(
        "problem        solver         passed at 0.1 0.01 0.001 points"
        "   of NOMAD's (quartiles) with products value"
    )
    figure = new_figure(3.2 * len(options.only), 3.0)
    panels = np.atleast_1d(figure.subplots(1, len(options.only), sharey=True))
    for axes, name in zip(panels, options.only, strict=True):
        problem = PROBLEMS[name]
        if options.points is not None:
            problem = problem._replace(points=options.points)
        passed, as_good, ends = points_needed(
            curves(name, problem, options.instances, options.keep, options.seed)
        )
        env: Any = optenvs.make(name, **problem.keywords, formulation="constraints")
        report(name, passed, as_good, ends, min(env.size, env.output_count))
        draw(axes, f"{name}, n = {env.size}", passed, problem.points)
    panels[0].set_ylabel("share of instances")
    panels[0].legend(fontsize=8)
    figure.savefig(options.out, dpi=80)
    print("wrote", options.out)


if __name__ == "__main__":
    main()

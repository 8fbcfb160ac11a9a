"""What does a solution under equations cost? The agents of the family at equal bill, from perturbed starts.

    python examples/constrained_agents.py --out constrained.png

Every answer of the menu counts one: a value, the constraints, a gradient, a Jacobian, a Hessian, a product
with one of these. A run ends as solved where the KKT residual is at most 1e-4, or with the budget of 100
answers of each kind. The linear systems of AdaSketch-Newton are solved exactly, with the singular threshold
1e-8; the others are as published, and scipy's with their defaults and a tolerance with which they do not end
by themselves before: SLSQP's is one of the value's change, and at 1e-6 it stops at a residual above 1e-4 in 4
of 8 instances of the logistic problem and in all of the cubic PDE. Drawn is the share of all instances that
are solved at a bill.

With ``--batch 8``, medians of the answers (and the share of instances that are solved):

                                 HS6          HS7         HS40         HS77     logistic    cubic PDE
    adasketch_newton      117 (100%) 119.5 (100%)    28 (100%)  43.5 (100%)    61 (100%)    44 (100%)
    l1_sqp_adaptive        66 (100%)    49 (100%)    27 (100%)    54 (100%)    56 (100%)    42 (100%)
    l1_sqp                 inf (12%)  50.5 (100%)   237 (100%)     inf (0%)    inf (25%)     inf (0%)
    augmented_lagrangian 201.5 (100%) 277.5 (75%)     inf (0%)    145 (88%) 183.5 (100%) 383.5 (100%)
    minres_newton         190 (100%)     inf (0%)   109 (100%) 194.5 (100%)     inf (0%)     inf (0%)
    slsqp                  35 (100%)    39 (100%)    22 (100%)    62 (100%)    78 (100%)    73 (100%)
    trust_constr           47 (100%)    37 (100%)    21 (100%)    63 (100%)    48 (100%)    41 (100%)

slsqp, trust_constr, l1_sqp_adaptive and AdaSketch-Newton solve all of them, SLSQP without a Hessian. HS40 is
where the augmented Lagrangian has no minimum; on the cubic PDE it takes half of the two minutes that all of
this takes, in GMRES of two products a call. minres_newton asks products, of which the budget pays 100 of each
kind.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

import agents
import optenvs
from optenvs.core.picture import new_figure

PROBLEMS: dict[str, tuple[str, dict[str, Any]]] = {
    "HS6": ("ConstrainedCutest", {"problem": "HS6", "perturbation": 0.2}),
    "HS7": ("ConstrainedCutest", {"problem": "HS7", "perturbation": 0.2}),
    "HS40": ("ConstrainedCutest", {"problem": "HS40", "perturbation": 0.1}),
    "HS77": ("ConstrainedCutest", {"problem": "HS77", "perturbation": 0.1}),
    "logistic": ("ConstrainedLogistic", {"samples": 100, "dim": 20, "rows": 5}),
    "cubic PDE": ("ConstrainedPde", {"equation": "cubic", "perturbation": 0.3}),
}
AGENTS: dict[str, dict[str, Any]] = {
    "adasketch_newton": {"solve": "exact", "singular": 1e-8},
    "l1_sqp_adaptive": {},
    "l1_sqp": {},
    "augmented_lagrangian": {},
    "minres_newton": {},
    "slsqp": {"tol": 1e-10},
    "trust_constr": {"tol": 1e-6},
}
BUDGET = 100


def costs(problem: str, agent: str, batch: int) -> np.ndarray:
    """Answers until each instance is solved, ``(batch,)``; infinite where it is not."""
    name, keywords = PROBLEMS[problem]
    env = optenvs.make(name, **keywords)
    env = env.replace(budget=dict.fromkeys(env.oracles, BUDGET))
    run = optenvs.rollout(env, agents.make(agent, **AGENTS[agent]), seed=0, batch=batch, steps=4 * BUDGET)
    spent = run.state.calls.counts.sum(-1).double()
    return torch.where(run.state.terminated, spent, torch.inf).numpy()


def plot(found: dict[str, dict[str, np.ndarray]], path: Path) -> None:
    """The share of instances solved at each bill, one panel a problem."""
    figure = new_figure(11, 5.6)
    problems = list(next(iter(found.values())))
    panels = figure.subplots(2, 3, sharey=True).flatten()
    for axes, problem in zip(panels, problems, strict=False):
        for i, (agent, costs_of) in enumerate(found.items()):
            every = np.sort(costs_of[problem])
            solved = every[np.isfinite(every)]
            bills = np.concatenate(([8.0], solved, [9.0 * BUDGET]))
            share = np.concatenate(([0.0], np.arange(1, len(solved) + 1), [len(solved)])) / len(every)
            style = {"color": f"C{i}", "linestyle": "--" if i > 4 else "-", "linewidth": 2.2 - 0.15 * i}
            axes.step(bills, share, where="post", label=agent, **style)
        axes.set(xscale="log", title=problem, ylim=(-0.03, 1.03), xlim=(8, 9 * BUDGET))
        axes.grid(alpha=0.3)
    for axes in panels[len(problems) :]:
        axes.set_axis_off()
    for axes in panels[3:]:
        axes.set_xlabel("answers billed")
    for axes in panels[::3]:
        axes.set_ylabel("instances solved")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize="small")
    figure.savefig(path, dpi=80)


def main(arguments: list[str] | None = None) -> None:
    """Compare, print, draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=int, default=16, help="instances of each problem")
    parser.add_argument("--only", default="", help="problems whose name holds this")
    parser.add_argument("--out", type=Path, default=Path("constrained.png"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    chosen = [problem for problem in PROBLEMS if options.only in problem]
    print(f"{'median answers (solved)':24}" + "".join(f"{problem:>13}" for problem in chosen))
    found: dict[str, dict[str, np.ndarray]] = {}
    for agent in AGENTS:
        found[agent] = {problem: costs(problem, agent, options.batch) for problem in chosen}
        cells = [f"{np.median(row):g} ({np.isfinite(row).mean():.0%})" for row in found[agent].values()]
        print(f"{agent:24}" + "".join(f"{cell:>13}" for cell in cells), flush=True)
    plot(found, options.out)
    print(f"the picture is in {options.out}")


if __name__ == "__main__":
    main()

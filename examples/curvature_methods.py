"""What is a Hessian worth? Methods of first and second order at an equal bill, on five landscapes.

    python examples/curvature_methods.py --out curvature.png

A value costs 1, a gradient 1, a Hessian-vector product 2, and a Hessian of n coordinates n: what it costs
where products make it (``--hessian`` sets another price, in gradients: 1 where it comes with the gradient
for the asking). Drawn, and printed at equal bills, is the median over the instances of the best gap so far,
as a share of the first. All start with their defaults; nothing is tuned.

At bills of 200 and 600, 8 instances (the metric B of a problem is told, and costs nothing):

                                 LogSumExp      operator^4        valley^5     Chebyshev^4        logistic
                            at 200     600  at 200     600  at 200     600  at 200     600  at 200     600
    GNS, exact Hessian       6e-01   2e-12   1e-01   1e-07   1e-07   5e-37   5e-05   3e-14   0e+00   0e+00
    GNS, approximation       8e-01   2e-04   7e-02   4e-12   2e-07   2e-36   2e-05   5e-15   7e-09   0e+00
    GNS, products            0e+00   0e+00   7e-29   9e-48   2e-06   5e-19   8e-09   8e-14   7e-08   3e-14
    super-universal          3e-01   1e-06   3e-02   2e-07   9e-06   1e-14   2e-02   2e-11   0e+00   0e+00
    cubic                    7e-01   8e-04   2e-03   1e-10   1e-18   8e-28   6e-06   6e-15   0e+00   0e+00
    Levenberg-Marquardt      4e-01   3e-08   2e-05   2e-17   1e-23   2e-81   6e-06   3e-19   2e-06   1e-16
    trust region             6e-01   8e-04   3e-02   2e-09   3e-13   2e-77   3e-04   6e-15   2e-16   2e-16
    L-BFGS                   0e+00   0e+00   7e-46   1e-64   3e-26   1e-79   1e-34   6e-35   0e+00   0e+00
    gradient                 0e+00   0e+00   6e-20   4e-21   3e-05   2e-05   4e-10   2e-12   0e+00   0e+00
    fast gradient            4e-08   0e+00   6e-22   7e-25   3e-05   1e-07   1e-10   3e-15   7e-12   0e+00

At the price of n gradients L-BFGS, in the metric B of the rows where there is one, is ahead or level
everywhere but in the valley of two coordinates, where damped Gauss-Newton steps are. Of the searches of
gamma the one on products, of which few make a step, is the best on the three landscapes with many
coordinates at 200.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import agents
import optenvs
from optenvs.core import OptimizationEnv, Run
from optenvs.core.picture import new_figure

METHODS: dict[str, tuple[Callable[[], Any], str]] = {
    # name: the agent, and what stands for the Hessian: the exact one, or the positive semidefinite one
    "GNS, exact Hessian": (agents.GnsNewton, "exact"),
    "GNS, approximation": (agents.GnsNewton, "positive"),
    "GNS, products": (lambda: agents.GnsNewton(solver="conjugate_gradients"), "positive"),
    "super-universal": (agents.SuperUniversalNewton, "exact"),
    "cubic": (agents.CubicNewton, "exact"),
    "Levenberg-Marquardt": (agents.GaussNewton, "positive"),
    "trust region": (agents.TrustNewton, "exact"),
    "L-BFGS": (agents.LBFGS, "exact"),
    "gradient": (agents.LineSearchGradient, "exact"),
    "fast gradient": (agents.FastGradient, "exact"),
}


def problems() -> dict[str, tuple[Callable[..., OptimizationEnv], str]]:
    """Name of each landscape, and how its positive semidefinite approximation is called."""
    return {
        "LogSumExp": (lambda **k: optenvs.make("LogSumExp", dim=50, rows=50, **k), "weighted_gauss_newton"),
        "operator^4": (
            lambda **k: optenvs.make("PowerResidual", dim=40, rows=20, power=4.0, **k),
            "fisher_term",
        ),
        "valley^5": (
            lambda **k: optenvs.make("NonlinearRosenbrock", dim=2, power=5.0, shift=1.0, **k),
            "inexact",
        ),
        "Chebyshev^4": (lambda **k: optenvs.make("Chebyshev", dim=20, power=4.0, **k), "inexact"),
        "logistic": (lambda **k: optenvs.make("LogisticRegression", **k), "fisher"),
    }


def cost(run: Run, hessian: float) -> torch.Tensor:
    """The bill so far, ``(T + 1, B)``."""
    calls = run.calls
    return (calls["value"] + calls["gradient"] + 2 * calls["hvp"]).double() + hessian * calls["hessian"]


def curve(run: Run, hessian: float, bills: np.ndarray) -> np.ndarray:
    """The median over the instances of the best gap at each bill, as a share of the first gap."""
    gap = run.metrics["gap"].clamp_min(0)
    share = (gap.cummin(0).values / gap[0]).numpy()
    spent = cost(run, hessian).numpy()
    at = [np.searchsorted(spent[:, row], bills, side="right") - 1 for row in range(share.shape[1])]
    return np.median([share[np.maximum(t, 0), row] for row, t in enumerate(at)], axis=0)


def compare(
    make: Callable[..., OptimizationEnv], kind: str, bill: int, price: float | None, batch: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The bills at which the curves are read, and those of each method."""
    bills = np.unique(np.geomspace(2, bill, 60).astype(int))
    found = {}
    for name, (agent, which) in METHODS.items():
        env = make(hessian="exact" if which == "exact" else kind, tolerance=None, budget=None)
        hessian = float(env.action_fields()["point"].shape[0]) if price is None else price  # type: ignore[index]
        per_step = {"GNS": hessian / 3, "Lev": hessian / 2, "sup": hessian / 3}.get(name[:3], 1.0)
        if name in ("cubic", "trust region"):
            per_step = hessian / 2
        steps = int(min(bill, 3 * bill / max(per_step, 1.0))) if name != "GNS, products" else bill
        run = optenvs.rollout(env, agent(), batch=batch, steps=max(steps, 20))
        found[name] = curve(run, hessian, bills)
    return bills, found


def plot(curves: dict[str, tuple[np.ndarray, dict[str, np.ndarray]]], path: Path) -> None:
    """One panel a problem."""
    figure = new_figure(4.2 * len(curves), 4)
    panels = np.atleast_1d(figure.subplots(1, len(curves)))
    for axes, (problem, (bills, found)) in zip(panels, curves.items(), strict=True):
        for i, (name, course) in enumerate(found.items()):
            axes.plot(bills, course.clip(1e-16), label=name, color=f"C{i}", linewidth=1.4)
        axes.set(xscale="log", yscale="log", title=problem, xlabel="bill", ylim=(1e-13, 2))
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("best gap, share of the first")
    panels[0].legend(fontsize="x-small")
    figure.savefig(path)


def main(arguments: list[str] | None = None) -> None:
    """Compare, print, draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bill", type=int, default=600)
    parser.add_argument("--hessian", type=float, help="the price of a Hessian; n by default")
    parser.add_argument("--batch", type=int, default=8, help="instances")
    parser.add_argument("--only", default="", help="landscapes whose name holds this")
    parser.add_argument("--out", type=Path, default=Path("curvature.png"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    curves = {}
    marks = [options.bill // 10, options.bill // 3, options.bill]
    for problem, (make, kind) in problems().items():
        if options.only not in problem:
            continue
        bills, found = curves[problem] = compare(make, kind, options.bill, options.hessian, options.batch)
        print(f"{problem} (approximation: {kind})" + "".join(f"{f'at {mark}':>12}" for mark in marks))
        for name, course in found.items():
            told = [course[np.searchsorted(bills, mark, side="right") - 1] for mark in marks]
            print(f"    {name:24}" + "".join(f"{share:12.1e}" for share in told), flush=True)
    plot(curves, options.out)
    print(f"the picture is in {options.out}")


if __name__ == "__main__":
    main()

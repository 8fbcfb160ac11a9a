"""Picture of a policy search: returns by what they cost, and the merit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from optenvs.core.env import State
from optenvs.core.picture import new_figure, plot_progress, to_array

if TYPE_CHECKING:
    from .search import PolicySearch

_SEEN, _TRUE, _BEST = "#999999", "#0072B2", "#009E73"


def returns(env: PolicySearch, states: list[State]) -> np.ndarray:
    """One instance: observed returns and the truth by trajectories, and progress beside them."""
    figure = new_figure(9.0, 4.2)
    left, right = figure.subplots(1, 2)
    bought = [int(state.calls["trajectories"][0]) for state in states]
    told = {name: [float(s.metrics[name][0]) for s in states] for name in states[0].metrics}
    left.plot(bought, told["return"], ".", color=_SEEN, markersize=4, label="observed returns")
    true = "value" if env.process.exact else "mean_return"
    left.plot(bought, told[true], color=_TRUE, label="J" if env.process.exact else "mean of held-out returns")
    best = states[-1].hidden.best
    if best is not None:
        left.axhline(float(best[0]), color=_BEST, linestyle=":", label="J*")
    left.set(xlabel="trajectories", ylabel="return", title=f"{env.task}: {env.process.policy.size} weights")
    left.legend(loc="lower right")
    plot_progress(right, states)
    right.set_ylabel("best merit so far")
    right.set_title(f"after {len(states) - 1} queries")
    return to_array(figure)

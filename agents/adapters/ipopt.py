"""IPOPT as an agent, by :mod:`agents.adapters.called_back` and :mod:`optenvs.solvers.ipopt`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from optenvs.solvers.ipopt import casadi, try_options
from optenvs.solvers.scipy_forms import IPOPT_METHOD, Method

from .called_back import CalledBackAgent


@dataclass(frozen=True, eq=False, kw_only=True)
class Ipopt(CalledBackAgent):
    """IPOPT (Waechter and Biegler 2006), an interior-point method with a filter line search, by ``casadi``.

    It asks value and constraints at trials, gradient, Jacobian and Hessian of the Lagrangian at iterates;
    where there is no such Hessian it approximates it. Its multipliers of each iterate go along with the
    queries, and with ``multipliers`` it starts warm. ``options`` are IPOPT's, such as ``{"max_iter": 50}``;
    the other arguments are those of :class:`agents.adapters.called_back.CalledBackAgent`.
    """

    needs, takes = IPOPT_METHOD.needs, IPOPT_METHOD.takes

    @property
    def spec(self) -> Method:
        return IPOPT_METHOD

    def __post_init__(self) -> None:
        super().__post_init__()
        try_options(self.options)

    def init(self, problem: Any, observation: Any, keys: Any) -> Any:
        casadi()
        return super().init(problem, observation, keys)

"""Methods for two layers of rectified units as a convex program over activation patterns."""

from ..spec import AgentSpec

_PROGRAM = ("value", "violation")

AGENTS = (
    AgentSpec("admm", "admm", "ADMM", _PROGRAM),
    AgentSpec("admm_rbcd", "admm_rbcd", "ADMMRBCD", _PROGRAM),
    AgentSpec("prox_gradient", "prox_gradient", "ProxGradient", ("value", "gradient", "violation")),
)

"""Agents made of other things: functions, ``torch.optim`` optimizers, trained policies, ask/tell objects."""

from ..spec import AgentSpec

_PROGRAMS = ("equations", "inequalities", "bounds")
AGENTS = (
    AgentSpec("cma", "cma_es", "CMA", ("value|ranking",)),
    AgentSpec("cobyqa", "scipy_methods", "COBYQA", ("value",), _PROGRAMS),
    AgentSpec("ipopt", "ipopt", "Ipopt", ("value", "gradient"), _PROGRAMS),
    AgentSpec("lbfgsb", "scipy_methods", "LBFGSB", ("value", "gradient"), ("bounds",)),
    AgentSpec("nomad", "nomad", "Nomad", ("value",), ("inequalities", "bounds")),
    AgentSpec("slsqp", "scipy_methods", "SLSQP", ("value", "gradient"), _PROGRAMS),
    AgentSpec("trust_constr", "scipy_methods", "TrustConstr", ("value", "gradient"), _PROGRAMS),
)

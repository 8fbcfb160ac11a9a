"""Agents made of other things: functions, ``torch.optim`` optimizers, trained policies, ask/tell objects."""

from ..spec import AgentSpec

AGENTS = (
    AgentSpec("cma", "cma_es", "CMA", ("value|ranking",)),
    AgentSpec("cobyqa", "scipy_methods", "COBYQA", ("value",)),
    AgentSpec("ipopt", "ipopt", "Ipopt", ("value", "gradient")),
    AgentSpec("lbfgsb", "scipy_methods", "LBFGSB", ("value", "gradient")),
    AgentSpec("nomad", "nomad", "Nomad", ("value",)),
    AgentSpec("slsqp", "scipy_methods", "SLSQP", ("value", "gradient")),
    AgentSpec("trust_constr", "scipy_methods", "TrustConstr", ("value", "gradient")),
)

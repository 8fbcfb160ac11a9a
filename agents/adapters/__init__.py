"""Agents made of other things: functions, ``torch.optim`` optimizers, trained policies, ask/tell objects."""

from ..spec import AgentSpec

AGENTS = (
    AgentSpec("cma", "cma_es", "CMA", ("value|ranking",)),
    AgentSpec("nomad", "nomad", "Nomad", ("value",)),
)

"""Searches of a population about a centre: for rules whose fitness has no gradient, and for any swarm."""

from ..spec import AgentSpec

AGENTS = (
    AgentSpec("batched_cma", "batched_cma", "BatchedCMA", ("value", "swarm")),
    AgentSpec("open_es", "open_es", "OpenES", ("value", "swarm")),
    AgentSpec("pgpe", "pgpe", "PGPE", ("value", "swarm")),
)

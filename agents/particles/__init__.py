"""Particle methods: consensus-based optimization and its relatives, as agents of a swarm."""

from ..spec import AgentSpec

AGENTS = (
    AgentSpec("cbo", "cbo", "CBO", ("value", "swarm")),
    AgentSpec("consensus_hopping", "hopping", "ConsensusHopping", ("value", "swarm")),
    AgentSpec("gradient_descent", "langevin", "GradientDescent", ("gradient",)),
    AgentSpec("langevin", "langevin", "Langevin", ("gradient",)),
    AgentSpec("memory_cbo", "memory", "MemoryCBO", ("value", "swarm")),
    AgentSpec("polarized_cbo", "polarized", "PolarizedCBO", ("value", "swarm")),
    AgentSpec("pso", "pso", "PSO", ("value", "swarm")),
)

"""Methods for problems of two levels."""

from ..spec import AgentSpec

AGENTS = (
    AgentSpec("hypergradient", "hypergradient", "Hypergradient", ("hypergradient", "solution")),
    AgentSpec("lv_hba", "lv_hba", "LVHBA", ("upper_gradient", "lower_gradient", "inner_gradient")),
)

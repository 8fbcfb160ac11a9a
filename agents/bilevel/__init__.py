"""Methods for problems of two levels."""

from ..spec import AgentSpec

AGENTS = (
    AgentSpec(
        "federated_lv_hba",
        "federated_lv_hba",
        "FederatedLVHBA",
        ("round", "upper_gradient", "lower_gradient", "inner_gradient"),
    ),
    AgentSpec("hypergradient", "hypergradient", "Hypergradient", ("hypergradient", "solution")),
    AgentSpec("lv_hba", "lv_hba", "LVHBA", ("upper_gradient", "lower_gradient", "inner_gradient")),
)

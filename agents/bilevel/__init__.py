"""Methods for problems of two levels."""

from ..spec import AgentSpec

AGENTS = (
    AgentSpec("aipod", "aipod", "AiPOD", ("lower_gradient", "upper_gradient", "product")),
    AgentSpec(
        "bvfsm",
        "bvfsm",
        "BVFSM",
        ("upper_gradient", "lower_gradient", "inner_gradient", "lower", "inner_lower"),
    ),
    AgentSpec("e_aipod", "aipod", "EAiPOD", ("lower_gradient", "upper_gradient", "product")),
    AgentSpec("f2sa", "f2sa", "F2SA", ("upper_gradient", "lower_gradient", "inner_gradient")),
    AgentSpec(
        "federated_lv_hba",
        "federated_lv_hba",
        "FederatedLVHBA",
        ("round", "upper_gradient", "lower_gradient", "inner_gradient"),
    ),
    AgentSpec("hypergradient", "hypergradient", "Hypergradient", ("hypergradient", "solution")),
    AgentSpec("lv_hba", "lv_hba", "LVHBA", ("upper_gradient", "lower_gradient", "inner_gradient")),
    AgentSpec("stoc_bio", "stoc_bio", "StocBiO", ("lower_gradient", "upper_gradient", "product")),
    AgentSpec("unrolled", "unrolled", "Unrolled", ("inner_gradient", "upper_gradient", "inner_product")),
)

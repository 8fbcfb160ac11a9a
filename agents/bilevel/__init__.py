"""Methods for problems of two levels."""

from ..spec import AgentSpec

_GRADIENTS = ("upper_gradient", "lower_gradient", "inner_gradient")
_SECOND = ("lower_gradient", "upper_gradient", "product")

AGENTS = (
    AgentSpec("aipod", "aipod", "AiPOD", _SECOND),
    AgentSpec("bic_gaffa", "bic_gaffa", "BiCGaffa", _GRADIENTS),
    AgentSpec("blocc", "blocc", "Blocc", _GRADIENTS),
    AgentSpec("bvfsm", "bvfsm", "BVFSM", (*_GRADIENTS, "lower", "inner_lower")),
    AgentSpec("e_aipod", "aipod", "EAiPOD", _SECOND),
    AgentSpec("f2sa", "f2sa", "F2SA", _GRADIENTS),
    AgentSpec("federated_lv_hba", "federated_lv_hba", "FederatedLVHBA", ("round", *_GRADIENTS)),
    AgentSpec("gam", "gam", "GAM", ("upper_gradient", "product", "solution")),
    AgentSpec("hypergradient", "hypergradient", "Hypergradient", ("hypergradient", "solution")),
    AgentSpec("implicit_gradient", "implicit_gradient", "ImplicitGradient", _SECOND),
    AgentSpec("lv_hba", "lv_hba", "LVHBA", _GRADIENTS),
    AgentSpec("stoc_bio", "stoc_bio", "StocBiO", _SECOND),
    AgentSpec("unrolled", "unrolled", "Unrolled", ("inner_gradient", "upper_gradient", "inner_product")),
)

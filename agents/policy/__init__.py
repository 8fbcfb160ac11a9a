"""Policy search by trajectories: normalised, momentum, Hessian-aided, variance-reduced, natural gradients."""

from ..spec import AgentSpec

_GRADIENT, _SEEN = ("policy_gradient",), ("trajectory",)
_HESSIAN, _PAIR = ("policy_gradient", "product"), ("policy_gradient", "pair")

AGENTS = (
    AgentSpec("ha_mbpg", "momentum", "HAMBPG", _HESSIAN),
    AgentSpec("hapg", "variance_reduced", "HAPG", _HESSIAN),
    AgentSpec("harpg", "harpg", "HARPG", _HESSIAN),
    AgentSpec("is_mbpg", "momentum", "ISMBPG", _PAIR),
    AgentSpec("n_harpg", "harpg", "NHARPG", _HESSIAN),
    AgentSpec("n_mpg", "vanilla_pg", "NMPG", _GRADIENT),
    AgentSpec("n_pg_igt", "n_pg_igt", "NPGIGT", _GRADIENT),
    AgentSpec("npg", "npg", "NPG", _SEEN),
    AgentSpec("npg_hm", "npg", "NPGHM", ("trajectory", "product")),
    AgentSpec("reinforce", "reinforce", "Reinforce", _SEEN),
    AgentSpec("sharp", "harpg", "SHARP", _HESSIAN),
    AgentSpec("srvr_pg", "variance_reduced", "SRVRPG", _PAIR),
    AgentSpec("storm_pg", "momentum", "STORMPG", _PAIR),
    AgentSpec("svrpg", "variance_reduced", "SVRPG", _PAIR),
    AgentSpec("vanilla_pg", "vanilla_pg", "VanillaPG", _GRADIENT),
)

"""Agents that share a problem among the nodes of a network, by gradients of their own and messages."""

from ..spec import AgentSpec

AGENTS = (
    AgentSpec("a2cid2", "a2cid2", "A2CiD2", ("gradient", "exchange")),
    AgentSpec("ad_psgd", "ad_psgd", "ADPSGD", ("gradient", "exchange")),
    AgentSpec("adom_plus", "adom_plus", "ADOMPlus", ("gradient", "gossip")),
    AgentSpec("continuized", "continuized", "Continuized", ("conjugate", "exchange")),
    AgentSpec("dadao", "dadao", "DADAO", ("gradient", "exchange")),
    AgentSpec("dgd", "dgd", "DGD", ("gradient", "gossip")),
    AgentSpec("extra", "extra", "EXTRA", ("gradient", "gossip")),
    AgentSpec("gradient_tracking", "gradient_tracking", "GradientTracking", ("gradient", "gossip")),
    AgentSpec("msda", "msda", "MSDA", ("conjugate", "gossip")),
)

"""Methods that are told an order of points and never a value; and their counterpart that is told values."""

from ..spec import AgentSpec

AGENTS = (
    AgentSpec("gld_fast", "gld_fast", "GLDFast", ("ranking",)),
    AgentSpec("scobo", "scobo", "SCOBO", ("ranking",)),
    AgentSpec("zo_ranksgd", "zo_ranksgd", "ZORankSGD", ("ranking",)),
    AgentSpec("zo_sgd", "zo_sgd", "ZOSGD", ("value", "swarm")),
    AgentSpec("zo_sign", "zo_sign", "ZOSign", ("ranking",)),
)

"""Features of networks on group arithmetic: ascent of their energy, and top layers in closed form."""

from ..spec import AgentSpec

AGENTS = (
    AgentSpec("energy_ascent", "energy_ascent", "EnergyAscent", ("ascent",)),
    AgentSpec("ridge_top", "ridge_top", "RidgeTop", ("minibatch",)),
)

"""Learned optimizers: agents whose ``act`` is a neural network, trained through ``optenvs.unroll``."""

from ..spec import AgentSpec

AGENTS = (
    AgentSpec("lolv2", "lolv2", "LOLv2", ("gradient",)),
    AgentSpec("lstm_optimizer", "lstm", "LSTMOptimizer", ("gradient",)),
)

"""Learned optimizers: agents whose ``act`` is a neural network, trained through ``optenvs.unroll``."""

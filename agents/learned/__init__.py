"""Learned optimizers: agents whose ``act`` is a neural network, trained through ``optenvs.unroll``."""

from ..spec import AgentSpec

AGENTS = (
    AgentSpec("adafac_mlp", "adafac", "AdafacMLP", ("gradient",)),
    AgentSpec("learnable_adam", "learnable", "LearnableAdam", ("gradient",)),
    AgentSpec("learnable_sgd", "learnable", "LearnableSGD", ("gradient",)),
    AgentSpec("li_malik", "li_malik", "LiMalik", ("gradient", "value")),
    AgentSpec("lolv2", "lolv2", "LOLv2", ("gradient",)),
    AgentSpec("lstm_optimizer", "lstm", "LSTMOptimizer", ("gradient",)),
    AgentSpec("nn_adam", "nn_adam", "NNAdam", ("gradient",)),
    AgentSpec("nominal", "nominal", "Nominal", ("gradient",)),
    AgentSpec("open", "open_rl", "OPEN", ("gradient",)),
    AgentSpec("rnn_mlp", "rnn_mlp", "RNNMLP", ("gradient", "value")),
    AgentSpec("step_size_policy", "step_size", "StepSizePolicy", ("gradient", "value")),
    AgentSpec("sum", "summed", "Sum", ("gradient",)),
    AgentSpec("velo", "velo", "VeLO", ("gradient", "value")),
)

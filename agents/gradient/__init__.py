"""First-order methods, one gradient a step, and Newton's."""

from ..spec import AgentSpec

AGENTS = (
    AgentSpec("adabelief", "adabelief", "AdaBelief", ("gradient",)),
    AgentSpec("adagrad", "adagrad", "Adagrad", ("gradient",)),
    AgentSpec("adam", "adam", "Adam", ("gradient",)),
    AgentSpec("adamw", "adam", "AdamW", ("gradient",)),
    AgentSpec("diffgrad", "diffgrad", "DiffGrad", ("gradient",)),
    AgentSpec("muon", "muon", "Muon", ("gradient",)),
    AgentSpec("nadamw", "nadamw", "NAdamW", ("gradient",)),
    AgentSpec("newton", "newton", "Newton", ("value", "gradient", "hessian")),
    AgentSpec("rmsprop", "rmsprop", "RMSprop", ("gradient",)),
    AgentSpec("sgd", "sgd", "SGD", ("gradient",)),
)

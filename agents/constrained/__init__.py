"""Second-order methods for equality-constrained programs."""

from ..spec import AgentSpec

_DENSE = ("value", "constraints", "gradient", "jacobian", "hessian")
_EQUATIONS = ("equations",)
_PRODUCTS = (*_DENSE[:3], "jacobian_product", "adjoint_product", "hessian_product")

AGENTS = (
    AgentSpec("adasketch_newton", "adasketch_newton", "AdaSketchNewton", _DENSE, _EQUATIONS),
    AgentSpec("augmented_lagrangian", "augmented_lagrangian", "AugmentedLagrangian", _DENSE, _EQUATIONS),
    AgentSpec("l1_sqp", "l1_sqp", "L1Sqp", _DENSE, _EQUATIONS),
    AgentSpec("l1_sqp_adaptive", "l1_sqp_adaptive", "L1SqpAdaptive", _DENSE, _EQUATIONS),
    AgentSpec("minres_newton", "minres_newton", "MinresNewton", _PRODUCTS, _EQUATIONS),
)

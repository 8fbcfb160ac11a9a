"""Methods that take steps in the metric of a curvature, and what they are compared with."""

from ..spec import AgentSpec

_FIRST, _SECOND = ("value", "gradient"), ("value", "gradient", "hessian")

AGENTS = (
    AgentSpec("cubic_newton", "cubic_newton", "CubicNewton", _SECOND),
    AgentSpec("fast_gradient", "fast_gradient", "FastGradient", _FIRST),
    AgentSpec("gauss_newton", "gauss_newton", "GaussNewton", _SECOND),
    AgentSpec("gns_newton", "gns_newton", "GnsNewton", _SECOND),
    AgentSpec("gns_search", "gns_search", "GnsSearch", ("trial",)),
    AgentSpec("lbfgs", "lbfgs", "LBFGS", _FIRST),
    AgentSpec("line_search_gradient", "line_search_gradient", "LineSearchGradient", _FIRST),
    AgentSpec("super_universal_newton", "super_universal_newton", "SuperUniversalNewton", _SECOND),
    AgentSpec("trust_newton", "trust_newton", "TrustNewton", _SECOND),
)

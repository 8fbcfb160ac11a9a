"""Programs with equations, inequalities and bounds, and their first and second derivatives."""

from .spec import EnvSpec

_MODULE = "optenvs.envs.constrained"
_KINDS = (
    "value",
    "constraints",
    "gradient",
    "jacobian",
    "objective_hessian",
    "hessian",
    "jacobian_product",
    "adjoint_product",
    "hessian_product",
)

_SKETCHED = "Hong, Na, Mahoney, Kolar, Exact Augmented Lagrangian and Randomized Iterative Sketching, 2023"

CONSTRAINED = (
    EnvSpec(
        id="optenvs/ConstrainedCutest-v0",
        entry_point=f"{_MODULE}.cutest:ConstrainedCutest",
        family="constrained",
        oracles=_KINDS,
        summary="A problem of the CUTEst collection with equations for constraints, by name",
        reference="Gould, Orban, Toint, CUTEst, 2015; Hock and Schittkowski 1981; Boggs and Tolle 1989",
        best_known=0.0,
    ),
    EnvSpec(
        id="optenvs/ConstrainedLogistic-v0",
        entry_point=f"{_MODULE}.logistic:ConstrainedLogistic",
        family="constrained",
        oracles=_KINDS,
        summary="Logistic regression on the unit sphere under linear equations",
        reference=_SKETCHED,
        best_known=0.0,
    ),
    EnvSpec(
        id="optenvs/ConstrainedPde-v0",
        entry_point=f"{_MODULE}.pde:ConstrainedPde",
        family="constrained",
        oracles=_KINDS,
        summary="Control of a partial differential equation on a square; fine grids have products alone",
        reference=_SKETCHED,
        best_known=0.0,
    ),
    EnvSpec(
        id="optenvs/ConstrainedQuadratic-v0",
        entry_point=f"{_MODULE}.quadratic:ConstrainedQuadratic",
        family="constrained",
        oracles=_KINDS,
        summary="A random strictly convex quadratic program with equations, inequalities and bounds",
        reference="Nocedal and Wright, Numerical Optimization, 2006, chapter 16",
        best_known=0.0,
    ),
)

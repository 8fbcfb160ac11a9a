"""Synthetic functions with known optima."""

from .spec import EnvSpec

_MODULE = "optenvs.envs.landscapes"
_ALL = ("value", "gradient", "hvp", "hessian")


_FACTORED = (*_ALL, "factor")
_GNS = "Semenov, Jaggi, Doikov, Gradient-Normalized Smoothness, 2025"


def _landscape(
    name: str,
    path: str,
    summary: str,
    reference: str,
    best_known: float | None = 0.0,
    oracles: tuple[str, ...] = _ALL,
) -> EnvSpec:
    return EnvSpec(
        id=f"optenvs/{name}-v0",
        entry_point=f"{_MODULE}.{path}",
        family="landscapes",
        oracles=oracles,
        summary=summary,
        reference=reference,
        best_known=best_known,
    )


LANDSCAPES = (
    _landscape(
        "Quadratic",
        "quadratic:Quadratic",
        "A convex quadratic with a chosen spectrum and condition number",
        "Nesterov, Lectures on Convex Optimization, 2018",
    ),
    _landscape(
        "LeastSquares",
        "quadratic:LeastSquares",
        "|Wx - y|^2 with random W and y, the quadratics of learned optimizers",
        "Andrychowicz et al., Learning to learn by gradient descent by gradient descent, 2016",
    ),
    _landscape(
        "Rosenbrock",
        "classic:Rosenbrock",
        "A curved valley in n dimensions",
        "Rosenbrock, An automatic method for finding the greatest or least value, 1960",
    ),
    _landscape(
        "Rastrigin",
        "classic:Rastrigin",
        "A bowl under a lattice of local minima",
        "Rastrigin 1974; Muehlenbein, Schomisch, Born, The parallel genetic algorithm, 1991",
    ),
    _landscape(
        "RastriginProduct",
        "classic:RastriginProduct",
        "A product of Rastrigin functions with several global minima",
        "Bungert, Roith, Wacker, Polarized consensus-based dynamics, 2022",
    ),
    _landscape(
        "GrandCanyon",
        "canyon:GrandCanyon",
        "A curved canyon in two dimensions whose floor is full of barriers",
        "Riedl, Klock, Geldhauser, Fornasier, Gradient is All You Need?, 2023",
    ),
    _landscape(
        "Ackley",
        "classic:Ackley",
        "A funnel in a nearly flat plain of local minima",
        "Ackley, A connectionist machine for genetic hillclimbing, 1987",
    ),
    _landscape(
        "StyblinskiTang",
        "classic:StyblinskiTang",
        "A separable quartic with 2^n minima",
        "Styblinski and Tang, Experiments in nonconvex optimization, 1990",
        best_known=None,
    ),
    _landscape(
        "Beale",
        "classic:Beale",
        "Sharp corners around a flat valley in two dimensions",
        "Beale, On an iterative method for finding a local minimum, 1958",
    ),
    *(
        _landscape(
            f"DiffGradF{i}",
            f"diffgrad:DiffGradF{i}",
            f"Function F{i} of the diffGrad paper, in one dimension",
            f"Dubey et al., diffGrad, 2020, eq. {23 + i}",
            best_known=None if i == 2 else 0.0,
        )
        for i in (1, 2, 3)
    ),
    EnvSpec(
        id="optenvs/AdaBeliefToy-v0",
        entry_point=f"{_MODULE}.adabelief:AdaBeliefToy",
        family="landscapes",
        oracles=_ALL,
        summary="The two-dimensional toy problems of the AdaBelief paper, by keyword",
        reference="Zhuang et al., AdaBelief Optimizer, 2020, section 3",
    ),
    _landscape(
        "LogSumExp",
        "curvature.log_sum_exp:LogSumExp",
        "The smoothed maximum of linear functions, with metric and approximate Hessians",
        f"{_GNS}, log-sum-exp",
        best_known=None,
    ),
    _landscape(
        "PowerResidual",
        "curvature.residuals:PowerResidual",
        "A power of the norm of Ax - b, with metric and approximate Hessians",
        f"{_GNS}, linear operator",
        best_known=None,
        oracles=_FACTORED,
    ),
    _landscape(
        "NonlinearRosenbrock",
        "curvature.residuals:NonlinearRosenbrock",
        "A power of the norm of Rosenbrock's residuals, with approximate Hessians",
        f"{_GNS}, non-linear equations",
        oracles=_FACTORED,
    ),
    _landscape(
        "Chebyshev",
        "curvature.residuals:Chebyshev",
        "A power of the norm of a chain of Chebyshev polynomials, with approximate Hessians",
        f"{_GNS}, Chebyshev chain",
        oracles=_FACTORED,
    ),
    _landscape(
        "Polytope",
        "curvature.polytope:Polytope",
        "Powers of the violated inequalities of a random polytope, with its metric",
        f"{_GNS}, polytope feasibility",
    ),
    _landscape(
        "PDifference",
        "curvature.p_difference:PDifference",
        "A chain of powers of differences on which methods of second order are slow",
        f"{_GNS}, p-difference",
        best_known=None,
    ),
    _landscape(
        "LogisticRegression",
        "curvature.regressions:LogisticRegression",
        "Logistic regression on drawn, packaged or given samples, with Hessian or Fisher matrix",
        f"{_GNS}, logistic regression",
        best_known=None,
    ),
    _landscape(
        "SoftmaxRegression",
        "curvature.regressions:SoftmaxRegression",
        "Softmax regression on drawn, packaged or given samples, with Hessian or Fisher matrix",
        f"{_GNS}, softmax",
        best_known=None,
    ),
)

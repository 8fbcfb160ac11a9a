"""Problems of two levels."""

from .spec import EnvSpec

_MODULE = "optenvs.envs.bilevel"
_PAPER = "Yao, Yu, Zeng, Zhang, Constrained Bi-Level Optimization (LV-HBA), ICLR 2024"
_POINT = ("upper", "upper_gradient", "lower", "lower_gradient", "inner_lower", "inner_gradient")
_CONSTRAINED = ("constraints", "pullback", "inner_constraints", "inner_pullback")
_SOLVED = ("product", "inner_product", "solution", "hypergradient")


def _bilevel(
    name: str, path: str, summary: str, best_known: float | None = 0.0, needs: tuple[str, ...] = ()
) -> EnvSpec:
    return EnvSpec(
        id=f"optenvs/{name}-v0",
        entry_point=f"{_MODULE}.{path}",
        family="bilevel",
        oracles=(*_POINT, *_CONSTRAINED, *_SOLVED),
        summary=summary,
        reference=_PAPER,
        best_known=best_known,
        needs=needs,
    )


BILEVEL = (
    _bilevel(
        "BilevelToy", "toy:BilevelToy", "A merely convex lower level under one equality, in n dimensions"
    ),
    _bilevel(
        "BilevelInequality",
        "inequality:BilevelInequality",
        "One upper and one lower variable, with an inequality that is active at the solution",
    ),
    _bilevel(
        "BilevelSvm",
        "svm:BilevelSvm",
        "A penalty for each training sample of a support vector machine, by its loss on others",
        None,
        ("scikit-learn",),
    ),
    _bilevel(
        "BilevelCleaning",
        "cleaning:BilevelCleaning",
        "The same where labels are wrong: digits 4 against 9, to be cleaned",
        None,
        ("scikit-learn",),
    ),
    EnvSpec(
        id="optenvs/BilevelLongTail-v0",
        entry_point=f"{_MODULE}.long_tail:BilevelLongTail",
        family="bilevel",
        oracles=("round", "upper_gradient", "lower_gradient", "inner_gradient"),
        summary="A loss tuned to rare classes by clients that share the handwritten digits",
        reference=_PAPER,
        needs=("scikit-learn",),
        multi_agent=True,
    ),
    _bilevel(
        "BilevelStrong", "strong:BilevelStrong", "A strongly convex lower level under affine equalities"
    ),
)

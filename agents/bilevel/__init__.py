"""Methods for problems of two levels, and what each runs on (+), or refuses by name (-).

    agent              Toy  Strong  Inequality  Svm  Cleaning  LongTail  free  batches
    aipod              -    +       -           -    -         -         +     -
    bic_gaffa          +    +       +           +    +         -         +     +
    blocc              +    +       +           +    +         -         +     +
    bvfsm              +    +       +           +    +         -         +     -
    e_aipod            -    +       -           -    -         -         +     -
    f2sa               -    -       -           -    -         -         +     +
    federated_lv_hba   -    -       -           -    -         +         -     -
    gam                -    +       +           +    +         -         +     -
    hypergradient      +    +       +           +    +         -         +     -
    implicit_gradient  -    +       -           -    -         -         +     -
    lv_hba             +    +       +           +    +         -         +     +
    stoc_bio           -    -       -           -    -         -         +     +
    unrolled           -    -       -           -    -         -         +     -

A column is ``optenvs/Bilevel<name>-v0``; ``free`` is a problem of ``optenvs.bilevel_from_functions`` without
constraints, ``batches`` the same with mini-batches. What is assumed:

* one lower solution at each x, where it is differentiated or tracked (not ``Toy``): aipod, e_aipod, f2sa,
  gam, implicit_gradient, stoc_bio;
* no lower constraints: f2sa, stoc_bio, unrolled; no inequalities: aipod, e_aipod, implicit_gradient;
* an exact solution that the problem answers: gam, hypergradient; answers that rest on all data: those, aipod,
  bvfsm, e_aipod, implicit_gradient, unrolled;
* a projection onto what is feasible: of pairs lv_hba, at an x aipod, e_aipod, and with constraints
  implicit_gradient; with constraints aipod and e_aipod their Jacobian, too;
* clients, which alone ``LongTail`` has: federated_lv_hba.

All of these but ``LongTail`` tell curvatures, from which step sizes follow where none are given.
"""

from ..spec import AgentSpec

_GRADIENTS = ("upper_gradient", "lower_gradient", "inner_gradient")
_EQUATIONS = ("equations",)
_BOTH = (*_EQUATIONS, "inequalities")
_BATCHES = ("minibatches",)
_SECOND = ("lower_gradient", "upper_gradient", "product")

AGENTS = (
    AgentSpec("aipod", "aipod", "AiPOD", _SECOND, _EQUATIONS),
    AgentSpec("bic_gaffa", "bic_gaffa", "BiCGaffa", _GRADIENTS, (*_BOTH, *_BATCHES)),
    AgentSpec("blocc", "blocc", "Blocc", _GRADIENTS, (*_BOTH, *_BATCHES)),
    AgentSpec("bvfsm", "bvfsm", "BVFSM", (*_GRADIENTS, "lower", "inner_lower"), _BOTH),
    AgentSpec("e_aipod", "aipod", "EAiPOD", _SECOND, _EQUATIONS),
    AgentSpec("f2sa", "f2sa", "F2SA", _GRADIENTS, _BATCHES),
    AgentSpec("federated_lv_hba", "federated_lv_hba", "FederatedLVHBA", ("round", *_GRADIENTS), _BATCHES),
    AgentSpec("gam", "gam", "GAM", ("upper_gradient", "product", "solution"), _BOTH),
    AgentSpec("hypergradient", "hypergradient", "Hypergradient", ("hypergradient", "solution"), _BOTH),
    AgentSpec("implicit_gradient", "implicit_gradient", "ImplicitGradient", _SECOND, _EQUATIONS),
    AgentSpec("lv_hba", "lv_hba", "LVHBA", _GRADIENTS, (*_BOTH, *_BATCHES)),
    AgentSpec("stoc_bio", "stoc_bio", "StocBiO", _SECOND, _BATCHES),
    AgentSpec("unrolled", "unrolled", "Unrolled", ("inner_gradient", "upper_gradient", "inner_product")),
)

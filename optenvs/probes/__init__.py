"""What one wants to know at a point: spectra, traces, outliers, and the loss between two points.

An :class:`Operator` is made of a training objective and points (:func:`at_point`), of a user's own module and
data (:func:`of_module`), or of matrices (:func:`matrix`); every probe takes one and answers for B instances
at once. Probes imports the core and the models alone.
"""

from __future__ import annotations

from .operator import KINDS, Operator, at_point, coordinates, matrix, of_module
from .outliers import RULES, outliers
from .paths import Line, barrier
from .spectrum import Eigenpairs, Quadrature, Tridiagonal, condition, lanczos, quadrature, top_eigenpairs
from .trace import Trace, hutch_pp, hutchinson

__all__ = [
    "KINDS", "RULES", "Eigenpairs", "Line", "Operator", "Quadrature", "Trace", "Tridiagonal", "at_point",
    "barrier", "condition", "coordinates", "hutch_pp", "hutchinson", "lanczos", "matrix", "of_module",
    "outliers", "quadrature", "top_eigenpairs",
]  # fmt: skip

"""Expressions modulo M in place of a group's product: ``x^2 + x*y + y^2``."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable

import numpy as np

NAMES = "xyzuvw"
"""The operands, in order."""
_LARGEST_POWER = 64
_OPERATIONS: dict[type, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}


def evaluate(expression: str, operands: np.ndarray, modulus: int) -> np.ndarray:
    """The value of an expression at each row of operands.

    Args:
        expression: sums, differences, products and powers (``^`` or ``**``, by whole numbers) of whole
            numbers and the operands ``x``, ``y``, ``z``, ...
        operands: whole numbers ``(m, operands)``.
        modulus: M.

    Raises:
        ValueError: something else; the message names it.
    """
    if not isinstance(expression, str):
        raise ValueError(f"expression: expected a text such as 'x^2+x*y+y^2', got {expression!r}")
    try:
        tree = ast.parse(expression.replace("^", "**"), mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"expression: cannot be read: {expression!r} ({error.msg})") from error
    names = dict(zip(NAMES, operands.T, strict=False))

    def at(node: ast.AST) -> np.ndarray:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            return _power(at(node.left), node.right, modulus)
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
            return _OPERATIONS[type(node.op)](at(node.left), at(node.right)) % modulus
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -at(node.operand) % modulus
        if isinstance(node, ast.Name) and node.id in names:
            return names[node.id] % modulus
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return np.full(len(operands), node.value % modulus)
        known = ", ".join(names)
        raise ValueError(
            f"expression: expected +, -, *, ^, whole numbers and {known}, got {ast.unparse(node)!r}"
        )

    return at(tree)


def _power(base: np.ndarray, node: ast.AST, modulus: int) -> np.ndarray:
    exponent = node.value if isinstance(node, ast.Constant) else None
    if type(exponent) is not int or not 0 <= exponent <= _LARGEST_POWER:
        raise ValueError(
            f"expression: expected an exponent in 0 .. {_LARGEST_POWER}, got {ast.unparse(node)!r}"
        )
    found = np.ones_like(base)
    for _ in range(exponent):
        found = found * base % modulus
    return found % modulus

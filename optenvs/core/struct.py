"""Frozen dataclasses that are pytrees: the form of every State, Problem and Answer.

A ``@struct`` class is immutable, prints its fields (large ones by shape), and is understood by
``torch.func.vmap`` and ``torch.utils._pytree`` (the registry that ``torch.func`` reads; torch has no public
spelling of it in 2.8). Fields are tensors or nested structs, dicts and tuples of tensors; a field declared
with :func:`static` is configuration and no leaf, and neither is one that is ``None``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, dataclass_transform

import torch
from torch import Tensor
from torch.utils import _pytree

from .shown import keywords_of

T = TypeVar("T")
_LEAVES = "__struct_leaves__"


def static(**kwargs: Any) -> Any:
    """A dataclass field that is configuration: kept in the tree's definition, never a leaf."""
    return dataclasses.field(metadata={"static": True}, **kwargs)


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(dataclasses.field, static))
def struct(cls: type[T]) -> type[T]:
    """Make ``cls`` a frozen dataclass that is a pytree of its non-static fields.

    Static fields must be hashable; two structs have the same tree definition when theirs are equal, and the
    same fields are ``None``. (``torch.func.vmap`` maps over every leaf, and would not take ``None`` for one.)
    """
    if "__repr__" not in cls.__dict__:
        cls.__repr__ = keywords_of  # type: ignore[method-assign]
    made = dataclasses.dataclass(frozen=True, eq=False)(cls)
    fields = dataclasses.fields(made)  # type: ignore[arg-type]
    leaves = tuple(f.name for f in fields if not f.metadata.get("static"))
    constants = tuple(f.name for f in fields if f.metadata.get("static"))
    setattr(made, _LEAVES, leaves)

    def flatten(value: Any) -> tuple[list[Any], tuple[Any, ...]]:
        there = tuple(n for n in leaves if getattr(value, n) is not None)
        return [getattr(value, n) for n in there], (there, *(getattr(value, n) for n in constants))

    def flatten_with_keys(value: Any) -> tuple[list[tuple[Any, Any]], tuple[Any, ...]]:
        children, context = flatten(value)
        return [(_pytree.GetAttrKey(n), c) for n, c in zip(context[0], children, strict=True)], context

    def unflatten(children: Any, context: tuple[Any, ...]) -> Any:
        there, *rest = context
        value = object.__new__(made)  # torch puts other things than tensors into trees: dimensions, marks
        value.__dict__.update(dict.fromkeys(leaves))
        value.__dict__.update(zip(there, children, strict=True))
        value.__dict__.update(zip(constants, rest, strict=True))
        return value

    _pytree.register_pytree_node(made, flatten, unflatten, flatten_with_keys_fn=flatten_with_keys)
    return made


class Named(dict[str, Any]):
    """A dict whose ``KeyError`` says what there is: the metrics of a run, say."""

    def __missing__(self, name: str) -> Any:
        raise KeyError(f"no {name!r}; there are {', '.join(map(str, self)) or 'none'}")


_pytree.register_pytree_node(
    Named,
    lambda named: (list(named.values()), tuple(named)),
    lambda children, names: Named(zip(names, children, strict=True)),
    flatten_with_keys_fn=lambda named: (  # type: ignore[arg-type]
        [(_pytree.MappingKey(name), value) for name, value in named.items()],
        tuple(named),
    ),
)


def replace(tree: T, **changes: Any) -> T:
    """``dataclasses.replace`` for structs, ten times faster: it copies what is there and checks nothing.

    Raises:
        TypeError: a name that is no field.
    """
    values = tree.__dict__ | changes
    if len(values) != len(tree.__dict__):
        unknown = sorted(changes.keys() - tree.__dict__.keys())
        raise TypeError(f"{type(tree).__name__} has no field {', '.join(unknown)}")
    made = object.__new__(type(tree))
    made.__dict__.update(values)
    return made


def filled(cls: type[T], values: Mapping[str, Any]) -> T:
    """A struct of ``values``, and of its defaults, without its constructor.

    Where one environment keeps another's state with a dimension more, the shapes in that one's annotations
    are not those of what is kept.

    Raises:
        TypeError: an unknown field, or one that is missing.
    """
    known = {f.name: f.default for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    made = object.__new__(cls)
    made.__dict__.update({name: value for name, value in known.items() if value is not dataclasses.MISSING})
    made.__dict__.update(values)
    if wrong := sorted(made.__dict__.keys() ^ known.keys()):
        raise TypeError(f"{cls.__name__}: unknown or missing fields: {', '.join(wrong)}")
    return made


def is_struct(value: object) -> bool:
    """Whether ``value`` is an instance of a class made by :func:`struct`."""
    return hasattr(type(value), _LEAVES)


def is_struct_class(cls: type) -> bool:
    """Whether :func:`struct` has made ``cls``."""
    return hasattr(cls, _LEAVES)


def fields_of(value: object) -> tuple[str, ...]:
    """The names of a struct's fields that are no configuration; empty for anything else."""
    return getattr(type(value), _LEAVES, ())


def tree_map(function: Callable[..., Any], tree: T, *others: T) -> T:
    """Apply ``function`` to every tensor of ``tree`` (and of trees of the same shape beside it).

    Structs, dicts, tuples and lists are walked; anything else (``None``, numbers, strings, modules) is
    kept. It is the plain recursion that the hot paths use: several times faster than the general one.
    """
    if isinstance(tree, Tensor):
        return function(tree, *others)
    if hasattr(type(tree), _LEAVES):
        names = getattr(type(tree), _LEAVES)
        changes = {n: tree_map(function, getattr(tree, n), *(getattr(o, n) for o in others)) for n in names}
        return replace(tree, **changes)
    if isinstance(tree, dict):
        return {  # type: ignore[return-value]
            key: tree_map(function, value, *(o[key] for o in others))  # type: ignore[index]
            for key, value in tree.items()
        }
    if isinstance(tree, tuple | list):
        items = [
            tree_map(function, *item)
            for item in zip(tree, *others, strict=True)  # type: ignore[arg-type]
        ]
        if hasattr(tree, "_fields"):
            return type(tree)(*items)
        return type(tree)(items)  # type: ignore[call-arg]
    return tree


def path_part(key: Any) -> str:
    """A key as a part of a dotted path: no two paths of a tree read alike, whatever its keys are."""
    if not isinstance(key, str):
        return f"\\{key!r}".replace(".", "\\.")
    if not key:
        return "\\_"
    return key.replace("\\", "\\\\").replace(".", "\\.") if "." in key or "\\" in key else key


def tensors(tree: Any, prefix: str = "") -> dict[str, Tensor]:
    """Every tensor of ``tree`` under its dotted path (see :func:`path_part`), in field order."""
    found: dict[str, Tensor] = {}
    if isinstance(tree, Tensor):
        found[prefix] = tree
    elif hasattr(type(tree), _LEAVES):
        for name in getattr(type(tree), _LEAVES):
            found |= tensors(getattr(tree, name), f"{prefix}.{name}" if prefix else name)
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            found |= tensors(value, f"{prefix}.{path_part(key)}" if prefix else path_part(key))
    elif isinstance(tree, tuple | list):
        for i, value in enumerate(tree):
            found |= tensors(value, f"{prefix}.{i}" if prefix else str(i))
    return found


def select(mask: Tensor, yes: T, no: T) -> T:
    """Row by row: ``yes`` where ``mask`` (shape ``(B,)``) holds, ``no`` elsewhere, for whole trees."""

    def choose(a: Tensor, b: Tensor) -> Tensor:
        if a is b:
            return a
        return torch.where(mask.reshape(mask.shape + (1,) * (a.ndim - 1)), a, b)

    return tree_map(choose, yes, no)


def rows(tree: T, index: Any) -> T:
    """The rows ``index`` (a slice, a list or a tensor) of the batch dimension of a whole tree."""
    return tree_map(lambda leaf: leaf[index], tree)


class Part:
    """Some rows of a struct, each field copied when it is first read, and none that nobody reads.

    It has the struct's fields and properties, and is no struct: read them, and nothing else. What all rows
    share (a tensor that is expanded over them) they share here, too.
    """

    def __init__(self, whole: Any, index: Tensor) -> None:
        self._whole, self._index = whole, index

    def __getattr__(self, name: str) -> Any:
        found = tree_map(self._picked, getattr(self._whole, name))
        setattr(self, name, found)  # from now on it is found without this method
        return found

    def _picked(self, leaf: Tensor) -> Tensor:
        shared = leaf.stride(0) == 0
        return leaf[:1].expand(len(self._index), *leaf.shape[1:]) if shared else leaf[self._index]


def stack(trees: list[T], dim: int = 0) -> T:
    """Stack trees of one shape along a new dimension ``dim``."""
    return tree_map(lambda *leaves: torch.stack(leaves, dim), *trees)


def detach(tree: T) -> T:
    """The same tree outside every autograd graph."""
    return tree_map(lambda leaf: leaf.detach(), tree)

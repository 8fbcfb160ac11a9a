"""States on disk: tensors in safetensors, their structure as JSON beside them, under one checksum.

Nothing is unpickled. A file names the classes that it was made of; only structs, frozen dataclasses and named
tuples of this project, and those that the caller passes, are built from it. Tensors come back as they lay
in memory (expanded, transposed): where strides differ, sums may differ in their last bit, and a resumed run
is to be the run that was never interrupted.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .sealed import read_tensors, write_tensors
from .struct import filled, is_struct_class, path_part

_FORMAT = "optenvs-2"
_TRUSTED = "optenvs"
_ALIGNED = 64  # bytes, of what torch allocates
_FLOATING = (torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.complex64)
_WHOLE = (torch.bool, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8)
_KINDS = {*_FLOATING, *_WHOLE, torch.uint16, torch.uint32, torch.uint64}


def save(path: str | os.PathLike[str], tree: Any) -> Path:
    """Write a state (of an environment, an agent, a face, or any tree of structs) to ``path``, atomically.

    Raises:
        TypeError: the tree holds something that is neither a tensor, a struct, a frozen dataclass, a named
            tuple, nor plain data (dicts, tuples, lists, texts, numbers, ``None``).
    """
    leaves: dict[str, Tensor] = {}
    described = json.dumps(_describe(tree, "tree", leaves))
    return write_tensors(path, leaves, {"format": _FORMAT, "tree": described})


def load(
    path: str | os.PathLike[str],
    device: torch.device | str = "cpu",
    classes: tuple[type, ...] = (),
) -> Any:
    """Read a tree that :func:`save` wrote.

    Args:
        path: the file.
        device: where its tensors go.
        classes: classes of yours that the file may name, beside this project's.

    Raises:
        ValueError: the file is damaged, of another format, or names a class that is not allowed.
        FileNotFoundError: there is none.
    """
    try:
        metadata, leaves = read_tensors(path, _FORMAT, device)
        return _build(json.loads(metadata["tree"]), leaves, {_class_name(c): c for c in classes})
    except OSError:
        raise
    except Exception as error:
        # whatever a file made by hand leads to: a class that is not there, brackets without end
        told = f"no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise ValueError(f"{path}: not a readable snapshot ({told})") from error


def _class_name(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _describe(tree: Any, path: str, leaves: dict[str, Tensor]) -> dict[str, Any]:
    """The structure of a tree; its tensors are put into ``leaves``, as they are stored."""

    def child(name: Any, value: Any) -> dict[str, Any]:
        return _describe(value, f"{path}.{path_part(name)}", leaves)

    if isinstance(tree, Tensor):
        return _store(tree, path, leaves)
    if (names := _field_names(tree)) is not None:
        fields = {name: child(name, getattr(tree, name)) for name in names}
        return {"class": _class_name(type(tree)), "fields": fields}
    if isinstance(tree, dict):
        for key in tree:
            if not (key is None or isinstance(key, bool | int | float | str)):
                raise TypeError(f"{path}: cannot be saved: the key {key!r} is no text or number")
        return {"dict": [[key, child(key, value)] for key, value in tree.items()]}
    if isinstance(tree, tuple | list):
        kind = "tuple" if isinstance(tree, tuple) else "list"
        return {kind: [child(str(i), value) for i, value in enumerate(tree)]}
    if tree is None or isinstance(tree, bool | int | float | str):
        return {"json": tree}
    raise TypeError(f"{path}: cannot be saved: {type(tree).__name__} is no tensor or struct")


def _field_names(tree: Any) -> list[str] | None:
    """The fields of a dataclass or a named tuple; None of anything else."""
    if isinstance(tree, tuple):
        return getattr(tree, "_fields", None)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return [f.name for f in dataclasses.fields(tree) if f.init]
    return None


def _store(tensor: Tensor, path: str, leaves: dict[str, Tensor]) -> dict[str, Any]:
    """Put the numbers of a tensor into ``leaves``, each once, and say how they lay in memory."""
    if tensor.dtype not in _KINDS or tensor.layout != torch.strided:
        raise TypeError(f"{path}: cannot be saved: a tensor of {tensor.dtype}, {tensor.layout}")
    bare = tensor.detach().resolve_conj().resolve_neg()
    name = path.encode(errors="backslashreplace").decode()  # half a character, which the file cannot hold
    node: dict[str, Any] = {"tensor": name}
    offset = bare.storage_offset() % (_ALIGNED // bare.element_size())
    if bare.numel() and (offset or bare.stride() != torch.empty(bare.shape, device="meta").stride()):
        node |= {"size": list(bare.shape), "stride": list(bare.stride()), "offset": offset}
        for dim, stride in enumerate(bare.stride()):
            if stride == 0:  # expanded: one number for all places
                bare = bare.narrow(dim, 0, 1)
    leaves[name] = bare.clone(memory_format=torch.contiguous_format).cpu()
    return node


def _restore(node: dict[str, Any], leaves: dict[str, Tensor]) -> Tensor:
    leaf = leaves[node["tensor"]]
    if "stride" not in node:
        return leaf
    size, stride, offset = node["size"], node["stride"], node["offset"]
    span = 1 + sum((n - 1) * step for n, step in zip(leaf.shape, stride, strict=True))
    room = torch.zeros(offset + span, dtype=leaf.dtype, device=leaf.device)
    room.as_strided(leaf.shape, stride, offset).copy_(leaf)
    return room.as_strided(size, stride, offset)


def _build(node: dict[str, Any], leaves: dict[str, Tensor], allowed: dict[str, type]) -> Any:
    ((kind, content), *rest) = node.items()
    if kind == "tensor":
        return _restore(node, leaves)
    if kind == "json":
        return content
    if kind == "dict":
        return {key: _build(value, leaves, allowed) for key, value in content}
    if kind in ("tuple", "list"):
        items = [_build(value, leaves, allowed) for value in content]
        return tuple(items) if kind == "tuple" else items
    if kind == "class":
        fields = {name: _build(value, leaves, allowed) for name, value in dict(rest)["fields"].items()}
        cls = _resolve(content, allowed)
        if is_struct_class(cls) and not hasattr(cls, "__post_init__"):
            return filled(cls, fields)
        return cls(**fields)
    raise ValueError(f"unknown node {kind!r}")


def _resolve(name: str, allowed: dict[str, type]) -> type:
    if name in allowed:
        return allowed[name]
    module_name, _, path = name.partition(":")
    if module_name.partition(".")[0] != _TRUSTED:
        raise ValueError(f"it names the class {name}; allow it with classes=(...,)")
    if module_name not in sys.modules:
        importlib.import_module(module_name)
    found: Any = sys.modules[module_name]
    for part in path.split("."):
        found = getattr(found, part)
    named = isinstance(found, type) and issubclass(found, tuple) and hasattr(found, "_fields")
    if not (isinstance(found, type) and (named or dataclasses.is_dataclass(found))):
        raise ValueError(f"{name} is no struct")
    return found

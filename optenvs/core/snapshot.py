"""States on disk: tensors in safetensors, their structure as JSON beside them in one file.

Nothing is unpickled. A file names the struct classes that it was made of; only classes of this project, and
those that the caller passes, are built from it.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .struct import is_struct, tensors

_FORMAT = "optenvs-1"
_TRUSTED = ("optenvs",)


def save(path: str | os.PathLike[str], tree: Any) -> Path:
    """Write a state (of an environment, an agent, a face, or any tree of structs) to ``path``, atomically.

    Raises:
        TypeError: the tree holds something that is neither a tensor, a struct, a frozen dataclass, nor
            plain JSON data.
    """
    path = Path(path)
    described = json.dumps(_describe(tree, ""))
    # safetensors refuses tensors that share memory, and expanded ones
    leaves = {name: leaf.detach().clone().contiguous() for name, leaf in tensors(tree).items()}
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    os.close(handle)
    try:
        save_file(leaves, temporary, metadata={"format": _FORMAT, "tree": described})
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def load(
    path: str | os.PathLike[str],
    device: torch.device | str = "cpu",
    classes: tuple[type, ...] = (),
) -> Any:
    """Read a tree that :func:`save` wrote.

    Args:
        path: the file.
        device: where its tensors go.
        classes: struct classes of yours that the file may name, beside this project's.

    Raises:
        ValueError: the file is damaged, of another format, or names a class that is not allowed.
    """
    try:
        with safe_open(str(path), framework="pt", device=str(device)) as file:
            metadata = file.metadata() or {}
            leaves = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path}: not a readable snapshot ({error})") from error
    if metadata.get("format") != _FORMAT:
        raise ValueError(f"{path}: format {metadata.get('format')!r}, expected {_FORMAT!r}")
    allowed = {_class_name(c): c for c in classes}
    return _build(json.loads(metadata["tree"]), leaves, allowed)


def _class_name(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _describe(tree: Any, prefix: str) -> Any:
    def child(name: str) -> str:
        return f"{prefix}.{name}" if prefix else name

    if isinstance(tree, Tensor):
        return {"tensor": prefix}
    if is_struct(tree) or (dataclasses.is_dataclass(tree) and not isinstance(tree, type)):
        fields = {
            f.name: _describe(getattr(tree, f.name), child(f.name))
            for f in dataclasses.fields(tree)
            if f.init
        }
        return {"class": _class_name(type(tree)), "fields": fields}
    if isinstance(tree, dict):
        return {"dict": {str(k): _describe(v, child(str(k))) for k, v in tree.items()}}
    if isinstance(tree, tuple | list):
        kind = "tuple" if isinstance(tree, tuple) else "list"
        return {kind: [_describe(v, child(str(i))) for i, v in enumerate(tree)]}
    if tree is None or isinstance(tree, bool | int | float | str):
        return {"json": tree}
    raise TypeError(f"{prefix or 'tree'}: cannot be saved: {type(tree).__name__} is no tensor or struct")


def _build(node: dict[str, Any], leaves: dict[str, Tensor], allowed: dict[str, type]) -> Any:
    ((kind, content), *rest) = node.items()
    if kind == "tensor":
        return leaves[content]
    if kind == "json":
        return content
    if kind == "dict":
        return {k: _build(v, leaves, allowed) for k, v in content.items()}
    if kind in ("tuple", "list"):
        items = [_build(v, leaves, allowed) for v in content]
        return tuple(items) if kind == "tuple" else items
    if kind == "class":
        fields = {k: _build(v, leaves, allowed) for k, v in dict(rest)["fields"].items()}
        return _resolve(content, allowed)(**fields)
    raise ValueError(f"snapshot: unknown node {kind!r}")


def _resolve(name: str, allowed: dict[str, type]) -> type:
    if name in allowed:
        return allowed[name]
    module_name, _, path = name.partition(":")
    if module_name.partition(".")[0] not in _TRUSTED:
        raise ValueError(f"snapshot: it names the class {name}; allow it with classes=(...,)")
    if module_name not in sys.modules:
        importlib.import_module(module_name)
    found: Any = sys.modules[module_name]
    for part in path.split("."):
        found = getattr(found, part)
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise ValueError(f"snapshot: {name} is no struct")
    return found

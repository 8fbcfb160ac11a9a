"""Files that know whether they are whole: a checksum over all else in them; and tensors in such files.

The seal is the first ``"sha256": "..."`` of a file: the digest of the content with 64 zeros in its place.
In JSON, and so in the header of safetensors, no text of a user's can look like it: its quotes are escaped.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .files import replace_file

UNSEALED = "0" * 64
_SEAL = re.compile(rb'"sha256": ?"([0-9a-f]{64})"')
_CHUNK = 1 << 22


def sealed(content: bytes) -> bytes:
    """The content with its digest in the place of :data:`UNSEALED`."""
    start, end = _SEAL.search(content).span(1)  # type: ignore[union-attr]
    return content[:start] + hashlib.sha256(content).hexdigest().encode() + content[end:]


def check_seal(content: bytes) -> None:
    """Raise ``ValueError`` unless the content is as it was sealed."""
    _verify(content, hashlib.sha256())


def _verify(head: bytes, digest: hashlib._Hash, rest: BinaryIO | None = None) -> None:
    found = _SEAL.search(head)
    if found is None:
        raise ValueError("it has no checksum")
    start, end = found.span(1)
    digest.update(head[:start] + UNSEALED.encode() + head[end:])
    while rest is not None and (chunk := rest.read(_CHUNK)):
        digest.update(chunk)
    if digest.hexdigest().encode() != found[1]:
        raise ValueError("its checksum is that of another content: it was damaged, or changed by hand")


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> Path:
    """Write a sealed safetensors file, whole or not at all; the mode of a file that was there is kept.

    Args:
        path: the file.
        tensors: contiguous, none sharing memory with another.
        metadata: texts, ``format`` among them.
    """
    content = save(dict(tensors), metadata={**metadata, "sha256": UNSEALED})
    return replace_file(path, sealed(content))


def read_tensors(
    path: str | os.PathLike[str], form: str, device: torch.device | str = "cpu"
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The metadata and the tensors of a file that :func:`write_tensors` wrote with that ``format``.

    Raises:
        ValueError: the file is not whole, or of another format. The caller is to name the file.
    """
    with open(path, "rb") as file:
        size = file.read(8)
        head = size + file.read(min(int.from_bytes(size, "little"), os.fstat(file.fileno()).st_size))
        other = re.search(rb'"format": ?"((?:[^"\\]|\\.)*)"', head)
        if other is not None and other[1] != form.encode():
            raise ValueError(f"format {other[1].decode(errors='replace')!r}, expected {form!r}")
        _verify(head, hashlib.sha256(), file)
    try:
        with safe_open(str(path), framework="pt", device=str(device)) as content:
            metadata = content.metadata() or {}
            # clones: the memory of the file itself is aligned as it happens to be
            return metadata, {name: content.get_tensor(name).clone() for name in content.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(str(error)) from error

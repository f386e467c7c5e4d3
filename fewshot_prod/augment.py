"""Augmentation of whole image batches, on the device, without a Python loop over images."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample


def augment(
    images: Tensor,
    generator: torch.Generator,
    *,
    scale: float = 0.25,
    shift: float = 0.1,
    rotate: float = 8.0,
    colour: float = 0.2,
    erase: float = 0.5,
    crop: float = 1.0,
    resolution: float = 1.0,
) -> Tensor:
    """Random flip, crop, zoom, stretch, shift, rotation, brightness, contrast, tint and one erased box an image.

    Args:
        images: uint8 or float (B, H, W, 3), 0 to 255.
        generator: the only source of randomness; on the CPU whatever the images' device.
        scale: zoom factors are exp(u), u uniform in [-scale, scale], drawn with a second one for the aspect ratio.
        shift: largest shift, as a fraction of the image's side.
        rotate: largest rotation, degrees.
        colour: largest relative change of brightness and contrast; half of it a channel for the tint.
        erase: share of images in which a box of 1/16 to 1/4 of the area is set to that image's mean colour.
        crop: smallest share of the area that a crop keeps; the share is uniform in [crop, 1], and so is its place.
        resolution: sides of the returned images by those given. Networks that pool globally train faster on smaller
            ones, and do best on images a little larger than those (Touvron et al., "Fixing the train-test resolution
            discrepancy", NeurIPS 2019).

    Returns:
        float32 (B, resolution * H, resolution * W, 3), sides rounded, 0 to 255. Positions outside the image repeat its
        border.

    Example:
        >>> images = torch.full((2, 8, 8, 3), 100, dtype=torch.uint8)
        >>> augment(images, torch.Generator().manual_seed(0), colour=0.0).round().unique()
        tensor([100.])
    """
    b = len(images)
    h, w = (round(resolution * side) for side in images.shape[1:3])

    def uniform(*shape: int) -> Tensor:  # in [-1, 1]
        return torch.rand(*shape, generator=generator) * 2 - 1

    zoom, aspect = torch.exp(scale * uniform(b)), torch.exp(0.5 * scale * uniform(b))
    angle = math.radians(rotate) * uniform(b)
    flip = uniform(b).sign()
    cos, sin = torch.cos(angle), torch.sin(angle)
    across, down = 2 * shift * uniform(b), 2 * shift * uniform(b)
    if crop < 1:
        side = torch.sqrt(1 - (1 - crop) * torch.rand(b, generator=generator))
        zoom, across, down = zoom * side, across + (1 - side) * uniform(b), down + (1 - side) * uniform(b)
    theta = torch.stack(  # (B, 2, 3); affine_grid's coordinates run from -1 to 1, hence the factor 2 on shifts
        [
            torch.stack([zoom * aspect * cos * flip, -zoom * aspect * sin * h / w, across], 1),
            torch.stack([zoom / aspect * sin * flip * w / h, zoom / aspect * cos, down], 1),
        ],
        1,
    ).to(images.device)
    pixels = images.permute(0, 3, 1, 2).float()  # channels_last in memory
    grid = affine_grid(theta, [b, 3, h, w], align_corners=False)
    pixels = grid_sample(pixels, grid, padding_mode="border", align_corners=False)

    brightness, contrast = (1 + colour * uniform(b, 1, 1, 1)), (1 + colour * uniform(b, 1, 1, 1))
    tint = 1 + 0.5 * colour * uniform(b, 3, 1, 1)
    mean = pixels.mean(dim=(1, 2, 3), keepdim=True)
    pixels = (pixels - mean) * contrast.to(mean.device) + mean
    pixels = (pixels * (brightness * tint).to(mean.device)).clamp(0, 255)

    if erase > 0:
        side = torch.sqrt(torch.rand(b, generator=generator) * (1 / 4 - 1 / 16) + 1 / 16)
        side = side * (torch.rand(b, generator=generator) < erase)
        top, left = (torch.rand(2, b, generator=generator) * (1 - side)).unbind()
        rows, columns = torch.arange(h) / h, torch.arange(w) / w
        inside = ((rows >= top[:, None]) & (rows < (top + side)[:, None]))[:, :, None] & (
            (columns >= left[:, None]) & (columns < (left + side)[:, None])
        )[:, None, :]  # (B, H, W)
        pixels = torch.where(inside[:, None].to(pixels.device), pixels.mean(dim=(2, 3), keepdim=True), pixels)
    return pixels.permute(0, 2, 3, 1)

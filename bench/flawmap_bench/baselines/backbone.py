"""Frozen pretrained features for PaDiM, SPADE and DifferNet.

The publications use CNNs trained on ImageNet's labels. If timm's copy of one is in the Hugging Face cache, it is used;
nothing is downloaded here. Otherwise the DINOv2 ViT-S/14 that flawmap starts from replaces it, three of its blocks
taking the place of the CNN's three stages. The board names the network that was used.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import timm
import torch
import torch.nn.functional as F
from huggingface_hub import try_to_load_from_cache
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.images.resize import resize_image
from flawmap.data.sample import NormalImage
from flawmap.recipe.settings import ModelSettings
from flawmap.vit.encoder import Encoder
from flawmap.vit.positions import round_to_patches
from flawmap.vit.weights import IMAGENET_MEAN, IMAGENET_STD, load_encoder
from flawmap_bench.baselines.from_scratch import as_tensor
from flawmap_bench.method import MethodSettings

CNN = "wide_resnet50_2.tv_in1k"  # of PaDiM and SPADE
BATCH = 8
SUBSTITUTE = "dinov2_vits14"
SUBSTITUTE_STAGES = (0.25, 0.5, 0.75)  # of the depth: blocks 3, 6 and 9 of 12


class CnnBackbone(nn.Module):
    """Stages 1 to 3 of a timm CNN, and the pooled output of its last stage.

    Attributes:
        name: what it is, for the board.
    """

    def __init__(self, architecture: str) -> None:
        super().__init__()
        self.name = f"{architecture}, ImageNet"
        self.net = timm.create_model(architecture, pretrained=True, features_only=True).eval().requires_grad_(False)

    def size_px(self, wanted_px: int) -> int:
        """The nearest multiple of 32."""
        return max(32, round(wanted_px / 32) * 32)

    @torch.no_grad()
    def stages(self, images: Float[Tensor, "b 3 s s"]) -> tuple[list[Tensor], Float[Tensor, "b d"]]:
        """Feature maps (b, c, r, r) of three stages, and one vector per image; ``images`` in [0, 1]."""
        maps = self.net(imagenet_normalised(images))
        return maps[-4:-1], maps[-1].mean(dim=(2, 3))


class VitBackbone(nn.Module):
    """Normed patch tokens of three blocks, and the [CLS] token.

    Attributes:
        name: what it is, for the board.
    """

    def __init__(self, encoder: Encoder, name: str) -> None:
        super().__init__()
        self.name, self.encoder = name, encoder.eval().requires_grad_(False)
        depth = len(encoder.vit.blocks)
        self._blocks = tuple(max(0, round(share * depth) - 1) for share in SUBSTITUTE_STAGES)

    def size_px(self, wanted_px: int) -> int:
        """The nearest multiple of the patch."""
        return round_to_patches(wanted_px, self.encoder.patch_size_px)

    @torch.no_grad()
    def stages(self, images: Float[Tensor, "b 3 s s"]) -> tuple[list[Tensor], Float[Tensor, "b d"]]:
        """Feature maps (b, c, r, r) of three blocks, and one vector per image; ``images`` in [0, 1]."""
        output = self.encoder(imagenet_normalised(images), blocks=self._blocks)
        rows, columns = self.encoder.grid(images.shape[-2], images.shape[-1])
        norm = self.encoder.vit.norm  # puts the blocks on one scale
        maps = [
            norm(output.block_tokens[block]).transpose(1, 2).unflatten(2, (rows, columns)) for block in self._blocks
        ]
        return maps, output.cls


def load_backbone(architecture: str, device: str, substitute: ModelSettings | None = None) -> CnnBackbone | VitBackbone:
    """The publication's CNN if its weights are in the cache, else the substitute.

    Args:
        architecture: timm's name of the CNN.
        device: to compute on.
        substitute: weights of the ViT that replaces it; None for DINOv2 ViT-S/14.

    Raises:
        UserError: the CNN's weights are not in the cache, and those of the substitute cannot be found.
    """
    if substitute is None and is_cached(architecture):
        return CnnBackbone(architecture).to(device)
    encoder, origin = load_encoder(substitute or ModelSettings(weights=SUBSTITUTE))
    name = f"{origin.architecture} ({origin.source.split(' (')[0]}) in place of {architecture}"
    return VitBackbone(encoder, name).to(device)


def is_cached(architecture: str) -> bool:
    """Whether timm's weights of this architecture are in the Hugging Face cache; contacts no server."""
    config = timm.get_pretrained_cfg(architecture)
    if config is None or not config.hf_hub_id:
        return False
    return isinstance(try_to_load_from_cache(config.hf_hub_id, "model.safetensors"), str)


def imagenet_normalised(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Images in [0, 1], minus ImageNet's mean and divided by its deviation."""
    mean, deviation = images.new_tensor([IMAGENET_MEAN, IMAGENET_STD])[..., None, None]
    return (images - mean) / deviation


def concatenated(maps: list[Float[Tensor, "b _c _r _s"]]) -> Float[Tensor, "b c r r"]:
    """All stages' channels at the resolution of the first, by nearest neighbours."""
    size = maps[0].shape[-2:]
    return torch.cat([m if m.shape[-2:] == size else F.interpolate(m, size=size, mode="nearest") for m in maps], dim=1)


class FrozenFeatures:
    """A method that looks at frozen features of good images and trains nothing.

    Args:
        settings: of the board.
        substitute: weights in place of the CNN's, for tests.

    Attributes:
        backbone: the feature extractor.
        size_px: side of the square that it sees.
        note: see :class:`flawmap_bench.method.Method`.
    """

    def __init__(self, settings: MethodSettings, substitute: ModelSettings | None = None) -> None:
        self.settings = settings
        self.backbone = load_backbone(CNN, settings.compute.device, substitute)
        self.size_px = self.backbone.size_px(settings.image_size_px)
        self.note = f"features: {self.backbone.name}"

    def batches(self, images: Sequence[NormalImage]) -> Iterator[Float[Tensor, "b 3 s s"]]:
        """All images in order, in [0, 1]."""
        pixels = NormalPixels(images, self.size_px)
        for start in range(0, len(pixels), BATCH):
            batch = [pixels[index] for index in range(start, min(start + BATCH, len(pixels)))]
            yield as_tensor(batch, self.settings.compute.device)

    def as_batch(self, image: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "1 3 s s"]:
        """One image to score, in [0, 1]."""
        return as_tensor([resize_image(image, self.size_px, self.size_px)], self.settings.compute.device)

    def num_parameters(self) -> int:
        """The backbone's."""
        return sum(parameter.numel() for parameter in self.backbone.parameters())

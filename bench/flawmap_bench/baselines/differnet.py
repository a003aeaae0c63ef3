"""DifferNet (Rudolph, Wandt and Rosenhahn 2021): a normalizing flow of features at three sizes; it gives no map."""

import math
import time
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, nn

from flawmap.advice import install
from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.images.resize import resize_image
from flawmap.data.sample import NormalImage
from flawmap.errors import UserError
from flawmap.recipe.settings import ModelSettings
from flawmap.reproducibility import numpy_generator
from flawmap.vit.positions import round_to_patches
from flawmap.vit.weights import load_encoder
from flawmap_bench.baselines.backbone import SUBSTITUTE, imagenet_normalised
from flawmap_bench.baselines.from_scratch import as_tensor, train_until_spent, width_factor, width_note
from flawmap_bench.method import Budget, MethodSettings, ScoredImage

BLOCKS, HIDDEN, CLAMP = 8, 2048, 3.0
HALVINGS = 3  # of the size, for the features
TEST_ROTATIONS = 8  # the publication: 64, with a network that is a hundred times cheaper
BATCH = 96
LEARNING_RATE, BETAS, EPSILON, WEIGHT_DECAY = 2e-4, (0.8, 0.8), 1e-4, 1e-5
FEATURE_SHARE = 0.5  # of the budget, for the features of rotated images
READ_AT_ONCE = 8


class DifferNet:
    """Score: the mean of z^2 over rotated versions of an image, z the flow's output for its features.

    AlexNet's weights are not on the Hugging Face hub; means of DINOv2's patch tokens replace its pooled features. That
    encoder is expensive, so features of randomly rotated images are computed once and then sampled.

    Args:
        settings: of the board.
        substitute: weights of the encoder, for tests.

    Raises:
        UserError: FrEIA is not installed.
    """

    def __init__(self, settings: MethodSettings, substitute: ModelSettings | None = None) -> None:
        if find_spec("FrEIA") is None:
            raise UserError(
                "DifferNet needs FrEIA, which is not installed", "--methods", install("peers", "flawmap-bench")
            )
        self._settings, self._device = settings, settings.compute.device
        encoder, origin = load_encoder(substitute or ModelSettings(weights=SUBSTITUTE))
        self._encoder = encoder.to(self._device).eval().requires_grad_(False)
        patch = encoder.patch_size_px
        self._sizes_px = [round_to_patches(round(settings.image_size_px / 2**n), patch) for n in range(HALVINGS)]
        self._width = width_factor(self._device)
        self._features = HALVINGS * encoder.embed_dim
        torch.manual_seed(settings.seed)
        self._flow = flow(self._features, round(self._width * HIDDEN), settings.seed).to(self._device)
        self._encoder_name = f"{origin.architecture} in place of AlexNet"
        self.note = ""

    def fit(self, images: Sequence[NormalImage]) -> None:
        """Features of rotated images for half of the budget (each image once at least), then the flow on them."""
        budget = Budget(self._settings.budget_seconds, self._settings.max_steps)
        pixels = NormalPixels(images, self._sizes_px[0])
        pool = self._rotated_features(pixels)
        optimizer = torch.optim.Adam(self._flow.parameters(), LEARNING_RATE, BETAS, EPSILON, WEIGHT_DECAY)
        self._flow.train()

        def loss_of_step(step: int) -> Tensor:
            generator = numpy_generator(self._settings.seed, "differnet", step)
            chosen = torch.from_numpy(generator.integers(len(pool), size=BATCH)).to(pool.device)
            z, log_determinant = self._flow(pool[chosen])
            return (0.5 * z.square().sum(dim=1) - log_determinant).mean() / self._features

        steps = train_until_spent(budget, optimizer, loss_of_step, lambda share: 1.0, self._settings.compute)
        self._flow.eval()
        sizes = ", ".join(map(str, self._sizes_px))
        shown = (
            f"{sizes} px (publication: 448, 224, 112); {len(pool)} rotated images, {steps} steps of {BATCH}, "
            f"{TEST_ROTATIONS} rotations per test image (publication: 64)"
        )
        width = width_note(self._width).replace("channels", "hidden units")
        self.note = "; ".join(part for part in (self._encoder_name, width, shown) if part)

    @torch.no_grad()
    def score(self, image: UInt8[np.ndarray, "h w 3"]) -> ScoredImage:
        """See :class:`flawmap_bench.method.Method`; rotations are a fixed grid."""
        resized = resize_image(image, self._sizes_px[0], self._sizes_px[0])
        angles = [360 * number / TEST_ROTATIONS for number in range(TEST_ROTATIONS)]
        features = self._vectors(np.stack([rotated(resized, angle) for angle in angles]))
        z, _ = self._flow(features)
        return ScoredImage(float(z.float().square().mean()), None)

    def num_parameters(self) -> int:
        """Of the encoder and of the flow."""
        return sum(p.numel() for network in (self._encoder, self._flow) for p in network.parameters())

    def _rotated_features(self, pixels: NormalPixels) -> Float[Tensor, "n d"]:
        started, features = time.monotonic(), []
        seconds = self._settings.budget_seconds
        end = None if seconds is None or self._settings.max_steps is not None else started + FEATURE_SHARE * seconds
        for number in range(10**9):
            start = number * READ_AT_ONCE
            if start >= len(pixels) and (end is None or time.monotonic() > end):
                return torch.cat(features)
            generator = numpy_generator(self._settings.seed, "differnet features", number)
            indices = [(start + i) % len(pixels) for i in range(READ_AT_ONCE)]
            images = [rotated(pixels[i], generator.uniform(-180, 180)) for i in indices]
            features.append(self._vectors(np.stack(images)))
        raise AssertionError("unreachable: a budget ends")

    @torch.no_grad()
    def _vectors(self, images: UInt8[np.ndarray, "b s s 3"]) -> Float[Tensor, "b d"]:
        """Mean patch tokens at three sizes, concatenated."""
        vectors = []
        for size_px in self._sizes_px:
            resized = [resize_image(image, size_px, size_px) for image in images]
            output = self._encoder(imagenet_normalised(as_tensor(resized, self._device)), patch_tokens=True)
            assert output.patch_tokens is not None
            vectors.append(output.patch_tokens.mean(dim=1))
        return torch.cat(vectors, dim=1)


def flow(features: int, hidden: int, seed: int) -> Any:
    """Eight permutations and GLOW couplings; scales are exp(clamp * 0.636 * atan(s / clamp)), as DifferNet clamps."""
    framework, modules = import_module("FrEIA.framework"), import_module("FrEIA.modules")  # an optional package

    def subnet(inputs: int, outputs: int) -> nn.Module:
        widths = (inputs, hidden, hidden, hidden)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(hidden, outputs))

    chain = framework.SequenceINN(features)
    for block in range(BLOCKS):
        chain.append(modules.PermuteRandom, seed=seed + block)
        chain.append(modules.GLOWCouplingBlock, subnet_constructor=subnet, clamp=CLAMP, clamp_activation=softly_clamped)
    return chain


def softly_clamped(s: Tensor) -> Tensor:
    """0.636 atan(s / clamp), in (-1, 1); FrEIA multiplies it by the clamp."""
    return 2 / math.pi * torch.atan(s / CLAMP)


def rotated(image: UInt8[np.ndarray, "h w 3"], angle_deg: float) -> UInt8[np.ndarray, "h w 3"]:
    """Around the centre; the corners that appear are black."""
    return np.asarray(Image.fromarray(image).rotate(angle_deg, Image.Resampling.BILINEAR))

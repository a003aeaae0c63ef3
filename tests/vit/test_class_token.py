"""The [CLS] token of one image: the encoder's own output, before any head."""

import numpy as np
import pytest
import torch

from flawmap.data.images.resize import resize_image
from flawmap.vit.class_token import class_token
from flawmap.vit.weights import IMAGENET_MEAN, IMAGENET_STD
from images import striped
from tiny_detector import fitted_detector


def test_feature_and_attention_are_timms_own() -> None:
    encoder = fitted_detector().scorer_.encoder
    image = striped(5, height=50, width=70)
    side = encoder.vit.patch_embed.img_size[0]  # so that timm need not resize positions, which it does in another way
    token = class_token(encoder, image, side)
    pixels = (resize_image(image, side, side) / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    with torch.no_grad():
        tokens = encoder.vit.forward_features(torch.tensor(pixels).permute(2, 0, 1)[None].float())
    assert token.feature == pytest.approx(tokens[0, 0].numpy(), abs=1e-5)
    assert token.attention.shape == encoder.grid(side, side)
    assert (token.attention >= 0).all() and 0.3 < token.attention.sum() <= 1 + 1e-6


def test_another_size_gives_another_grid_and_the_same_width() -> None:
    encoder = fitted_detector().scorer_.encoder
    small, large = (class_token(encoder, striped(6), size) for size in (32, 64))
    assert small.feature.shape == large.feature.shape == (encoder.embed_dim,)
    assert large.attention.size == 4 * small.attention.size

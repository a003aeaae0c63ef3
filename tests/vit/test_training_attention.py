"""The pixels of normal images and the attention on them: computed once, equal to computing them directly."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.images.resize import resize_image
from flawmap.data.sample import NormalImage
from flawmap.vit.attention_cache import BATCH_SIZE, cache_attention
from flawmap.vit.encoder import Encoder
from flawmap.vit.weights import IMAGENET_MEAN, IMAGENET_STD

pytestmark = pytest.mark.usefixtures("small_heads")


@pytest.fixture
def many_images(good_folder: Path) -> tuple[NormalImage, ...]:
    images = tuple(NormalImage(path.name, path) for path in sorted(good_folder.glob("*.png")))
    assert len(images) > BATCH_SIZE and len(images) % BATCH_SIZE  # a whole and a partial batch
    return images


def test_pixels_are_the_resized_files_kept_in_memory_or_not(many_images: tuple[NormalImage, ...]):
    kept, read_again = NormalPixels(many_images, 40), NormalPixels(many_images, 40, memory_limit_bytes=0)
    assert len(kept) == len(read_again) == len(many_images)
    for index, image in enumerate(many_images):
        direct = resize_image(np.asarray(Image.open(image.path)), 40, 40)
        assert kept[index].dtype == np.uint8 and kept[index].shape == (40, 40, 3)
        assert np.array_equal(kept[index], direct) and np.array_equal(read_again[index], direct)


def test_the_memory_limit_is_the_size_of_all_pixels(many_images: tuple[NormalImage, ...]):
    """What is kept survives the deletion of its files."""
    needed = len(many_images) * 16 * 16 * 3
    kept = NormalPixels(many_images, 16, memory_limit_bytes=needed)
    read_again = NormalPixels(many_images, 16, memory_limit_bytes=needed - 1)
    before = kept[3].copy()
    many_images[3].path.unlink()
    assert np.array_equal(kept[3], before)
    with pytest.raises(Exception, match=many_images[3].path.name):
        read_again[3]


def by_hand(encoder: Encoder, pixels: NormalPixels, index: int, size_px: int) -> np.ndarray:
    """Head average of softmax(q_cls K^T / sqrt(d')) of the last block for one image, on the patch grid."""
    image = np.asarray(Image.fromarray(pixels[index]).resize((size_px, size_px), Image.Resampling.BILINEAR))
    normed = (image / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    x = torch.from_numpy(normed).float().permute(2, 0, 1)[None]
    with torch.no_grad():
        tokens = encoder.embed(x, None)
        for block in encoder.vit.blocks[:-1]:
            tokens = block(tokens)
        last = encoder.vit.blocks[-1]
        heads = encoder.num_heads
        q, k, _ = last.attn.qkv(last.norm1(tokens)).reshape(tokens.shape[1], 3, heads, -1).unbind(1)
        rows = torch.einsum("hd,thd->ht", q[0], k).div((encoder.embed_dim // heads) ** 0.5).softmax(dim=-1)
    side = size_px // encoder.patch_size_px
    return rows[:, encoder.vit.num_prefix_tokens :].mean(dim=0).reshape(side, side).numpy()


def test_equals_direct_computation(tiny_encoder: Callable[..., Encoder], many_images):
    encoder, pixels = tiny_encoder(), NormalPixels(many_images, 74)
    maps = cache_attention(encoder, pixels, 64, "cpu")
    assert maps.shape == (len(many_images), 4, 4) and maps.dtype == np.float32
    expected = np.stack([by_hand(encoder, pixels, index, 64) for index in range(len(pixels))])
    np.testing.assert_allclose(maps, expected, atol=1e-5)
    assert expected.std(axis=(1, 2)).min() > 1e-3  # far from uniform, so that a transposed map would be seen


def test_an_image_does_not_depend_on_the_others(tiny_encoder: Callable[..., Encoder], many_images):
    encoder = tiny_encoder()
    maps = cache_attention(encoder, NormalPixels(many_images, 74), 64, "cpu")
    reversed_maps = cache_attention(encoder, NormalPixels(many_images[::-1], 74), 64, "cpu")
    alone = cache_attention(encoder, NormalPixels(many_images[5:6], 74), 64, "cpu")
    np.testing.assert_allclose(maps[5], alone[0], atol=1e-6)
    np.testing.assert_allclose(maps, reversed_maps[::-1], atol=1e-6)


def test_the_guide_is_used_without_stochastic_depth_or_gradient(tiny_encoder: Callable[..., Encoder], many_images):
    pixels = NormalPixels(many_images[:3], 74)
    quiet, noisy = tiny_encoder(), tiny_encoder(drop_path_rate=0.9).train()
    expected = cache_attention(quiet, pixels, 64, "cpu")
    assert np.array_equal(cache_attention(noisy, pixels, 64, "cpu"), expected)
    assert all(parameter.grad is None for parameter in noisy.parameters())

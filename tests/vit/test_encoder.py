"""The encoder against timm's own forward pass, against explicit attention, and against its own invariants."""

import cv2
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from flawmap.errors import UserError
from flawmap.vit.encoder import Encoder, mean_cls_attention
from flawmap.vit.positions import resize_positions, round_to_patches

ARCHITECTURES = ["test_vit", "vit_tiny_patch16_224", "vit_small_patch14_reg4_dinov2"]


def encoder_of(architecture: str = "test_vit", **options: object) -> Encoder:
    torch.manual_seed(0)
    vit = timm.create_model(architecture, pretrained=False, num_classes=0, **options)
    for name, parameter in vit.named_parameters():
        if "norm" in name or "gamma" in name or "bias" in name:  # else ones and zeros would hide a wrong use
            torch.nn.init.normal_(parameter, 0.7, 0.2)
    with torch.no_grad():
        for block in vit.blocks:
            block.attn.qkv.weight.mul_(8)  # attention that is far from uniform
    return Encoder(vit).eval()


def images(size_px: int, number: int = 2) -> Tensor:
    return torch.randn(number, 3, size_px, size_px, generator=torch.Generator().manual_seed(size_px))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_equals_timm_at_the_native_size(architecture: str):
    encoder = encoder_of(architecture, img_size=112)
    x = images(112)
    with torch.no_grad():
        theirs = encoder.vit.forward_features(x)
        ours = encoder(x, patch_tokens=True)
    prefix = encoder.vit.num_prefix_tokens
    torch.testing.assert_close(ours.cls, theirs[:, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.patch_tokens, theirs[:, prefix:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size_px", [96, 208])
def test_equals_timm_elsewhere_with_our_positions(size_px: int):
    encoder = encoder_of("vit_tiny_patch16_224")
    x = images(size_px)
    other = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=0, img_size=size_px).eval()
    state = encoder.vit.state_dict()
    patches = resize_positions(state["pos_embed"][:, 1:], (14, 14), (size_px // 16, size_px // 16))
    other.load_state_dict(state | {"pos_embed": torch.cat([state["pos_embed"][:, :1], patches], dim=1)})
    with torch.no_grad():
        torch.testing.assert_close(encoder(x).cls, other.forward_features(x)[:, 0], atol=1e-5, rtol=1e-5)


def explicit_last_attention(encoder: Encoder, x: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(d')) of the last block, all rows, written out."""
    block = encoder.vit.blocks[-1]
    tokens = encoder.embed(x, None)
    for other in encoder.vit.blocks[:-1]:
        tokens = other(tokens)
    b, t, d = tokens.shape
    heads = encoder.num_heads
    q, k, _ = block.attn.qkv(block.norm1(tokens)).reshape(b, t, 3, heads, d // heads).unbind(2)
    q, k = q.transpose(1, 2), k.transpose(1, 2)
    return (q @ k.transpose(-2, -1) / (d // heads) ** 0.5).softmax(-1)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_cls_attention_is_the_softmax_row(architecture: str):
    encoder = encoder_of(architecture, img_size=112)
    with torch.no_grad():
        output = encoder(images(112))
        expected = explicit_last_attention(encoder, images(112))[:, :, 0, encoder.vit.num_prefix_tokens :]
    torch.testing.assert_close(output.cls_attention, expected, atol=1e-5, rtol=1e-5)
    assert (output.cls_attention.sum(-1) < 1).all()  # the columns of [CLS] and registers hold the rest
    torch.testing.assert_close(mean_cls_attention(output), expected.mean(1), atol=1e-5, rtol=1e-5)


def test_last_block_of_cls_alone_equals_that_of_all_tokens():
    encoder = encoder_of()
    with torch.no_grad():
        short, full = encoder(images(160)), encoder(images(160), patch_tokens=True)
    torch.testing.assert_close(short.cls, full.cls, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(short.cls_attention, full.cls_attention)


def test_middle_blocks_are_timms():
    encoder = encoder_of()
    with torch.no_grad():
        ours = encoder(images(160), blocks=(1, -1)).block_tokens
        theirs = encoder.vit.get_intermediate_layers(images(160), n=[1, 5])
    assert sorted(ours) == [1, 5]
    torch.testing.assert_close(ours[1], theirs[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours[5], theirs[1], atol=1e-5, rtol=1e-5)


def test_dropped_patches_have_no_influence_and_kept_ones_keep_their_position():
    encoder, x = encoder_of(), images(160, 1)
    keep = torch.tensor([[0, 7, 8, 42, 99]])
    changed = x.clone()
    changed[:, :, 16:32, 0:16] = 9.0  # patch 10, which is dropped
    moved = x.clone()
    moved[:, :, 0:16, 112:128] = 9.0  # patch 7, which is kept
    with torch.no_grad():
        output = encoder(x, keep=keep)
        assert torch.equal(output.cls, encoder(changed, keep=keep).cls)
        assert not torch.allclose(output.cls, encoder(moved, keep=keep).cls)
        assert output.cls_attention.shape == (1, 2, 5)
        # the same by hand: positions are added to all patches, then five are taken
        tokens = encoder.embed(x, None)
        chosen = torch.cat([tokens[:, :1], tokens[:, 1:][:, keep[0]]], dim=1)
        for block in encoder.vit.blocks:
            chosen = block(chosen)
        torch.testing.assert_close(output.cls, encoder.vit.norm(chosen)[:, 0], atol=1e-5, rtol=1e-5)


def test_keeping_all_patches_changes_nothing():
    encoder, x = encoder_of(), images(160)
    with torch.no_grad():
        everything = torch.arange(100).expand(2, -1)
        torch.testing.assert_close(encoder(x, keep=everything).cls, encoder(x).cls)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_hidden_patches_show_the_mask_token_at_their_position_and_nothing_of_themselves(architecture: str):
    encoder = encoder_of(architecture, img_size=112)
    side, prefix = 112 // encoder.patch_size_px, encoder.vit.num_prefix_tokens
    mask = torch.rand(2, side * side, generator=torch.Generator().manual_seed(0)) < 0.4
    token, x = torch.randn(encoder.embed_dim, generator=torch.Generator().manual_seed(1)), images(112)
    plain = encoder.embed(x, None)[:, prefix:] - encoder.vit.patch_embed.proj(x).flatten(2).mT  # positions
    embedded = encoder.embed(x, None, mask, token)[:, prefix:]
    torch.testing.assert_close(embedded[mask], (token + plain)[mask], atol=1e-5, rtol=1e-5)
    assert torch.equal(embedded[~mask], encoder.embed(x, None)[:, prefix:][~mask])
    pixels = mask.view(2, 1, side, side).repeat_interleave(112 // side, 2).repeat_interleave(112 // side, 3)
    changed = torch.where(pixels, torch.zeros(()), x)
    outputs = [encoder(seen, patch_tokens=True, mask=mask, mask_token=token) for seen in (x, changed)]
    assert torch.equal(outputs[0].cls, outputs[1].cls)
    assert torch.equal(outputs[0].patch_tokens, outputs[1].patch_tokens)
    assert not torch.allclose(outputs[0].cls, encoder(x).cls, atol=1e-3)


@torch.no_grad()
def test_without_a_mask_nothing_changes_by_a_bit():
    encoder, x = encoder_of(), images(160)
    nothing, token = torch.zeros(2, 100, dtype=torch.bool), torch.ones(encoder.embed_dim)
    plain, hidden = encoder(x, patch_tokens=True), encoder(x, patch_tokens=True, mask=nothing, mask_token=token)
    given_none = encoder(x, patch_tokens=True, mask=None, mask_token=None)
    for other in (hidden, given_none):
        assert torch.equal(plain.cls, other.cls) and torch.equal(plain.patch_tokens, other.patch_tokens)
        assert torch.equal(plain.cls_attention, other.cls_attention)
    with pytest.raises(ValueError, match="mask_token"):
        encoder(x, mask=nothing)
    with pytest.raises(ValueError, match="mask_token"):
        encoder(x, mask_token=token)


def test_batch_independence():
    encoder, x = encoder_of(), images(160, 5)
    with torch.no_grad():
        together, alone = encoder(x), encoder(x[3:4])
    torch.testing.assert_close(together.cls[3:4], alone.cls, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together.cls_attention[3:4], alone.cls_attention, atol=1e-5, rtol=1e-5)


def test_gradient_of_attention_reaches_queries_and_keys_of_every_block():
    encoder = encoder_of()
    encoder(images(160)).cls_attention[..., 3].sum().backward()
    for number, block in enumerate(encoder.vit.blocks):
        gradient = block.attn.qkv.weight.grad
        assert gradient is not None, number
        rows = encoder.embed_dim
        assert gradient[:rows].abs().sum() > 0 and gradient[rows : 2 * rows].abs().sum() > 0, number
    last_values = encoder.vit.blocks[-1].attn.qkv.weight.grad[2 * rows :]
    assert last_values.abs().sum() == 0  # the last values come after the attention


def test_sizes_that_are_not_a_multiple_of_the_patch_are_refused():
    with pytest.raises(ValueError, match=r"100x160.*16"):
        encoder_of().grid(100, 160)


def test_rectangles_are_row_major():
    encoder = encoder_of()
    x = torch.zeros(1, 3, 48, 80)
    base = encoder.embed(x, None)
    x[:, :, 32:48, 64:80] = 1.0
    differing = (encoder.embed(x, None) - base).abs().sum(-1)[0].nonzero().flatten()
    assert encoder.grid(48, 80) == (3, 5)
    assert differing.tolist() == [1 + 14]  # the last of 15 patches


def test_architectures_without_cls_or_absolute_positions_are_refused():
    with pytest.raises(UserError) as caught:
        Encoder(timm.create_model("test_vit", pretrained=False, num_classes=0, class_token=False, global_pool="avg"))
    assert caught.value.place == "model.architecture"


@given(st.integers(1, 4000), st.sampled_from([8, 14, 16]))
def test_round_to_patches_gives_the_nearest_multiple(size_px: int, patch_px: int):
    rounded = round_to_patches(size_px, patch_px)
    assert rounded % patch_px == 0 and rounded >= patch_px
    if size_px >= patch_px:
        assert abs(rounded - size_px) <= patch_px / 2


def test_the_papers_sizes_for_patch_14():
    sizes = (224, 320, 384, 416, 448, 512, 96)
    assert [round_to_patches(size, 14) for size in sizes] == [224, 322, 378, 420, 448, 518, 98]


@pytest.mark.parametrize("grid", [(16, 24), (5, 6)])
def test_resized_positions_equal_opencvs_bicubic(grid: tuple[int, int]):
    positions = torch.randn(1, 64, 3, generator=torch.Generator().manual_seed(0))
    assert resize_positions(positions, (8, 8), (8, 8)) is positions
    as_image = positions.reshape(8, 8, 3).numpy()
    expected = cv2.resize(as_image, grid[::-1], interpolation=cv2.INTER_CUBIC)  # no antialiasing, a = -0.75
    ours = resize_positions(positions, (8, 8), grid).reshape(*grid, 3)
    torch.testing.assert_close(ours, torch.from_numpy(expected), atol=1e-4, rtol=0)

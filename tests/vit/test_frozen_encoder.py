"""A frozen encoder gives what the encoder gives, whatever computes it, from any thread, after any change."""

import copy
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from timm.layers.norm import RmsNorm
from torch import Tensor

from flawmap.errors import UserError
from flawmap.vit import frozen_encoder
from flawmap.vit.encoder import Encoder, EncoderOutput, mean_cls_attention
from flawmap.vit.frozen_encoder import FrozenEncoder
from vit_variants import noise, tiny_encoder


def close(found: Tensor, expected: Tensor, relative: float = 1e-5) -> None:
    assert found.shape == expected.shape and found.dtype == expected.dtype
    assert (found - expected).abs().max() <= relative * expected.abs().max()


def same_bits(one: EncoderOutput, other: EncoderOutput) -> bool:
    tokens = zip(one.block_tokens.values(), other.block_tokens.values(), strict=True)
    pairs = [(one.cls, other.cls), (one.cls_attention, other.cls_attention), *tokens]
    return all(torch.equal(first, second) for first, second in pairs)


def unknown_encoder() -> Encoder:
    encoder = tiny_encoder()
    encoder.vit.blocks[1].norm2 = RmsNorm(64)
    return encoder.eval()


@pytest.mark.parametrize("blocks", [(), (1,), (0, -1)])
def test_output_is_the_encoders(blocks: tuple[int, ...]):
    encoder = tiny_encoder("registers")
    frozen = FrozenEncoder(encoder)
    assert frozen.backend == "onnxruntime"
    for images in (noise(48, 48, 2), noise(80, 32), noise(16, 16, 3)):
        found = frozen.encode(images, blocks)
        with torch.no_grad():
            expected = encoder(images, blocks=blocks)
        close(found.cls, expected.cls)
        close(found.cls_attention, expected.cls_attention)
        close(mean_cls_attention(found), mean_cls_attention(expected))
        assert found.patch_tokens is None and list(found.block_tokens) == sorted(expected.block_tokens)
        for number, tokens in expected.block_tokens.items():
            close(found.block_tokens[number], tokens)


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("make", [tiny_encoder, unknown_encoder])
def test_tokens_are_the_encoders(make, relative: bool):
    encoder, images = make(), noise(64, 48, 2)
    frozen = FrozenEncoder(encoder)
    cls, both = frozen.cls_and_tokens_of(images, (0, 2), relative)
    with torch.no_grad():
        expected = encoder.tokens_of(images, (0, 2), relative)
        close(cls, encoder(images).cls)
    close(both, expected, 2e-5)
    close(frozen.tokens_of(images, (0, 2), relative), expected, 2e-5)
    assert not both.requires_grad and not cls.requires_grad


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_an_images_result_does_not_depend_on_its_batch(precision):
    frozen, images = FrozenEncoder(tiny_encoder(gain=1.0), precision), noise(64, 64, 4)
    images[2] *= 40  # a wide range, which would widen the steps of all of a batch
    together = frozen.encode(images, (0,))
    for number in range(4):
        alone = frozen.encode(images[number : number + 1], (0,))
        assert torch.equal(alone.cls[0], together.cls[number])
        assert torch.equal(alone.block_tokens[0][0], together.block_tokens[0][number])


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_same_bits_each_time_and_from_several_threads(precision):
    encoder, images = tiny_encoder(), noise(64, 48, 2)
    frozen = FrozenEncoder(encoder, precision)
    with ThreadPoolExecutor(6) as pool:  # all of them find no session
        outputs = list(pool.map(lambda _: frozen.encode(images, (1,)), range(24)))
    again = FrozenEncoder(encoder, precision).encode(images, (1,))
    assert all(same_bits(output, again) for output in outputs)


def test_int8_is_near_fp32_and_another():
    encoder, images = tiny_encoder(gain=1.0), noise(64, 48, 2)
    exact, rounded = (FrozenEncoder(encoder, precision).encode(images, (0,)) for precision in ("fp32", "int8"))
    close(rounded.cls, exact.cls, 0.06)
    close(rounded.block_tokens[0], exact.block_tokens[0], 0.06)
    assert not torch.equal(rounded.cls, exact.cls)


def test_sessions_have_torchs_number_of_threads(monkeypatch: pytest.MonkeyPatch):
    threads = []

    class Session(frozen_encoder._Session):
        def __init__(self, graph, wanted, number: int) -> None:
            threads.append(number)
            super().__init__(graph, wanted, number)

    monkeypatch.setattr(frozen_encoder, "_Session", Session)
    frozen, before = FrozenEncoder(tiny_encoder()), torch.get_num_threads()
    try:
        for number in (1, 2, 2, 1):
            torch.set_num_threads(number)
            frozen.encode(noise(48, 48))
    finally:
        torch.set_num_threads(before)
    assert threads == [1, 2]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a process cannot be bound to cores here")
def test_a_process_with_fewer_cores_than_threads_neither_fails_nor_complains():
    code = """
import os, torch
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
from flawmap.vit.frozen_encoder import FrozenEncoder
from vit_variants import noise, tiny_encoder
torch.set_num_threads(4)
assert FrozenEncoder(tiny_encoder()).encode(noise(48, 48)).cls.isfinite().all()
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0 and "affinity" not in run.stderr, run.stderr


def test_views_and_other_types_of_images_are_taken():
    encoder, images = tiny_encoder(), noise(48, 64, 2)
    frozen, expected = FrozenEncoder(encoder), FrozenEncoder(encoder).encode(images)
    turned = images.transpose(2, 3).contiguous().transpose(2, 3)
    assert not turned.is_contiguous()
    assert same_bits(frozen.encode(turned), expected)
    assert same_bits(frozen.encode(images.double()), expected)


def test_changed_weights_are_used():
    encoder, images = tiny_encoder(), noise(48, 48)
    frozen = FrozenEncoder(encoder)
    first = frozen.encode(images)
    encoder.load_state_dict(tiny_encoder("plain", gain=1.0).state_dict())
    second = frozen.encode(images)
    assert not torch.equal(first.cls, second.cls)
    with torch.no_grad():
        close(second.cls, encoder(images).cls)
        encoder.vit.pos_embed.mul_(2)
        close(frozen.encode(images).cls, encoder(images).cls)


def test_results_outlive_the_encoder():
    """Nothing that was returned refers to the session's or the encoder's memory."""
    images = noise(48, 48)
    output = FrozenEncoder(tiny_encoder()).encode(images, (1,))
    assert same_bits(output, FrozenEncoder(tiny_encoder()).encode(images, (1,)))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda frozen: pickle.loads(pickle.dumps(frozen))])
def test_copies_have_sessions_of_their_own(copied):
    frozen, images = FrozenEncoder(tiny_encoder(), "int8"), noise(48, 48)
    first = frozen.encode(images)
    other = copied(frozen)
    assert other.precision == "int8" and other.encoder is not frozen.encoder
    assert same_bits(other.encode(images), first)


# ---- torch


def test_unknown_vits_stay_with_torch():
    encoder, images = unknown_encoder(), noise(48, 48)
    frozen = FrozenEncoder(encoder)
    assert frozen.backend == "torch"
    with torch.no_grad():
        assert same_bits(frozen.encode(images, (1,)), encoder(images, blocks=(1,)))


def test_images_with_gradients_stay_with_torch():
    frozen, images = FrozenEncoder(tiny_encoder()), noise(48, 48).requires_grad_()
    frozen.encode(images).cls.sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0
    with torch.no_grad():
        assert not frozen.encode(images).cls.requires_grad


def test_a_trace_is_torchs():
    frozen, other = FrozenEncoder(tiny_encoder()), noise(48, 48, 2)[1:]

    class Cls(torch.nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return frozen.encode(images).cls

    exported = torch.export.export(Cls(), (noise(48, 48),), strict=False).module()
    close(exported(other).detach(), frozen.encode(other).cls)


def test_int8_of_what_torch_must_compute_is_an_error():
    with pytest.raises(UserError, match=r"cannot be used here: blocks\.1\.norm2 is a RmsNorm"):
        FrozenEncoder(unknown_encoder(), "int8").encode(noise(48, 48))
    with pytest.raises(UserError, match="images need gradients"):
        FrozenEncoder(tiny_encoder(), "int8").tokens_of(noise(48, 48).requires_grad_(), (1,))


def test_an_encoder_elsewhere_stays_with_torch():
    encoder = tiny_encoder().to("meta")
    assert FrozenEncoder(encoder).backend == "torch"


def test_sizes_that_are_not_whole_patches_are_refused():
    with pytest.raises(ValueError, match="not a multiple of the patch size 16"):
        FrozenEncoder(tiny_encoder()).encode(noise(48, 50))

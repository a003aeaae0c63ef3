"""The table of the encoder's speed: its rows, and differences that are known."""

import torch

from flawmap.vit.encoder import EncoderOutput
from flawmap_bench.speed.encoder_speed import differences, measure
from vit_variants import tiny_encoder


def test_differences_are_shares_of_the_largest_value():
    cls, tokens, attention = torch.tensor([[1.0, -4.0]]), torch.tensor([[[2.0, 0.0]]]), torch.ones(1, 1, 1)
    expected = EncoderOutput(cls, attention, None, {0: tokens, 1: tokens})
    found = EncoderOutput(cls + 1, attention, None, {0: tokens, 1: tokens * 1.5})
    assert differences(found, expected) == (0.5, 0.25)


@torch.no_grad()
def test_each_way_and_batch_is_a_row():
    rows = measure(tiny_encoder(), 48, (1, 2), repeats=1).splitlines()
    assert [row.split(" | ")[:2] for row in rows[2:]] == [
        [f"| {way}", str(batch)] for batch in (1, 2) for way in ("torch fp32", "ONNX Runtime fp32", "ONNX Runtime int8")
    ]

"""Tensors between host and device: what is copied, and that the host does not wait without need."""

import pytest
import torch

from flawmap.engine import transfer
from flawmap.engine.transfer import to_device, to_host


def test_on_the_host_nothing_is_copied():
    tensors = [torch.arange(6.0).view(2, 3), torch.zeros(0)]
    assert all(found is given for found, given in zip(to_host(tensors), tensors, strict=True))
    assert to_device(tensors[0], "cpu") is tensors[0]


def test_with_cuda_a_copy_comes_from_pinned_memory_and_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    seen = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: seen.append("pinned") or tensor)
    monkeypatch.setattr(
        torch.Tensor, "to", lambda tensor, device, non_blocking=False: seen.append(non_blocking) or tensor
    )
    to_device(torch.zeros(3), "cuda")
    assert seen == ["pinned", True]


def test_tensors_of_a_device_come_in_one_copy_and_keep_shapes_and_values(monkeypatch: pytest.MonkeyPatch):
    copies, cpu = [], torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: copies.append(tensor.numel()) or cpu(tensor))
    tensors = [torch.rand(shape, generator=torch.Generator().manual_seed(1)) for shape in ((2, 3), (4, 1, 5), (0, 7))]
    found = transfer.in_one_copy(tensors)
    assert copies == [26]
    assert all(torch.equal(one, other) and one.shape == other.shape for one, other in zip(found, tensors, strict=True))

"""Pages of tensors that are mapped from a file: they leave the memory, and come back as they were."""

import sys
from pathlib import Path

import pytest
import torch

from flawmap.engine import tensor_files
from flawmap.engine.tensor_files import read_tensors, release_pages, write_tensors

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mappings are listed on Linux only")


def resident_bytes() -> int:
    """Of this process, mapped files alone."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssFile"))


def test_a_mapped_tensor_leaves_the_memory_and_is_read_again(tmp_path: Path):
    whole = torch.randn(4000, 2048, generator=torch.Generator().manual_seed(0))  # 33 MB
    write_tensors(tmp_path / "tokens.safetensors", {"tokens": whole, "few": torch.arange(3)})
    tokens = read_tensors(tmp_path / "tokens.safetensors")["tokens"]
    assert torch.equal(tokens, whole)
    before = resident_bytes()
    release_pages(tokens[:, :5])  # a part stands for the whole
    assert before - resident_bytes() > 0.8 * whole.nbytes
    assert torch.equal(tokens, whole)


def test_memory_that_no_file_backs_is_left_alone():
    for size in (10, 5_000_000):  # from the heap, and a mapping of its own
        tensor = torch.arange(size)
        release_pages(tensor)
        assert torch.equal(tensor, torch.arange(size))
    release_pages(torch.empty(0))
    release_pages(torch.empty(3, device="meta"))


def test_where_mappings_are_not_listed_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tensor_files, "MAPPINGS", tmp_path / "maps")
    write_tensors(tmp_path / "a.safetensors", {"a": torch.ones(2_000_000)})
    tensor = read_tensors(tmp_path / "a.safetensors")["a"]
    release_pages(tensor)
    assert tensor.sum() == 2_000_000

"""The result of a stage: computed once, kept, and read from its file."""

from pathlib import Path

import torch

from flawmap.engine import stage as stage_module
from flawmap.engine.compute import choose_compute
from flawmap.engine.stage import StageContext, return_freed_memory
from flawmap.runs.run_folder import RunFolder


def test_a_result_is_what_its_file_holds_and_can_be_opened_again(tmp_path: Path):
    context = StageContext(RunFolder(tmp_path), choose_compute("cpu", "fp32"), seed=0, size_px=32, inputs={})
    values = torch.arange(12, dtype=torch.float16).reshape(3, 4)
    calls = []

    def compute() -> dict[str, torch.Tensor]:
        calls.append(1)
        return {"values": values}

    stage = context.stage("memory")
    for found in (stage.result(compute, 8), stage.result(compute, 8), stage.reopened()):
        assert found.keys() == {"values"} and torch.equal(found["values"], values)
    assert len(calls) == 1


def test_memory_is_left_as_it_is_by_a_c_library_that_keeps_none(monkeypatch):
    class Other:
        """A C library without malloc_trim."""

    monkeypatch.setattr(stage_module.ctypes, "CDLL", lambda _: Other())
    return_freed_memory()

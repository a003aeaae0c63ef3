"""Stages of a grid: each computed by one task, waited for by the others, and taken over where that task ends."""

import asyncio
import json

import pytest

from flawmap.reproducibility import file_sha256
from flawmap_cluster.grid import is_complete
from flawmap_cluster.stages import GridRun, StageElsewhereError, StageStore, files_of, write_files

FILES = {".safetensors": b"tensors", ".json": b"{}"}
COMPUTE, WAIT = (False, None), (True, None)


def store(*on_disk: str) -> StageStore:
    return StageStore(lambda files: ("reference", files), on_disk)


def test_the_first_task_computes_and_the_others_wait_until_it_is_done():
    async def grid() -> None:
        stages = store()
        assert await stages.claim("pretrain-1", "a") == COMPUTE
        assert await stages.claim("pretrain-1", "b") == WAIT
        assert await stages.claim("pretrain-2", "b") == COMPUTE
        waiting = asyncio.create_task(stages.until_changed("pretrain-1"))
        await asyncio.sleep(0)
        assert not waiting.done()
        await stages.keep("pretrain-1", FILES)
        await asyncio.wait_for(waiting, 1)
        assert await stages.claim("pretrain-1", "b") == (False, ("reference", FILES))
        assert await stages.kept() == {"pretrain-1": ("reference", FILES)}
        await asyncio.wait_for(stages.until_changed("pretrain-1"), 1)  # at once

    asyncio.run(grid())


def test_a_task_that_is_tried_again_computes_what_it_had_begun():
    async def grid() -> None:
        stages = store()
        assert [await stages.claim("memory-1", "a") for _ in range(2)] == [COMPUTE, COMPUTE]
        await stages.keep("memory-1", FILES)
        await stages.keep("memory-1", {})  # a second result does not replace the first
        assert await stages.claim("memory-1", "a") == (False, ("reference", FILES))

    asyncio.run(grid())


def test_what_a_task_leaves_unfinished_another_one_computes():
    async def grid() -> None:
        stages = store()
        await stages.claim("memory-1", "a")
        waiting = asyncio.create_task(stages.until_changed("memory-1"))
        await asyncio.sleep(0)
        await stages.release("b")
        assert not waiting.done()
        await stages.release("a")
        await asyncio.wait_for(waiting, 1)
        assert await stages.claim("memory-1", "b") == COMPUTE
        await asyncio.wait_for(stages.until_changed("never-asked-for"), 1)

    asyncio.run(grid())


def test_what_lies_on_the_disk_is_waited_for_and_not_computed():
    async def grid() -> None:
        stages = store("memory-1")
        assert await stages.claim("memory-1", "a") == WAIT
        await stages.keep("memory-1", FILES)
        assert await stages.claim("memory-1", "a") == (False, ("reference", FILES))

    asyncio.run(grid())


def write_stage(path, key: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"tensors")
    path.with_suffix(".json").write_text(json.dumps({"key": key, "sha256": file_sha256(path)}))


def test_a_run_keeps_what_it_has_computed_once_and_asks_for_the_rest(tmp_path):
    kept, asked = {}, []
    of_another = {".safetensors": b"of another run", ".json": b"{}"}

    def claim(name: str):
        asked.append(name)
        return {"memory-there": (False, of_another), "memory-busy": WAIT}.get(name, COMPUTE)

    run = GridRun(tmp_path / "runs" / "a", claim, kept.__setitem__)
    assert run.shared_stage("pretrain", "0" * 64).name == f"pretrain-{'0' * 16}.safetensors"
    write_stage(run.stage_output("pretrain"), "0" * 64)
    for _ in range(2):
        run.shared_stage("pretrain", "0" * 64)
    assert kept == {f"pretrain-{'0' * 16}": files_of(run.stage_output("pretrain"))}
    for _ in range(2):
        assert files_of(run.shared_stage("memory", "there")) == of_another
    with pytest.raises(StageElsewhereError) as caught:
        run.shared_stage("memory", "busy")
    assert caught.value.name == "memory-busy"
    assert asked == [f"pretrain-{'0' * 16}", "memory-there", "memory-busy"]


def test_a_damaged_stage_is_not_complete(tmp_path):
    write_stage(tmp_path / "a" / "memory-1.safetensors", "1")
    write_files(tmp_path / "b" / "memory-1.safetensors", files_of(tmp_path / "a" / "memory-1.safetensors"))
    assert is_complete(tmp_path / "b" / "memory-1.safetensors")
    (tmp_path / "b" / "memory-1.safetensors").write_bytes(b"other")
    assert not is_complete(tmp_path / "b" / "memory-1.safetensors")
    assert not is_complete(tmp_path / "c" / "memory-1.safetensors")

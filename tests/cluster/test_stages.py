"""Stages of a grid: each computed by one task, waited for by the others, and taken over where that task ends."""

import asyncio
import json

import pytest

from flawmap.reproducibility import file_sha256
from flawmap_cluster.grid import is_complete, waits
from flawmap_cluster.stage_store import StageStore
from flawmap_cluster.stages import GridRun, StageElsewhereError, files_of, write_files

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


@pytest.mark.parametrize("way", ["computed", "taken over", "ended"])
def test_others_begin_when_the_first_task_has_its_first_stage_or_has_ended(way):
    async def grid() -> None:
        stages = store(*(["pretrain-1"] if way == "taken over" else []))
        waiting = asyncio.create_task(stages.until_first_stage("a"))
        assert await stages.claim("pretrain-1", "a") == (WAIT if way == "taken over" else COMPUTE)
        await stages.release("b")
        await asyncio.sleep(0)
        assert not waiting.done()
        if way == "ended":
            await stages.release("a")
        else:
            await stages.keep("pretrain-1", FILES)
        if way == "taken over":  # from the disk, by the machine with the command
            await asyncio.sleep(0)
            assert not waiting.done()
            await stages.claim("pretrain-1", "a")
        await asyncio.wait_for(waiting, 1)
        await asyncio.wait_for(stages.until_first_stage("a"), 1)  # at once

    asyncio.run(grid())


def test_one_row_of_those_with_a_common_first_stage_begins_before_the_others():
    rows = {"a": "1", "b": "2", "c": "1", "d": "1", "e": "2", "f": "3"}
    assert waits(rows, str) == {"c": "a", "d": "a", "e": "b"}
    assert waits(rows, None) == {}


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

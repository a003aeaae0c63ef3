"""How many images share a pass: what fits, what happens when it does not, and who waits for whom."""

import copy
import pickle
import threading
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from flawmap.engine import batch_size
from flawmap.engine.batch_size import LARGEST, SHARE_OF_FREE_MEMORY, ImagesAtOnce, free_bytes
from flawmap.memory.scorer import build_scorer
from flawmap.recipe.settings import MemorySettings, ModelSettings, Recipe
from flawmap.vit.weights import load_encoder

NO_MEMORY = RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")


@given(free=st.integers(0, 2**40), per_image=st.integers(1, 2**34))
def test_on_an_accelerator_the_largest_power_of_two_that_fits_into_half_of_the_free_memory(free: int, per_image: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_size, "free_bytes", lambda device: free)
        size = ImagesAtOnce.on("cuda", per_image).size
    assert size in [2**power for power in range(LARGEST.bit_length())]
    assert size == 1 or size * per_image <= SHARE_OF_FREE_MEMORY * free
    assert size == LARGEST or 2 * size * per_image > SHARE_OF_FREE_MEMORY * free


@pytest.mark.parametrize("wanted", [1, 8, 16])
def test_on_a_processor_the_size_is_fixed_and_memory_is_not_asked_for(wanted: int, monkeypatch):
    monkeypatch.setattr(batch_size, "free_bytes", None)
    assert ImagesAtOnce.on("cpu", 2**60, wanted).size == wanted


def test_free_is_what_the_driver_has_and_what_this_process_keeps_unused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1000, 8000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 200)
    assert free_bytes("cuda") == 1300
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 700)
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: 300)
    assert free_bytes("mps") == 400


@given(size=st.integers(1, 64), fitting=st.integers(1, 64))
def test_a_size_that_does_not_fit_is_halved_until_it_does_and_stays(size: int, fitting: int):
    at_once, tried = ImagesAtOnce(size, "mps"), []

    def work(images: int) -> int:
        tried.append(images)
        if images > fitting:
            raise NO_MEMORY
        return images

    found = at_once.run(work)
    assert found == at_once.size == at_once.run(work) <= fitting
    assert found == size or 2 * found + 1 > fitting
    assert tried[:-1] == [size >> halvings for halvings in range(len(tried) - 1)]


@pytest.mark.parametrize("error", [NO_MEMORY, MemoryError()])
def test_where_not_even_one_image_fits_the_error_is_raised(error: Exception):
    at_once = ImagesAtOnce(4, "mps")
    with pytest.raises(type(error)):
        at_once.run(lambda size: (_ for _ in ()).throw(error))
    assert at_once.size == 1


def test_any_other_error_is_raised_at_once():
    at_once, tried = ImagesAtOnce(4, "mps"), []

    def work(size: int) -> None:
        tried.append(size)
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        at_once.run(work)
    assert tried == [4]


def test_what_a_failed_attempt_held_is_gone_before_the_next_one():
    held: list[weakref.ref] = []

    def work(size: int) -> bool:
        if size > 2:
            activations = torch.ones(size)
            held.append(weakref.ref(activations))
            raise RuntimeError("CUDA out of memory")
        return all(of_attempt() is None for of_attempt in held)

    assert ImagesAtOnce(8, "mps").run(work) and len(held) == 2


def test_cached_memory_is_given_back_before_another_attempt(monkeypatch):
    given_back = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: given_back.append(True))

    def work(size: int) -> int:
        if size > 1:
            raise NO_MEMORY
        return size

    assert ImagesAtOnce(4, "cuda").run(work) == 1 and len(given_back) == 2


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copy_waits_for_nobody_else(copied):
    original = ImagesAtOnce(2, "cuda")
    assert original.run(lambda size: copied(original).run(lambda again: (size, again))) == (2, 2)


def test_on_a_processor_threads_work_at_the_same_time():
    at_once, both = ImagesAtOnce.on("cpu", 1), threading.Barrier(2)
    threads = [threading.Thread(target=at_once.run, args=(lambda size: both.wait(20),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not both.broken and not any(thread.is_alive() for thread in threads)


class LiveBytes(TorchDispatchMode):
    """Counts what tensors hold that operations make, and remembers the most; tensors ``before`` do not count."""

    def __init__(self, before: list[torch.Tensor]) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in before}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(output):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor.untyped_storage())
        return output

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.now += size
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


@pytest.mark.parametrize("product", ["fp32", "bf16"])
def test_the_estimate_is_more_than_a_pass_holds_and_not_many_times_as_much(product: str, monkeypatch):
    monkeypatch.setattr("flawmap.vit.frozen_encoder.FrozenEncoder._is_for_onnx", lambda *_: False)
    monkeypatch.setattr("flawmap.memory.patch_memory.fastest_product", lambda device: product)
    monkeypatch.setattr("flawmap.memory.search.ROWS", 10**6)  # as on an accelerator
    encoder, _ = load_encoder(ModelSettings("random", "vit_tiny_patch16_224"))
    scorer = build_scorer(encoder, Recipe(memory=MemorySettings(blocks=(2, 4, 6), tokens=2000))).eval()
    scorer.memory.tokens.normal_(generator=torch.Generator().manual_seed(0))
    scorer.memory.normalise()
    images, size_px = 3, 160
    with torch.no_grad():
        scorer.score(torch.zeros(1, 3, size_px, size_px))  # what is made once is no part of a pass
        coarse = [search._coarse for search in scorer.memory._searches if product == "bf16"]
        with LiveBytes([*scorer.parameters(), *scorer.buffers(), *coarse]) as live:
            scorer.score(torch.zeros(images, 3, size_px, size_px))
    estimate = images * scorer.bytes_per_image(size_px)
    assert live.most <= estimate <= 4 * live.most
    assert live.now < live.most / 4

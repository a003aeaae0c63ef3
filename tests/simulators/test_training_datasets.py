"""What the two stages read: determined by (seed, epoch, index), whole, and blind to labels and masks."""

import pickle
import random
import typing
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.sample import NormalImage, TrainingData
from flawmap.engine.sampling import stage_loader
from flawmap.paper.views import ViewsDataset, ViewSizes
from flawmap.recipe.settings import NormalAugmentation, SimulationSettings
from flawmap.simulators.attention_cutpaste import AttentionCutPaste
from flawmap.simulators.dataset import CROP_MARGIN, SimulationDataset
from flawmap.vit.inputs import channels_first, normalise
from flawmap.vit.weights import IMAGENET_MEAN, IMAGENET_STD

pytestmark = pytest.mark.usefixtures("small_heads")

SIZES = ViewSizes(global_px=64, local_px=32, num_locals=3)
SIZE_PX = 64


@pytest.fixture
def pixels(normal_images: tuple[NormalImage, ...]) -> NormalPixels:
    return NormalPixels(normal_images, round(SIZE_PX * CROP_MARGIN))


@pytest.fixture
def simulation(pixels: NormalPixels) -> Callable[..., SimulationDataset]:
    attention = np.random.default_rng(0).random((len(pixels), 4, 4), np.float32)

    def make(seed: int = 0, source: object = pixels, **changes: object) -> SimulationDataset:
        settings = SimulationSettings(**changes)
        return SimulationDataset(source, attention, SIZE_PX, NormalAugmentation(), AttentionCutPaste(settings), seed)

    return make


@pytest.fixture
def both(pixels: NormalPixels, simulation: Callable[..., SimulationDataset]) -> dict[str, Dataset]:
    return {"views": ViewsDataset(pixels, SIZES, seed=0), "simulation": simulation()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("name", ["views", "simulation"])
def test_an_item_is_determined_by_seed_epoch_and_index(name: str, both: dict[str, Dataset], pixels, simulation):
    dataset = both[name]
    item = dataset[(2, 5)]
    for other in ((0, 5), (2, 4), (3, 3)):  # whatever was drawn in between
        assert not equal(item, dataset[other])
    assert equal(item, dataset[(2, 5)])
    elsewhere = ViewsDataset(pixels, SIZES, seed=1) if name == "views" else simulation(seed=1)
    assert not equal(item, elsewhere[(2, 5)])


@pytest.mark.parametrize("name", ["views", "simulation"])
def test_a_spawned_process_reads_the_same(name: str, both: dict[str, Dataset]):
    copied = pickle.loads(pickle.dumps(both[name]))
    assert equal(copied[(2, 5)], both[name][(2, 5)])


@pytest.mark.parametrize("name", ["views", "simulation"])
def test_the_global_generators_neither_matter_nor_move(name: str, both: dict[str, Dataset]):
    items = []
    for seed in (0, 1):
        random.seed(seed)  # whether it moves cannot be seen: beartype draws from it
        np.random.seed(seed)
        torch.manual_seed(seed)
        before = np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
        items.append(both[name][(0, 0)])
        assert (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
    assert equal(*items)


@pytest.mark.parametrize("name", ["views", "simulation"])
def test_the_number_of_workers_changes_no_bit(name: str, both: dict[str, Dataset]):
    dataset = both[name]
    alone, helped = (list(stage_loader(dataset, 10, 4, total_steps=5, seed=0, workers=w)) for w in (0, 2))
    assert len(alone) == len(helped) == 5
    assert all(equal(a, b) for a, b in zip(alone, helped, strict=True))
    assert not equal(alone[0], alone[2])  # another epoch


@pytest.mark.parametrize("name", ["views", "simulation"])
def test_the_source_stays_as_it_was(name: str, both: dict[str, Dataset], pixels: NormalPixels):
    before = [pixels[index].copy() for index in range(len(pixels))]
    for index in range(len(pixels)):
        both[name][(0, index)]
    assert all(np.array_equal(before[index], pixels[index]) for index in range(len(pixels)))


def test_views_have_their_sizes(pixels: NormalPixels):
    item = ViewsDataset(pixels, SIZES, seed=0)[(0, 0)]
    shapes = {name: (tuple(view.shape), view.dtype) for name, view in item.items()}
    assert shapes == {
        "teacher": ((3, 64, 64), torch.uint8),
        "student_global": ((3, 64, 64), torch.uint8),
        "student_locals": ((3, 3, 32, 32), torch.uint8),
    }
    assert len({tuple(view.flatten().tolist()) for view in item["student_locals"]}) == 3  # each is its own crop
    without = ViewsDataset(pixels, replace(SIZES, num_locals=0), seed=0)[(0, 0)]
    assert tuple(without["student_locals"].shape) == (0, 3, 32, 32)
    assert torch.equal(without["teacher"], item["teacher"])


@pytest.mark.parametrize("blend", ["hard", "poisson"])
def test_normal_and_anomalous_differ_inside_the_footprint_alone(simulation, blend: str):
    dataset = simulation(blend=blend, max_patches=3)
    changed_anything = 0
    for index in range(len(dataset)):
        item = dataset[(1, index)]
        differs = (item["normal"] != item["anomalous"]).any(dim=0)
        assert item["footprint"].dtype == torch.bool and tuple(item["footprint"].shape) == (SIZE_PX, SIZE_PX)
        assert not (differs & ~item["footprint"]).any()
        assert item["label"].item() == int(differs.any())
        assert bool(item["footprint"].any()) == bool(differs.any())
        changed_anything += int(differs.any())
    assert changed_anything > len(dataset) / 2


class Flat:
    """Images on which nothing can be pasted that anybody could see."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> np.ndarray:
        return np.full((80, 80, 3), 128, np.uint8)


def test_where_nothing_could_be_pasted_the_label_says_normal(simulation):
    item = simulation(source=Flat(), jitter=0.0)[(0, 0)]
    assert item["label"] == 0 and not item["footprint"].any()
    assert torch.equal(item["normal"], item["anomalous"])


def test_attention_decides_where_the_anomaly_is(pixels: NormalPixels):
    attention = np.zeros((len(pixels), 4, 4), np.float32)
    attention[:, 0, 0] = 1.0
    plain = NormalAugmentation(min_crop=1.0, horizontal_flip=False, jitter=0.0)
    settings = SimulationSettings(min_size=0.05, max_size=0.1, max_rotation_deg=0.0, min_scale=1.0, max_scale=1.0)
    dataset = SimulationDataset(pixels, attention, SIZE_PX, plain, AttentionCutPaste(settings), seed=0)
    footprints = torch.stack([dataset[(epoch, i)]["footprint"] for epoch in range(3) for i in range(len(pixels))])
    rows, columns = footprints.any(dim=0).nonzero().unbind(1)
    assert len(rows) and max(rows.max(), columns.max()) < SIZE_PX / 2  # linear interpolation reaches one cell further


def test_normalise_takes_the_encoders_mean_and_deviation():
    image = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    by_hand = (image.double().numpy() / 255 - np.array(IMAGENET_MEAN)[:, None, None]) / np.array(IMAGENET_STD)[
        :, None, None
    ]
    np.testing.assert_allclose(normalise(image).numpy(), by_hand, atol=1e-6)


def test_channels_first_is_a_copy_in_the_encoders_order():
    image = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)
    tensor = channels_first(image)
    assert tensor[2, 1, 3] == image[1, 3, 2] and tensor.is_contiguous()
    tensor.zero_()
    assert image.any()


# ---- what training's types cannot hold


def test_training_types_have_no_place_for_labels_or_masks():
    assert typing.get_type_hints(NormalImage) == {
        "key": str,
        "path": Path,
        "sha256": str | None,
        "group": str | None,  # a patient or a part: what it is, not how good it is
        "product": str | None,
        "camera": str | None,
    }
    assert typing.get_type_hints(TrainingData)["images"] == tuple[NormalImage, ...]
    names = {field.name for field in fields(TrainingData)}
    assert not [name for name in names if any(word in name for word in ("label", "mask", "truth", "anomal", "kind"))]
    with pytest.raises(AttributeError):
        NormalImage("a", Path("a")).is_anomalous  # noqa: B018
    with pytest.raises((AttributeError, TypeError)):
        NormalImage("a", Path("a")).is_anomalous = True


def test_what_a_loader_gives_holds_no_real_label(both: dict[str, Dataset]):
    assert both["views"][(0, 0)].keys() == {"teacher", "student_global", "student_locals"}
    assert both["simulation"][(0, 0)].keys() == {"normal", "anomalous", "footprint", "label", "index"}

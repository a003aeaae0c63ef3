"""What the gallery shows is what training does, from the recipe and the images alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.sample import TrainingData
from flawmap.gallery import MASKING_STRATEGIES, gallery_images
from flawmap.paper.patch_masking import attention_patch_mask, most_attended_patch_mask
from flawmap.recipe.settings import Recipe
from flawmap.report.gallery import GalleryImage
from flawmap.simulators.by_name import simulator_names
from flawmap.vit.encoder import mean_cls_attention
from flawmap.vit.inputs import channels_first, normalise

pytestmark = pytest.mark.usefixtures("small_heads")

SIZE_PX = 96  # 6 x 6 patches


@pytest.fixture
def recipe(tiny_recipe: Recipe) -> Recipe:
    return replace(tiny_recipe, data=replace(tiny_recipe.data, image_size_px=SIZE_PX))


@pytest.fixture
def data(normal_images, tmp_path) -> TrainingData:
    return TrainingData("parts", tmp_path, "plain", normal_images)


@pytest.fixture
def shown(data, tiny_encoder, recipe: Recipe) -> list[GalleryImage]:
    return gallery_images(data, tiny_encoder(), recipe, 3)


def test_images_are_chosen_evenly_by_name_and_shown_at_the_size_of_training(shown, data) -> None:
    chosen = [data.images[1], data.images[5], data.images[8]]
    assert [image.key for image in shown] == [image.key for image in chosen]
    for image, pixels in zip(shown, NormalPixels(chosen, SIZE_PX), strict=False):
        np.testing.assert_array_equal(image.pixels, pixels)


def test_fewer_images_than_asked_for_are_all_shown(data, tiny_encoder, recipe: Recipe) -> None:
    two = replace(data, images=data.images[:2])
    assert [image.key for image in gallery_images(two, tiny_encoder(), recipe, 6)] == [i.key for i in two.images]


def test_the_attention_is_the_encoders(shown, tiny_encoder) -> None:
    for image in shown:
        views = normalise(channels_first(image.pixels)[None])
        with torch.no_grad():
            expected = mean_cls_attention(tiny_encoder().eval()(views)).reshape(6, 6).numpy()
        np.testing.assert_allclose(image.attention, expected, atol=1e-6)
        assert image.attention.std() > 0


def test_every_strategy_drops_as_many_patches_and_the_named_ones(shown) -> None:
    for image in shown:
        assert tuple(image.dropped) == MASKING_STRATEGIES
        assert {name: int(mask.sum()) for name, mask in image.dropped.items()} == {
            name: 0 if name == "none" else 10  # floor(0.3 * 36)
            for name in MASKING_STRATEGIES
        }
        flat = torch.from_numpy(image.attention.reshape(1, -1))
        np.testing.assert_array_equal(image.dropped["attention"].ravel(), attention_patch_mask(flat, 0.3)[0])
        np.testing.assert_array_equal(image.dropped["most_attended"].ravel(), most_attended_patch_mask(flat, 0.3)[0])


def test_every_simulator_changes_pixels_inside_its_footprint_only(shown) -> None:
    for image in shown:
        assert tuple(image.simulated) == simulator_names()
        for name, defect in image.simulated.items():
            changed = (defect.image != image.pixels).any(axis=-1)
            assert not (changed & ~defect.footprint).any(), name
            assert changed.any() == defect.footprint.any(), name
    assert sum(d.footprint.any() for image in shown for d in image.simulated.values()) > 20


def arrays_of(images: list[GalleryImage]) -> dict[str, dict[str, np.ndarray]]:
    return {
        image.key: {**image.dropped, **{name: defect.image for name, defect in image.simulated.items()}}
        for image in images
    }


def assert_equal_arrays(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


def test_the_seed_decides_and_nothing_that_was_drawn_before(shown, data, tiny_encoder, recipe: Recipe) -> None:
    np.random.seed(1)
    torch.manual_seed(1)
    again = arrays_of(gallery_images(data, tiny_encoder(), recipe, 10))
    for key, arrays in arrays_of(shown).items():  # the same where more images are shown
        assert_equal_arrays(arrays, again[key])
    other = arrays_of(gallery_images(data, tiny_encoder(), replace(recipe, seed=1), 3))
    for key, arrays in arrays_of(shown).items():
        same = {name for name in arrays if (arrays[name] == other[key][name]).all()}
        assert same == {"none", "attention", "most_attended"}


def test_the_recipes_ratio_and_simulation_are_used(data, tiny_encoder, recipe: Recipe) -> None:
    masking = replace(recipe.pretrain.masking, drop_ratio=0.5)
    simulation = replace(recipe.finetune.simulation, min_size=0.5, max_size=0.5, min_scale=1.0, max_scale=1.0)
    changed = replace(
        recipe,
        pretrain=replace(recipe.pretrain, masking=masking),
        finetune=replace(recipe.finetune, simulation=replace(simulation, max_rotation_deg=0.0)),
    )
    image = gallery_images(data, tiny_encoder(), changed, 1)[0]
    assert {int(mask.sum()) for name, mask in image.dropped.items() if name != "none"} == {18}
    for name in ("attention_cutpaste", "random_cutpaste"):
        assert image.simulated[name].footprint.sum() == pytest.approx((SIZE_PX / 2) ** 2, rel=0.1)


def test_the_defects_of_the_training_are_by_the_recipes_simulator_and_differ(shown, data, tiny_encoder, recipe) -> None:
    for image in shown:
        assert len(image.training) == 3
        for defect in image.training:
            assert not (defect.image != image.pixels).any(axis=-1)[~defect.footprint].any()
        assert len({defect.footprint.tobytes() for defect in image.training}) > 1
    (alone,) = gallery_images(data, tiny_encoder(), replace(recipe, method="memory"), 1)
    assert alone.training == ()

"""Python takes images as people have them: folders, files, patterns, pictures, arrays and lists of these."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flawmap import AnomalyDetector, Detection, Detections, UserError, load_images
from flawmap.data.sample import LabelledImage, NormalImage
from flawmap.detect.good_images import good_images, in_files
from flawmap.detect.image_like import WHAT_IS_TAKEN, each_of
from flawmap.recipe.settings import DataSettings
from images import striped, write_good, write_image
from tiny_detector import fitted_detector, tiny_recipe

BRIEF = ("pretrain.enabled=false", "finetune.steps=1", "calibration.held_out_fraction=0")


def test_what_load_images_returns_can_be_counted_and_walked(tmp_path: Path) -> None:
    good = load_images(write_good(tmp_path, 5))
    assert len(good) == 5 and tuple(good) == good.images


def test_all_ways_to_name_the_same_images_score_the_same(tmp_path: Path) -> None:
    folder = write_good(tmp_path / "new", 3)
    files = sorted(folder.glob("*.png"))
    arrays = [np.asarray(Image.open(file)) for file in files]
    detector = fitted_detector()
    scores = [detector.predict(array).score for array in arrays]
    for images in (folder, str(folder), f"{folder}/*.png", files, iter(files), arrays, load_images(folder)):
        found = detector.predict(images)
        assert isinstance(found, Detections) and [one.score for one in found] == scores
    pictures = [Image.fromarray(array) for array in arrays]
    assert detector.score_samples([files[0], arrays[1], pictures[2]]).tolist() == scores
    assert detector.score_samples([folder, files[0]]).tolist() == [*scores, scores[0]]
    assert isinstance(detector.predict(str(files[0])), Detection)


def test_a_name_with_brackets_is_one_image(tmp_path: Path) -> None:
    path = write_image(tmp_path / "[1].png", striped(1))
    assert isinstance(fitted_detector().predict(path), Detection)


def test_arrays_in_memory_train_as_their_files_do(tmp_path: Path) -> None:
    folder = write_good(tmp_path / "good", 4)
    arrays = [np.asarray(Image.open(file)) for file in sorted(folder.glob("*.png"))]
    by_folder = AnomalyDetector(tiny_recipe(*BRIEF)).fit(folder, device="cpu")
    by_array = AnomalyDetector(tiny_recipe(*BRIEF)).fit([Image.fromarray(arrays[0]), *arrays[1:]], device="cpu")
    new = [striped(7), striped(8)]
    assert by_array.score_samples(new).tolist() == by_folder.score_samples(new).tolist()
    by_folder.calibrate(folder, 0.3)
    by_array.calibrate(arrays, 0.3)
    assert by_folder.calibration_ == by_array.calibration_


def test_images_in_memory_become_files_of_the_same_pixels_for_a_while() -> None:
    gray = np.arange(48, dtype=np.uint8).reshape(6, 8)
    with in_files([gray, Image.fromarray(gray)]) as (first, second):
        for image in (first, second):
            np.testing.assert_array_equal(np.asarray(Image.open(image.path)), np.repeat(gray[..., None], 3, 2))
        assert (first.key, second.key) == ("in-memory/000000.png", "in-memory/000001.png")
    assert not first.path.exists()


def test_good_images_are_found_once_each_whatever_names_them(tmp_path: Path) -> None:
    first, second = write_good(tmp_path / "monday", 2), write_good(tmp_path / "tuesday", 2, first_seed=9)
    settings = DataSettings()
    keys = [image.key for image in good_images([first, second], settings)]  # type: ignore[union-attr]
    assert keys == ["monday/000.png", "monday/001.png", "tuesday/000.png", "tuesday/001.png"]
    files = sorted(first.glob("*.png"))
    again = good_images([files[0], f"{first}/*.png"], settings)
    assert [image.path for image in again] == files  # type: ignore[union-attr]
    array = striped(1)
    assert good_images(array, settings) == [array]
    normal = NormalImage("a.png", tmp_path / "a.png", group="lot 1")
    assert good_images((normal,), settings) == [normal]


def test_a_manifest_and_settings_of_the_recipe_are_read_as_by_the_command(tmp_path: Path) -> None:
    write_good(tmp_path / "parts" / "ok", 3)
    write_good(tmp_path / "parts" / "scrap", 2)
    found = good_images(tmp_path / "parts", DataSettings(normal="ok", train_subset=2))
    assert [Path(image.key).name for image in found] == ["000.png", "002.png"]  # type: ignore[union-attr]
    (tmp_path / "parts" / "manifest.csv").write_text("image,split,label\nok/001.png,train,good\n")
    (image,) = good_images(tmp_path / "parts" / "manifest.csv", DataSettings())
    assert image.path.name == "001.png"  # type: ignore[union-attr]


@pytest.mark.parametrize("thing", [3, None, b"bytes", {"a": 1}])
def test_what_is_no_image_is_named_with_its_type(thing: object) -> None:
    for taken in (lambda: each_of(thing), lambda: good_images(thing, DataSettings())):
        with pytest.raises(UserError) as caught:
            taken()
        assert caught.value.problem == f"this is not an image: a value of type {type(thing).__name__}"
        assert (caught.value.place, caught.value.remedy) == ("", WHAT_IS_TAKEN)
    with pytest.raises(UserError) as caught:
        each_of([striped(0), thing])
    assert caught.value.place == "image 2 of 2"


def test_an_array_that_is_no_image_is_named_by_its_place() -> None:
    batch = np.zeros((3, 32, 32), np.uint8)  # channels first
    for use in (fitted_detector().predict, AnomalyDetector(tiny_recipe()).fit):
        with pytest.raises(UserError) as caught:
            use([striped(0), batch])
        assert caught.value.problem == "an array of shape (3, 32, 32) is not an image"
        assert caught.value.place == "image 2 of 2"


def test_the_remedy_for_an_array_makes_images_of_it() -> None:
    detector = fitted_detector()
    for shape, makes in (
        ((3, 32, 40), "array.transpose(1, 2, 0)"),
        ((2, 32, 40, 3), "list(array)"),
        ((2, 3, 32, 40), "list(array.transpose(0, 2, 3, 1))"),
    ):
        array = np.zeros(shape, np.uint8)
        with pytest.raises(UserError) as caught:
            detector.predict(array)
        assert makes in caught.value.remedy
        made = eval(makes, {"array": array, "list": list})
        results = detector.predict(made if isinstance(made, list) else [made])
        assert {result.anomaly_map.shape for result in results} == {(32, 40)}


def test_a_missing_file_and_an_empty_pattern_are_named(tmp_path: Path) -> None:
    gone, pattern = str(tmp_path / "gone.png"), f"{tmp_path}/*.png"
    for name, problem in ((gone, "there is no such file or folder"), (pattern, "no images there")):
        with pytest.raises(UserError) as caught:
            good_images(name, DataSettings())
        assert (caught.value.problem, caught.value.place) == (problem, name)
    with pytest.raises(UserError, match=r"no such folder: .*gone"):
        good_images(tmp_path / "gone", DataSettings())


def test_labelled_images_never_train(tmp_path: Path) -> None:
    labelled = LabelledImage("b.png", tmp_path / "b.png", False, "good")
    with pytest.raises(UserError, match="training takes good images only, such as NormalImage, not LabelledImage"):
        good_images([striped(0), labelled], DataSettings())


def test_scikit_learn_clones_a_detector_without_what_it_learned() -> None:
    from sklearn.base import clone

    fitted = fitted_detector()
    again = clone(fitted)
    assert isinstance(again, AnomalyDetector) and again is not fitted
    assert again.recipe == fitted.recipe and again.scorer_ is None and fitted.scorer_ is not None
    assert again.get_params() == {"recipe": again.recipe}
    other = tiny_recipe("seed=7")
    assert again.set_params(recipe=other) is again and again.recipe is other
    with pytest.raises(UserError, match="no parameter 'tokens', only recipe"):
        again.set_params(tokens=3)

"""Known defects: which images of a folder or a manifest they are, which masks are theirs, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from flawmap.check import read_sound_data
from flawmap.data.checks import FileFacts, facts_of
from flawmap.data.known_defects import find_known_defects, known_defects_for, read_known_defects
from flawmap.data.open_data import open_test_data, open_training_data
from flawmap.data.sample import Boxes, KnownDefect, MaskFile
from flawmap.errors import UserError
from flawmap.recipe.files import load_recipe
from flawmap.recipe.settings import DataSettings, Recipe
from images import scratched, texture, write_good, write_image

SETTINGS = DataSettings()


def write_defect(path: Path, seed: int, mask: Path | None = None) -> None:
    image, where = scratched(seed)
    write_image(path, image)
    if mask is not None:
        write_image(mask, where.astype(np.uint8) * 255)


def masks_of(location: Path) -> dict[str, str | None]:
    """Of each image found its mask, relative to the folder."""
    root, found = find_known_defects(location, SETTINGS)
    return {
        image.key: image.truth.path.resolve().relative_to(root.resolve().parent).as_posix()
        if isinstance(image.truth, MaskFile)
        else None
        for image in found.images
    }


def good_facts(folder: Path) -> list[FileFacts]:
    return facts_of(open_training_data(folder, SETTINGS).images, folder, False)[0]


def test_masks_lie_beside_their_images_or_in_a_folder_of_masks(tmp_path):
    known = tmp_path / "known"
    write_defect(known / "a.png", 1, known / "a_mask.png")
    write_defect(known / "scratch" / "b.png", 2, known / "masks" / "scratch" / "b.png")
    write_defect(known / "c.png", 3)
    expected = {"known/a.png": "known/a_mask.png", "known/c.png": None}
    assert masks_of(known) == {**expected, "known/scratch/b.png": "known/masks/scratch/b.png"}


def test_a_kind_of_a_test_has_its_masks_in_ground_truth(mvtec_folder):
    _, found = find_known_defects(mvtec_folder / "test" / "scratch", SETTINGS)
    masks = [image.truth.path for image in found.images if isinstance(image.truth, MaskFile)]
    assert [mask.name for mask in masks] == [f"{number:03d}_mask.png" for number in range(6)]
    assert {mask.parent for mask in masks} == {(mvtec_folder / "ground_truth" / "scratch").resolve()}


def test_all_kinds_of_a_test_without_its_good_images(mvtec_folder):
    _, found = find_known_defects(mvtec_folder / "test", SETTINGS)
    assert [image.key for image in found.images] == [f"test/scratch/{number:03d}.png" for number in range(6)]
    assert all(isinstance(image.truth, MaskFile) for image in found.images)
    assert [item.path.name for item in found.left_out] == ["good"]


def test_rows_of_a_manifest_with_label_1(tmp_path):
    for number in range(3):
        write_defect(tmp_path / f"{number}.png", number)
    rows = ["image,split,label,boxes,lot", '0.png,test,1,"[[1, 2, 3, 4]]",A', "1.png,train,0,,A", "2.png,test,bad,,"]
    (tmp_path / "manifest.csv").write_text("\n".join(rows), encoding="utf-8")
    for location in (tmp_path, tmp_path / "manifest.csv"):
        _, found = find_known_defects(location, SETTINGS)
        assert [(image.path.name, image.truth, image.group) for image in found.images] == [
            ("0.png", Boxes(((1.0, 2.0, 3.0, 4.0),)), "A"),
            ("2.png", None, None),
        ]


def test_each_content_counts_once_and_an_empty_mask_is_none(tmp_path):
    known = tmp_path / "known"
    write_defect(known / "a.png", 1, known / "a_mask.png")
    write_defect(known / "again.png", 1)
    write_defect(known / "b.png", 2)
    write_image(known / "b_mask.png", np.zeros((48, 48), np.uint8))
    found = read_known_defects(known, SETTINGS, [])
    assert [(d.path.name, d.truth is None) for d in found.defects] == [("a.png", False), ("b.png", True)]
    assert found.words == "2 known defects, 1 with a mask or boxes; 1 more repeat the pixels of one"
    assert ("known/b.png", "its mask marks nothing") in [(remark.key, remark.text) for remark in found.remarks]


def test_groups_are_those_of_the_recipe(tmp_path):
    write_defect(tmp_path / "known" / "P1_0.png", 1)
    _, found = find_known_defects(tmp_path / "known", DataSettings(group_by="{group}_*"))
    assert [image.group for image in found.images] == ["P1"]


@pytest.mark.parametrize("name", ["empty", "good", "parts"])
def test_what_is_no_folder_of_defects_is_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    write_good(tmp_path / "good")
    write_good(tmp_path / "parts")
    with pytest.raises(UserError) as caught:
        read_known_defects(tmp_path / name, SETTINGS, good_facts(tmp_path / "parts"))
    assert caught.value.place == str(tmp_path / name)
    said = {"empty": "no image", "good": "holds good images", "parts": "among the good images as 000.png"}
    assert said[name] in caught.value.problem


def test_a_whole_data_set_a_file_and_nothing_are_refused(tmp_path, mvtec_folder):
    for place in (mvtec_folder, mvtec_folder / "test" / "scratch" / "000.png", tmp_path / "gone"):
        with pytest.raises(UserError) as caught:
            find_known_defects(place, SETTINGS)
        assert str(place) in caught.value.problem + caught.value.place


def test_the_same_pixels_in_another_file_are_the_same_defect(tmp_path):
    write_image(tmp_path / "parts" / "0.png", texture(0))
    write_image(tmp_path / "known" / "0.bmp", texture(0))
    with pytest.raises(UserError, match=r"also among the good images as 0\.png"):
        read_known_defects(tmp_path / "known", SETTINGS, good_facts(tmp_path / "parts"))


def test_two_masks_of_one_image_and_one_of_another_size_are_refused(tmp_path):
    known = tmp_path / "known"
    write_defect(known / "a.png", 1, known / "a_mask.png")
    write_defect(known / "a.png", 1, known / "gt" / "a.png")
    with pytest.raises(UserError, match="two masks"):
        find_known_defects(known, SETTINGS)
    (known / "a_mask.png").unlink()
    write_image(known / "gt" / "a.png", np.full((20, 48), 255, np.uint8))
    with pytest.raises(UserError, match="the mask is 48 x 20 px"):
        read_known_defects(known, SETTINGS, [])


def test_masks_that_match_no_image_are_refused(tmp_path):
    write_defect(tmp_path / "known" / "a.png", 1, tmp_path / "known" / "masks" / "other.png")
    with pytest.raises(UserError, match="masks match no image"):
        find_known_defects(tmp_path / "known", SETTINGS)


@pytest.mark.parametrize("method", ["memory", "paper"])
def test_a_method_without_a_head_refuses_them(method):
    recipe = Recipe(method=method)
    with pytest.raises(UserError, match="has no head"):
        known_defects_for("known", (), recipe)
    with pytest.raises(UserError, match="has no head"):
        known_defects_for((KnownDefect("a", Path("a")),), (), recipe)
    assert known_defects_for((), (), recipe) == ()


def test_a_known_defect_is_no_test_image(mvtec_folder, tmp_path):
    """By its pixels or by its group; and no reader of good images or of a test gives a known defect."""
    write_defect(tmp_path / "known" / "again.bmp", 203)
    recipe = load_recipe("quick")
    with pytest.raises(UserError, match=r"also in training as known/again\.bmp"):
        read_sound_data(mvtec_folder, recipe, defects=tmp_path / "known")
    write_defect(tmp_path / "other" / "003_0.png", 900)
    assert len(read_sound_data(mvtec_folder, recipe, defects=tmp_path / "other").known.defects) == 1
    by_group = load_recipe("quick", ["data.group_by={group}_*"])
    image, _ = scratched(500)
    write_image(mvtec_folder / "train" / "good" / "A_0.png", texture(300))
    write_image(mvtec_folder / "test" / "scratch" / "003_1.png", image)
    with pytest.raises(UserError, match="'003'"):
        read_sound_data(mvtec_folder, by_group, defects=tmp_path / "other")
    read = [*open_training_data(mvtec_folder, SETTINGS).images, *open_test_data(mvtec_folder, SETTINGS).samples]
    assert not any(isinstance(image, KnownDefect) for image in read)

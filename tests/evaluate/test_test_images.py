"""Which groups the images of an evaluation have, where the training has found its own by a setting."""

from pathlib import Path

import pytest

from flawmap.errors import UserError
from flawmap.evaluate.test_images import TestImages
from flawmap.recipe.settings import DataSettings
from flawmap.runs.manifest import ManifestRow
from images import striped, write_image


@pytest.fixture
def visits(tmp_path: Path) -> Path:
    """Four images in two folders, of patients that a manifest names."""
    rows = ["image,split,label,patient"]
    for number in range(4):
        name = f"visit-{number // 2}/{number}.png"
        write_image(tmp_path / name, striped(number))
        rows.append(f"{name},test,{number % 2},P{number}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows), encoding="utf-8")
    return tmp_path


def groups(location: Path, settings: DataSettings, *overrides: str) -> tuple[list[str | None], str | None]:
    data = TestImages(str(location), overrides).checked(settings)
    return [sample.group for sample in data.samples], data.grouped_by


def test_groups_that_the_data_names_count_and_not_the_setting_of_the_training(visits: Path):
    assert groups(visits, DataSettings(group_by="folder")) == (["P0", "P1", "P2", "P3"], "patient")


def test_the_setting_of_the_training_counts_where_the_data_names_none(visits: Path):
    manifest = visits / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("patient", "ward"), encoding="utf-8")
    found, by = groups(visits, DataSettings(group_by="folder"))
    assert (found, by) == (["visit-0", "visit-0", "visit-1", "visit-1"], "folder")


def test_a_setting_of_the_evaluation_comes_before_both(visits: Path):
    found, by = groups(visits, DataSettings(group_by="folder"), "data.group_by={group}.png")
    assert (found, by) == (["0", "1", "2", "3"], "{group}.png")
    assert groups(visits, DataSettings(), "data.group_by=image") == ([None] * 4, None)


def test_a_group_of_training_by_its_own_setting_is_still_a_leak(visits: Path):
    row = ManifestRow("visit-1/9.png", "0" * 64, "train", 48, 48, "0" * 64, group="visit-1")
    with pytest.raises(UserError, match=r"'visit-1' is in training and in the test: visit-1/9\.png and visit-1/2\.png"):
        TestImages(str(visits)).checked(DataSettings(group_by="folder"), [row])

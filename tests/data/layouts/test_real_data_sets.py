"""Numbers of ELPV, the magnetic tiles and the chest X-rays; training sees no labels."""

import ast
import dataclasses
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest

import flawmap
from assertions import mistake
from flawmap.advice import install
from flawmap.data import open_data, sample
from flawmap.data.images.files import read_image
from flawmap.data.images.truth import read_truth
from flawmap.data.layouts import elpv
from flawmap.data.open_data import LAYOUTS, NAMED_FOLDERS, find_all_test_data, open_test_data, open_training_data
from flawmap.data.sample import Boxes, LabelledImage, MaskFile, NormalImage, TrainingData
from flawmap.data.split import split_normals
from flawmap.data.walk import Listing
from flawmap.recipe.settings import DataSettings
from images import noise, write_image

DEFAULT = DataSettings()

# ---- ELPV


def test_elpv_has_the_numbers_of_the_protocol():
    pytest.importorskip("elpv_dataset")
    training, test = open_training_data("elpv", DEFAULT), open_test_data("elpv", DEFAULT)
    assert (training.name, training.layout) == ("elpv", "ELPV, normal cells 75 / 25")
    assert len(training.images) == 1131
    assert Counter(s.is_anomalous for s in test.samples) == {False: 377, True: 715}
    assert Counter(s.kind for s in test.samples) == {"good": 377, "defective": 715}
    assert {s.truth for s in test.samples} == {None}
    assert test.protocol == sample.Protocol("ELPV", "none", ("cell",))
    assert find_all_test_data("elpv", DEFAULT) is not None
    assert not {i.key for i in training.images} & {s.key for s in test.samples}
    for image in (training.images[0], test.samples[-1]):
        assert read_image(image.path).shape == (300, 300, 3)


def test_elpv_is_split_as_scikit_learn_splits_it():
    pytest.importorskip("elpv_dataset")
    model_selection = pytest.importorskip("sklearn.model_selection")
    lines = [line.split() for line in (elpv.elpv_path() / "labels.csv").read_text().splitlines()]
    normal = [key for key, probability, _ in lines if float(probability) == 0]
    train, test = model_selection.train_test_split(normal, test_size=0.25, random_state=42)
    assert {image.key for image in open_training_data("elpv", DEFAULT).images} == set(train)
    samples = open_test_data("elpv", DEFAULT).samples
    assert {s.key for s in samples if not s.is_anomalous} == set(test)
    assert {s.key for s in samples if s.is_anomalous} == {key for key, p, _ in lines if float(p) == 1}
    cells = {key: cell for key, _, cell in lines}
    assert all(s.strata["cell"] == cells[s.key] for s in samples)
    assert {s.strata["cell"] for s in samples} == {"mono", "poly"}


@pytest.mark.parametrize(("cell", "n_normal", "n_defective"), [("mono", 588, 313), ("poly", 920, 402)])
def test_elpv_can_be_restricted_to_one_cell_type(cell: str, n_normal: int, n_defective: int):
    pytest.importorskip("elpv_dataset")
    training, test = open_training_data(f"elpv:cell={cell}", DEFAULT), open_test_data(f"elpv:cell={cell}", DEFAULT)
    assert training.name == test.name == f"elpv-{cell}"
    assert {s.strata["cell"] for s in test.samples} == {cell}
    assert sum(s.is_anomalous for s in test.samples) == n_defective
    # the split of all cells, restricted: no cell changes its side
    whole = {image.key for image in open_training_data("elpv", DEFAULT).images}
    assert {image.key for image in training.images} <= whole
    assert len(training.images) + sum(not s.is_anomalous for s in test.samples) == n_normal


def test_elpv_without_its_package(monkeypatch):
    monkeypatch.setattr(elpv, "find_spec", lambda name: None)
    with mistake("the data set elpv needs the package elpv-dataset", "elpv", install("demo")):
        open_training_data("elpv", DEFAULT)


# ---- magnetic tiles and chest X-rays


def test_magnetic_tiles(development_data):
    root = development_data("mtd")
    training, test = open_training_data(root, DEFAULT), open_test_data(root, DEFAULT)
    assert (training.name, len(training.images), len(test.samples)) == ("mtd", 761, 348)
    kinds = Counter(s.kind for s in test.samples)
    assert kinds.pop("good") == 109 and sum(kinds.values()) == 239
    assert set(kinds) == {"blowhole", "break", "crack", "fray", "uneven"}
    assert test.protocol == sample.Protocol("mtd", "all")
    without_place = set()
    for tile in test.samples:
        assert isinstance(tile.truth, MaskFile) == tile.is_anomalous
        truth = read_truth(tile, *read_image(tile.path).shape[:2])
        if truth is None:
            without_place.add((tile.kind, tile.path.stem))
        else:
            assert truth.any() == tile.is_anomalous
    # empty masks: the whole data set is said to have four, this part of its test set has two
    assert without_place == {("uneven", "exp3_num_45042"), ("uneven", "exp4_num_45057")}


def test_chest_x_rays(development_data):
    root = development_data("nih")
    training, test = open_training_data(root, DEFAULT), open_test_data(root, DEFAULT)
    assert (training.name, training.layout, len(training.images)) == ("nih", "CSV manifest", 316)
    assert Counter(s.is_anomalous for s in test.samples) == {False: 90, True: 137}
    boxed = [s for s in test.samples if s.truth is not None]
    assert all(isinstance(s.truth, Boxes) and s.is_anomalous for s in boxed)
    assert Counter(s.strata["sex"] for s in boxed) == {"M": 17, "F": 4}
    assert {s.strata["view"] for s in test.samples} == {"PA", "AP"}
    assert test.protocol == sample.Protocol("nih", "truth_only", ("sex", "view"))
    for x_ray in boxed:
        truth = read_truth(x_ray, 512, 512)
        assert truth is not None and 0.001 < truth.mean() < 0.5
        assert read_image(x_ray.path).shape == (512, 512, 3)


def test_no_patient_is_on_two_sides(development_data):
    root = development_data("nih")
    training, test = open_training_data(root, DEFAULT), open_test_data(root, DEFAULT)
    per_patient = Counter(image.group for image in training.images)
    assert (len(per_patient), sum(number > 1 for number in per_patient.values()), max(per_patient.values())) == (
        216,
        49,
        12,
    )
    assert training.grouped_by == test.grouped_by == "patient"
    assert not per_patient.keys() & patients_of(test.samples)
    for seed in range(5):
        train, held_out = split_normals(training.images, 0.1, seed)
        assert len(held_out) == 32 and not patients_of(train) & patients_of(held_out)


def patients_of(images: Sequence[NormalImage] | Sequence[LabelledImage]) -> set[str | None]:
    return {image.group for image in images}


def test_chest_x_rays_of_one_sex(development_data):
    root = development_data("nih")
    men, women = (open_training_data(f"{root}:sex={sex}", DEFAULT) for sex in "MF")
    assert len(men.images) + len(women.images) == 316 and not set(men.images) & set(women.images)
    test = open_test_data(f"{root}:sex=F", DEFAULT)
    assert (test.name, {s.strata["sex"] for s in test.samples}) == ("nih-F", {"F"})
    assert sum(s.truth is not None for s in test.samples) == 4


# ---- what training can see


def test_a_training_image_has_no_field_for_a_label_or_a_mask():
    names = ["key", "path", "sha256", "group", "product", "camera"]
    assert [field.name for field in dataclasses.fields(NormalImage)] == names
    assert [field.name for field in dataclasses.fields(TrainingData)] == [
        "name",
        "root",
        "layout",
        "images",
        "skipped",
        "unused",
        "grouped_by",
        "left_out",
        "remarks",
    ]
    assert get_type_hints(TrainingData)["images"] == tuple[NormalImage, ...]
    with pytest.raises((AttributeError, TypeError)):
        NormalImage("a", Path("a")).is_anomalous = True
    for layout in (*LAYOUTS, NAMED_FOLDERS):
        assert get_type_hints(layout.training)["return"] == Listing[NormalImage]
    assert get_type_hints(open_data.open_training_data)["return"] is TrainingData


def test_no_training_code_imports_a_type_with_labels():
    root = Path(flawmap.__file__).parent
    labelled = {"LabelledImage", "TestData", "MaskFile", "Boxes", "open_test_data", "read_truth", "read_mask"}
    stages = ("detect", "engine", "memory", "paper", "simulators", "vit")
    files = [file for stage in stages for file in (root / stage).rglob("*.py")]
    assert len(files) > 20
    for file in files:
        nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
        names = {alias.name for node in nodes if isinstance(node, ast.ImportFrom | ast.Import) for alias in node.names}
        names |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        assert not names & labelled, file


def test_training_data_does_not_depend_on_the_test_folders(mvtec_folder: Path):
    before = open_training_data(mvtec_folder, DEFAULT)
    for name in ("test", "ground_truth"):
        shutil.rmtree(mvtec_folder / name)
    assert open_training_data(mvtec_folder, DEFAULT) == before


def test_training_data_does_not_depend_on_labels_and_boxes_of_test_rows(tmp_path: Path):
    for seed in range(3):
        write_image(tmp_path / f"{seed}.png", noise(seed))
    rows = ['1.png,test,1,"[[0,0,9,9]]"', "1.png,test,0,", "1.png,test,7,nonsense"]
    seen = set()
    for row in rows:
        text = f"image,split,label,boxes\n0.png,train,0,\n2.png,train,0,\n{row}\n"
        (tmp_path / "manifest.csv").write_text(text)
        seen.add(open_training_data(tmp_path, DEFAULT))
    (data,) = seen
    assert [image.key for image in data.images] == ["0.png", "2.png"]
    assert np.array_equal(read_image(data.images[0].path), noise(0))

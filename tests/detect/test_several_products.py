"""One model of several products: thresholds of each, by name and by likeness."""

from pathlib import Path

import numpy as np
import pytest

from assertions import explained
from flawmap.data.open_data import open_test_data
from flawmap.deploy.export import export_run
from flawmap.deploy.opened_model import open_model
from flawmap.deploy.runtime import load
from flawmap.deploy.threshold_choice import ThresholdChoice
from flawmap.detect.detector import AnomalyDetector
from flawmap.evaluate.evaluate import evaluate
from flawmap.recipe.files import load_recipe
from flawmap.runs.evaluation import read_per_image
from flawmap.runs.manifest import read_manifest
from flawmap.train import TrainingOrder, train_run
from images import striped, write_image

SETTINGS = (
    "method=memory",
    "data.image_size_px=64",
    "model.weights=random",
    "model.architecture=test_vit",
    "memory.blocks=[1, 2]",
    "memory.tokens=60",
    "memory.shifts=0",
    "data.tiles=none",
)
COUNTS = {"dark": 22, "light": 20, "rare": 5}


def part(product: str, seed: int) -> np.ndarray:
    """Good parts of three products, which differ in brightness and pattern."""
    image = {"dark": striped(seed) // 3, "light": striped(seed), "rare": np.rot90(striped(seed) // 2)}[product]
    return np.ascontiguousarray(image, np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three products, of which one has too few images for a threshold of its own."""
    root, rows = tmp_path_factory.mktemp("products"), ["image,split,label,product,camera"]
    for product, count in COUNTS.items():
        for number in range(count):
            write_image(root / f"{product}_{number}.png", part(product, number))
            rows.append(f"{product}_{number}.png,train,0,{product},{'left' if number % 2 else 'right'}")
    (root / "manifest.csv").write_text("\n".join(rows), encoding="utf-8")
    recipe = load_recipe("standard", SETTINGS)
    return train_run(TrainingOrder(str(root), recipe, root / "runs" / "mixed", "cpu"), None).run.path


def threshold(detector: AnomalyDetector, name: str | None) -> float:
    calibration = detector.calibrations_.of(name)
    assert calibration is not None
    return calibration.threshold


def test_each_product_with_twenty_images_has_a_threshold_of_its_own_scores(run: Path):
    detector = AnomalyDetector.from_pretrained(run, "cpu")
    own = detector.calibrations_.cameras
    assert list(own) == ["dark@", "left", "light@", "right"]
    assert [own[name].n_held_out for name in own] == [22, 23, 20, 24]
    of_all = detector.calibrations_.default
    assert of_all is not None and of_all.n_held_out == 47
    of_products = [*own["dark@"].held_out_scores, *own["light@"].held_out_scores]
    assert not set(of_products) - set(of_all.held_out_scores)
    assert sorted([*own["left"].held_out_scores, *own["right"].held_out_scores]) == list(of_all.held_out_scores)
    assert own["dark@"].threshold == pytest.approx(max(own["dark@"].held_out_scores))  # of 22, 1 % cannot be resolved
    assert detector.trained_["rare@"] == 5 and detector.trained_["dark@left"] == 11
    rows = {row.key: (row.product, row.camera) for row in read_manifest(run / "data_manifest.csv")}
    assert rows["rare_0.png"] == ("rare", "right")


def test_a_named_product_is_judged_by_its_threshold(run: Path):
    detector = AnomalyDetector.from_pretrained(run, "cpu")
    image = part("dark", 99)
    for product, camera, name in (
        ("dark", None, "dark@"),
        ("dark", "left", "dark@"),
        ("rare", None, None),
        ("rare", "left", "left"),
    ):
        found = detector.predict(image, product=product, camera=camera)
        assert found.threshold == threshold(detector, name) and found.product == product
        model = open_model(run, "cpu", choice=ThresholdChoice(f"{product}@{camera or ''}"))
        assert model.predict_many([image])[0].to_json() == found.to_json()
    error = explained(lambda: detector.predict(image, product="bolt"))
    assert error.problem == "the model does not know the product 'bolt'; it knows dark, light, rare"
    assert error.remedy == "flawmap calibrate RUN GOOD_IMAGES --product bolt"


def test_a_product_without_a_threshold_of_its_own_is_said(run: Path):
    rare = open_model(run, "cpu", choice=ThresholdChoice("rare@")).facts
    assert rare.notes == ["product rare: 5 good images, fewer than 20, so the thresholds of all images judge"]
    left = open_model(run, "cpu", choice=ThresholdChoice("dark@left")).facts
    assert left.notes == [
        "product dark, camera left: 11 good images, fewer than 20, so the thresholds of product dark judge"
    ]
    assert open_model(run, "cpu", choice=ThresholdChoice("dark@")).facts.notes == []


def test_products_are_found_by_likeness_and_others_are_unknown(run: Path):
    detector = AnomalyDetector.from_pretrained(run, "cpu")
    for product, name in (("dark", "dark@"), ("light", "light@"), ("rare", None)):
        (found,) = detector.predict([part(product, 99)])
        assert (found.product, found.is_unknown_product) == (product, False)
        assert found.threshold == threshold(detector, name)
        assert found.scores["appearance_distance"] == min(found.scores[f"appearance_distance:{one}"] for one in COUNTS)
    unlike = detector.predict(np.full((48, 48, 3), (255, 0, 0), np.uint8))
    assert unlike.is_unknown_product and unlike.is_anomalous and unlike.threshold is None and unlike.product is None
    assert unlike.to_json()["is_unknown_product"] and not unlike.regions
    named = detector.predict(np.full((48, 48, 3), (255, 0, 0), np.uint8), product="dark")
    assert named.product == "dark" and named.threshold == threshold(detector, "dark@")


@pytest.mark.parametrize("are_named", [True, False])
def test_an_evaluation_judges_as_detection_does(run: Path, tmp_path: Path, are_named: bool):
    rows, verdicts = ["image,split,label,product,camera" if are_named else "image,split,label"], {}
    detector = AnomalyDetector.from_pretrained(run, "cpu")
    for product, camera, seed in (("dark", "left", 99), ("light", "right", 98), ("rare", "left", 97), ("dark", "", 96)):
        for label in (0, 1):
            name, image = f"{product}{seed}-{label}.png", part(product, seed)
            image[10:20, 10:20] = 255 * label
            write_image(tmp_path / name, image)
            rows.append(f"{name},test,{label}" + (f",{product},{camera}" if are_named else ""))
            asked = {"product": product, "camera": camera or None} if are_named else {}
            verdicts[name] = detector.predict(image, **asked).is_anomalous
    strange = np.full((48, 48, 3), (255, 0, 0), np.uint8)
    write_image(tmp_path / "strange.png", strange)
    rows.append("strange.png,test,1" + (",bolt," if are_named else ""))  # which the model does not know
    verdicts["strange.png"] = True
    (tmp_path / "manifest.csv").write_text("\n".join(rows), encoding="utf-8")
    (tmp_path / "out").mkdir()
    data = open_test_data(tmp_path, detector.recipe.data)
    found = evaluate(detector, data, tmp_path / "out")
    per_image = {Path(image.key).name: image.is_flagged for image in read_per_image(tmp_path / "out")}
    assert per_image == verdicts and len(set(verdicts.values())) == 2
    missed = [name for name in verdicts if name.endswith("-1.png") and not verdicts[name]]
    assert found.missed_rate == pytest.approx(len(missed) / 5)


@pytest.mark.slow
def test_an_exported_file_finds_them_too(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("flawmap.deploy.parity.MAX_SCORE_DIFFERENCE", 0.01)  # of an encoder with random weights
    detector = AnomalyDetector.from_pretrained(run, "cpu")
    file = tmp_path / "parts.onnx"
    export_run(run, "onnx", output=file)
    for product in COUNTS:
        image = part(product, 99)
        here, there = detector.predict(image), load(file).predict(image)
        assert there.product == product and there.threshold == here.threshold
        assert there.scores == pytest.approx(here.scores, abs=0.01)
        assert load(file, product="dark").predict(image).threshold == threshold(detector, "dark@")
    assert load(file).predict(np.full((48, 48, 3), (255, 0, 0), np.uint8)).is_unknown_product

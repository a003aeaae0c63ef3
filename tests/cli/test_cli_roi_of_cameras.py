"""A run whose cameras have regions of interest of their own, by commands: from a manifest to an update."""

import contextlib
import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from flawmap import AnomalyDetector
from flawmap.cli import main
from flawmap.data.images.files import read_image
from flawmap.report.run_files import read_run
from flawmap.runs.evaluation import read_evaluation
from images import noise, striped, write_image
from tiny_detector import write_tiny_recipe

pytestmark = pytest.mark.usefixtures("small_heads")

HEIGHT, WIDTH = 48, 64
REGIONS = {
    "cameras": {
        "west": {"inside": [{"rectangle": [0, 0, 0.5, 1]}]},
        "east": {"inside": [{"rectangle": [0.5, 0, 1, 1]}]},
    }
}
SETTINGS = (
    *("data.image_size_px=64", "detect.image_score=mean_logit", "pretrain.enabled=false", "method=fused"),
    *("memory.blocks=[1, 2]", "memory.tokens=40", "residual.steps=4", "residual.simulated_images=6"),
    *("memory.image_share=0.2", "expectation.appearance=mean_token", "data.tiles=none"),
)


def camera_of(number: int) -> str:
    return "east" if number % 2 else "west"


def with_clutter(image: np.ndarray, camera: str, seed: int) -> np.ndarray:
    """Noise outside of the camera's region."""
    image, half = image.copy(), WIDTH // 2
    image[:, half:] = noise(seed, HEIGHT, half) if camera == "west" else image[:, half:]
    image[:, :half] = noise(seed, HEIGHT, half) if camera == "east" else image[:, :half]
    return image


def command(*words: object) -> tuple[int, str, str]:
    """Exit code, and what is printed to stdout and to stderr."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main([str(word) for word in words])
    return code, out.getvalue(), err.getvalue()


def done(*words: object) -> str:
    """What a command that succeeds prints."""
    code, out, err = command(*words)
    assert code == 0, err
    return out


def refused(*words: object) -> str:
    """What a command that fails says."""
    code, out, err = command(*words)
    assert code == 2, out
    return err


def write_manifest(path: Path, rows: list[tuple[str, str, int, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image", "split", "label", "camera"), *rows])


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of two cameras with a manifest, and the file of their regions."""
    root = tmp_path_factory.mktemp("line")
    rows = []
    for number in range(16):
        name = f"{number:02d}.png"
        write_image(root / "line" / name, striped(number, HEIGHT, WIDTH))
        rows.append((name, "train", 0, camera_of(number)))
    for number in range(16, 20):
        name, camera = f"{number:02d}.png", camera_of(number)
        image = striped(number, HEIGHT, WIDTH)
        write_image(root / "line" / name, with_clutter(image, camera, number) if number > 17 else image)
        rows.append((name, "test", int(number > 17), camera))
    write_manifest(root / "line" / "manifest.csv", rows)
    (root / "regions.json").write_text(json.dumps(REGIONS), encoding="utf-8")
    write_tiny_recipe(root / "tiny.yaml", *SETTINGS)
    for number in range(10):
        image, camera = striped(40 + number, HEIGHT, WIDTH), camera_of(number)
        write_image(root / "new" / camera / f"{number}.png", image)
        write_image(root / "cluttered" / camera / f"{number}.png", with_clutter(image, camera, number))
    return root


@pytest.fixture(scope="module")
def trained(first: Path) -> Path:
    words = "train", first / "line", "--recipe", first / "tiny.yaml", "--roi", first / "regions.json"
    done(*words, "--run", first / "run", "--device", "cpu")
    return first


@pytest.fixture
def root(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copied = Path(shutil.copytree(trained, tmp_path / "copy"))
    monkeypatch.chdir(copied)
    return copied


def test_check_names_each_cameras_share_and_a_region_that_is_smaller_than_a_patch(first, monkeypatch):
    monkeypatch.chdir(first)
    found = done("check", "line", "--recipe", "tiny.yaml", "--roi", "regions.json")
    assert "of each image counts: camera west 50.0%, camera east 50.0%" in found
    dot = {"cameras": REGIONS["cameras"] | {"east": {"inside": [{"rectangle": [0.5, 0.5, 0.52, 0.52]}]}}}
    Path("dot.json").write_text(json.dumps(dot), encoding="utf-8")
    for words in (["check", "line", "--recipe", "quick"], ["train", "line", "--recipe", "tiny.yaml"]):
        error = refused(*words, "--roi", "dot.json")
        assert "the region of interest of camera east is too small" in error, error
    assert not Path("runs").exists(), "no run is begun"


def test_without_a_column_or_with_another_camera_the_images_are_refused(first, monkeypatch, tmp_path):
    shutil.copytree(first / "line", tmp_path / "line")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "line" / "manifest.csv").unlink()
    error = refused("check", "line", "--roi", first / "regions.json")
    assert "(west, east), and nobody has named the camera of this image" in error and "--camera" in error


@pytest.mark.slow
def test_an_evaluation_counts_in_the_region_of_each_images_camera_and_the_report_shows_it(root):
    done("evaluate", "run", "line", "--device", "cpu")
    evaluation = read_evaluation(root / "run" / "evaluation")
    assert evaluation.image_scores
    files = read_run(root / "run")
    assert [image.camera for image in files.images] == ["west", "east", "west", "east"]
    detector = AnomalyDetector.from_pretrained(root / "run", "cpu")
    for image in files.images:
        roi = files.roi_of(image)
        assert roi.camera == image.camera
        found = detector.analyse(read_image(image.path), image.camera)
        assert image.score == found.scores["mean_logit"]
        np.testing.assert_array_equal(roi.at(HEIGHT, WIDTH), found.inside)
    good, cluttered = files.images[:2], files.images[2:]
    plain = [detector.analyse(striped(18 + n, HEIGHT, WIDTH), image.camera).scores for n, image in enumerate(cluttered)]
    assert [image.score for image in cluttered] == [scores["mean_logit"] for scores in plain], "clutter changes nothing"
    assert all(not image.is_anomalous for image in good)
    done("report", "run")


def test_detect_takes_the_region_of_the_named_camera_and_refuses_none(root):
    for folder in ("new", "cluttered"):
        done(
            "detect",
            f"{folder}/west",
            "--model",
            "run",
            "--camera",
            "west",
            "--output",
            f"found-{folder}",
            "--device",
            "cpu",
        )
    plain, beside = (
        json.loads(Path(f"found-{folder}/result.json").read_text(encoding="utf-8"))["images"]
        for folder in ("new", "cluttered")
    )
    assert [one["score"] for one in plain] == [one["score"] for one in beside]
    assert {one["inside_share"] for one in plain} == {0.5} and {one["camera"] for one in plain} == {"west"}
    error = refused("detect", "new/west", "--model", "run", "--device", "cpu", "--output", "refused")
    assert "nobody has named the camera of this image" in error and not Path("refused").exists()


def test_a_list_names_the_camera_of_each_image(root):
    rows = [f"new/{camera}/{number}.png,{camera}" for camera in ("west", "east") for number in range(10)]
    rows = [row for row in rows if Path(row.partition(",")[0]).is_file()]
    Path("new.csv").write_text("\n".join(["image,camera", *rows[::-1]]), encoding="utf-8")
    done("detect", "new.csv", "--model", "run", "--output", "listed", "--device", "cpu")
    found = json.loads(Path("listed/result.json").read_text(encoding="utf-8"))
    by_name = {one["image"]: one for one in found["images"]}
    assert [*by_name] == [row.partition(",")[0] for row in rows[::-1]] and len(by_name) == 10
    for camera in ("west", "east"):
        done("detect", f"new/{camera}", "--model", "run", "--camera", camera, "--output", camera, "--device", "cpu")
        alone = json.loads(Path(f"{camera}/result.json").read_text(encoding="utf-8"))
        for one in alone["images"]:
            assert {**by_name[one["image"]], "overlay": ""} == {**one, "overlay": ""}
        (of_list,) = [one for one in found["listed"] if one["camera"] == camera]
        assert of_list["judged_by"] == alone["judged_by"] and of_list["drift"]["n_images"] == len(alone["images"])


@pytest.mark.slow
def test_an_update_learns_in_the_region_of_the_named_camera(root):
    shutil.copytree("run", "other")
    for run, folder in (("run", "new"), ("other", "cluttered")):
        done("update", run, f"{folder}/east", "--camera", "east", "--device", "cpu")
    one, other = (AnomalyDetector.from_pretrained(root / run, "cpu") for run in ("run", "other"))
    image = striped(90, HEIGHT, WIDTH)
    for camera in REGIONS["cameras"]:
        found, expected = other.analyse(image, camera), one.analyse(image, camera)
        assert found.scores == expected.scores
        np.testing.assert_array_equal(found.anomaly_map, expected.anomaly_map)
    assert one.calibration_ == other.calibration_
    assert "nobody has named the camera" in refused("update", "run", "new/west", "--device", "cpu")


@pytest.mark.slow
def test_a_calibration_of_a_camera_looks_at_its_region(root):
    shutil.copytree("run", "other")
    for run, folder in (("run", "new"), ("other", "cluttered")):
        done("calibrate", run, f"{folder}/west", "--camera", "west", "--device", "cpu")
    one, other = (Path(run, "model", "cameras", "west.json").read_text(encoding="utf-8") for run in ("run", "other"))
    assert one == other


def test_the_gallery_has_the_pixels_of_each_images_own_region(first, monkeypatch):
    from flawmap.data.open_data import open_training_data
    from flawmap.gallery import gallery_images
    from flawmap.recipe.files import load_recipe
    from flawmap.vit.weights import load_encoder

    monkeypatch.chdir(first)
    recipe = load_recipe("tiny.yaml", [f"data.roi={json.dumps(json.dumps(REGIONS))}"])
    data = open_training_data("line", recipe.data)
    encoder, _ = load_encoder(recipe.model, seed=0)
    for image in gallery_images(data, encoder, recipe, 4):
        half = image.inside.shape[1] // 2
        west = camera_of(int(Path(image.key).stem)) == "west"
        assert image.inside[:, :half].all() == west and image.inside[:, half:].all() != west
        for defect in (*image.simulated.values(), *image.training):
            assert not (defect.footprint & ~image.inside).any()

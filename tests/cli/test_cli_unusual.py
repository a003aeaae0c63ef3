"""Good images that look unusual: train names and pictures them, and leaves out those of a list."""

import csv
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assertions import assert_explained
from flawmap.recipe.files import load_recipe, to_yaml
from flawmap.runs.manifest import read_manifest
from flawmap.runs.run_folder import RunFolder
from flawmap.runs.unusual import list_file, picture_file, read_unusual
from images import striped, write_image

NUM_GOOD, LIST = 40, "list.csv"
SETTINGS = (
    *("data.image_size_px=64", "model.weights=random", "model.architecture=test_vit", "method=memory"),
    *("memory.blocks=[1, 2]", "memory.tokens=300", "memory.image_share=0.1"),
    "compute.precision=fp32",
)


def outlier() -> np.ndarray:
    """A good part with a checked block over half of it."""
    image = striped(0)
    rows, columns = np.mgrid[:24, :48]
    image[12:36] = np.where((rows // 4 + columns // 4) % 2, 255, 0)[..., None].astype(np.uint8)
    return image


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(to_yaml(load_recipe("standard", SETTINGS)), encoding="utf-8")
    return path


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    folder = tmp_path / "my parts"
    for number in range(NUM_GOOD):
        write_image(folder / f"{number:03d}.png", striped(number))
    return folder


@pytest.fixture
def with_outlier(parts: Path) -> Path:
    write_image(parts / "017.png", outlier())
    return parts


def splits(run: Path) -> dict[str, str]:
    return {row.key: row.split for row in read_manifest(RunFolder(run).manifest)}


def test_a_set_without_an_outlier_names_nothing(cli, parts: Path, recipe: Path):
    result = cli("train", parts, "--recipe", recipe, "--run", "run", "--device", "cpu")
    assert result.code == 0
    assert f"unusual    none of {NUM_GOOD} good images looks unusual\n" in result.err
    assert "defects.csv" not in result.err
    found = read_unusual(Path("run/unusual"))
    assert found is not None and found.images == () and found.scoring.n_scored == NUM_GOOD
    assert cli("report", "run").code == 0
    assert f"<p>None of {NUM_GOOD} good images looks unusual.</p>" in Path("run/report.html").read_text()


def test_an_outlier_is_named_pictured_and_left_out_on_request(cli, with_outlier: Path, recipe: Path):
    result = cli("train", with_outlier, "--recipe", recipe, "--run", "run", "--device", "cpu", "--json")
    run, found = RunFolder(Path("run")), read_unusual(Path("run/unusual"))
    assert found is not None and [image.key for image in found.images] == ["017.png"]
    assert found.scoring.limit is not None and found.images[0].score > found.scoring.limit
    assert result.json["unusual"] == [{"key": "017.png", "score": found.images[0].score}]
    assert f"unusual    1 of {NUM_GOOD} good images looks unusual: 017.png\n" in result.err
    assert set(splits(run.path).values()) == {"train"}
    with Image.open(picture_file(run.unusual, 0, "image")) as picture:
        np.testing.assert_array_equal(np.asarray(picture), outlier())
    with Image.open(picture_file(run.unusual, 0, "map")) as picture:
        shades = np.asarray(picture).astype(float)
    assert shades.shape == (48, 48) and shades[16:32].mean() > shades[[*range(4), *range(44, 48)]].mean()

    assert cli("report", "run").code == 0
    page = run.report.read_text()
    assert f"1 of {NUM_GOOD} good images looks unusual: 017.png: see" in page
    assert 'alt="good image 017.png"' in page and 'alt="anomaly map of 017.png"' in page

    # what was printed, followed to the letter
    line = next(line for line in result.err.splitlines() if "if some show defects" in line)
    copy, again = line.partition("defects: ")[2].split(", delete the rows of those that show none, and ")
    _, source, target = shlex.split(copy)
    Path(target).write_bytes(Path(source).read_bytes())
    second = cli(*shlex.split(again)[1:], "--run", "second", "--device", "cpu")
    assert second.code == 0
    assert second.out.startswith(f"run        second      {NUM_GOOD - 1} good images, 1 left out (1 image of the list)")
    assert splits(Path("second")) == splits(run.path) | {"017.png": "left_out"}
    assert "--leave-out defects.csv" in json.loads(Path("second/environment.json").read_text())["command"]
    again_found = read_unusual(Path("second/unusual"))
    assert again_found is not None and again_found.scoring.n_scored == NUM_GOOD - 1
    assert "left out" in Path("second/report.html").read_text() if cli("report", "second").code == 0 else False


def test_an_interrupted_run_resumes_without_the_same_images(cli, with_outlier: Path, recipe: Path, monkeypatch):
    Path("list.csv").write_text("image;score\n017.png;9\n003.png;2\n")
    words = ("train", with_outlier, "--recipe", recipe, "--run", "run", "--device", "cpu")
    with monkeypatch.context() as patch:
        patch.setattr("flawmap.memory.fit.learn_expectation", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert cli(*words, "--leave-out", "list.csv").code != 0
    Path("list.csv").unlink()
    assert cli("train", "--resume", "--run", "run", "--device", "cpu").code == 0
    found = splits(Path("run"))
    assert sorted(key for key, split in found.items() if split == "left_out") == ["003.png", "017.png"]
    assert len(found) == NUM_GOOD


@pytest.mark.slow
def test_left_out_images_may_be_tested_and_do_not_count_as_trained_on(cli, with_outlier: Path, recipe: Path):
    Path("list.csv").write_text("image\n017.png\n")
    assert cli("train", with_outlier, "--recipe", recipe, "--run", "run", "--leave-out", "list.csv").code == 0
    for number in range(3):
        write_image(Path(f"test/test/good/{number}.png"), striped(100 + number))
    write_image(Path("test/test/bad/0.png"), outlier())
    assert cli("evaluate", "run", "test").code == 0
    write_image(Path("test/test/good/3.png"), striped(5))
    assert "is also in training as 005.png" in cli("evaluate", "run", "test").err
    config = json.loads(Path("run/model/config.json").read_text())
    assert config["record"]["data"]["train"] == NUM_GOOD - 1


def test_a_finished_run_is_not_changed(cli, trained, tmp_path: Path):
    Path("list.csv").write_text("image\ntrain/good/003.png\n")
    result = cli("train", "--resume", "--run", trained.run, "--leave-out", "list.csv")
    assert_explained(result, ("the run is finished",), str(trained.run), ("leave out --resume and --run",))


def test_the_papers_method_names_none_and_leaves_out_all_the_same(cli, trained):
    assert json.loads(cli("train", "--resume", "--run", trained.run, "--json").out)["unusual"] is None
    Path("list.csv").write_text("image\ntrain/good/003.png\n")
    words = ("--recipe", trained.recipe, "--set", "pretrain.enabled=false", "--set", "finetune.steps=1")
    assert cli("train", trained.data, *words, "--run", "run", "--leave-out", "list.csv").code == 0
    found = splits(Path("run"))
    assert found.pop("train/good/003.png") == "left_out" and set(found.values()) == {"train", "held_out"}


def test_a_copy_in_the_list_takes_its_original_with_it(cli, with_outlier: Path, recipe: Path):
    write_image(with_outlier / "copy.png", outlier())
    Path("list.csv").write_text("image\ncopy.png\n")
    assert cli("train", with_outlier, "--recipe", recipe, "--run", "run", "--leave-out", "list.csv").code == 0
    assert splits(Path("run"))["017.png"] == "left_out" and "copy.png" not in splits(Path("run"))


@pytest.mark.parametrize(
    ("text", "problem", "place", "remedy"),
    [
        ("image\n17.png\n", ("17.png is no good image of", "is 017.png meant?"), LIST, "unusual/images.csv"),
        ("image\n001.png\nx.png\ny.png\n", ("x.png is no good image of", "and 1 more"), LIST, "unusual/images.csv"),
        ("image,score\n", ("names none",), LIST, "train without --leave-out"),
        ("path,sha256\n001.png,0\n", ("does not name the columns",), LIST, "unusual/images.csv"),
        ("", ("is empty",), LIST, "unusual/images.csv"),
        (None, ("cannot be read",), LIST, "unusual/images.csv"),
        ("image\n" + "".join(f"{n:03d}.png\n" for n in range(40)), ("0 good images", "1 is"), "my parts", "add images"),
    ],
)
def test_a_wrong_list_is_refused(
    cli, parts: Path, recipe: Path, text: str | None, problem: tuple[str, ...], place: str, remedy: str
):
    if text is not None:
        Path("list.csv").write_text(text)
    result = cli("train", parts, "--recipe", recipe, "--run", "run", "--leave-out", "list.csv")
    assert_explained(result, problem, place, (remedy,))
    assert not Path("run").exists()


def test_the_list_has_names_and_scores(cli, with_outlier: Path, recipe: Path):
    assert cli("train", with_outlier, "--recipe", recipe, "--run", "run", "--device", "cpu").code == 0
    with list_file(Path("run/unusual")).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["017.png"] and float(rows[0]["score"]) > 0

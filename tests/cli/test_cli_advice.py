"""Advice is safe to follow literally: the command of each remedy is run as it is printed, and helps."""

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flawmap.recipe.files import to_yaml
from images import scratched, striped, write_category, write_good, write_image
from tiny_detector import tiny_recipe

NAME = "my parts (old) $1"


def recommended(said) -> list[str]:
    """The words of the command at the end of the remedy, after ``flawmap``."""
    remedy = said.err[said.err.rindex("remedy: ") :].strip()
    assert "\n" not in remedy
    return shlex.split(remedy[remedy.rindex("flawmap ") :])[1:]


def good_and_bad(root: Path) -> None:
    write_good(root / "Good parts")
    write_image(root / "scratch" / "1.png", striped(90))
    write_image(root / "dents" / "1.png", striped(91))


def good_bad_and_masks(root: Path) -> None:
    write_good(root / "OK")
    write_good(root / "N.G.", 3, first_seed=70)
    write_image(root / "masks" / "000_mask.png", striped(1))


def days_beside_defects(root: Path) -> None:
    for day in (1, 2):
        write_good(root / f"2024-05-0{day}", 12, first_seed=20 * day)
    write_good(root / "defects", 3, first_seed=90)


def good_folders_of_days(root: Path) -> None:
    for day in (1, 2):
        write_good(root / f"day {day}" / "good", 12, first_seed=20 * day)
        write_good(root / f"day {day}" / "bad", 2, first_seed=90 + day)


def split_of_a_classifier(root: Path) -> None:
    write_good(root / "train" / "ok")
    write_good(root / "train" / "ng", 3, first_seed=70)
    write_good(root / "val" / "ok", 3, first_seed=80)


def mvtec_without_good(root: Path) -> None:
    write_good(root / "train" / "OK")
    write_good(root / "test" / "good", 3, first_seed=80)


def several_data_sets(root: Path) -> None:
    write_category(root / "bottle")
    write_category(root / "cable")


SITUATIONS = {
    "good and bad": (good_and_bad, 24),
    "good, bad and masks": (good_bad_and_masks, 24),
    "days beside defects": (days_beside_defects, 24),
    "good folders of days": (good_folders_of_days, 24),
    "split of a classifier": (split_of_a_classifier, 24),
    "MVTec AD without good": (mvtec_without_good, 24),
    "several data sets": (several_data_sets, 24),
}


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("name", [NAME, "-x", "a'b & c"])
def test_the_folder_that_is_recommended_can_be_trained_on(situation, name, cli):
    make, n_good = SITUATIONS[situation]
    make(Path(name))
    said = cli("check", f"./{name}")
    assert said.code == 2
    train, *locations = recommended(said)
    assert train == "train"
    checked = cli("check", *locations, "--json")
    assert checked.code == 0, checked.err
    assert checked.json["good_images"] == n_good


def test_a_mistyped_folder_suggests_the_right_one(cli):
    write_good(Path(NAME))
    said = cli("check", NAME[:-1] + "2")
    assert cli(*recommended(said)).code == 0


def test_annotations_become_a_manifest(cli):
    root = Path(NAME)
    write_good(root / "JPEGImages", 24)
    write_image(root / "SegmentationClass" / "000.png", scratched(1)[1].astype("uint8"))
    box = "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    for number in range(24):
        found = f"<object><name>scratch</name>{box}</object>" if number < 3 else ""
        size = "<size><width>48</width><height>48</height></size>"
        text = f"<annotation><filename>{number:03d}.png</filename>{size}{found}</annotation>"
        (root / "Annotations").mkdir(exist_ok=True)
        (root / "Annotations" / f"{number:03d}.xml").write_text(text)
    said = cli("check", root)
    assert said.code == 2 and "Pascal VOC annotations" in said.err
    made = cli(*recommended(said))
    assert made.code == 0, made.err
    assert cli("check", "manifest.csv", "--set", "calibration.folds=0").err.count("good image") == 1


def test_what_train_prints_next_can_be_run(cli, tmp_path):
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(to_yaml(tiny_recipe("calibration.held_out_fraction=0")), encoding="utf-8")
    data, run = write_good(Path(NAME)), Path("runs") / NAME
    said = cli("train", data, "--recipe", recipe, "--run", run, "--device", "cpu")
    words = shlex.split(said.out[said.out.rindex("flawmap ") :])[1:]
    words[words.index("NEW_IMAGES")] = str(data)
    detected = cli(*words)
    assert detected.code == 0, detected.err
    note = next(line for line in detected.err.splitlines() if line.startswith("note "))
    words = shlex.split(note[note.rindex("flawmap ") :])[1:]
    words[words.index("GOOD_IMAGES")] = str(write_good(Path("more good"), 5, first_seed=700))
    assert cli(*words).code == 0
    assert "note " not in cli("detect", data, "--model", run, "--output", "again").err


def test_a_training_that_stopped_names_the_command_that_resumes_it(cli, tmp_path):
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(to_yaml(tiny_recipe()), encoding="utf-8")
    days = [write_good(Path(NAME) / day, 12, first_seed=seed) for seed, day in ((0, "day 1"), (50, "day 2"))]
    run = Path("runs") / NAME
    assert cli("train", *days, "--recipe", recipe, "--run", run, "--device", "cpu").code == 0
    shutil.rmtree(run / "model")
    words = recommended(cli("detect", days[0], "--model", run))
    assert words[:3] == ["train", *(str(day.resolve()) for day in days)]
    assert cli(*words, "--device", "cpu").code == 0
    assert cli("detect", days[0], "--model", run).code == 0


@pytest.mark.slow
def test_an_unfinished_run_is_named_by_the_next_one_and_resumed_without_unreadable_files(cli, tmp_path):
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(to_yaml(tiny_recipe()), encoding="utf-8")
    data, run = write_good(Path(NAME), 22), Path("runs") / NAME
    (data / "broken.png").write_bytes(b"")
    order = ("train", data, "--recipe", recipe, "--run", run, "--skip-unreadable", "--device", "cpu")
    assert cli(*order).code == 0
    shutil.rmtree(run / "model")
    again = cli(*order)
    assert again.code == 0
    note = next(line for line in again.err.splitlines() if line.startswith("note "))
    assert f"{run} was begun with the same data and settings" in note
    words = shlex.split(note[note.rindex("flawmap ") :])[1:]
    assert words == ["train", str(data), "--run", str(run), "--resume"]
    assert cli(*words, "--device", "cpu").code == 0 and (run / "model" / "config.json").is_file()
    assert cli(*order[:5], Path("runs") / "third", *order[6:]).err.count("\nnote ") == 0


def test_the_folders_of_a_test_are_named_by_the_error(cli, trained):
    for kind, n in (("good", 3), ("defect", 2)):
        write_good(Path("rated") / kind, n, first_seed=500)
    said = cli("evaluate", trained.run, "rated")
    assert said.code == 2
    words = shlex.split(said.err[said.err.index("inside: ") + len("inside: ") :])
    assert words == ["--set", "data.normal=good", "--set", "data.anomalous=defect"]
    assert cli("evaluate", trained.run, "rated", *words, "--output", "out").code == 0


def test_few_images_can_be_trained_without_a_threshold(cli):
    write_good(Path(NAME), 2)
    paper = ("--recipe", "paper_cpu")  # whose head learns too little from so few
    said = cli("check", NAME, *paper)
    option = said.err[said.err.index("--set ") :].split()[:2]
    assert said.code == 2 and cli("check", NAME, *paper, *option).code == 0
    assert json.loads(cli("check", NAME, *paper, *option, "--json").out)["good_images"] == 2
    assert json.loads(cli("check", NAME, "--json").out)["few"].startswith("2 good images")


MAKERS: tuple[Callable[[Path], None], ...] = tuple(make for make, _ in SITUATIONS.values())


@pytest.mark.parametrize("make", MAKERS)
def test_nothing_that_is_recommended_trains_on_a_defect(make, cli):
    make(Path("parts"))
    locations = recommended(cli("check", "parts"))[1:]
    words = {word for location in locations for word in Path(location).parts}
    assert not words & {"scratch", "dents", "N.G.", "defects", "bad", "ng", "val", "test"}

"""Every verb reads everything in a folder, or lists and counts what it leaves out; --strict refuses it."""

import json
from pathlib import Path

import pytest

from flawmap.deploy.parity import images_of_run
from flawmap.deploy.reviews import COLUMNS
from images import striped, write_category, write_good, write_image

GIF = b"GIF89a"


def litter(folder: Path) -> Path:
    """Adds two GIF files, NAS thumbnails and a mask beside its image: four things that no verb may read."""
    write_image(folder / "@eaDir" / "000.png" / "SYNOPHOTO_THUMB_M.jpg", striped(1, 12, 12))
    write_image(folder / "000_mask.png", striped(2))
    for name in ("a.gif", "b.gif"):
        (folder / name).write_bytes(GIF)
    return folder


COUNTS = "4 left out (2 .gif, 1 thumbnail folder, 1 mask)"


def kinds(records: list[dict]) -> list[str]:
    return sorted(record["kind"] for record in records)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return litter(write_good(tmp_path / "parts", 24, first_seed=300))


@pytest.fixture
def tile(tmp_path: Path) -> Path:
    root = write_category(tmp_path / "tile")
    litter(root / "test" / "hole")
    return root


WANTED = [".gif", ".gif", "mask", "thumbnail folder"]


def test_check_lists_and_counts(cli, good, tile):
    said = cli("check", good)
    assert said.code == 0 and said.out.splitlines()[-1] == f"total      24 good images, {COUNTS}"
    assert "left out   a.gif: GIF is not read" in said.out and "left out   @eaDir/: " in said.out
    assert kinds(cli("check", good, "--json").json["left_out"]) == WANTED
    assert kinds(cli("check", tile, "--json").json["left_out"]) == WANTED


def test_detect_lists_and_counts(cli, trained, good):
    said = cli("detect", good, "--model", trained.run, "--json")
    assert said.code == 0 and len(said.out.splitlines()) == 24
    assert said.err.splitlines()[-1].startswith(f"24 scored, {COUNTS}, ")
    assert kinds(json.loads(Path("detections/result.json").read_text())["left_out"]) == WANTED


def test_train_lists_and_counts(cli, trained, good):
    words = ("--recipe", trained.recipe, "--device", "cpu")
    said = cli("train", good, *words, "--run", "run")
    assert said.code == 0 and "left out   a.gif: GIF is not read" in said.err
    assert f"24 good images, {COUNTS}; next: flawmap detect" in said.out.splitlines()[-1]
    assert len(Path("run/data_manifest.csv").read_text().splitlines()) == 25
    assert kinds(cli("train", good, *words, "--run", "again", "--json").json["left_out"]) == WANTED


def test_calibrate_lists_and_counts(cli, run_copy, good):
    said = cli("calibrate", run_copy, good)
    assert said.code == 0 and said.out.splitlines()[-1] == f"total      24 good images, {COUNTS}"
    assert "left out   " in said.err
    assert kinds(cli("calibrate", run_copy, good, "--json").json["left_out"]) == WANTED


def test_evaluate_lists_and_counts(cli, run_copy, tile):
    said = cli("evaluate", run_copy, tile)
    assert said.code == 0 and said.out.splitlines()[-1] == f"total      18 scored, {COUNTS}"
    assert "left out   test/hole/a.gif: GIF is not read" in said.out
    assert kinds(json.loads((run_copy / "evaluation" / "metrics.json").read_text())["left_out"]) == WANTED
    assert kinds(cli("evaluate", run_copy, tile, "--json").json["left_out"]) == WANTED


@pytest.mark.parametrize("verb", ["check", "train", "detect", "calibrate", "evaluate"])
def test_strict_refuses_before_anything_is_done(verb, cli, trained, run_copy, good, tile):
    words = {
        "check": [good],
        "train": [good, "--recipe", trained.recipe, "--run", "run"],
        "detect": [good, "--model", run_copy],
        "calibrate": [run_copy, good],
        "evaluate": [run_copy, tile],
    }[verb]
    before = sorted(run_copy.rglob("*"))
    said = cli(verb, *words, "--strict")
    assert (said.code, said.out) == (2, "") and f"error: {COUNTS}: " in said.err and "a.gif" in said.err
    assert sorted(run_copy.rglob("*")) == before and list(Path().iterdir()) == []


@pytest.mark.parametrize("verb", ["check", "detect"])
def test_strict_is_content_where_nothing_is_left_out(verb, cli, run_copy, tmp_path):
    parts = write_good(tmp_path / "parts", 24)
    assert cli(verb, parts, "--strict", *(["--model", run_copy] if verb == "detect" else [])).code == 0


@pytest.mark.parametrize("verb", ["check", "train", "calibrate", "evaluate"])
def test_unreadable_files_are_counted_with_the_rest(verb, cli, trained, run_copy, good, tile):
    for folder in (good, tile / "test" / "hole"):
        (folder / "damaged.png").write_bytes(b"\x89PNG nothing")
    words = {
        "check": [good],
        "train": [good, "--recipe", trained.recipe, "--run", "run", "--device", "cpu"],
        "calibrate": [run_copy, good],
        "evaluate": [run_copy, tile],
    }[verb]
    said = cli(verb, *words, "--skip-unreadable")
    wanted = "5 left out (2 .gif, 1 thumbnail folder, 1 mask, 1 unreadable file)"
    assert said.code == 0 and wanted in said.out.splitlines()[-1] and "damaged.png" in said.out + said.err


def test_what_lies_beside_the_images_of_stage_1_is_said(cli, good, tmp_path):
    other = litter(write_good(tmp_path / "other", 20, first_seed=900))
    words = ("check", write_good(tmp_path / "plain", 20), "--recipe", "paper", "--set", f"data.pretrain_on={other}")
    said = cli(*words, "--json")
    assert said.code == 0 and kinds(said.json["left_out"]) == WANTED
    refused = cli(*words, "--strict")
    assert refused.code == 2 and COUNTS in refused.err and f"at: {other}" in refused.err


def test_strict_contradicts_skip_unreadable(cli, good):
    said = cli("check", good, "--strict", "--skip-unreadable")
    assert said.code == 2 and "not allowed with argument" in said.err


def test_masks_of_the_test_that_are_not_read_are_said(cli, tile):
    for folder in ("test/hole", "ground_truth/hole"):
        (tile / folder / "000_mask.gif").write_bytes(GIF)
    records = cli("check", tile, "--json").json["left_out"]
    assert str(tile / "ground_truth" / "hole" / "000_mask.gif") in [record["path"] for record in records]


def test_too_few_images_say_what_was_left_out(cli, tmp_path):
    said = cli("check", litter(write_good(tmp_path / "parts", 3)), "--recipe", "paper_cpu")
    assert said.code == 2 and f"to set a threshold; {COUNTS}" in said.err


# ---- several locations


@pytest.mark.slow
def test_days_train_as_one_data_set_and_the_run_knows_where_they_are(cli, trained, tmp_path):
    days = [write_good(tmp_path / f"day {n}", 20, first_seed=20 * n) for n in (1, 2)]
    words = ("--recipe", trained.recipe, "--device", "cpu", "--run", "run")
    said = cli("train", *days, *words)
    assert said.code == 0, said.err
    rows = Path("run/data_manifest.csv").read_text().splitlines()[1:]
    assert sorted({row.partition("/")[0].strip('"') for row in rows}) == ["day 1", "day 2"] and len(rows) == 40
    assert json.loads(Path("run/environment.json").read_text())["data"] == [str(day) for day in days]
    assert cli("train", *days, *words, "--resume").code == 0  # was finished already
    assert {image.path.parent for image in images_of_run(Path("run"), 40)} == set(days)
    assert cli("report", "run").code == 0 and str(days[1]) in Path("run/report.html").read_text()
    (Path("run") / "model" / "config.json").unlink()
    refused = cli("train", days[0], *words[2:], "--resume")
    assert refused.code == 2 and "not what this run was started with" in refused.err
    assert cli("train", *reversed(days), *words[2:], "--resume").code == 0


def test_images_that_lie_in_both_locations_count_once(cli, tmp_path):
    days = [write_good(tmp_path / f"day {n}", 20) for n in (1, 2)]
    said = cli("check", *days, "--json")
    assert (said.json["data"], said.json["good_images"], said.json["identical_images"]) == ("day 1-and-1-more", 20, 20)


def test_calibrate_takes_several_locations_or_reviews_alone(cli, run_copy, tmp_path):
    days = [write_good(tmp_path / f"day {n}", 5, first_seed=500 + 10 * n) for n in (1, 2)]
    said = cli("calibrate", run_copy, *days, "--json")
    assert said.code == 0 and said.json["n_held_out"] == 10
    Path("reviews.csv").write_text(",".join(COLUMNS) + "\n")
    refused = cli("calibrate", run_copy, days[0], "reviews.csv")
    assert refused.code == 2 and "reviews cannot be combined with other images" in refused.err


def test_evaluate_counts_several_locations_as_one(cli, run_copy, tmp_path):
    first = write_category(tmp_path / "line 1" / "tile")
    second = tmp_path / "line 2" / "tile"
    for seed in range(4):
        write_image(second / "test" / "good" / f"{seed}.png", striped(3000 + seed))
        write_image(second / "ground_truth" / "hole" / f"{seed}_mask.png", striped(1) * 0 + 255)
        write_image(second / "test" / "hole" / f"{seed}.png", striped(4000 + seed))
    said = cli("evaluate", run_copy, first, second, "--json")
    assert said.code == 0, said.err
    assert (said.json["data"], said.json["n_good"], said.json["n_anomalous"]) == ("tile-and-1-more", 10, 16)
    keys = [
        line.partition(",")[0].strip('"')
        for line in (run_copy / "evaluation" / "per_image.csv").read_text().splitlines()[1:]
    ]
    assert len(set(keys)) == 26 and {key.partition("/")[0] for key in keys} == {"tile", "tile-2"}

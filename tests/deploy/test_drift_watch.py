"""What a watch says of a stream, what it keeps across a restart, and what flawmap detect writes of it."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from brightness_model import CALIBRATION, FACTS, BrightnessModel

from flawmap.data.walk import Listing
from flawmap.deploy.batch import Batch
from flawmap.deploy.drift_watch import NAMED, DriftWatch
from flawmap.detect.calibration import calibrate
from images import write_image

GOOD = calibrate([float(n) for n in range(40)], [0.0] * 40, 0.05, appearance_distances=[n / 100 for n in range(40)])


def seen(watch: DriftWatch, scores: list[float], distances: list[float], first: int = 0) -> DriftWatch:
    for number, (score, distance) in enumerate(zip(scores, distances, strict=True), first):
        of_image = {"mean_logit": score, "appearance_distance": distance}
        watch.see(of_image, score, f"{number:03d}.png", f"{number:064x}", f"2026-01-01T00:00:{number:02d}+00:00")
    return watch


def good_values(n: int, seed: int = 0) -> tuple[list[float], list[float]]:
    numbers = np.random.default_rng(seed).integers(40, size=(2, n))
    return [float(one) for one in numbers[0]], [one / 100 for one in numbers[1].tolist()]


def test_good_images_are_no_drift() -> None:
    watch = seen(DriftWatch(GOOD), *good_values(500))
    assert watch.n_images == 500 and not watch.warnings and watch.text(Path("m")) == ""
    assert watch.to_json(None)["is_warning"] is False and watch.not_watched == ""


@pytest.mark.parametrize(
    ("raised", "warnings", "said"),
    [
        ((100.0, 0.0), ("scores",), "score higher than at least half of the 40 good images: their median score is 1"),
        ((0.0, 1.0), ("appearance",), "look less like the training images than at least half of the 40 good images"),
        ((100.0, 1.0), ("scores", "appearance"), "Since 050.png (2026-01-01T00:00:50+00:00), 30 of 30 images"),
    ],
)
def test_a_warning_says_what_moved_since_when_and_by_how_much(raised, warnings, said) -> None:
    watch = seen(DriftWatch(GOOD, "left"), [0.0] * 50, [0.0] * 50)
    scores, distances = (
        [value + more for value in of_one] for of_one, more in zip(good_values(30), raised, strict=True)
    )
    scores, distances = (
        of_one if more else [0.0] * 30 for of_one, more in zip((scores, distances), raised, strict=True)
    )
    seen(watch, scores, distances, 50)
    text = watch.text(Path("my runs/parts"))
    assert watch.warnings == warnings and said in text
    assert text.startswith("The images of camera left have moved away from the good images of the calibration. ")
    assert "flawmap calibrate 'my runs/parts' GOOD_IMAGES --camera left sets" in text
    assert "flawmap update 'my runs/parts' GOOD_IMAGES" in text
    (first, *_) = (one for one in watch.to_json(None)["measures"] if one["is_warning"])
    values = scores if first["measure"] == "scores" else distances
    assert [one["value"] for one in first["moved_most"]] == sorted(values, reverse=True)[:NAMED]
    assert (first["n_since"], first["n_above"], first["since"]) == (30, 30, "050.png")
    assert first["middle"] == pytest.approx(np.median(values))


def test_only_a_run_can_be_updated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my parts.onnx").write_bytes(b"")
    Path("model").mkdir()
    Path("model/config.json").write_text("{}")
    watch = seen(DriftWatch(GOOD), [99.0] * 30, [0.0] * 30)
    assert "flawmap update" not in watch.text(Path("model"))
    assert "flawmap update parts.v2 GOOD_IMAGES" in watch.text(Path("parts.v2"))
    assert "flawmap update" not in watch.text(Path("my parts.onnx").absolute(), Path("elsewhere.onnx"))
    text = watch.text(Path("my parts.onnx"))
    (command,) = [part for part in text.split(", ") if part.startswith("flawmap")]
    assert shlex.split(command)[:4] == ["flawmap", "calibrate", "my parts.onnx", "GOOD_IMAGES"]
    assert "flawmap update" not in text


def test_what_cannot_be_compared_is_said() -> None:
    assert "without a threshold" in DriftWatch(None).not_watched
    assert "at least 10 good images are needed" in DriftWatch(CALIBRATION).not_watched
    of_earlier = DriftWatch(replace(GOOD, appearance_distances=()))
    assert tuple(of_earlier.levels) == ("scores",) and "appearance is not watched" in of_earlier.not_watched
    seen(of_earlier, [0.0] * 40, [9.0] * 40)
    assert not of_earlier.warnings


def test_a_watch_goes_on_after_a_restart_and_begins_again_with_another_calibration() -> None:
    whole = seen(DriftWatch(GOOD), [99.0] * 30, [0.5] * 30)
    first = seen(DriftWatch(GOOD), [99.0] * 12, [0.5] * 12)
    second = DriftWatch(GOOD)
    second.restore(first.stored())
    seen(second, [99.0] * 18, [0.5] * 18, 12)
    assert second.to_json(None) == whole.to_json(None) and second.warnings == ("scores", "appearance")
    for text in ("", "{}", first.stored()[:-9]):
        second.restore(text)  # damaged: as if there were none
    assert second.to_json(None) == whole.to_json(None)
    other = DriftWatch(calibrate([float(n) for n in range(50)], [0.0] * 50, 0.05))
    other.restore(whole.stored())
    assert other.n_images == 0 and not other.warnings


def test_detect_writes_the_drift_of_all_images_those_of_an_earlier_call_included(tmp_path) -> None:
    paths = [write_image(tmp_path / f"{n:02d}.png", np.full((8, 8, 3), 200, np.uint8)) for n in range(30)]
    model = BrightnessModel(replace(FACTS, calibration=GOOD))
    first = Batch(model, Listing(tuple(paths[:20])), tmp_path / "out", overlays=False)
    list(first.run(Path("parts")))
    assert json.loads((tmp_path / "out/result.json").read_text())["drift"]["is_warning"] is False
    again = Batch(model, Listing(tuple(paths)), tmp_path / "out", resume=True, overlays=False)
    list(again.run(Path("parts")))
    drift = json.loads((tmp_path / "out/result.json").read_text())["drift"]
    assert drift["n_images"] == 30 and drift["is_warning"] and drift["text"] == again.watches[None].text(Path("parts"))
    assert drift["measures"][0]["since"] == str(paths[0]) and drift["measures"][0]["n_since"] == 30

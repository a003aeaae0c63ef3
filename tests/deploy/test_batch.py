"""A batch of images through several threads: who scores, what is shared, and what an interruption leaves."""

import copy
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from brightness_model import BrightnessModel

import flawmap.deploy.batch as batch_module
from flawmap.data.walk import Listing
from flawmap.deploy.batch import Batch
from flawmap.deploy.opened_model import OpenedRun, open_model
from flawmap.deploy.runtime import EXTENSIONS
from flawmap.detect.detection import Detection
from flawmap.errors import UserError
from images import write_image
from shared_passes import sharing_passes
from tiny_detector import fitted_detector

PATIENCE_S = 20.0


def gray(width: int, value: int = 90) -> np.ndarray:
    return np.full((12, width, 3), value, np.uint8)


@pytest.fixture
def twenty(tmp_path: Path) -> Listing[Path]:
    """Twenty images, each brighter than the one before."""
    return Listing(tuple(write_image(tmp_path / f"{n:02d}.png", gray(20 + n, 10 * n)) for n in range(20)))


class Watched(BrightnessModel):
    """Notes how many images are scored at once, and in how large batches; ``together`` threads wait for each other."""

    def __init__(self, batch_size: int = 1, together: int = 1) -> None:
        super().__init__()
        self.batch_size, self._together = batch_size, threading.Barrier(together)
        self._lock, self._now, self.most = threading.Lock(), 0, 0

    def predict_many(
        self, images: Sequence[np.ndarray], cameras: Sequence[str | None] | None = None
    ) -> list[Detection]:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        self._together.wait(PATIENCE_S)
        detections = super().predict_many(images)
        with self._lock:
            self._now -= 1
        return detections


def records_of(batch: Batch, workers: int) -> list[dict]:
    outcomes = list(batch.run(Path("model"), workers))
    assert not [outcome for outcome in outcomes if isinstance(outcome, UserError)]
    return outcomes


def test_as_many_images_as_workers_are_scored_at_the_same_time_and_no_more(twenty, tmp_path):
    model = Watched(together=4)  # it ends only if four really meet
    records = records_of(Batch(model, twenty, tmp_path / "out"), 4)
    assert model.most == 4 and set(model.batches) == {1}
    assert [record["image"] for record in records] == [str(path) for path in twenty.images]
    assert [record["score"] for record in records] == [10.0 * n for n in range(20)]


@pytest.mark.parametrize("workers", [1, 3])
def test_where_images_share_a_pass_the_batches_are_the_same_for_any_number_of_threads(twenty, tmp_path, workers):
    model = Watched(batch_size=8)
    records = records_of(Batch(model, twenty, tmp_path / "out"), workers)
    assert model.most <= workers and sorted(model.batches) == [4, 8, 8]
    assert [record["score"] for record in records] == [10.0 * n for n in range(20)]


def test_images_of_two_cameras_that_take_turns_share_the_passes_of_their_own(twenty, tmp_path):
    model = Watched(batch_size=8)
    left = replace(model.facts, camera="left")
    batch = Batch(model, twenty, tmp_path / "out", facts_of=dict.fromkeys(twenty.images[::2], left))
    records = records_of(batch, 2)
    assert sorted(model.batches) == [2, 2, 4, 4, 4, 4]
    assert [record["score"] for record in records] == [10.0 * n for n in range(20)]
    assert [record["camera"] for record in records] == ["left", None] * 10
    assert {name: watch.n_images for name, watch in batch.watches.items()} == {None: 10, "left": 10}


def test_the_threads_of_a_batch_take_turns_in_one_model_whose_images_share_a_pass(twenty, tmp_path, monkeypatch):
    detector = copy.copy(fitted_detector())
    alone = records_of(Batch(OpenedRun(detector, detector.facts("one")), twenty, tmp_path / "alone"), 1)
    passes = sharing_passes(monkeypatch, detector, 4)
    scoring, most, score = [], [], type(detector.scorer_).score

    def watched(self, images, *inside):
        scoring.append(self)
        most.append(len(scoring))
        time.sleep(0.002)
        output = score(self, images, *inside)
        scoring.pop()
        return output

    monkeypatch.setattr(type(detector.scorer_), "score", watched)
    together = records_of(Batch(OpenedRun(detector, detector.facts("one")), twenty, tmp_path / "together"), 5)
    assert set(most) == {1} and passes == [4] * 5 * len(detector.sizes_px)
    assert [r["score"] for r in together] == pytest.approx([r["score"] for r in alone], abs=1e-5)


def test_large_images_share_smaller_batches_and_an_unreadable_first_one_does_not_count(twenty, tmp_path, monkeypatch):
    monkeypatch.setattr("flawmap.engine.in_order.PIXELS_PER_BATCH", 3 * 12 * 20)  # of the first image that is readable
    (tmp_path / "none.png").write_bytes(b"no picture")
    model = Watched(batch_size=8)
    batch = Batch(model, Listing((tmp_path / "none.png", *twenty.images)), tmp_path / "out")
    assert len(list(batch.run(Path("model"), 2))) == 21 and list(batch.not_scored) == [tmp_path / "none.png"]
    assert sorted(model.batches) == [2, 3, 3, 3, 3, 3, 3]


def test_one_image_of_a_batch_without_a_finite_score_costs_no_other(twenty, tmp_path):
    model = Watched(batch_size=8)
    model.spoils = {"score": float("nan")}
    bad = write_image(tmp_path / "bad.png", np.zeros((12, 12, 3), np.uint8))
    listing = Listing((*twenty.images[:3], bad, *twenty.images[3:5]))
    batch = Batch(model, listing, tmp_path / "out")
    outcomes = list(batch.run(Path("model"), 2))
    assert [isinstance(outcome, UserError) for outcome in outcomes] == [False] * 3 + [True] + [False] * 2
    assert list(batch.not_scored) == [bad]


def test_lines_and_pictures_are_written_in_the_order_of_the_images(twenty, tmp_path, monkeypatch):
    order, write = [], batch_module.Finished.write_files

    def noted(self):
        order.append(self.record["image"])
        write(self)

    monkeypatch.setattr(batch_module.Finished, "write_files", noted)
    records = records_of(Batch(Watched(), twenty, tmp_path / "out"), 3)
    assert order == [str(path) for path in twenty.images]
    lines = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == records


def test_a_caller_that_stops_leaves_no_picture_without_a_line_and_no_thread(twenty, tmp_path):
    before, batch = threading.active_count(), Batch(Watched(), twenty, tmp_path / "out")
    outcomes = batch.run(Path("model"), 3)
    seen = [next(outcomes) for _ in range(5)]
    outcomes.close()
    assert threading.active_count() == before
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["images"] == seen and not result["complete"]
    assert {str(path) for path in (tmp_path / "out").glob("*.png")} == {record["overlay"] for record in seen}


def test_a_full_disk_ends_the_batch_and_leaves_no_part_of_a_picture(twenty, tmp_path, monkeypatch):
    write = Path.write_bytes

    def full(self, content):
        if "_0003_" in self.name:
            write(self, content[:100])
            raise OSError(28, "No space left on device", str(self))
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    batch, outcomes = Batch(Watched(), twenty, tmp_path / "out"), []
    with pytest.raises(OSError, match="No space left"):
        for outcome in batch.run(Path("model"), 3):
            outcomes.append(outcome)
    assert len(outcomes) == 3 and len(list((tmp_path / "out").glob("*.png"))) == 3


def test_too_little_memory_is_explained_by_the_number_of_workers(twenty, tmp_path, monkeypatch):
    def none_left(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(batch_module, "verdict_picture", none_left)
    for workers, remedy in ((2, "repeat with --resume and fewer --workers"), (1, "close other programs")):
        with pytest.raises(UserError) as caught:
            list(Batch(Watched(), twenty, tmp_path / "out").run(Path("model"), workers))
        assert (caught.value.place, caught.value.remedy) == ("--workers", remedy)


def test_without_overlays_the_numbers_of_maps_go_on(twenty, tmp_path):
    first = Batch(Watched(), Listing(twenty.images[:3]), tmp_path / "out", maps="npy", overlays=False)
    assert [record["overlay"] for record in records_of(first, 2)] == [None] * 3
    again = Batch(Watched(), twenty, tmp_path / "out", resume=True, maps="npy", overlays=False)
    names = [Path(record["map"]).name for record in records_of(again, 2)]
    assert names[0] == "0003_03.npy" and len(list((tmp_path / "out" / "maps").iterdir())) == 20
    assert not list((tmp_path / "out").glob("*.png"))


def assert_threads_change_nothing(path: Path, folder: Path) -> None:
    """Scores and maps of 12 images are the same to the last bit with one thread and with three."""
    rng = np.random.default_rng(0)
    shapes = [(40, 48, 3), (64, 30, 3), (33, 100, 3)] * 4
    pixels = [rng.integers(0, 256, shape, np.uint8) for shape in shapes]
    images = Listing(tuple(write_image(folder / f"{n}.png", image) for n, image in enumerate(pixels)))
    found = {}
    for workers in (1, 3):
        model = open_model(path, "cpu", threads=1, at_once=workers)
        batch = Batch(model, images, folder / f"out{workers}", maps="npy", overlays=False)
        found[workers] = [(record["scores"], np.load(record["map"])) for record in records_of(batch, workers)]
    for (alone, alone_map), (several, several_map) in zip(found[1], found[3], strict=True):
        assert alone == several and np.array_equal(alone_map, several_map)


def test_scores_and_maps_of_a_run_do_not_depend_on_the_number_of_threads(tmp_path):
    fitted_detector().save_pretrained(tmp_path / "model")
    assert_threads_change_nothing(tmp_path / "model", tmp_path)


def test_scores_and_maps_of_an_onnx_file_do_not_depend_on_the_number_of_threads(onnx_file, tmp_path):
    assert_threads_change_nothing(onnx_file, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["openvino", "torchscript"])
def test_scores_and_maps_of_other_files_do_not_depend_on_the_number_of_threads(kind, twenty, tmp_path):
    pytest.importorskip(kind.removesuffix("script"))
    from flawmap.deploy.export import export_model
    from flawmap.deploy.parity import CheckImage

    path = (tmp_path / "model").with_suffix(EXTENSIONS[kind])
    export_model(fitted_detector(), path, kind, (CheckImage(twenty.images[0], False),))
    assert_threads_change_nothing(path, tmp_path)

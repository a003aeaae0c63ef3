"""The one scorer: its measures are those of the pooled pixels that the protocol admits."""

from pathlib import Path

import numpy as np
import pytest

from flawmap.data import sample as data_types
from flawmap.data.sample import Boxes, LabelledImage, MaskFile, Protocol
from flawmap.metrics.ranking import auroc
from flawmap_bench.boards.method_scores import scored_metrics
from images import write_image


def written(folder: Path, scores: list[float], maps: list[np.ndarray | None]) -> Path:
    folder.mkdir()
    for number, (score, anomaly_map) in enumerate(zip(scores, maps, strict=True)):
        content = {"image_score": np.float64(score)}
        if anomaly_map is not None:
            content["anomaly_map"] = anomaly_map
        with (folder / f"{number:05d}.npz").open("wb") as file:
            np.savez(file, **content)
    return folder


def boxed(key: str, is_anomalous: bool, box: tuple[float, float, float, float] | None, sex: str) -> LabelledImage:
    truth = Boxes((box,)) if box else None
    return LabelledImage(key, Path(key), is_anomalous, "anomalous" if is_anomalous else "good", truth, {"sex": sex})


def test_all_pixels_of_normal_and_masked_images_are_pooled(tmp_path: Path):
    generator = np.random.default_rng(0)
    mask = np.zeros((8, 10), bool)
    mask[2:5, 3:7] = True
    file = MaskFile(write_image(tmp_path / "mask.png", mask.astype(np.uint8) * 255))
    samples = (
        LabelledImage("a", Path("a"), False, "good"),
        LabelledImage("b", write_image(tmp_path / "b.png", mask.astype(np.uint8)), True, "hole", file),
        LabelledImage("c", Path("c"), True, "stain"),  # without a mask: image measures only
    )
    maps = [generator.normal(size=(8, 10)).astype(np.float32) for _ in samples]
    folder = written(tmp_path / "scored", [0.1, 0.9, 0.05], list(maps))
    found = scored_metrics(data_types.TestData("x", tmp_path, "", samples, Protocol("x")), folder)
    truth = np.stack([np.zeros_like(mask), mask])
    expected = auroc(np.stack(maps[:2]), truth)
    assert found["n_pixel_images"] == 2
    assert found["pixel"]["auroc"]["value"] == pytest.approx(expected, abs=2e-3)
    assert found["image"]["auroc"]["value"] == 0.5
    assert found["by_kind"]["hole"]["image_auroc"] == 1.0 and found["by_kind"]["stain"]["image_auroc"] == 0.0
    assert found["by_kind"]["stain"]["pixel_auroc"] is None
    assert found["image_scores"] == {"a": 0.1, "b": 0.9, "c": 0.05}
    assert not {"f1_at_threshold", "region_precision"} & set(found["pixel"])


def test_with_a_threshold_of_maps_regions_are_counted(tmp_path: Path):
    mask = np.zeros((6, 9), bool)
    mask[1:3, 1:3] = True
    file = MaskFile(write_image(tmp_path / "mask.png", mask.astype(np.uint8) * 255))
    samples = (
        LabelledImage("a", Path("a"), False, "good"),
        LabelledImage("b", write_image(tmp_path / "b.png", mask.astype(np.uint8)), True, "hole", file),
    )
    good, bad = np.zeros((6, 9), np.float32), np.zeros((6, 9), np.float32)
    good[0, 0] = good[5, 8] = 1.0  # two regions on nothing
    bad[2, 2:4] = 1.0  # half in the defect
    folder = written(tmp_path / "scored", [0.1, 0.9], [good, bad])
    found = scored_metrics(data_types.TestData("x", tmp_path, "", samples, Protocol("x")), folder, 0.5)["pixel"]
    assert found["region_precision"]["value"] == pytest.approx(1 / 3)
    assert found["f1_at_threshold"]["value"] == pytest.approx(2 / (2 + 3 + 3))


def test_a_chest_protocol_pools_boxed_images_alone_and_by_sex(tmp_path: Path):
    ramp = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    samples = (
        boxed("a", False, None, "M"),
        boxed("b", True, (0.0, 4.0, 8.0, 4.0), "M"),  # the lower half, where the ramp is high
        boxed("c", True, (0.0, 0.0, 8.0, 4.0), "F"),  # the upper half
        boxed("d", True, None, "F"),
        boxed("e", False, None, "F"),
    )
    folder = written(tmp_path / "scored", [0.0, 1.0, 0.5, 0.2, 0.9], [ramp] * 5)
    protocol = Protocol("nih", "truth_only", ("sex",))
    found = scored_metrics(data_types.TestData("x", tmp_path, "", samples, protocol), folder)
    assert found["n_pixel_images"] == 2
    assert found["pixel"]["auroc"]["value"] == pytest.approx(0.5, abs=1e-3)
    assert found["by_stratum"]["sex=M"]["pixel_auroc"] == 1.0 and found["by_stratum"]["sex=F"]["pixel_auroc"] == 0.0
    assert found["by_stratum"]["sex=M"]["image_auroc"] == 1.0 and found["by_stratum"]["sex=F"]["image_auroc"] == 0.0
    female = found["by_stratum"]["sex=F"]
    assert (female["n"], female["n_anomalous"], female["n_pixel_images"]) == (3, 2, 1)
    # 0.9 is normal, 0.5 and 0.2 are not: precision 1/2 at the first hit, 2/3 at the second
    assert female["image_average_precision"] == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_a_method_without_maps_has_image_measures_only(tmp_path: Path):
    samples = (LabelledImage("a", Path("a"), False, "good"), LabelledImage("b", Path("b"), True, "hole"))
    folder = written(tmp_path / "scored", [0.0, 1.0], [None, None])
    found = scored_metrics(data_types.TestData("x", tmp_path, "", samples, Protocol("x")), folder)
    assert found["image"]["auroc"]["value"] == 1.0
    assert found["n_pixel_images"] == 0 and found["pixel"] == {}


def test_a_data_set_without_masks_counts_no_pixels(tmp_path: Path):
    samples = (LabelledImage("a", Path("a"), False, "good"), LabelledImage("b", Path("b"), True, "hole"))
    folder = written(tmp_path / "scored", [0.0, 1.0], [np.zeros((4, 4), np.float32)] * 2)
    found = scored_metrics(data_types.TestData("x", tmp_path, "", samples, Protocol("elpv", "none")), folder)
    assert found["pixel"] == {} and found["by_kind"]["hole"]["pixel_auroc"] is None

"""A verdict shows itself: as a picture, a plot, a file and a row of a table."""

import builtins
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flawmap import Detection, Detections, UserError
from flawmap.advice import install
from flawmap.detect.detection import judge
from flawmap.drawing.colour import ColourScale
from flawmap.drawing.verdict_picture import OUTLINE, verdict_picture
from flawmap.extras import MissingPackageError
from flawmap.runs.calibration import UNCALIBRATED_MAP_SCALE, Calibration, MapScale
from images import scratched, striped, write_image
from tiny_detector import fitted_detector

CALIBRATION = Calibration(1.5, 0.01, 100, 0.01, 1.0, MapScale(0.0, 2.0), (1.0,))


def found(score: float = 2.0, image: Any = None, calibration: Calibration | None = CALIBRATION) -> Detection:
    anomaly_map = np.zeros((48, 48), np.float32)
    anomaly_map[10:20, 5:25] = 1.75
    return judge({"map_max": score}, "map_max", anomaly_map, calibration, image=image)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch):
    """Make a package one that is not installed."""

    def hide(package: str) -> None:
        real = builtins.__import__

        def refuse(name: str, *rest: Any, **options: Any) -> Any:
            if name.partition(".")[0] == package:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            return real(name, *rest, **options)

        monkeypatch.setattr(builtins, "__import__", refuse)

    return hide


def test_the_overlay_is_the_picture_of_the_command(tmp_path: Path) -> None:
    image, _ = scratched(3)
    path = write_image(tmp_path / "part.png", image)
    expected = verdict_picture(image, found(), ColourScale(0.0, 1.0, 2.0))
    for given in (path, str(path), image, Image.fromarray(image)):
        np.testing.assert_array_equal(np.asarray(found(image=given).overlay()), expected)
    np.testing.assert_array_equal(np.asarray(found().overlay(image)), expected)
    png = found(image=path)._repr_png_()
    assert png is not None
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), expected)


def test_an_overlay_outlines_what_the_minimum_area_leaves() -> None:
    image = np.full((48, 48, 3), 90, np.uint8)
    is_outlined = {}
    for min_area_px in (1.0, 201.0):  # the region has 200 pixels
        one = judge({"map_max": 2.0}, "map_max", found().anomaly_map, CALIBRATION, None, min_area_px, image)
        is_outlined[min_area_px] = bool((np.asarray(one.overlay())[:48] == OUTLINE).all(axis=-1).any())
    assert is_outlined == {1.0: True, 201.0: False}


def test_predict_keeps_what_a_picture_needs(tmp_path: Path) -> None:
    detector, image = fitted_detector(), striped(5)
    path = write_image(tmp_path / "part.png", image)
    by_path, by_array = detector.predict(path), detector.predict([image])[0]
    assert by_path.image == path and by_path.name == str(path)
    assert by_array.image is image and by_array.name == ""
    assert by_path.map_scale == detector.map_scale
    np.testing.assert_array_equal(np.asarray(by_path.overlay()), np.asarray(by_array.overlay()))


def test_a_picture_of_nothing_or_of_another_image_is_refused() -> None:
    with pytest.raises(UserError, match="has not kept its image"):
        found().overlay()
    assert found()._repr_png_() is None
    with pytest.raises(UserError) as caught:
        found().overlay(striped(0, 20, 30))
    assert caught.value.problem == "the image has 30 x 20 pixels, but 48 x 48 were judged"


@pytest.mark.parametrize("name", ["picture.png", "deep/er/picture.jpg", "picture.TIFF"])
def test_a_saved_picture_is_the_overlay(name: str, tmp_path: Path) -> None:
    one = found(image=striped(0))
    path = one.save(tmp_path / name)
    pixels, expected = np.asarray(Image.open(path)).astype(int), np.asarray(one.overlay()).astype(int)
    assert path == tmp_path / name and pixels.shape == expected.shape
    assert np.abs(pixels - expected).mean() < (4 if name.endswith("jpg") else 1e-9)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["picture", "picture.npy"])
def test_a_name_of_no_picture_is_refused_before_anything_is_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no format of pictures"):
        found(image=striped(0)).save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_plot_shows_image_verdict_and_threshold() -> None:
    from matplotlib import pyplot

    one = found(image=striped(0))
    axes = one.plot()
    (shown,) = axes.get_images()
    np.testing.assert_array_equal(np.asarray(shown.get_array()), np.asarray(one.overlay())[:48, 186:234])
    assert axes.get_title() == "ANOMALY: score 2.000, threshold 1.500"
    (bar,) = [other for other in axes.figure.axes if other is not axes]
    assert [label.get_text() for label in bar.get_xticklabels()] == ["0\nnormal", "1\nthreshold", "2\nanomalous"]
    figure, (left, right) = pyplot.subplots(1, 2)
    assert one.plot(left) is left and left.figure is figure and not right.get_images()
    pyplot.close("all")


def test_verdicts_are_rows_of_a_table(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png", striped(0))
    results = Detections([found(image=path), found(1.0), found(calibration=None)])
    table = results.to_pandas()
    assert table.columns.tolist() == [
        *("image", "verdict", "score", "threshold", "regions", "left_px", "top_px", "right_px", "bottom_px")
    ]
    assert table["image"].tolist() == [str(path), "", ""]
    assert table["verdict"].tolist() == ["anomaly", "ok", "no threshold"]
    assert table["score"].tolist() == [2.0, 1.0, 2.0]
    assert table["threshold"].tolist()[:2] == [1.5, 1.5] and table["threshold"].isna().tolist() == [False, False, True]
    assert table["regions"].tolist() == [1, 1, 0]
    assert table.loc[0, ["left_px", "top_px", "right_px", "bottom_px"]].tolist() == [5, 10, 25, 20]
    assert Detections().to_pandas().shape == (0, 9)


def test_a_notebook_shows_a_table_without_pandas(without: Any) -> None:
    without("pandas")
    html = Detections([found(image="<b>.png")] * 61)._repr_html_()
    assert html.count("<tr>") == 61 and "and 1 more" in html
    assert "<td>&lt;b&gt;.png</td><td>anomaly</td><td>2.000</td><td>1.500</td><td>1</td><td>5</td>" in html


@pytest.mark.parametrize(
    ("package", "extra", "use"),
    [
        ("matplotlib", "figures", lambda: found(image=striped(0)).plot()),
        ("pandas", "tables", lambda: Detections([found()]).to_pandas()),
    ],
)
def test_a_missing_extra_is_one_sentence(package: str, extra: str, use: Any, without: Any) -> None:
    without(package)
    with pytest.raises(MissingPackageError) as caught:
        use()
    assert caught.value.problem.endswith(f"needs the extra {extra}: the package {package} is not installed")
    assert caught.value.remedy == install(extra) and isinstance(caught.value, ImportError)


def test_the_base_installation_names_the_extra_that_python_needs(without: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    import flawmap

    monkeypatch.delitem(sys.modules, "flawmap.detect.detector")
    monkeypatch.delitem(vars(flawmap), "AnomalyDetector", raising=False)
    without("torch")
    with pytest.raises(ImportError, match=r"flawmap.AnomalyDetector needs the extra train: the package torch"):
        from flawmap import AnomalyDetector  # noqa: F401


def test_without_a_calibration_the_scale_is_the_common_one() -> None:
    assert found(calibration=None).map_scale == UNCALIBRATED_MAP_SCALE

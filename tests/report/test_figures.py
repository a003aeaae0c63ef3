"""The figures as files: well-formed, loading nothing, with what the run holds and outlines of the ground truth."""

import re
import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from flawmap.advice import install
from flawmap.errors import UserError
from flawmap.report.figures import Features, spread_over_kinds, write_figures
from flawmap.report.plots import embed, features_figure
from flawmap.report.run_files import ScoredImage, read_run

SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
GREEN, BLUE, BAD = "#22c55e", "#1d4ed8", "#c2410c"
ALL = {
    *("training", "simulated_defects", "localization", "scores", "curves_pretrain", "curves_finetune"),
    *("roc_images", "roc_pixels", "precision_recall", "pro", "features"),
}


def blobs(n: int = 12) -> Features:
    """Two kinds far from each other and from the good."""
    rng = np.random.default_rng(1)
    vectors = rng.normal(0, 0.1, (3 * n, 5)).astype(np.float32)
    vectors[n : 2 * n, 0] += 50
    vectors[2 * n :, 1] += 50
    return Features(vectors, ("good",) * n + ("scratch",) * n + ("a<b",) * n)


def drawn(path: Path) -> ElementTree.Element:
    """A parsed figure, after a look at what it loads."""
    text = path.read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg"
    for element in root.iter():
        for name in ("href", f"{XLINK}href"):
            assert element.get(name, "#").lstrip().startswith(("data:image/", "#"))
    assert not re.search(r"url\((?!#)|@import|<script", text)
    return root


def files_of(written: dict[str, Path | str]) -> list[Path]:
    return [figure for figure in written.values() if isinstance(figure, Path)]


def missing_of(written: dict[str, Path | str]) -> dict[str, str]:
    return {name: figure for name, figure in written.items() if isinstance(figure, str)}


def words_of(root: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def paths_in(root: ElementTree.Element, colour: str) -> list[str]:
    """The paths that are drawn in a colour, without those of definitions."""
    paths = [element for element in root.iter(f"{SVG}path") if f"stroke: {colour}" in element.get("style", "")]
    return [element.get("d", "") for element in paths]


def test_every_figure_of_an_evaluated_run_is_written(made_up) -> None:
    written = write_figures(made_up.run, blobs())
    assert set(written) == ALL and missing_of(written) == {}
    for path in files_of(written):
        root = drawn(path)
        assert float(root.get("width", "0pt").removesuffix("pt")) > 100
    assert {path.name for path in (made_up.run / "figures").iterdir()} == {f"{name}.svg" for name in ALL}


@pytest.mark.slow
def test_curves_of_both_stages_show_every_quantity_and_where_a_collapse_would_lie(made_up) -> None:
    write_figures(made_up.run)
    root = drawn(made_up.run / "figures" / "curves_pretrain.svg")
    assert {"loss", "target entropy", "prototypes used recently"} <= set(words_of(root))
    assert len(paths_in(root, BLUE)) >= 3
    assert len(paths_in(root, BAD)) == 1  # in that of the entropy


def test_what_a_run_cannot_show_is_named_and_an_older_file_goes(trained_run: Path) -> None:
    stale = trained_run / "figures" / "pro.svg"
    stale.parent.mkdir()
    stale.write_text("old")
    written = write_figures(trained_run, "no model")
    assert {path.stem for path in files_of(written)} == {
        *("training", "simulated_defects", "curves_pretrain", "curves_finetune"),
    }
    assert set(written) == ALL
    assert written["features"] == "no model"
    assert written["pro"] == "needs test images with ground truth for pixels"
    assert not stale.exists()


def test_maps_carry_the_outline_of_the_ground_truth(made_up) -> None:
    write_figures(made_up.run)
    root = drawn(made_up.run / "figures" / "localization.svg")
    assert len(paths_in(root, GREEN)) == 3 * 10  # image, map and overlay of five scratches and five stains
    assert words_of(root).count("scratch") == words_of(root).count("stain") == 5
    chosen = spread_over_kinds(read_run(made_up.run).images, 10)
    assert [image.kind for image in chosen] == ["scratch"] * 5 + ["stain"] * 5


def test_images_that_are_gone_leave_a_reason(made_up) -> None:
    shutil.rmtree(made_up.run.parent / "originals")
    assert "no test image has a map" in str(write_figures(made_up.run)["localization"])


def image(kind: str, score: float, has_truth: bool = True) -> ScoredImage:
    here = Path("x")
    return ScoredImage(f"{kind}{score}", here, kind, kind != "good", score, False, here, here if has_truth else None)


def test_images_are_spread_over_kinds_and_scores_not_picked() -> None:
    cracks = [image("crack", score / 10) for score in range(8)]
    images = [*cracks, image("hole", 0.3), image("good", 0.1, False), image("stain", 0.9, False)]
    assert [(one.kind, one.score) for one in spread_over_kinds(images, 4)] == [
        ("crack", 0.2),
        ("crack", 0.6),
        ("hole", 0.3),
    ]
    assert [one.kind for one in spread_over_kinds(images, 1)] == ["crack"]
    assert spread_over_kinds([], 4) == []


def test_clusters_of_features_stay_apart_and_are_named() -> None:
    pytest.importorskip("sklearn")
    features = blobs(30)
    places = embed(features.vectors)
    assert np.array_equal(places, embed(features.vectors))
    centres = [places[30 * i : 30 * (i + 1)].mean(axis=0) for i in range(3)]
    spread = max(float(places[30 * i : 30 * (i + 1)].std()) for i in range(3))
    assert min(np.linalg.norm(centres[i] - centres[j]) for i, j in ((0, 1), (0, 2), (1, 2))) > spread
    figure = features_figure(features.vectors, features.kinds)
    (axes,) = figure.axes
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["good (30)", "a<b (30)", "scratch (30)"]  # the good images lie below the others
    for i, dots in enumerate(axes.collections):
        kind = ("good", "a<b", "scratch")[i]
        expected = places[[n for n, other in enumerate(features.kinds) if other == kind]]
        np.testing.assert_array_equal(dots.get_offsets(), expected)


def test_too_few_features_are_left_out_with_a_reason(made_up) -> None:
    few = Features(np.zeros((3, 5), np.float32), ("good",) * 3)
    with pytest.raises(UserError, match="at least 4 images, has 3") as caught:
        embed(few.vectors)
    assert caught.value.remedy == "add test images"
    assert write_figures(made_up.run, few)["features"] == f"{caught.value.problem}: add test images"


def test_without_matplotlib_the_remedy_is_named(made_up, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match="matplotlib") as caught:
        write_figures(made_up.run)
    assert caught.value.remedy == install("figures")


@pytest.mark.slow
def test_the_same_run_gives_the_same_files(made_up) -> None:
    first = [path.read_bytes() for path in files_of(write_figures(made_up.run))]
    assert [path.read_bytes() for path in files_of(write_figures(made_up.run))] == first


def test_without_scikit_learn_the_remedy_is_named(made_up, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    assert install("figures") in str(write_figures(made_up.run, blobs())["features"])


@pytest.mark.slow
def test_without_a_threshold_no_histogram_is_drawn(made_up, change) -> None:
    change(calibration=None)
    assert missing_of(write_figures(made_up.run, blobs())) == {"scores": "needs test scores and a threshold"}

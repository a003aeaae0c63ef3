"""The figures as files: well-formed, loading nothing, with outlines where the ground truth is."""

import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flawmap.errors import UserError
from flawmap.report.feature_map import embed, feature_figure
from flawmap.report.figure import outline_of
from flawmap.report.figures import Features, write_figures
from flawmap.report.picture_figures import spread_over_kinds
from flawmap.report.run_files import ScoredImage, read_run

SVG = "{http://www.w3.org/2000/svg}"
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
        assert element.get("href", "data:image/").startswith("data:image/")
    assert not re.search(r"url\(|@import|<script", text)
    return root


def test_every_figure_of_an_evaluated_run_is_written(made_up) -> None:
    written = write_figures(made_up.run, blobs())
    assert written.missing == {}
    assert {path.stem for path in written.paths} == ALL
    for path in written.paths:
        root = drawn(path)
        assert float(root.get("width", 0)) > 100 and float(root.get("height", 0)) > 50
    assert {path.name for path in (made_up.run / "figures").iterdir()} == {f"{name}.svg" for name in ALL}


def test_curves_of_both_stages_show_every_quantity_and_where_a_collapse_would_lie(made_up) -> None:
    (made_up.run / "recipe.yaml").write_text("pretrain:\n  prototypes: 20\n")
    write_figures(made_up.run)
    root = drawn(made_up.run / "figures" / "curves_pretrain.svg")
    words = [element.text for element in root.iter(f"{SVG}text")]
    assert {"loss", "target entropy", "prototypes used"} <= set(words)
    curves = [element for element in root.iter(f"{SVG}path") if element.get("class") == "curve"]
    assert len(curves) == 3
    assert sum(element.get("class") == "uniform" for element in root.iter(f"{SVG}line")) == 1  # in the entropy's


def test_what_a_run_cannot_show_is_named_and_an_older_file_goes(trained_run: Path) -> None:
    stale = trained_run / "figures" / "pro.svg"
    stale.parent.mkdir()
    stale.write_text("old")
    written = write_figures(trained_run, None, "no model")
    assert {path.stem for path in written.paths} == {
        *("training", "simulated_defects", "curves_pretrain", "curves_finetune"),
    }
    assert set(written.missing) == ALL - {path.stem for path in written.paths}
    assert written.missing["features"] == "no model"
    assert written.missing["pro"] == "no ground truth for pixels, or an older evaluation"
    assert not stale.exists()


def test_maps_carry_the_outline_of_the_ground_truth(made_up) -> None:
    write_figures(made_up.run)
    root = drawn(made_up.run / "figures" / "localization.svg")
    outlines = [element.get("d") for element in root.iter(f"{SVG}path") if element.get("class") == "truth"]
    assert len(outlines) == 3 * 10  # image, map and overlay of five scratches and five stains
    chosen = spread_over_kinds(read_run(made_up.run).images, 10)
    assert [image.kind for image in chosen] == ["scratch"] * 5 + ["stain"] * 5
    assert outlines[:10] == outlines[10:20] == outlines[20:]


def test_pictures_that_are_gone_leave_a_reason(made_up) -> None:
    shutil.rmtree(made_up.run.parent / "pictures")
    assert write_figures(made_up.run).missing["localization"].startswith("no test picture with map")


def image(kind: str, score: float, has_truth: bool = True) -> ScoredImage:
    here = Path("x")
    return ScoredImage(f"{kind}{score}", here, kind, kind != "good", score, False, here, here if has_truth else None)


def test_pictures_are_spread_over_kinds_and_scores_not_picked() -> None:
    cracks = [image("crack", score / 10) for score in range(8)]
    images = [*cracks, image("hole", 0.3), image("good", 0.1, False), image("stain", 0.9, False)]
    assert [(one.kind, one.score) for one in spread_over_kinds(images, 4)] == [
        ("crack", 0.2),
        ("crack", 0.6),
        ("hole", 0.3),
    ]
    assert [one.kind for one in spread_over_kinds(images, 1)] == ["crack"]
    assert spread_over_kinds([], 4) == []


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_an_outline_lies_between_pixels_that_differ(height: int, width: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) > 0.5
    across, down = set(), set()
    for x, y, direction, length in re.findall(r"M(\d+) (\d+)([hv])(\d+)", outline_of(mask)):
        for i in range(int(length)):
            (across if direction == "h" else down).add(
                (int(x) + i, int(y)) if direction == "h" else (int(x), int(y) + i)
            )
    assert across == {(x, y) for y in range(1, height) for x in range(width) if mask[y, x] != mask[y - 1, x]}
    assert down == {(x, y) for y in range(height) for x in range(1, width) if mask[y, x] != mask[y, x - 1]}


def test_an_outline_is_made_of_the_longest_pieces() -> None:
    mask = np.zeros((6, 8), bool)
    mask[1:4, 2:7] = True
    assert outline_of(mask) == "M2 1h5M2 4h5M2 1v3M7 1v3"
    assert outline_of(np.ones((3, 3), bool)) == ""


def test_clusters_of_features_stay_apart_and_are_named() -> None:
    pytest.importorskip("sklearn")
    features = blobs(30)
    places = embed(features.vectors)
    assert np.array_equal(places, embed(features.vectors))
    centres = [places[30 * i : 30 * (i + 1)].mean(axis=0) for i in range(3)]
    spread = max(float(places[30 * i : 30 * (i + 1)].std()) for i in range(3))
    assert min(np.linalg.norm(centres[i] - centres[j]) for i, j in ((0, 1), (0, 2), (1, 2))) > spread
    figure = feature_figure(places, features.kinds)
    root = ElementTree.fromstring(figure.svg())
    names = [element.text for element in root.iter(f"{SVG}text")]
    assert names == ["good (30)", "a<b (30)", "scratch (30)"]
    assert len(list(root.iter(f"{SVG}circle"))) == 90 + 3


def test_too_few_features_are_left_out_with_a_reason(made_up) -> None:
    few = Features(np.zeros((3, 5), np.float32), ("good",) * 3)
    with pytest.raises(UserError, match="at least 4 pictures, has 3") as caught:
        embed(few.vectors)
    assert caught.value.remedy == "add test pictures"
    assert write_figures(made_up.run, few).missing == {"features": f"{caught.value.problem}: add test pictures"}


def test_without_scikit_learn_the_remedy_is_named(made_up, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn.manifold", None)
    assert "pip install 'flawmap[figures]'" in write_figures(made_up.run, blobs()).missing["features"]


def test_without_a_threshold_no_histogram_is_drawn(made_up) -> None:
    file = made_up.run / "evaluation" / "metrics.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"threshold": None}))
    assert write_figures(made_up.run, blobs()).missing == {"scores": "no test scores, or no threshold"}

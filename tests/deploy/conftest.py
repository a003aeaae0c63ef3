"""A server that answers with brightness, and a file that was really exported, once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from brightness_model import BrightnessModel, Client, serving

from flawmap.deploy.parity import CheckImage
from images import striped, write_image
from tiny_detector import fitted_detector


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served") / "reviews.csv"


@pytest.fixture(scope="module")
def client(reviews: Path) -> Iterator[Client]:
    with serving(BrightnessModel(), reviews, max_bytes=100_000, max_pixels=40_000) as found:
        yield found


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> tuple[CheckImage, ...]:
    """Of several sizes, two of them with a defect."""
    folder = tmp_path_factory.mktemp("check")
    shapes = [(48, 48), (30, 70), (200, 90), (5, 5)]
    good = [write_image(folder / f"{n}.png", striped(n, *shape)) for n, shape in enumerate(shapes)]
    holes = []
    for number in (10, 11):
        pixels = striped(number)
        pixels[8:20, 10:24] = 0
        holes.append(write_image(folder / f"{number}.png", pixels))
    return tuple(CheckImage(path, path in holes) for path in (*good, *holes))


@pytest.fixture(scope="session")
def onnx_file(tmp_path_factory, images) -> Path:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from flawmap.deploy.export import export_model

    path = tmp_path_factory.mktemp("onnx") / "tile[1].onnx"  # brackets are a pattern to some functions
    assert export_model(fitted_detector(), path, "onnx", images).max_score_difference <= 1e-4
    return path

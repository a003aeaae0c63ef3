"""A server that answers with brightness; tests that need another one make it themselves."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from brightness_model import BrightnessModel, Client, serving


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served") / "reviews.csv"


@pytest.fixture(scope="module")
def client(reviews: Path) -> Iterator[Client]:
    with serving(BrightnessModel(), reviews, max_bytes=100_000, max_pixels=40_000) as found:
        yield found

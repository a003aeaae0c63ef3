"""A studio in a folder of a few images, and clients of its application."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from fastapi.testclient import TestClient
from made_up_results import write_made_up_results

from flawmap_studio.app import create_app
from flawmap_studio.guard import Entrance
from flawmap_studio.studio import Studio
from images import striped, write_image

PORT = 8322
ORIGIN = f"http://127.0.0.1:{PORT}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three good parts, two to test, and a file outside of the folder."""
    root = tmp_path / "line 3"
    for number in range(3):
        write_image(root / "good" / f"{number}.png", striped(number))
    for number in range(2):
        write_image(root / "test" / f"{number}.png", striped(100 + number))
    write_image(tmp_path / "secret.png", striped(7))
    return root


@pytest.fixture
def studio(folder: Path) -> Iterator[Studio]:
    with Studio(folder) as opened:
        yield opened


@pytest.fixture
def entrance() -> Entrance:
    return Entrance(PORT)


@pytest.fixture
def outside(studio: Studio, entrance: Entrance) -> Iterator[TestClient]:
    """A client without the cookie."""
    with TestClient(create_app(studio, entrance), base_url=ORIGIN) as client:
        yield client


@pytest.fixture
def client(outside: TestClient, entrance: Entrance) -> TestClient:
    """A client that has exchanged the token, and sends what the studio's own page sends."""
    token = entrance.address("127.0.0.1").partition("#")[2]
    outside.headers["origin"] = ORIGIN
    assert outside.post("/enter", content=token).status_code == 204
    return outside


@pytest.fixture
def run(folder: Path) -> Path:
    """A run of the studio, and a test with one false alarm and one close call."""
    return write_made_up_results(folder, {"test/0.png": 4.0, "test/1.png": 2.5})

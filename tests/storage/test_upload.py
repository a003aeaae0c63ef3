"""Uploads: every object whole, the marker last, and what has no marker is not opened."""

import json

import pytest

from flawmap.errors import UserError
from flawmap.storage.local_copy import local_copy
from flawmap.storage.upload import MARKER, Destination


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parts" / "model").mkdir(parents=True)
    (tmp_path / "parts" / "recipe.yaml").write_text("r")
    (tmp_path / "parts" / "model" / "config.json").write_text("{}")
    return tmp_path / "parts"


def test_an_upload_can_be_opened_and_its_marker_goes_last(store, run, monkeypatch):
    written, real, pipe = [], type(store).put_file, type(store).pipe_file
    monkeypatch.setattr(type(store), "put_file", lambda self, a, b: written.append(b) or real(self, a, b))
    monkeypatch.setattr(type(store), "pipe_file", lambda self, a, b: written.append(a) or pipe(self, a, b))
    destination = Destination.of("memory://b/runs/parts", resume=True)
    assert destination.local.resolve() == run
    assert destination.upload(run) == "2 files -> memory://b/runs/parts"
    assert written == [f"b/runs/parts/{name}" for name in ("model/config.json", "recipe.yaml", MARKER)]
    copy = local_copy("memory://b/runs/parts", of_model=True)
    assert (copy / "model" / "config.json").read_text() == "{}" and not (copy / MARKER).exists()


def test_an_upload_that_breaks_leaves_no_marker_not_even_an_earlier_one(store, run, monkeypatch):
    destination = Destination.of("memory://b/runs/parts", resume=True)
    destination.upload(run)

    def breaking(self, source, target):
        raise OSError("connection lost")

    monkeypatch.setattr(type(store), "put_file", breaking)
    with pytest.raises(UserError, match="connection lost"):
        destination.upload(run)
    with pytest.raises(UserError, match=r"not uploaded completely: it has no uploaded\.json"):
        local_copy("memory://b/runs/parts", of_model=True)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda store: store.rm_file("/b/r/recipe.yaml"), "1 file is missing or of another size, first: recipe.yaml"),
        (lambda store: store.pipe_file("/b/r/recipe.yaml", b"rr"), "1 file is missing or of another size"),
        (lambda store: store.pipe_file(f"/b/r/{MARKER}", b"[]"), "this is no uploaded.json of flawmap"),
        (lambda store: store.pipe_file(f"/b/r/{MARKER}", b"\xff"), "this is no uploaded.json of flawmap"),
    ],
)
def test_what_does_not_fit_its_marker_is_not_opened(store, run, change, problem):
    Destination(run, "memory://b/r").upload(run)
    change(store)
    with pytest.raises(UserError, match=problem):
        local_copy("memory://b/r", of_model=True)


def test_a_file_is_uploaded_with_its_weights(store, run):
    for name in ("p.xml", "p.bin", "p-old.xml"):
        (run / name).write_text(name)
    assert Destination(run / "p.xml", "memory://b/files/p.xml").upload(run / "p.xml") == (
        "2 files -> memory://b/files/p.xml"
    )
    assert sorted(store.find("/b")) == ["/b/files/p.bin", "/b/files/p.xml"]


def test_nothing_is_written_over(store, run, monkeypatch):
    with pytest.raises(UserError, match="written to parts first, and that is there already"):
        Destination.of("memory://b/runs/parts")
    store.pipe_file("/b/runs/other/x", b"")
    with pytest.raises(UserError, match="something is there already"):
        Destination.of("memory://b/runs/other/")
    with pytest.raises(UserError, match="a name of their own") as caught:
        Destination.of("memory://b")
    assert caught.value.remedy == "for example memory://b/results"


def test_a_local_path_stays_one(tmp_path):
    assert Destination.of("out") == Destination.of("out", resume=True)
    assert Destination.of("out").upload(tmp_path) is None
    assert Destination.of(f"file://{tmp_path}/out").local == tmp_path / "out"


def test_the_marker_lists_sizes(store, run):
    Destination(run, "memory://b/r").upload(run)
    assert json.loads(store.cat_file(f"/b/r/{MARKER}")) == {"files": {"model/config.json": 2, "recipe.yaml": 1}}

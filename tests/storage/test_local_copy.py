"""Copies: only what changed is copied, what is gone is removed, and the cache stays within its bound."""

import os
import time
from pathlib import Path

import pytest

import flawmap.storage.local_copy as local
from assertions import files_and_bytes
from flawmap.data.open_data import absolute_locations, load_images
from flawmap.errors import UserError
from flawmap.storage.local_copy import CACHE_VARIABLE, cache_folder, local_copy
from images import noise, write_image


def put(store, **contents: str) -> None:
    for name, text in contents.items():
        store.pipe_file(f"/b/parts/{name}", text.encode())


def test_a_copy_has_the_files_and_the_name_of_the_original(store):
    put(store, **{"1": "one", "day/2": "two"})
    copy = local_copy("memory://b/parts/")
    assert copy.name == "parts" and copy.is_relative_to(cache_folder())
    assert files_and_bytes(copy) == {"1": b"one", "day/2": b"two"}


def test_only_what_changed_is_copied_again_and_what_is_gone_is_removed(store, monkeypatch):
    put(store, a="1", b="2", c="3")
    assert len(files_and_bytes(local_copy("memory://b/parts"))) == 3
    put(store, b="20")
    store.rm_file("/b/parts/c")
    copied = []
    real = type(store).get
    monkeypatch.setattr(type(store), "get", lambda self, a, b: copied.extend(a) or real(self, a, b))
    assert files_and_bytes(local_copy("memory://b/parts")) == {"a": b"1", "b": b"20"}
    assert copied == ["b/parts/b"]


def test_an_interrupted_copy_goes_on_where_it_stopped(store, monkeypatch):
    put(store, **{str(number): "x" for number in range(6)})
    monkeypatch.setattr(local, "FILES_AT_ONCE", 2)
    real, calls = type(store).get, []

    def breaking(self, sources, targets):
        calls.append(len(sources))
        if len(calls) == 2:
            raise OSError("connection lost")
        real(self, sources, targets)

    monkeypatch.setattr(type(store), "get", breaking)
    with pytest.raises(UserError, match="connection lost"):
        local_copy("memory://b/parts")
    assert len(files_and_bytes(local_copy("memory://b/parts"))) == 6
    assert calls == [2, 2, 2, 2]  # two parts of three were left


def test_of_a_manifest_its_folder_is_copied_and_of_another_file_what_has_its_stem(store):
    put(store, **{"m.csv": "", "x/1.png": "1", "p.onnx": "p", "p.threshold.json": "t", "q.onnx": "q"})
    manifest = local_copy("memory://b/parts/m.csv")
    assert manifest.name == "m.csv" and (manifest.parent / "x/1.png").read_text() == "1"
    put(store, **{"p.onnx": "new"})
    file = local_copy("memory://b/parts/p.onnx")
    assert file.read_text() == "new" and file.with_name("p.threshold.json").is_file()


def test_a_file_address_is_the_file(tmp_path):
    assert local_copy(f"file://{tmp_path}") == tmp_path


def test_nothing_is_an_error(store):
    with pytest.raises(UserError, match="there is nothing"):
        local_copy("memory://b/parts")


def test_the_copy_asked_for_longest_ago_makes_room_unless_it_may_be_in_use(store, monkeypatch):
    for name in ("old", "middle", "new"):
        store.pipe_file(f"/b/{name}/1", b"x" * 400_000)
    old, middle = local_copy("memory://b/old"), local_copy("memory://b/middle")
    monkeypatch.setenv(CACHE_VARIABLE, "0.001")
    with pytest.raises(UserError, match=r"may hold 0\.001 GB: 0\.0 GB are needed") as caught:
        local_copy("memory://b/new")
    assert caught.value.remedy.startswith(f"export {CACHE_VARIABLE}=")
    for copy, days in ((old, 3), (middle, 2)):
        then = time.time() - days * 24 * 3600
        os.utime(copy.parent / "index.json", (then, then))
    assert local_copy("memory://b/new").is_dir() and middle.is_dir() and not old.exists()


@pytest.mark.parametrize("value", ["much", "-1", "inf", "nan"])
def test_the_bound_is_a_number(store, monkeypatch, value):
    put(store, a="1")
    monkeypatch.setenv(CACHE_VARIABLE, value)
    with pytest.raises(UserError, match="must be a number of gigabytes"):
        local_copy("memory://b/parts")


def test_training_data_is_read_through_a_copy_and_its_record_is_the_address(store, tmp_path):
    for number in range(3):
        local = write_image(tmp_path / f"{number}.png", noise(number))
        store.pipe_file(f"/b/parts/{number}.png", local.read_bytes())
    data = load_images("memory://b/parts")
    assert data.name == "parts" and [image.key for image in data.images] == ["0.png", "1.png", "2.png"]
    assert absolute_locations(["memory://b/parts", Path("x")])[0] == "memory://b/parts"

"""Files in a store are found as on a disk: a folder, a file, a pattern."""

import pytest

from flawmap.data.find_images import find_images_anywhere
from flawmap.data.images.files import read_image
from flawmap.errors import UserError
from flawmap.storage.remote_file import files_at, is_file
from images import noise, write_image


def put(store, *names: str) -> None:
    for name in names:
        store.pipe_file(f"/{name}", name.encode())


def found(address: str) -> list[tuple[str, str]]:
    return [(file.address, file.name) for file in files_at(address)]


def test_a_folder_is_all_that_is_below_it_and_nothing_beside_it(store):
    put(store, "b/line3/2.png", "b/line3/day/1.png", "b/line30/3.png", "b/line3.csv")
    assert found("memory://b/line3/") == [
        ("memory://b/line3/2.png", "2.png"),
        ("memory://b/line3/day/1.png", "day/1.png"),
    ]


def test_a_file_is_itself(store):
    put(store, "b/line3/2.png", "b/line3/[1].png")
    assert found("memory://b/line3/2.png") == [("memory://b/line3/2.png", "2.png")]
    assert found("memory://b/line3/[1].png") == [("memory://b/line3/[1].png", "[1].png")]
    assert is_file("memory://b/line3/2.png", files_at("memory://b/line3/2.png"))
    assert not is_file("memory://b/line3", files_at("memory://b/line3/2.png"))


def test_a_pattern_names_files_from_its_last_plain_folder(store):
    put(store, "b/line3/2.png", "b/line3/1.jpg", "b/line4/5.png")
    assert found("memory://b/line*/*.png") == [
        ("memory://b/line3/2.png", "line3/2.png"),
        ("memory://b/line4/5.png", "line4/5.png"),
    ]


def test_nothing_is_nothing(store):
    assert files_at("memory://b/none") == () == files_at("memory://b/*.png")


def test_a_name_that_would_leave_its_folder_is_refused(store):
    put(store, "b/line3/a")
    store.store["/b/line3/../../x.png"] = store.store["/b/line3/a"]
    with pytest.raises(UserError, match="cannot be that of a file on a disk"):
        files_at("memory://b/line3")


def test_images_are_found_by_name_and_the_rest_is_left_out_with_a_reason(store, tmp_path):
    put(store, "b/p/2.png", "b/p/1.JPG", "b/p/1_mask.png", "b/p/notes.txt", "b/p/3.png.part", "b/p/.hidden/4.png")
    listing = find_images_anywhere(["memory://b/p", str(write_image(tmp_path / "here.png", noise(1)))]).listing
    assert [str(image) for image in listing.images] == [
        "memory://b/p/1.JPG",
        "memory://b/p/2.png",
        str(tmp_path / "here.png"),
    ]
    assert {(str(item.path), item.kind) for item in listing.left_out} == {
        ("1_mask.png", "mask"),
        ("notes.txt", ".txt"),
        ("3.png.part", "unfinished file"),
    }


@pytest.mark.parametrize("address", ["memory://b/none", "memory://b/texts"])
def test_no_image_is_an_error(store, address):
    put(store, "b/texts/notes.txt")
    with pytest.raises(UserError, match="no images there"):
        find_images_anywhere([address])


def test_an_image_is_decoded_from_the_store_and_an_unreadable_one_says_where(store, tmp_path):
    local = write_image(tmp_path / "1.png", noise(1))
    store.pipe_file("/b/1.png", local.read_bytes())
    put(store, "b/2.png")
    good, bad = files_at("memory://b/*.png")
    assert (read_image(good) == noise(1)).all()
    with pytest.raises(UserError) as caught:
        read_image(bad)
    assert caught.value.place == "memory://b/2.png"
    store.rm_file("/b/1.png")
    with pytest.raises(UserError, match="cannot be read: there is nothing"):
        read_image(good)

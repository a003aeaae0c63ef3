"""Paths stay in the studio's folder, and nothing of the user's is overwritten."""

import io
import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flawmap.errors import UserError
from flawmap_studio.place import Place
from images import striped, write_image

ESCAPES = ["../secret.png", "good/../../secret.png", "/etc/passwd", "//etc/passwd", "good/../../../../etc/passwd"]
BAD_NAMES = [
    *ESCAPES,
    "",
    ".",
    "..",
    "good/",
    "/good/a.png",
    "good//a.png",
    ".flawmap-studio/state.sqlite",
    ".hidden/a.png",
]
BAD_NAMES += [
    "good/.a.png",
    "good\\..\\..\\a.png",
    "C:/a.png",
    "C:a.png",
    "good/con.png",
    "good/NUL",
    "good/a.png:stream",
]
BAD_NAMES += ["good/a\0.png", "good/a\n.png", "good/" + "a" * 300 + ".png", "good/a.png.", "good/a.png ", "good/ a.png"]


def png(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(striped(seed)).save(file, "PNG")
    return file.getvalue()


def upload(client, name: str, content: bytes, **query: str):
    return client.put("/api/images", params={"name": name, "use": "learn", "label": "good"} | query, content=content)


def all_files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if ".flawmap-studio" not in path.parts}


def test_a_name_that_leads_elsewhere_is_refused_and_writes_nothing(client, folder):
    before = all_files(folder.parent)
    for name in BAD_NAMES:
        reply = upload(client, name, png(1))
        assert reply.status_code == 422, name
        assert set(reply.json()) == {"problem", "place", "remedy"}
    assert all_files(folder.parent) == before
    assert list((folder / ".flawmap-studio" / "incoming").glob("*")) == []


def test_no_file_but_an_image_of_the_studio_is_shown(client):
    for path in (*ESCAPES, ".flawmap-studio/state.sqlite", "", "good"):
        for address in ("thumbnail", "image", "size"):
            assert client.get(f"/api/{address}", params={"path": path}).status_code == 422, path


def test_results_models_and_downloads_stay_in_their_folders(client, studio):
    for name in (*ESCAPES, ".", "..", "../runs", "good", ""):
        assert client.get("/api/result", params={"name": name}).status_code == 422
        assert client.get("/api/overlay", params={"name": name, "path": "good/0.png"}).status_code == 422
        assert client.get("/api/report", params={"run": name}).status_code == 422
        assert client.get("/api/download", params={"path": name}).status_code == 422
        for kind in ("test", "update", "export", "report", "undo", "calibrate", "evaluate", "undo-calibration"):
            assert client.post(f"/api/jobs/{kind}", json={"run": name}).status_code == 422
    assert studio.jobs.recent() == []


def test_links_that_lead_out_are_neither_listed_nor_written_through(client, studio, folder):
    (folder / "away").symlink_to(folder.parent)
    (folder / "good" / "linked.png").symlink_to(folder.parent / "secret.png")
    paths = {row[0] for row in client.get("/api/images", params={"scan": True}).json()["images"]}
    assert paths == {"good/0.png", "good/1.png", "good/2.png", "test/0.png", "test/1.png"}
    before = all_files(folder.parent)
    assert upload(client, "away/new.png", png(1)).status_code == 422
    assert all_files(folder.parent) == before
    studio.state.insert(
        "INSERT INTO images VALUES ('good/linked.png', 1, 1, 'learn', 'good')", ()
    )  # as if it was listed
    assert client.get("/api/image", params={"path": "good/linked.png"}).status_code == 422


def test_a_link_within_the_folder_is_followed(client, folder):
    (folder / "monday").mkdir()
    (folder / "monday" / "same.png").symlink_to(folder / "good" / "0.png")
    paths = {row[0] for row in client.get("/api/images", params={"scan": True}).json()["images"]}
    assert "monday/same.png" in paths


def test_an_upload_overwrites_nothing(client, folder):
    first, second = png(1), png(2)
    assert upload(client, "good/new.png", first).json() == {"path": "good/new.png", "outcome": "added"}
    assert upload(client, "good/new.png", first).json() == {"path": "good/new.png", "outcome": "there already"}
    assert upload(client, "good/new.png", second).json() == {"path": "good/new-2.png", "outcome": "added"}
    assert (folder / "good" / "new.png").read_bytes() == first
    assert (folder / "good" / "new-2.png").read_bytes() == second


def test_what_is_no_image_is_refused(client, folder):
    for content in (b"", b"GIF89a......", b"<html>", b"PK\x03\x04", b"\x7fELF"):
        assert upload(client, "good/new.png", content).status_code == 422
    assert not (folder / "good" / "new.png").exists()


def test_masks_are_no_parts(client):
    assert "mask" in upload(client, "good/ground_truth/0.png", png(1)).json()["problem"]


def test_labels_change_no_file_and_survive_a_scan(client, folder):
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*.png")}
    assert client.post("/api/labels", json={"paths": ["good/0.png"], "label": "unsure"}).json() == {"changed": 1}
    rows = {row[0]: row[1:3] for row in client.get("/api/images", params={"scan": True}).json()["images"]}
    assert rows["good/0.png"] == ["unsure", "learn"] and rows["good/1.png"] == ["good", "learn"]
    assert rows["test/0.png"] == ["", "test"]
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*.png")} == before


def test_a_changed_image_keeps_its_label_and_gets_another_thumbnail(client, folder):
    first = client.get("/api/thumbnail", params={"path": "good/0.png"}).content
    client.post("/api/labels", json={"paths": ["good/0.png"], "label": "defect"})
    write_image(folder / "good" / "0.png", striped(50))
    os.utime(folder / "good" / "0.png", ns=(1, 1))
    rows = {row[0]: row for row in client.get("/api/images", params={"scan": True}).json()["images"]}
    assert rows["good/0.png"][1] == "defect"
    assert client.get("/api/thumbnail", params={"path": "good/0.png"}).content != first


def test_thumbnails_come_from_the_cache_and_the_oldest_are_given_up(client, studio):
    client.get("/api/thumbnail", params={"path": "good/0.png"})
    client.get("/api/thumbnail", params={"path": "good/1.png"})
    kept = sorted((studio.place.own / "thumbnails").glob("*/*.jpg"), key=lambda path: path.stat().st_mtime_ns)
    assert len(kept) == 2
    kept[0].write_bytes(b"cached")
    answers = {client.get("/api/thumbnail", params={"path": f"good/{number}.png"}).content for number in (0, 1)}
    assert b"cached" in answers
    os.utime(kept[0], ns=(1, 1))
    studio.pictures.prune(kept_bytes=kept[1].stat().st_size)
    assert not kept[0].exists() and kept[1].exists()


@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_no_name_leads_out_of_the_folder(tmp_path_factory, name):
    place = Place(tmp_path_factory.getbasetemp())
    try:
        path = place.new(name)
    except UserError:
        return
    assert path.resolve().is_relative_to(place.root) and path != place.root
    assert not any(part.startswith(".") for part in path.relative_to(place.root).parts)

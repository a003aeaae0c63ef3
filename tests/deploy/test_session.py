"""The page's session: what it keeps, what it gives up, and what a spreadsheet makes of its table."""

import csv
import io
import json
import sqlite3
import threading

import numpy as np
import pytest
from brightness_model import FACTS, BrightnessModel, form, gray_png, png, serving
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from assertions import explained
from flawmap.deploy.reviews import plain_cell
from flawmap.deploy.session import GivenScore, Session

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


def test_scores_are_remembered_by_image_and_model_and_the_oldest_is_forgotten(tmp_path):
    session = Session(tmp_path / "s.sqlite", kept_scores=2)
    session.remember(A, "m", GivenScore(0.1 + 0.2, 2.0))
    session.remember(A, "other", GivenScore(5.0, 6.0))
    assert session.given_score(A, "m") == GivenScore(0.1 + 0.2, 2.0)  # to the last bit
    session.remember(A, "m", GivenScore(7.0, 8.0))
    assert session.given_score(A, "m") == GivenScore(7.0, 8.0)
    session.remember(B, "m", GivenScore(9.0, 9.0))
    assert session.given_score(A, "other") is None and session.given_score(C, "m") is None
    assert session.given_score(A, "m") and session.given_score(B, "m")


def test_images_keep_their_order_their_reviews_and_their_files(tmp_path):
    path = tmp_path / "s.sqlite"
    session = Session(path)
    session.show(A, "one.png", "{}", b"first")
    session.show(B, "two.png", "{}", b"second")
    session.note_review(A, "agree", "dust")
    session.show(A, "one again.png", '{"score": 1}', b"first")
    session.close()
    again = Session(path)
    one, two = again.images()
    assert (one.sha256, one.name, one.answer, one.review, one.note) == (
        A,
        "one again.png",
        '{"score": 1}',
        "agree",
        "dust",
    )
    assert (two.name, two.has_file, two.review) == ("two.png", True, "")
    assert again.file(A) == b"first" and again.file(C) is None


def test_the_oldest_files_are_given_up_and_their_rows_stay(tmp_path):
    session = Session(tmp_path / "s.sqlite", kept_bytes=25)
    for name in (A, B, C):
        session.show(name, name[:1], "{}", bytes(10))
    assert [image.has_file for image in session.images()] == [False, True, True]
    assert session.file(A) is None and session.file(B) == bytes(10)
    session.show(A, "a", "{}", bytes(10))  # dropped again
    assert session.file(A) is None or session.file(B) is None


def test_clearing_leaves_nothing_of_the_files_on_the_disk(tmp_path):
    session = Session(tmp_path / "s.sqlite")
    session.remember(A, "m", GivenScore(1.0, 2.0))
    session.show(A, "a.png", "{}", b"a patient's image" * 1000)
    session.clear()
    assert session.images() == () and session.file(A) is None
    assert session.given_score(A, "m") == GivenScore(1.0, 2.0)
    session.close()
    assert b"a patient's image" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_a_file_of_another_program_is_refused_and_not_changed(tmp_path):
    other = sqlite3.connect(tmp_path / "other.sqlite")
    other.execute("CREATE TABLE prices (name TEXT)")
    other.commit()
    other.close()
    (tmp_path / "text.sqlite").write_text("not a database, but long enough to look like one" * 10)
    for name, says in (("other.sqlite", "another program"), ("text.sqlite", "not a database")):
        before = (tmp_path / name).read_bytes()
        error = explained(lambda name=name: Session(tmp_path / name))
        assert says in error.problem and "--reviews" in error.remedy
        assert (tmp_path / name).read_bytes() == before


def test_several_threads_lose_nothing(tmp_path):
    session = Session(tmp_path / "s.sqlite")

    def fill(start: int) -> None:
        for number in range(start, start + 50):
            session.remember(f"{number:064x}", "m", GivenScore(float(number), float(number)))
            session.show(f"{number:064x}", str(number), "{}", b"x")

    threads = [threading.Thread(target=fill, args=(start,)) for start in (0, 50, 100, 150)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(session.images()) == 200
    assert all(
        session.given_score(f"{number:064x}", "m") == GivenScore(float(number), float(number)) for number in range(200)
    )


# ---- over HTTP


@pytest.fixture
def own(tmp_path):
    with serving(BrightnessModel(), tmp_path / "reviews.csv") as server:
        yield server


def upload(server, content: bytes, name: str) -> dict:
    body, content_type = form(content, name)
    return server.detect(body, "?in_session=true", content_type).json


def test_a_name_is_what_it_was_before_the_form_escaped_it(own):
    upload(own, gray_png(120), "part %22A%22 100%25.png")
    (image,) = own.get("/v1/session").json["images"]
    assert image["name"] == 'part "A" 100%25.png'


def test_what_the_page_sent_is_there_after_a_restart(tmp_path):
    with serving(BrightnessModel(), tmp_path / "reviews.csv") as first:
        sent = upload(first, gray_png(120), "line 3/a.png")
        first.detect(gray_png(30))  # of a line: scored, but not kept
        order = {"image": "a.png", "sha256": sent["sha256"], "model_id": FACTS.model_id, "threshold": 100.0}
        first.ask(
            "POST", "/v1/reviews", json.dumps(order | {"review": "agree"}).encode(), content_type="application/json"
        )
    with serving(BrightnessModel(), tmp_path / "reviews.csv") as second:
        (image,) = second.get("/v1/session").json["images"]
        assert (image["name"], image["review"], image["has_file"]) == ("line 3/a.png", "agree", True)
        assert image["answer"] == sent and image["answer"]["score"] == 120.0
        assert second.get(f"/v1/session/{sent['sha256']}").body == gray_png(120)
        assert second.ask("DELETE", "/v1/session").status == 204
        assert second.get("/v1/session").json == {"images": []}
        assert second.get(f"/v1/session/{sent['sha256']}").status == 404


def test_a_thumbnail_is_small_and_shows_the_image(own):
    import base64

    answer = upload(own, png(np.full((300, 600, 3), (200, 40, 90), np.uint8)), "wide.png")
    with Image.open(io.BytesIO(base64.b64decode(answer["thumbnail"]))) as image:
        assert image.size == (96, 48)
        assert np.abs(np.asarray(image).astype(int) - (200, 40, 90)).max() < 6
    assert own.detect(gray_png(3)).json["thumbnail"] is None


@pytest.mark.parametrize("path", ["/v1/session/abc", f"/v1/session/{'A' * 64}", "/v1/session/..%2F..%2Fetc%2Fpasswd"])
def test_an_address_that_is_no_hash_is_refused(own, path):
    assert own.get(path).status in (404, 422)


def test_the_session_needs_the_token(tmp_path):
    with serving(BrightnessModel(), tmp_path / "reviews.csv", token="secret") as server:
        for method, path in (("GET", "/v1/session"), ("DELETE", "/v1/session"), ("GET", "/v1/session.csv")):
            assert server.ask(method, path).status == 401
            assert server.ask(method, path, authorization="Bearer secret").status in (200, 204)


def test_the_table_has_a_row_for_each_image_and_no_formula(own):
    upload(own, gray_png(120), "=cmd|calc.png")
    upload(own, gray_png(20), "plain.png")
    answer = own.get("/v1/session.csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    first, second = csv.DictReader(io.StringIO(answer.body.decode("utf-8-sig")))
    assert (first["image"], first["score"], first["is_anomalous"]) == ("'=cmd|calc.png", "120.0", "True")
    assert (second["image"], second["regions"], second["review"]) == ("plain.png", "0", "")


# ---- cells


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("dust", "dust"),
        ("a-b = c", "a-b = c"),
        ("=1+1", "'=1+1"),
        ("+49 30", "'+49 30"),
        ("dust;=1+1", "dust;'=1+1"),
        ("dust; @SUM(A1)", "dust; '@SUM(A1)"),
        ("＝1+1", "'＝1+1"),
        ("x;－2", "x;'－2"),
        ("\t=1", " '=1"),
        ("a|-1", "a|'-1"),
        ("  =1", "  '=1"),
        ("two\r\nlines\u2028three", "two  lines three"),
    ],
)
def test_a_cell_is_no_formula(text, cell):
    assert plain_cell(text) == cell


@given(st.text(max_size=30))
def test_no_part_of_a_cell_begins_like_a_formula(text):
    cell = plain_cell(text)
    parts = [part.strip() for separator in ";|" for part in cell.split(separator)]
    assert not any(part.startswith(tuple("=+-@＝＋－＠")) for part in parts)
    assert "\t" not in cell and len(cell.splitlines()) <= 1
    assert plain_cell(cell) == cell

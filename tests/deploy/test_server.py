"""The HTTP interface: what it answers, and what it refuses and how."""

import base64
import contextlib
import hashlib
import io
import json
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import replace

import numpy as np
import pytest
from brightness_model import CALIBRATION, FACTS, BrightnessModel, Client, form, gray_png, png, serving
from PIL import Image

from flawmap.deploy.model_health import NOT_TESTED
from flawmap.deploy.reviews import read_reviews


def gray_pixels(base64_png: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(base64_png))))


# ---- answers


def test_raw_bytes_and_a_form_get_the_same_verdict(client):
    raw = client.detect(gray_png(160)).json
    body, content_type = form(gray_png(160))
    formed = client.detect(body, content_type=content_type).json
    for one in (raw, formed):
        assert (one["score"], one["is_anomalous"], one["threshold"]) == (160.0, True, 100.0)
        assert one["regions"] == [{"box_xyxy_px": [0, 0, 20, 12], "area_px": 240, "peak_score": 160.0}]
        assert (one["width_px"], one["height_px"], one["map_peak"]) == (20, 12, 160.0)
        assert one["model_id"] == "abababababababab-fp32"
        assert one["map_png"] is None and one["attention_png"] is None
    assert client.detect(gray_png(99)).json["is_anomalous"] is False


def test_the_map_is_on_the_models_scale_at_the_images_size(client):
    pixels = np.zeros((12, 20, 3), np.uint8)
    pixels[3:5, 4:9] = 150  # the map's threshold, half-way between 0 and 300
    one = client.detect(png(pixels), "?with_map=true&with_attention=true").json
    expected = np.zeros((12, 20), np.uint8)
    expected[3:5, 4:9] = 128
    assert np.array_equal(gray_pixels(one["map_png"]), expected)
    assert gray_pixels(one["attention_png"]).tolist() == [[0, 128], [255, 64]]


def test_the_region_of_interest_comes_with_the_map(tmp_path):
    """As a mask of the image's size; without a map its share alone, and nothing where all of an image counts."""
    model = BrightnessModel()
    with serving(model, tmp_path / "reviews.csv") as server:
        one = Client(server.port).detect(gray_png(160), "?with_map=true").json
        assert one["inside_png"] is None and one["inside_share"] is None
        model.left_counts = True
        one = Client(server.port).detect(gray_png(160), "?with_map=true").json
        assert (one["inside_share"], one["regions"][0]["box_xyxy_px"]) == (0.5, [0, 0, 10, 12])
        inside = gray_pixels(one["inside_png"])
        assert inside.shape == (12, 20) and (inside[:, :10] == 255).all() and not inside[:, 10:].any()
        assert Client(server.port).detect(gray_png(160)).json["inside_png"] is None


def test_an_image_is_scored_in_the_region_of_the_camera_that_its_request_names(tmp_path):
    left = {"cameras": {"left": {"inside": [{"rectangle": [0, 0, 0.5, 1]}]}}}
    model = BrightnessModel(replace(FACTS, cameras={"left": CALIBRATION}, camera="left", roi=json.dumps(left)))
    with serving(model, tmp_path / "reviews.csv") as server:
        client = Client(server.port)
        client.detect(gray_png(160))
        assert model.cameras[-1] == "left", "the camera that the server was started with"
    model = BrightnessModel(replace(FACTS, cameras={"left": CALIBRATION}))
    with serving(model, tmp_path / "others.csv") as server:
        client = Client(server.port)
        assert client.detect(gray_png(160), "?camera=left").json["camera"] == "left" and model.cameras[-1] == "left"
        assert client.detect(gray_png(160)).json["camera"] is None and model.cameras[-1] is None


def test_exif_rotation_is_applied(client):
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    Image.new("RGB", (20, 12)).save(buffer, "JPEG", exif=exif)
    one = client.detect(buffer.getvalue(), content_type="image/jpeg").json
    assert (one["width_px"], one["height_px"]) == (12, 20)


def test_the_model_says_who_it_is(client):
    said = client.get("/v1/model").json
    assert (said["name"], said["model_id"], said["sizes_px"]) == ("bright", FACTS.model_id, [32, 64])
    assert (said["threshold"], said["false_alarm_rate"], said["n_held_out"]) == (100.0, 0.01, 50)
    assert (said["map_scale"], said["max_bytes"], said["max_pixels"]) == ([0.0, 300.0], 100_000, 40_000)


def test_health_and_readiness(client):
    assert client.get("/healthz").json == {"status": "ok"}
    ready = client.get("/readyz")
    judged_by = BrightnessModel().facts.judged_by
    assert ready.status == 200
    assert ready.json == {"status": "ready", "reason": NOT_TESTED, "self_test": None, "judged_by": judged_by}


def test_metrics_count_images_and_answers(tmp_path):
    with serving(BrightnessModel(), tmp_path / "reviews.csv") as own:
        for value in (10, 20, 200):
            own.detect(gray_png(value))
        own.detect(b"no image")
        text = own.get("/metrics").body.decode()
    for line in (
        'flawmap_images_total{verdict="ok"} 2.0',
        'flawmap_images_total{verdict="anomaly"} 1.0',
        'flawmap_answers_total{status="200"} 3.0',
        'flawmap_answers_total{status="422"} 1.0',
        "flawmap_image_seconds_count 3.0",
        "flawmap_waiting_images 0.0",
    ):
        assert line in text.splitlines()


def test_the_interface_is_described_without_network(client):
    described = client.get("/openapi.json").json
    assert {"/v1/detect", "/v1/model", "/v1/reviews", "/healthz", "/readyz", "/metrics"} <= described["paths"].keys()
    page = client.get("/docs")
    assert page.status == 200 and b"POST /v1/detect" in page.body and b"https://" not in page.body


# ---- refusals


@pytest.mark.parametrize(
    ("body", "content_type", "status", "words"),
    [
        (b"", "image/png", 422, "empty"),
        (b"not an image at all", "image/png", 422, "not an image"),
        (gray_png(5, 200, 200)[:150], "image/png", 422, "decoded"),
        (gray_png(5), "text/plain", 415, "send application/octet-stream"),
        (gray_png(5), "", 415, "send application/octet-stream"),
        (form(gray_png(5), content_type="text/html")[0], form(b"")[1], 415, "none of"),
        (b"--xx--\r\n", form(b"")[1], 422, "no file"),
        (b"no form", form(b"")[1], 400, ""),
        (gray_png(5, 201, 200), "image/png", 422, "200 x 201 px is more than 40,000 pixels"),
        (b"x" * 100_001, "image/png", 413, "100,000"),
    ],
)
def test_what_is_no_usable_upload_is_refused_with_a_reason(client, body, content_type, status, words):
    answer = client.detect(body, content_type=content_type)
    assert answer.status == status and words in answer.json["error"]
    assert client.detect(gray_png(7)).json["score"] == 7.0  # and the next one is served


def test_a_body_of_unknown_length_is_cut_off_at_the_limit(client):
    sent = 0

    def endless():
        nonlocal sent
        while sent < 50_000_000:
            sent += 10_000
            yield b"x" * 10_000

    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the server may hang up while we are sending
        assert client.ask("POST", "/v1/detect", endless(), content_type="image/png").status == 413
    assert sent < 50_000_000


def test_a_decompression_bomb_costs_no_memory(client):
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    assert len(bomb.getvalue()) < 100_000
    answer = client.detect(bomb.getvalue())
    assert answer.status == 422 and "too large" in answer.json["error"]


def test_a_bug_is_answered_without_its_words(client, capfd):
    answer = client.detect(gray_png(0, 13, 13))
    assert answer.status == 500 and answer.json == {"error": "the server failed; its log says why"}
    assert "thirteen" in capfd.readouterr().err


def test_unknown_places_and_methods_are_refused(client):
    assert client.get("/../../etc/passwd").status == 404
    assert client.get("/page/server.py").status == 404
    assert client.get("/v1/detect").status == 405


def test_another_host_name_is_refused(client):
    assert client.get("/healthz", Host="evil.example").status == 400


def test_a_token_guards_everything_but_health(tmp_path):
    with serving(BrightnessModel(), tmp_path / "reviews.csv", token="secret") as own:
        assert own.get("/healthz").status == 200
        for answer in (own.get("/v1/model"), own.get("/metrics"), own.detect(gray_png(1))):
            assert answer.status == 401 and answer.headers["www-authenticate"] == "Bearer"
        assert own.get("/v1/model", Authorization="Bearer wrong").status == 401
        assert own.detect(gray_png(1), Authorization="Bearer secret").json["score"] == 1.0


# ---- many at a time


def test_too_many_at_a_time_are_told_when_to_come_back(tmp_path):
    model = BrightnessModel()
    model.may_go.clear()
    with serving(model, tmp_path / "reviews.csv", queue_size=3) as own, ThreadPoolExecutor(4) as pool:
        asked = {pool.submit(own.detect, gray_png(value)) for value in (1, 2, 3, 4)}
        (refused,), held = wait(asked, timeout=60, return_when=FIRST_COMPLETED)
        answer = refused.result()
        assert answer.status == 503 and answer.headers["retry-after"] == "1" and "busy" in answer.json["error"]
        assert own.get("/healthz").status == 200 and len(held) == 3
        model.may_go.set()
        assert [one.result().status for one in held] == [200, 200, 200]
        assert own.detect(gray_png(4)).json["score"] == 4.0


def test_answers_are_not_mixed_up_and_waiting_images_share_a_batch(tmp_path):
    model = BrightnessModel()
    model.may_go.clear()
    with serving(model, tmp_path / "reviews.csv", batch_size=4) as own, ThreadPoolExecutor(8) as pool:
        held = {value: pool.submit(own.detect, gray_png(value)) for value in range(1, 9)}
        time.sleep(0.5)
        model.may_go.set()
        assert {value: one.result().json["score"] for value, one in held.items()} == {v: float(v) for v in range(1, 9)}
    assert sum(model.batches) == 8 and max(model.batches) == 4


def test_one_failing_image_does_not_cost_its_neighbours(tmp_path):
    model = BrightnessModel()
    model.may_go.clear()
    with serving(model, tmp_path / "reviews.csv", batch_size=8) as own, ThreadPoolExecutor(4) as pool:
        good = [pool.submit(own.detect, gray_png(value)) for value in (1, 2)]
        bad = [pool.submit(own.detect, gray_png(0, 13, 13)), pool.submit(own.detect, b"no image")]
        time.sleep(0.5)
        model.may_go.set()
        assert [one.result().json["score"] for one in good] == [1.0, 2.0]
        assert [one.result().status for one in bad] == [500, 422]


def test_what_was_accepted_is_answered_before_the_server_ends(tmp_path):
    model = BrightnessModel(seconds=0.3)
    with ThreadPoolExecutor(3) as pool:
        with serving(model, tmp_path / "reviews.csv", batch_size=1) as own:
            held = [pool.submit(own.detect, gray_png(value)) for value in (1, 2, 3)]
            until = time.monotonic() + 30
            while not model.batches and time.monotonic() < until:
                time.sleep(0.01)
        assert sorted(one.result().json["score"] for one in held) == [1.0, 2.0, 3.0]


# ---- reviews


def sha256_of(gray: int) -> str:
    return hashlib.sha256(gray_png(gray)).hexdigest()


def order(**changes):
    values = {"image": "a.png", "sha256": sha256_of(160), "model_id": FACTS.model_id}
    return json.dumps(values | {"threshold": 100.0, "review": "disagree"} | changes).encode()


def test_a_review_goes_to_the_file_with_what_it_says_of_the_part(client, reviews):
    client.detect(gray_png(160))
    answer = client.ask("POST", "/v1/reviews", order(note="=1+1\nglare"), content_type="application/json")
    assert answer.status == 200 and answer.json == {"shown": "anomaly", "truth": "good"}
    (found,) = read_reviews(reviews)
    assert (found.image, found.score, found.map_peak, found.truth) == ("a.png", 160.0, 160.0, "good")
    assert found.note == "'=1+1 glare"  # no formula for a spreadsheet, no second line
    client.ask("POST", "/v1/reviews", order(review="agree"), content_type="application/json")
    (found,) = read_reviews(reviews)
    assert found.truth == "defect"  # the last word on an image counts


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (order(sha256="x"), 422),
        (order(review="maybe"), 422),
        (order(note="n" * 501), 422),
        (order(score=1e9), 422),  # the score is the server's, whatever a client says
        (order(sha256="0" * 64), 409),  # never scored here
        (order(surplus=1), 422),
        (b"{", 422),
        (order(model_id="another"), 409),
        (order(note="n" * 20_000), 413),
    ],
)
def test_a_malformed_review_is_refused(client, reviews, body, status):
    client.detect(gray_png(160))
    before = reviews.read_bytes() if reviews.exists() else b""
    answer = client.ask("POST", "/v1/reviews", body, content_type="application/json")
    assert answer.status == status and answer.json["error"]
    assert (reviews.read_bytes() if reviews.exists() else b"") == before


def test_reviews_of_several_people_do_not_tear_each_other(client, reviews):
    def say(number: int) -> None:
        body = order(sha256=sha256_of(number), image=f"{number}.png")
        assert client.ask("POST", "/v1/reviews", body, content_type="application/json").status == 200

    for number in range(100, 120):  # one after the other: the queue has fewer places
        assert client.detect(gray_png(number)).status == 200
    threads = [threading.Thread(target=say, args=(number,)) for number in range(100, 120)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = {one.image for one in read_reviews(reviews)}
    assert {f"{number}.png" for number in range(100, 120)} <= names


def test_a_slow_sender_is_cut_off(tmp_path):
    import socket

    with serving(BrightnessModel(), tmp_path / "reviews.csv", read_seconds=0.3) as own:
        with socket.create_connection(("127.0.0.1", own.port), timeout=30) as slow:
            slow.sendall(
                b"POST /v1/detect HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\nContent-Length: 9\r\n\r\nab"
            )
            assert slow.recv(1000).startswith(b"HTTP/1.1 408 ")
        assert isinstance(own, Client) and own.detect(gray_png(3)).json["score"] == 3.0


def test_the_image_itself_comes_with_all_its_gray_values(client):
    values = np.arange(48, dtype=np.uint16).reshape(6, 8) * 1000 + 7
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "TIFF")
    picture = client.detect(buffer.getvalue(), "?with_picture=true", "image/tiff").json["picture"]
    assert (picture["low"], picture["high"], picture["window"]) == (0, 65535, [0, 65535])
    with Image.open(io.BytesIO(base64.b64decode(picture["png"]))) as image:
        red, green, blue = np.moveaxis(np.asarray(image).astype(int), -1, 0)
    assert np.array_equal(256 * red + green, values) and not blue.any()
    plain = client.detect(gray_png(90), "?with_picture=true").json["picture"]
    assert plain["window"] is None and client.detect(gray_png(90)).json["picture"] is None
    with Image.open(io.BytesIO(base64.b64decode(plain["png"]))) as image:
        assert np.array_equal(np.asarray(image), np.full((12, 20, 3), 90))

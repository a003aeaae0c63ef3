"""Drift and false alarms of a real server: its answers, its addresses, its metrics, and a restart."""

import json
from dataclasses import replace

import numpy as np
import pytest
from brightness_model import FACTS, BrightnessModel, Client, form, gray_png, png, serving

from flawmap.detect.calibration import calibrate

GOOD = calibrate([float(n) for n in range(40, 80)], [0.0] * 40, 0.05)
LEFT = calibrate([float(n) for n in range(140, 180)], [0.0] * 40, 0.05)
MODEL = replace(FACTS, calibration=GOOD, cameras={"left": LEFT})


def shades(level: int, n: int, first: int = 0) -> list[bytes]:
    """Different images of nearly the same brightness."""
    images = []
    for number in range(first, first + n):
        pixels = np.full((12, 20, 3), level, np.uint8)
        pixels[number // 20, number % 20, 0] += 1
        images.append(png(pixels))
    return images


def send(client: Client, images: list[bytes], query: str = "") -> list[list[str]]:
    drifts = []
    for number, image in enumerate(images):
        body, content_type = form(image, f"part_{number:03d}.png")
        drifts.append(client.detect(body, query, content_type).json["drift"])
    return drifts


def default_watch(client: Client) -> dict:
    return client.get("/v1/drift").json["cameras"][0]


def test_a_drift_is_answered_told_counted_and_kept_across_a_restart(tmp_path) -> None:
    reviews, bright = tmp_path / "reviews.csv", shades(100, 40)
    source = tmp_path / "my parts.onnx"
    with serving(BrightnessModel(MODEL), reviews, source) as client:
        assert default_watch(client)["n_images"] == 0
        assert set(map(tuple, send(client, bright[:20]))) == {()}
        send(client, bright[:20])  # the same images again are no new ones
        assert default_watch(client)["n_images"] == 20
    with serving(BrightnessModel(MODEL), reviews, source) as client:
        assert send(client, bright[20:30]) == [[]] * 6 + [["scores"]] * 4  # from the 27th on
        watch = default_watch(client)
        assert watch["is_warning"] and watch["n_images"] == 30 and watch["camera"] is None
        assert "score higher than at least half of the 40 good images" in watch["text"]
        assert "flawmap calibrate 'my parts.onnx' GOOD_IMAGES" in watch["text"] and str(tmp_path) not in watch["text"]
        (scores,) = watch["measures"]
        assert (scores["n_since"], scores["n_above"], scores["since"]) == (30, 30, "part_000.png")
        assert len(scores["moved_most"]) == 5 and all(one["thumbnail"] for one in scores["moved_most"])
        metrics = client.get("/metrics").body.decode()
        assert 'flawmap_drift_warnings_total{camera="",measure="scores"} 1.0' in metrics
        assert 'flawmap_drift_warning{camera="",measure="scores"} 1.0' in metrics
        assert 'flawmap_drift_moved_ratio{camera="",measure="scores"} 1.0' in metrics
        assert 'flawmap_drift_images{camera=""} 30.0' in metrics
        client.ask("DELETE", "/v1/session")
        assert not any(one["thumbnail"] for one in default_watch(client)["measures"][0]["moved_most"])
    recalibrated = replace(MODEL, calibration=LEFT)
    with serving(BrightnessModel(recalibrated), reviews, source) as client:
        assert default_watch(client)["n_images"] == 0 and not default_watch(client)["is_warning"]


def test_cameras_are_judged_and_watched_on_their_own(tmp_path) -> None:
    with serving(BrightnessModel(MODEL), tmp_path / "reviews.csv") as client:
        assert send(client, shades(170, 35), "?camera=left")[-1] == ["scores"]
        one = client.detect(gray_png(150), "?camera=left").json
        assert (one["camera"], one["threshold"], one["is_anomalous"]) == ("left", LEFT.threshold, False)
        assert client.detect(gray_png(150)).json["threshold"] == GOOD.threshold
        cameras = {one["camera"]: one for one in client.get("/v1/drift").json["cameras"]}
        assert cameras["left"]["is_warning"] and not cameras[None]["is_warning"]
        assert "of camera left" in cameras["left"]["text"] and "--camera left" in cameras["left"]["text"]
        refused = client.detect(gray_png(150), "?camera=right")
        assert refused.status == 422 and "known cameras: left" in refused.json["error"]
        misspelt = client.detect(gray_png(150), "?camra=left")
        assert (misspelt.status, misspelt.json["error"]) == (422, "there is no parameter 'camra'; did you mean camera?")


def test_a_trial_is_neither_watched_nor_counted(tmp_path) -> None:
    with serving(BrightnessModel(MODEL), tmp_path / "reviews.csv") as client:
        send(client, shades(100, 5), "?false_alarm_rate=0.2")
        assert default_watch(client)["n_images"] == 0 and client.get("/v1/days").json["days"] == []


def test_false_alarms_of_a_day_come_from_reviews(tmp_path) -> None:
    with serving(BrightnessModel(MODEL), tmp_path / "reviews.csv") as client:
        for image in [*shades(50, 8), *shades(120, 2)]:
            answer = client.detect(image).json
        (day,) = client.get("/v1/days").json["days"]
        assert (day["images"], day["alarms"], day["reviewed"], day["rate"]) == (10, 2, 0, None)
        order = {"image": "p.png", "sha256": answer["sha256"], "model_id": answer["model_id"], "threshold": 79.0}
        said = client.ask(
            "POST",
            "/v1/reviews",
            json.dumps(order | {"review": "disagree"}).encode(),
            content_type="application/json",
        )
        assert said.json["truth"] == "good"
        said = client.get("/v1/days").json
        (day,) = said["days"]
        assert said["wanted_rate"] == GOOD.false_alarm_rate
        assert (day["reviewed"], day["false_alarms"]) == (1, 1)
        assert day["rate"] == pytest.approx(0.2) and day["rate_low"] < 0.2 < day["rate_high"]
        metrics = client.get("/metrics").body.decode()
        assert 'flawmap_today_images{camera="",kind="alarms"} 2.0' in metrics
        assert 'flawmap_today_false_alarm_ratio{camera="",end="estimate"} 0.2' in metrics

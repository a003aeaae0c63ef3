"""What a client of the server may try, and what a server with a minimum area answers and takes for a review."""

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from brightness_model import FACTS, BrightnessModel, gray_png, png, serving

from flawmap.deploy.reviews import read_reviews
from flawmap.deploy.session import GivenScore, Session
from flawmap.deploy.threshold_choice import ThresholdChoice
from flawmap.detect.calibration import calibrate
from flawmap.errors import UserError

SCORES = [10.0 * number for number in range(1, 20)]  # of nineteen good images; their maps peak at twice that
CALIBRATION = calibrate(SCORES, [2 * score for score in SCORES], 0.05)  # 190 and 380: nothing is above
MODEL = replace(FACTS, calibration=CALIBRATION)


def spotted(value: int, area_px: int) -> bytes:
    """A bright image whose red channel is zero, but for a line of ``area_px``."""
    pixels = np.full((10, 20, 3), value, np.uint8)
    pixels[..., 0] = 0
    pixels[5, :area_px, 0] = 255
    return png(pixels)


def test_a_rate_changes_one_answer_and_nothing_else(tmp_path: Path):
    with serving(BrightnessModel(MODEL), tmp_path / "reviews.csv") as client:
        own = client.detect(gray_png(165), "?in_session=true").json
        trial = client.detect(gray_png(165), "?in_session=true&false_alarm_rate=0.25").json
        again = client.detect(gray_png(165)).json
        shown = client.get("/v1/session").json["images"]
        counted = client.get("/metrics").body.decode()
    assert (own["threshold"], own["is_anomalous"], own["false_alarm_rate"]) == (190.0, False, 0.05)
    # of twenty images with a new one, five may be above: the new one and the four highest
    assert (trial["threshold"], trial["is_anomalous"], trial["false_alarm_rate"]) == (150.0, True, 0.25)
    assert trial["score"] == own["score"] and again["is_anomalous"] is False
    assert [one["answer"]["threshold"] for one in shown] == [190.0]
    assert 'flawmap_images_total{verdict="ok"} 3.0' in counted


@pytest.mark.parametrize("rate", ["0", "1", "-0.1", "x", "nan"])
def test_what_is_no_rate_is_refused(tmp_path: Path, rate: str):
    with serving(BrightnessModel(MODEL), tmp_path / "reviews.csv") as client:
        assert client.detect(gray_png(165), f"?false_alarm_rate={rate}").status == 422


@pytest.mark.parametrize(("calibration", "reason"), [(None, "without a threshold"), (FACTS.calibration, "earlier")])
def test_a_model_that_cannot_say_refuses_a_rate(tmp_path: Path, calibration, reason: str):
    model = BrightnessModel(replace(FACTS, calibration=calibration))
    with serving(model, tmp_path / "reviews.csv") as client:
        answer = client.detect(gray_png(165), "?false_alarm_rate=0.1")
    assert answer.status == 422 and reason in answer.json["error"]


def test_a_server_with_a_minimum_area_says_it_and_a_review_is_of_what_it_showed(tmp_path: Path):
    model = BrightnessModel(replace(FACTS, min_area_px=4.0))  # anomalous above 100, regions above 150
    images = {"small": spotted(200, 3), "large": spotted(200, 4), "whole": gray_png(140)}
    with serving(model, tmp_path / "reviews.csv") as client:
        answers = {name: client.detect(image).json for name, image in images.items()}
        for name, answer in answers.items():
            verdict = {key: answer[key] for key in ("sha256", "model_id", "threshold")}
            order = {"image": name, "review": "agree", **verdict}
            assert client.ask("POST", "/v1/reviews", json.dumps(order).encode(), content_type="application/json").json
        said = [client.get(path).json for path in ("/v1/model", "/readyz")]
    assert said[0]["min_area_px"] == said[1]["judged_by"]["min_area_px"] == 4.0
    assert {name: (a["is_anomalous"], len(a["regions"]), a["n_small_regions"]) for name, a in answers.items()} == {
        "small": (False, 0, 1),
        "large": (True, 1, 0),
        "whole": (True, 0, 0),
    }
    assert all(answer["score"] > answer["threshold"] for answer in answers.values())
    reviews = {review.image: (review.shown, review.truth) for review in read_reviews(tmp_path / "reviews.csv")}
    assert reviews == {"small": ("ok", "good"), "large": ("anomaly", "defect"), "whole": ("anomaly", "defect")}


def test_a_session_of_an_earlier_flawmap_is_read(tmp_path: Path):
    path = tmp_path / "reviews.session.sqlite"
    Session(path).close()
    with sqlite3.connect(path) as base:
        base.execute("ALTER TABLE scored DROP COLUMN is_tolerated")
        base.execute("INSERT INTO scored VALUES ('ab', 'm', 1.5, 2.5)")
    base.close()
    session = Session(path)
    assert session.given_score("ab", "m") == GivenScore(1.5, 2.5, False)
    session.remember("cd", "m", GivenScore(3.0, 4.0, True))
    assert session.given_score("cd", "m") == GivenScore(3.0, 4.0, True)
    session.close()


@pytest.mark.parametrize("rate", [0.0, 1.0, -1.0, float("nan")])
def test_a_choice_of_no_rate_is_refused(rate: float):
    with pytest.raises(UserError):
        ThresholdChoice(false_alarm_rate=rate)

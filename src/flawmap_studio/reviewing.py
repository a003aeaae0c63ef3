"""What people say about verdicts: kept with undo, and written as the reviews.csv that ``flawmap update`` reads."""

import csv
import hashlib
import io
from dataclasses import asdict
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from flawmap.deploy.reviews import COLUMNS, Review, make_review
from flawmap.errors import UserError
from flawmap_studio.image_list import StudioImage
from flawmap_studio.lists import PlannedFile, planned
from flawmap_studio.results import records, results
from flawmap_studio.state import now
from flawmap_studio.studio import Studio

Truth = Literal["good", "defect", "unsure"]
MAP_SCORE = "map_max"  # among the scores of an image


class ReviewWish(BaseModel):
    """What an image is, according to the person who looked at its verdict."""

    model_config = ConfigDict(extra="forbid")

    result: str = Field(max_length=200)
    path: str = Field(max_length=1000)
    truth: Truth
    note: str = Field("", max_length=500)


def review(studio: Studio, wish: ReviewWish) -> None:
    """Keep a review; the image gets the label, too.

    Raises:
        UserError: this test has no such image.
    """
    image = studio.images.of(wish.path)
    if not any(record["image"] == wish.path for record in records(studio, wish.result)):
        raise UserError("this test has no such image", wish.path, "test the images again")
    values = wish.result, wish.path, wish.truth, wish.note, image.label, now()
    studio.state.insert("INSERT INTO reviews VALUES (NULL, ?, ?, ?, ?, ?, ?)", values)
    studio.images.label([wish.path], wish.truth, None)


def undo_review(studio: Studio, result: str) -> str | None:
    """Take back the last review of a test; returns whose it was, None where there is none."""
    query = "SELECT number, path, former FROM reviews WHERE result = ? ORDER BY number DESC LIMIT 1"
    found = studio.state.ask(query, (result,))
    if not found:
        return None
    number, path, former = found[0]
    studio.state.change("DELETE FROM reviews WHERE number = ?", [(number,)])
    studio.images.label([path], former, None)
    return path


def reviewed_as_good(studio: Studio, run: str) -> list[StudioImage]:
    """The images that the last review of each calls good, of tests of a run."""
    truths = {path: truth for path, (truth, _, _) in _last_reviews(studio, run).items()}
    return [image for image in studio.images.all() if truths.get(image.path) == "good"]


def reviews_file(studio: Studio, run: str) -> PlannedFile:
    """The reviews of a run's tests, as ``flawmap serve`` would have written them.

    Raises:
        UserError: there is none.
    """
    text = io.StringIO()
    rows = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    rows.writeheader()
    n_written = 0
    for path, (truth, note, record) in _last_reviews(studio, run).items():
        if truth != "unsure":
            rows.writerow(asdict(_as_review(studio, path, truth, note, record)))
            n_written += 1
    if not n_written:
        raise UserError("nothing was reviewed as good or as a defect", "Review", "review some images first")
    return planned("reviews", ".csv", text.getvalue().encode())


def _last_reviews(studio: Studio, run: str) -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Truth, note and verdict by the image's path."""
    found: dict[str, tuple[str, str, dict[str, Any]]] = {}
    for one in reversed(results(studio)):
        if one["run"] != run:
            continue
        verdicts = {record["image"]: record for record in records(studio, one["name"])}
        query = "SELECT path, truth, note FROM reviews WHERE result = ? ORDER BY number"
        for path, truth, note in studio.state.ask(query, (one["name"],)):
            if path in verdicts:
                found[path] = truth, note, verdicts[path]
    return found


def _as_review(studio: Studio, path: str, truth: str, note: str, record: dict[str, Any]) -> Review:
    with studio.place.existing(path).open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    was_anomalous, is_defect = bool(record["is_anomalous"]), truth == "defect"
    score, threshold = record["score"], record["threshold"]
    return make_review(
        image=path,
        sha256=sha256,
        model_id=record["model_id"],
        score=score,
        map_peak=record["scores"].get(MAP_SCORE, score),
        threshold=threshold if threshold is not None else score,
        review="agree" if was_anomalous == is_defect else "disagree",
        note=note,
        is_tolerated=threshold is not None and score > threshold and not was_anomalous,
    )

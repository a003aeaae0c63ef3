"""The server's addresses for what it knows of the line: drift, and false alarms by day."""

import asyncio
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field

from flawmap.deploy.line_watch import LineWatch
from flawmap.detect.model_facts import ModelFacts


class MovedImage(BaseModel):
    """An image after a change."""

    image: str = Field(description="the file's name; empty where the client gave none")
    sha256: str
    value: float = Field(description="its score, or its distance from the good image that looks most similar")
    thumbnail: str | None = Field(description="base64 JPEG; null where it is not kept any more")


class MeasureAnswer(BaseModel):
    """What is known of one measure."""

    measure: str = Field(description="scores or appearance")
    is_warning: bool
    n_since: int = Field(description="images since the most probable moment of a change; 0 without one")
    n_above: int = Field(description="how many of these lie above the level")
    since: str = Field(description="the first of these images")
    since_utc: str = Field(description="when it was scored")
    level: float = Field(description="that at most half of good images exceed")
    middle: float | None = Field(description="median of the last of these images, at most 100")
    middle_of_good_images: float = Field(description="median of the good images of the calibration")
    moved_most: list[MovedImage] = Field(description="highest value first")


class CameraDrift(BaseModel):
    """The watch on one camera."""

    camera: str | None = Field(description="null for the default")
    n_images: int = Field(description="watched so far")
    is_warning: bool
    text: str = Field(description="the warning; empty without one")
    not_watched: str = Field(description="what is not watched, and why; empty where all is")
    measures: list[MeasureAnswer]


class DriftAnswer(BaseModel):
    """Whether images still score and look as the good images of the calibration did."""

    cameras: list[CameraDrift]


class DayAnswer(BaseModel):
    """A day (UTC) of a camera."""

    day: str
    camera: str | None = Field(description="null for the default")
    images: int = Field(description="scored; one that was sent several times counts once")
    alarms: int
    reviewed: int = Field(description="alarms that a person has reviewed")
    false_alarms: int = Field(description="of these, those that are good")
    rate: float | None = Field(description="share of good images called anomalous; null where no alarm was reviewed")
    rate_low: float | None = Field(description="lower end of its 95 % interval")
    rate_high: float | None = Field(description="upper end")


class DaysAnswer(BaseModel):
    """False alarms by day, from the reviews."""

    wanted_rate: float | None = Field(description="that the threshold was set for; null before calibration")
    days: list[DayAnswer] = Field(description="newest first, the last 30 days with images")


def add_line(app: FastAPI, line: LineWatch, facts: Callable[[], ModelFacts], guarded: list[Any]) -> None:
    """What the server knows of the line in front of it."""

    @app.get("/v1/drift", dependencies=guarded)
    async def drift() -> DriftAnswer:
        """Whether the images of each camera have moved away from the model's good ones, and which moved most."""
        line.of(facts())  # a server that was just started goes on from what it knew
        answers = [await asyncio.to_thread(line.drift, watch) for watch in line.watches]
        return DriftAnswer(cameras=[CameraDrift.model_validate(answer) for answer in answers])

    @app.get("/v1/days", dependencies=guarded)
    async def days() -> DaysAnswer:
        """Images, alarms and false alarms of each day and camera."""
        calibration, answers = facts().calibration, []
        for day in await asyncio.to_thread(line.days):
            rate, low, high = day.rate or (None, None, None)
            counts = {name: getattr(day, name) for name in ("day", "images", "alarms", "reviewed", "false_alarms")}
            answers.append(DayAnswer(**counts, camera=day.camera or None, rate=rate, rate_low=low, rate_high=high))
        return DaysAnswer(wanted_rate=calibration.false_alarm_rate if calibration else None, days=answers)

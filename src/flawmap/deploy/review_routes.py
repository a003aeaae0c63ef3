"""The server's addresses for the page's session and for reviews."""

import asyncio
import csv
import io
import json
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Path
from fastapi.responses import Response

from flawmap.deploy.answers import DetectionAnswer, Problem, ReviewAnswer, ReviewOrder, SessionAnswer, SessionImage
from flawmap.deploy.line_watch import LineWatch
from flawmap.deploy.reviews import ReviewFile, make_review, plain_cell
from flawmap.deploy.session import Session, ShownImage
from flawmap.detect.model_facts import ModelFacts

Sha256 = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="of the file's bytes")]
CSV_COLUMNS = ("image", "score", "threshold", "is_anomalous", "regions", "review", "note", "sha256", "model_id")
NOT_SCORED = "this server has not scored this image with this model, or too long ago; score it again"


def add_reviews(
    app: FastAPI,
    session: Session,
    reviews: ReviewFile,
    line: LineWatch,
    facts: Callable[[], ModelFacts],
    guarded: list[Any],
) -> None:
    """Reviews, of images that this server scored and with the score that it gave."""

    @app.post("/v1/reviews", dependencies=guarded, responses={409: {"model": Problem}})
    async def review(order: ReviewOrder) -> ReviewAnswer:
        """Append a person's review of a verdict to reviews.csv, which ``flawmap calibrate`` reads."""
        if order.model_id != facts().model_id:
            raise HTTPException(409, "this score is from another model; score the image again")
        given = await asyncio.to_thread(session.given_score, order.sha256, order.model_id)
        if given is None:
            raise HTTPException(409, NOT_SCORED)
        measured = {"score": given.score, "map_peak": given.map_peak, "is_tolerated": given.is_tolerated}
        written = make_review(**order.model_dump(), **measured)
        await asyncio.to_thread(reviews.append, written)
        await asyncio.to_thread(session.note_review, order.sha256, order.review, order.note)
        await asyncio.to_thread(line.note_review, order.sha256, order.model_id, written.truth)
        return ReviewAnswer(shown=written.shown, truth=written.truth)


def add_session(app: FastAPI, session: Session, line: LineWatch, guarded: list[Any]) -> None:
    """What the page shows, for a page that is loaded again."""

    @app.get("/v1/session", dependencies=guarded)
    async def images() -> SessionAnswer:
        """The images of the page with their answers and reviews, in the order in which they came."""
        shown = await asyncio.to_thread(session.images)
        return SessionAnswer(images=[_session_image(image) for image in shown])

    @app.delete("/v1/session", dependencies=guarded, status_code=204)
    async def clear() -> None:
        """Remove the page's images from this server. Reviews stay."""
        await asyncio.to_thread(line.clear_thumbnails)
        await asyncio.to_thread(session.clear)

    @app.get(
        "/v1/session/{sha256}",
        dependencies=guarded,
        response_class=Response,
        responses={
            200: {"content": {"application/octet-stream": {}}, "description": "the image file as it was uploaded"},
            404: {"model": Problem, "description": "the image is not kept"},
        },
    )
    async def file(sha256: Sha256) -> Response:
        """The file of one image of the page."""
        content = await asyncio.to_thread(session.file, sha256)
        if content is None:
            raise HTTPException(404, "this image is not kept any more; drop it again")
        headers = {
            "x-content-type-options": "nosniff",
            "content-disposition": "attachment",
            "cache-control": "no-store",
        }
        return Response(content, media_type="application/octet-stream", headers=headers)

    @app.get("/v1/session.csv", dependencies=guarded, response_class=Response)
    async def table() -> Response:
        """The images of the page as a table, for a spreadsheet."""
        shown = await asyncio.to_thread(session.images)
        headers = {"content-disposition": 'attachment; filename="flawmap.csv"', "cache-control": "no-store"}
        return Response(session_csv(shown), media_type="text/csv; charset=utf-8", headers=headers)


def _session_image(image: ShownImage) -> SessionImage:
    answer = DetectionAnswer.model_validate_json(image.answer)
    return SessionImage(name=image.name, answer=answer, has_file=image.has_file, review=image.review, note=image.note)


def session_csv(images: tuple[ShownImage, ...]) -> str:
    """One row per image; names and notes cannot be taken for formulas. It begins with a byte order mark, for Excel."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\r\n")
    rows.writerow(CSV_COLUMNS)
    for image in images:
        answer = json.loads(image.answer)
        cells = [plain_cell(image.name), answer["score"], answer["threshold"], answer["is_anomalous"]]
        cells += [len(answer["regions"]), image.review, plain_cell(image.note), answer["sha256"], answer["model_id"]]
        rows.writerow(cells)
    return "\ufeff" + text.getvalue()

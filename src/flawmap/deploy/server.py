"""The inspection server: HTTP in front of one model. It opens no path of a client's choice."""

import asyncio
import hashlib
import hmac
import sys
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import prometheus_client
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

import flawmap
from flawmap.deploy.answers import (
    DetectionAnswer,
    ModelAnswer,
    Problem,
    ReviewAnswer,
    ReviewOrder,
    detection_answer,
    model_answer,
    picture_answer,
)
from flawmap.deploy.inspection_page import add_page
from flawmap.deploy.opened_model import OpenedModel
from flawmap.deploy.reviews import ReviewFile, review_of
from flawmap.deploy.server_metrics import ServerMetrics
from flawmap.deploy.upload_limits import RETRY_AFTER_SECONDS, UploadLimits
from flawmap.deploy.work_queue import QueueFullError, Scored, WorkQueue
from flawmap.errors import UserError

UPLOAD_PATH = "/v1/detect"
RAW_TYPES = ("application/octet-stream", "image/png", "image/jpeg", "image/bmp", "image/x-ms-bmp", "image/tiff")
FAILED = "the server failed; its log says why"
REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "no or a wrong token"},
    408: {"model": Problem, "description": "the body came too slowly"},
    413: {"model": Problem, "description": "the body is too large"},
    415: {"model": Problem, "description": "neither an image nor a form with one"},
    422: {"model": Problem, "description": "no readable image, or one with too many pixels"},
    503: {"model": Problem, "description": "too busy; Retry-After says when to ask again"},
}


@dataclass(frozen=True)
class ServerSettings:
    """Limits and places.

    Attributes:
        reviews: the file that verdicts of people go to.
        host: that the server listens on; only requests to this name or to localhost are answered.
        token: that clients must send as ``Authorization: Bearer TOKEN``; none when empty.
        max_bytes: of one upload.
        max_pixels: of one image.
        queue_size: uploads at a time, waiting and in work.
        batch_size: images that the model gets together.
        read_seconds: for one upload to arrive.
    """

    reviews: Path
    host: str = "127.0.0.1"
    token: str = ""
    max_bytes: int = 64_000_000
    max_pixels: int = 50_000_000
    queue_size: int = 16
    batch_size: int = 4
    read_seconds: float = 30.0


def create_app(model: OpenedModel, settings: ServerSettings, colours: list[str]) -> FastAPI:
    """The ASGI application.

    Args:
        model: is used by one thread of the application only.
        settings: limits and places.
        colours: of the map, from low to high, as ``#rrggbb``.
    """
    metrics = ServerMetrics()
    work = WorkQueue(model, settings.queue_size, settings.batch_size, settings.max_pixels)
    metrics.watch(work)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(work.close)  # what waits is answered first

    app = FastAPI(
        title="flawmap",
        version=flawmap.__version__,
        description="Says of an image whether something is wrong, and where.",
        docs_url=None,  # it would load scripts from elsewhere; /docs is a page of ours
        redoc_url=None,
        lifespan=lifespan,
    )
    reviews = ReviewFile(settings.reviews)
    _add_interface(app, model, settings, work, metrics, reviews)
    _add_health(app, work, metrics, settings.token)
    add_page(app, colours)
    _add_refusals(app)
    names = [settings.host, "localhost", "127.0.0.1", "[::1]"]
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["*"] if settings.host in ("0.0.0.0", "::") else names)
    app.add_middleware(
        UploadLimits,
        upload_path=UPLOAD_PATH,
        max_bytes=settings.max_bytes,
        places=settings.queue_size,
        read_seconds=settings.read_seconds,
        count=metrics.count_answer,
    )
    return app


def _add_interface(
    app: FastAPI,
    model: OpenedModel,
    settings: ServerSettings,
    work: WorkQueue,
    metrics: ServerMetrics,
    reviews: ReviewFile,
) -> None:
    guarded = [Depends(_token_check(settings.token))]

    @app.post(UPLOAD_PATH, response_model=DetectionAnswer, responses=REFUSALS, dependencies=guarded, **_UPLOAD_BODY)
    async def detect(
        request: Request, with_map: bool = False, with_attention: bool = False, with_picture: bool = False
    ) -> DetectionAnswer:
        """Score one image: the body is the image file itself, or a form with one file."""
        data = await _image_bytes(request)

        def answer_of(scored: Scored) -> DetectionAnswer:
            metrics.count_image(scored)
            picture = picture_answer(data, settings.max_pixels) if with_picture else None
            return detection_answer(scored, hashlib.sha256(data).hexdigest(), model.facts, with_map, picture)

        return await _answered(work, data, answer_of, with_attention)

    @app.get("/v1/model", response_model=ModelAnswer, dependencies=guarded)
    async def which_model() -> ModelAnswer:
        """Name, origin, thresholds and limits."""
        return model_answer(model.facts, settings.max_bytes, settings.max_pixels)

    @app.post("/v1/reviews", response_model=ReviewAnswer, dependencies=guarded, responses={409: {"model": Problem}})
    async def review(order: ReviewOrder) -> ReviewAnswer:
        """Write what a person says of a verdict to reviews.csv, which ``flawmap calibrate`` reads."""
        if order.model_id != model.facts.model_id:
            raise HTTPException(409, "this score is from another model; score the image again")
        written = review_of(**order.model_dump())
        await asyncio.to_thread(reviews.append, written)
        return ReviewAnswer(shown=written.shown, truth=written.truth)


_UPLOAD_BODY: dict[str, Any] = {
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
                "multipart/form-data": {
                    "schema": {"type": "object", "properties": {"image": {"type": "string", "format": "binary"}}}
                },
            },
        }
    }
}


async def _answered(
    work: WorkQueue, data: bytes, make: Callable[[Scored], DetectionAnswer], with_attention: bool
) -> DetectionAnswer:
    try:
        return await asyncio.wrap_future(work.submit(data, make, with_attention))
    except QueueFullError:
        headers = {"retry-after": str(RETRY_AFTER_SECONDS)}
        raise HTTPException(503, "too busy, or shutting down", headers) from None
    except UserError as error:
        raise HTTPException(422, error.problem) from error
    except Exception as error:  # a bug, or the machine's trouble: the log has it, the answer has not
        traceback.print_exception(error, file=sys.stderr)
        raise HTTPException(500, FAILED) from error


async def _image_bytes(request: Request) -> bytes:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type in RAW_TYPES:
        return await request.body()
    if content_type != "multipart/form-data":
        raise HTTPException(415, f"send {', '.join(RAW_TYPES[:4])}, or a form with one file")
    async with request.form(max_files=1, max_fields=8) as form:
        files = [value for value in form.values() if isinstance(value, UploadFile)]
        if not files:
            raise HTTPException(422, "the form has no file")
        if files[0].content_type and files[0].content_type.lower() not in RAW_TYPES:
            raise HTTPException(415, f"the form's file is none of {', '.join(RAW_TYPES)}")
        return await files[0].read()


def _token_check(token: str) -> Any:
    expected = f"Bearer {token}".encode()

    async def check(request: Request) -> None:
        given = request.headers.get("authorization", "").encode()
        if token and not hmac.compare_digest(given, expected):
            raise HTTPException(401, "this server wants a token", {"www-authenticate": "Bearer"})

    return check


def _add_health(app: FastAPI, work: WorkQueue, metrics: ServerMetrics, token: str) -> None:
    @app.get("/healthz", response_model=dict[str, str])
    async def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.get("/readyz", response_model=dict[str, str], responses={503: {"model": Problem}})
    async def readyz() -> dict[str, str]:
        """Images are taken."""
        if not work.is_open:
            raise HTTPException(503, "shutting down")
        return {"status": "ready"}

    @app.get("/metrics", response_class=Response, dependencies=[Depends(_token_check(token))])
    async def numbers() -> Response:
        """Counters for Prometheus."""
        return Response(metrics.as_text(), media_type=prometheus_client.CONTENT_TYPE_LATEST)


def _add_refusals(app: FastAPI) -> None:
    """Every refusal of ours is ``{"error": ...}``; nothing of the machine, no path and no traceback, is in any.

    A wrong Host is refused by starlette, in plain text.
    """

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return JSONResponse({"error": f"{where}: {first['msg']}"}, 422)

    @app.exception_handler(Exception)
    async def broken(_: Request, __: Exception) -> JSONResponse:
        return JSONResponse({"error": FAILED}, 500)  # uvicorn writes it to the log

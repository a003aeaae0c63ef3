"""The inspection server: HTTP in front of one model. It never opens a path that a client chose."""

import asyncio
import errno
import hashlib
import hmac
import socket
import sqlite3
import sys
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

import flawmap
from flawmap.deploy.answers import (
    DetectionAnswer,
    ModelAnswer,
    Problem,
    ReadinessAnswer,
    detection_answer,
    model_answer,
    picture_answer,
    readiness_answer,
    thumbnail_of,
)
from flawmap.deploy.asked_thresholds import facts_asked, refuse_unknown_parameters
from flawmap.deploy.current_model import CurrentModel
from flawmap.deploy.inspection_page import add_page
from flawmap.deploy.line_record import LineRecord
from flawmap.deploy.line_routes import add_line
from flawmap.deploy.line_watch import LineWatch
from flawmap.deploy.model_health import FailedModelError
from flawmap.deploy.opened_model import OpenedModel
from flawmap.deploy.review_routes import add_reviews, add_session
from flawmap.deploy.reviews import ReviewFile
from flawmap.deploy.rolling_change import RollingChange
from flawmap.deploy.server_metrics import ServerMetrics
from flawmap.deploy.session import GivenScore, Session
from flawmap.deploy.threshold_choice import ThresholdChoice
from flawmap.deploy.upload import UPLOAD_CONTENT, Upload, uploaded
from flawmap.deploy.upload_limits import UploadLimits
from flawmap.deploy.work_queue import Scored, WorkQueue
from flawmap.detect.detection import NotScoredError
from flawmap.drawing.colour import colour_table
from flawmap.errors import UserError

UPLOAD_PATH = "/v1/detect"
FAILED = "the server failed; its log says why"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
SESSION_SUFFIX = ".session.sqlite"
TOKEN_VARIABLE = "FLAWMAP_TOKEN"
REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "the form is malformed, or has more than a file and a few fields"},
    401: {"model": Problem, "description": "the token is missing or wrong"},
    408: {"model": Problem, "description": "the body arrived too slowly"},
    413: {"model": Problem, "description": "the body is too large"},
    415: {"model": Problem, "description": "neither an image nor a form with one"},
    422: {"model": Problem, "description": "not a readable image, one with too many pixels, or a wrong parameter"},
    500: {"model": Problem, "description": "the server or its model failed; there is no verdict on the image"},
    503: {"model": Problem, "description": "too busy; Retry-After says when to try again"},
}


@dataclass(frozen=True)
class ServerSettings:
    """Address, files and limits.

    Attributes:
        reviews: the file that people's reviews are appended to; the page's session lies beside it.
        host: the name or address to listen on; only requests to it or to localhost are answered.
        token: clients must send it as ``Authorization: Bearer TOKEN``; none is needed when empty.
        max_bytes: of one upload.
        max_pixels: of one image.
        queue_size: simultaneous uploads, waiting and in work.
        batch_size: images that are handed to the model together; more where more share a pass on an accelerator.
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


def serve(
    model: OpenedModel,
    settings: ServerSettings,
    port: int,
    source: Path | None = None,
    choice: ThresholdChoice | None = None,
    open_again: Callable[[], OpenedModel] | None = None,
) -> None:
    """Serve until interrupted; requests in progress are then finished.

    Args:
        model: used by one thread only.
        settings: address, files and limits; see :func:`refuse_address` for which addresses are possible.
        port: to listen on.
        source: the path of the model, whose thresholds are followed.
        choice: of the thresholds, as the model was opened with.
        open_again: see :func:`create_app`.
    """
    uvicorn.run(
        create_app(model, settings, source, choice, open_again),
        host=settings.host,
        port=port,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=30,
    )


def refuse_address(host: str, port: int, token: str) -> None:
    """Check an address before a model is loaded; uvicorn reports a port that is taken in the meantime.

    Raises:
        UserError: the server cannot listen there, or must not without a token.
    """
    if host not in LOOPBACK and not token:
        raise UserError(
            f"--host {host} lets other machines in, and there is no token",
            "--host",
            f"{TOKEN_VARIABLE}=SECRET flawmap serve ..., or leave --host out",
        )
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as uvicorn does
            probe.bind(address)
    except PermissionError as error:
        raise UserError(f"port {port} is reserved for the administrator", "--port", "--port 8321") from error
    except UnicodeError as error:  # for example "a..b"
        raise UserError(f"{host!r} is not a host name", "--host", "leave --host out") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            remedy = f"--port {port + 1 if port < 65535 else 8321}, or stop the program that uses it"
            raise UserError(f"port {port} of {host} is taken", "--port", remedy) from error
        raise UserError(f"this machine has no address {host}", "--host", "leave --host out") from error


def create_app(
    model: OpenedModel,
    settings: ServerSettings,
    source: Path | None = None,
    choice: ThresholdChoice | None = None,
    open_again: Callable[[], OpenedModel] | None = None,
) -> FastAPI:
    """The ASGI application.

    Args:
        model: used by one thread of the application only.
        settings: files and limits.
        source: the path of the model, whose thresholds are followed; None for one that is nowhere on disk.
        choice: see :class:`CurrentModel`.
        open_again: opens the model at ``source`` as it is then, to take over from the one in use; None goes on with
            the first one.
    """
    current = CurrentModel(model, source, choice)
    session = Session(settings.reviews.with_suffix(SESSION_SUFFIX))
    line = LineWatch(LineRecord(session.path), source)
    work = WorkQueue(current, max(settings.batch_size, current.batch_size), settings.max_pixels)
    metrics = ServerMetrics(work, line)
    change = RollingChange(current, work, open_again) if open_again else None

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if change:
            change.start()
        yield
        if change:
            change.close()
        await asyncio.to_thread(work.close)  # answers waiting requests first
        line.close()
        session.close()

    app = FastAPI(
        title="flawmap",
        version=flawmap.__version__,
        description="Tells whether an image shows a defect, and where.",
        docs_url=None,  # FastAPI's page would load scripts from elsewhere; add_page serves its own /docs
        redoc_url=None,
        lifespan=lifespan,
    )
    _add_interface(app, current, settings, work, metrics, session, line)
    _add_records(app, current, settings, session, line)
    _add_health(app, current, work, metrics, settings.token)
    add_page(app, ["#{:02x}{:02x}{:02x}".format(*colour) for colour in colour_table().tolist()])
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
    model: CurrentModel,
    settings: ServerSettings,
    work: WorkQueue,
    metrics: ServerMetrics,
    session: Session,
    line: LineWatch,
) -> None:
    @app.post(
        UPLOAD_PATH,
        responses=REFUSALS,
        dependencies=[Depends(_token_check(settings.token)), Depends(refuse_unknown_parameters)],
        openapi_extra={"requestBody": {"required": True, "content": UPLOAD_CONTENT}},
    )
    async def detect(
        request: Request,
        with_map: bool = False,
        with_attention: bool = False,
        with_picture: bool = False,
        in_session: bool = False,
        false_alarm_rate: Annotated[float | None, Query(gt=0, lt=1, description="for a trial: 0.01 is 1 %")] = None,
        camera: Annotated[
            str | None, Query(max_length=64, description="whose threshold and region of interest; see /v1/drift")
        ] = None,
        product: Annotated[str | None, Query(max_length=64, description="found by likeness where not named")] = None,
    ) -> DetectionAnswer:
        """Score one image: the body is the image file itself, or a form with one file.

        The page asks to keep the file in its session, so that it can show it again after a reload. With a false-alarm
        rate, this one answer is by the thresholds that the model's good images set for it.
        """
        facts_asked(model, product, camera, false_alarm_rate)  # refuses what cannot be had before the image is read
        upload, is_trial = await uploaded(request), false_alarm_rate is not None

        def answer_of(scored: Scored) -> DetectionAnswer:
            metrics.count_image(scored)
            asked = facts_asked(model, product, camera, false_alarm_rate)  # of the model that scored it
            facts, is_tolerated = asked or model.facts_of_batch, scored.detection.is_tolerated
            if asked and asked.calibration:
                scored = replace(scored, detection=(again := asked.judging.verdict(scored.detection)))
                is_tolerated = is_tolerated if is_trial else again.is_tolerated
            picture = picture_answer(upload.data, settings.max_pixels) if with_picture else None
            is_kept = in_session and not is_trial  # the page shows verdicts of the model, and no trials
            thumbnail = thumbnail_of(scored.pixels) if is_kept else None
            sha256 = hashlib.sha256(upload.data).hexdigest()
            answer = detection_answer(scored, sha256, facts, with_map, picture, thumbnail)
            _keep(session, answer, is_tolerated, upload if is_kept else None)
            if is_trial:
                return answer
            metrics.count_drifts(facts.camera, line.see(scored, sha256, upload.name, facts))
            return answer.model_copy(update={"drift": list(line.of(facts).warnings)})

        try:
            return await _answered(work, upload.data, answer_of, with_attention, camera)
        except NotScoredError as error:  # the image is readable: the fault is the model's
            metrics.count_not_scored()
            raise HTTPException(500, error.problem) from error


def _add_records(
    app: FastAPI, model: CurrentModel, settings: ServerSettings, session: Session, line: LineWatch
) -> None:
    """The model, and what the server remembers."""
    guarded = [Depends(_token_check(settings.token))]
    add_session(app, session, line, guarded)
    add_reviews(app, session, ReviewFile(settings.reviews), line, lambda: model.facts, guarded)
    add_line(app, line, lambda: model.facts, guarded)

    @app.get("/v1/model", dependencies=guarded)
    async def which_model() -> ModelAnswer:
        """Name, origin, thresholds and limits; and whether all of it is what lies on disk now."""
        model.refresh()
        return model_answer(model, settings.max_bytes, settings.max_pixels)


async def _answered(
    work: WorkQueue,
    data: bytes,
    make: Callable[[Scored], DetectionAnswer],
    with_attention: bool,
    camera: str | None,
) -> DetectionAnswer:
    try:
        return await asyncio.wrap_future(work.submit(data, make, with_attention, camera))
    except NotScoredError:
        raise
    except FailedModelError as error:
        raise HTTPException(500, str(error)) from error
    except HTTPException:  # a model that has just taken over has no threshold for this camera
        raise
    except UserError as error:
        raise HTTPException(422, error.problem) from error
    except Exception as error:  # a bug or a fault of the machine: details go to the log only
        traceback.print_exception(error, file=sys.stderr)
        raise HTTPException(500, FAILED) from error


def _keep(session: Session, answer: DetectionAnswer, is_tolerated: bool, upload: Upload | None) -> None:
    """Note the score, and the upload if it is the page's. A full disk costs the session, not the answer."""
    try:
        session.remember(answer.sha256, answer.model_id, GivenScore(answer.score, answer.map_peak, is_tolerated))
        if upload is not None:
            pictures = ("map_png", "inside_png", "attention_png", "picture")
            without_pictures = answer.model_copy(update=dict.fromkeys(pictures))
            session.show(answer.sha256, upload.name, without_pictures.model_dump_json(), upload.data)
    except sqlite3.Error as error:
        print(f"note       the session cannot be written: {error}", file=sys.stderr)


def _token_check(token: str) -> Any:
    expected = f"Bearer {token}".encode()

    async def check(request: Request) -> None:
        given = request.headers.get("authorization", "").encode()
        if token and not hmac.compare_digest(given, expected):
            raise HTTPException(401, "this server needs a token", {"www-authenticate": "Bearer"})

    return check


def _add_health(app: FastAPI, model: CurrentModel, work: WorkQueue, metrics: ServerMetrics, token: str) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process is alive; whether its verdicts can be trusted, /readyz says."""
        return {"status": "ok"}

    @app.get("/readyz", responses={503: {"model": ReadinessAnswer, "description": "verdicts cannot be trusted"}})
    async def readyz(response: Response) -> ReadinessAnswer:
        """Whether verdicts can be trusted: the self-test image got the score that the model carries, and no image got
        a score that is not finite.
        """
        readiness = work.health.readiness
        response.status_code = 200 if readiness.is_ready else 503
        return readiness_answer(readiness, model.facts)

    @app.get("/metrics", response_class=Response, dependencies=[Depends(_token_check(token))])
    async def numbers() -> Response:
        """Counters for Prometheus."""
        return Response(metrics.as_text(), media_type=CONTENT_TYPE_LATEST)


def _add_refusals(app: FastAPI) -> None:
    """Refuse with ``{"error": ...}``, without paths, tracebacks or other details of the machine.

    A wrong Host is refused by Starlette, in plain text.
    """

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return JSONResponse({"error": f"{place}: {first['msg']}"}, 422)

    @app.exception_handler(Exception)
    async def broken(_: Request, __: Exception) -> JSONResponse:
        return JSONResponse({"error": FAILED}, 500)  # uvicorn writes it to the log

"""The studio's addresses. Whatever they are asked for, they read and write inside the studio's folder only."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import Body, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

import flawmap
from flawmap.data.left_out import as_records
from flawmap.data.part_names import MAX_NAME_LENGTH
from flawmap.deploy.inspection_page import FOLDER as INSPECTION_PAGE
from flawmap.deploy.inspection_page import MEDIA_TYPES
from flawmap.errors import UserError
from flawmap_studio.guard import Entrance, Guard
from flawmap_studio.image_list import Label, Use
from flawmap_studio.jobs import Job, Order
from flawmap_studio.models import (
    CalibrationWish,
    CameraWish,
    ExportWish,
    ModelWish,
    TestWish,
    UpdateWish,
    download,
    models,
    order_calibration,
    order_evaluation,
    order_export,
    order_report,
    order_test,
    order_undo,
    order_undo_calibration,
    order_update,
    run_of,
)
from flawmap_studio.region import keep_region, region
from flawmap_studio.results import overlay, result, results
from flawmap_studio.reviewing import ReviewWish, review, undo_review
from flawmap_studio.studio import Studio
from flawmap_studio.training import CheckWish, TrainingWish, check_order, training_order
from flawmap_studio.uploads import receive

PAGE = Path(__file__).parent / "page"
LOOK = INSPECTION_PAGE / "look.css"  # colours, letters and controls, as on the inspection page
SEE_TERMINAL = "look at what the terminal says, and report it"
KEPT = "private, max-age=31536000, immutable"  # the address of a thumbnail has the image's version in it
# The report's scripts are inline; in a sandbox they have no origin, and so neither the cookie nor these addresses.
REPORT_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; sandbox allow-scripts"
)
ORDERS: dict[str, tuple[type[BaseModel], Callable[[Studio, Any], Order]]] = {
    "check": (CheckWish, check_order),
    "train": (TrainingWish, training_order),
    "test": (TestWish, order_test),
    "evaluate": (ModelWish, order_evaluation),
    "update": (UpdateWish, order_update),
    "undo": (ModelWish, order_undo),
    "calibrate": (CalibrationWish, order_calibration),
    "undo-calibration": (CameraWish, order_undo_calibration),
    "export": (ExportWish, order_export),
    "report": (ModelWish, order_report),
}
Name = Annotated[str, Query(max_length=1000)]
Camera = Annotated[str | None, Query(max_length=MAX_NAME_LENGTH)]


class LabelWish(BaseModel):
    """What images are, and what they are used for; None keeps it."""

    model_config = ConfigDict(extra="forbid")

    paths: list[str] = Field(max_length=100_000)
    label: Label | None = None
    use: Use | None = None


class FolderWish(BaseModel):
    """Which camera took the images of a folder; empty: nobody knows."""

    model_config = ConfigDict(extra="forbid")

    folder: str = Field(max_length=1000)
    camera: str = Field("", max_length=MAX_NAME_LENGTH)


def create_app(studio: Studio, entrance: Entrance) -> FastAPI:
    """The ASGI application of an open studio.

    Args:
        studio: inside its ``with`` block.
        entrance: the token and the cookie of this start.
    """
    app = FastAPI(title="flawmap studio", version=flawmap.__version__, docs_url=None, redoc_url=None, openapi_url=None)
    _add_images(app, studio)
    _add_jobs(app, studio)
    _add_findings(app, studio)
    open_paths = _add_page(app)
    _add_refusals(app)
    app.add_middleware(Guard, entrance=entrance, open_paths=frozenset(open_paths))
    return app


def _add_page(app: FastAPI) -> list[str]:
    paths = []
    for file in (*sorted(PAGE.iterdir()), LOOK):
        path = "/" if file.name == "index.html" else f"/page/{file.name}"
        paths.append(path)

        def serve(_: Request, file: Path = file) -> Response:
            return FileResponse(file, media_type=MEDIA_TYPES[file.suffix], headers={"cache-control": "no-cache"})

        app.add_route(path, serve, include_in_schema=False)
    return paths


def _add_images(app: FastAPI, studio: Studio) -> None:
    @app.get("/api/images")
    def images(scan: bool = False) -> Response:
        """Every image, in short rows: there may be many thousands, so nothing looks at each of them again."""
        if scan:
            studio.images.scan()
        rows = [[one.path, one.label, one.use, one.mtime_ns // 1000] for one in studio.images.all()]
        left_out = as_records(studio.images.left_out)
        cameras = studio.images.cameras
        content = {"folder": str(studio.place.root), "images": rows, "left_out": left_out, "cameras": cameras}
        return Response(json.dumps(content), media_type="application/json")

    @app.put("/api/images")
    async def upload(request: Request, name: Name, use: Use, label: Label = "") -> dict[str, str]:
        """Write one image; the body is the file."""
        path, outcome = await receive(studio.place, name, request.stream())
        if outcome == "added":
            await asyncio.to_thread(studio.images.add, path, use, label)
        return {"path": studio.place.relative(path), "outcome": outcome}

    @app.post("/api/labels")
    def label(wish: LabelWish) -> dict[str, int]:
        """Say what images are."""
        studio.images.label(wish.paths, wish.label, wish.use)
        return {"changed": len(wish.paths)}

    @app.post("/api/camera")
    def camera(wish: FolderWish) -> dict[str, dict[str, str]]:
        """Say which camera took the images of a folder."""
        studio.images.name_camera(wish.folder, wish.camera or None)
        return {"cameras": studio.images.cameras}

    @app.get("/api/thumbnail")
    def thumbnail(path: Name) -> Response:
        """A small picture of an image."""
        content = studio.pictures.thumbnail(studio.images.of(path))
        return Response(content, media_type="image/jpeg", headers={"cache-control": KEPT})

    @app.get("/api/image")
    def image(path: Name) -> Response:
        """A large picture of an image."""
        content = studio.pictures.large(studio.images.of(path))
        return Response(content, media_type="image/jpeg")

    @app.get("/api/size")
    def size(path: Name) -> dict[str, int]:
        """Width and height of an image, in pixels."""
        width, height = studio.pictures.size_px(studio.images.of(path))
        return {"width_px": width, "height_px": height}

    @app.get("/api/region")
    def drawn_region(camera: Camera = None) -> dict[str, Any]:
        """The region of interest of a camera's images, or of all others; null where nothing was drawn."""
        return {"region": region(studio.state, camera)}

    @app.put("/api/region")
    def draw_region(drawn: Annotated[dict[str, Any] | None, Body()] = None, camera: Camera = None) -> dict[str, Any]:
        """Keep the region of interest of a camera's images, or of all others, and say how much of an image it is."""
        found = keep_region(studio.state, drawn, camera)
        return {"share": found.share if found else 1.0}


def _add_jobs(app: FastAPI, studio: Studio) -> None:
    def ordered(kind: str, wish: dict[str, Any]) -> Order:
        if kind not in ORDERS:
            raise UserError("the studio knows no such action", kind, f"known are: {', '.join(ORDERS)}")
        form, order_of = ORDERS[kind]
        return order_of(studio, form.model_validate(wish))

    @app.post("/api/plan/{kind}")
    def plan(kind: str, wish: Annotated[dict[str, Any], Body()]) -> dict[str, Any]:
        """The command of an action, what to know about it, or why it is refused. Nothing is done."""
        try:
            order = ordered(kind, wish)
        except UserError as error:
            return {"command": None, "advice": [], "refused": _as_json(error)}
        except ValidationError as error:
            return {"command": None, "advice": [], "refused": _malformed(error)}
        return {"command": order.command, "advice": list(order.advice), "refused": None}

    @app.post("/api/jobs/{kind}")
    def start(kind: str, wish: Annotated[dict[str, Any], Body()]) -> dict[str, Any]:
        """Run the command of an action."""
        return _job(studio.jobs.start(ordered(kind, wish)))

    @app.get("/api/jobs")
    def jobs() -> dict[str, Any]:
        """The last jobs, newest first."""
        return {"jobs": [_job(job) for job in studio.jobs.recent()]}

    @app.post("/api/cancel/{number}")
    def cancel(number: int) -> dict[str, Any]:
        """Ask a job to stop."""
        studio.jobs.cancel(number)
        return _job(studio.jobs.of(number))


def _add_findings(app: FastAPI, studio: Studio) -> None:
    @app.get("/api/models")
    def all_models() -> dict[str, Any]:
        """All trained models."""
        return models(studio)

    @app.get("/api/results")
    def all_results() -> dict[str, Any]:
        """All tests."""
        return {"results": results(studio)}

    @app.get("/api/result")
    def one_result(name: Name) -> dict[str, Any]:
        """One test with its verdicts."""
        return result(studio, name)

    @app.get("/api/overlay")
    def picture(name: Name, path: Name) -> Response:
        """The picture with map and verdict of an image of a test."""
        return FileResponse(overlay(studio, name, path), media_type="image/png")

    @app.post("/api/reviews")
    def keep_review(wish: ReviewWish) -> dict[str, str]:
        """Keep a review."""
        review(studio, wish)
        return {"path": wish.path}

    @app.delete("/api/reviews")
    def take_back(result: Name) -> dict[str, str | None]:
        """Take back the last review of a test."""
        return {"path": undo_review(studio, result)}

    @app.get("/api/download")
    def file(path: Name) -> Response:
        """An exported model."""
        found = download(studio, path)
        return FileResponse(found, filename=found.name, media_type="application/octet-stream")

    @app.get("/api/report")
    def report(run: Name) -> Response:
        """The report of a run."""
        path = studio.place.existing(f"{run_of(studio, run)}/report.html")
        return FileResponse(path, media_type="text/html", headers={"content-security-policy": REPORT_POLICY})


def _job(job: Job) -> dict[str, Any]:
    return asdict(job)


def _add_refusals(app: FastAPI) -> None:
    """Errors have the three parts that they have on the command line."""

    def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, UserError)
        return JSONResponse(_as_json(error), 422)

    def malformed(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError | ValidationError)
        return JSONResponse(_malformed(error), 422)

    def failed(_: Request, error: Exception) -> Response:
        """A bug; Starlette prints where."""
        problem = {"problem": f"the studio failed: {type(error).__name__}", "place": "", "remedy": SEE_TERMINAL}
        return JSONResponse(problem, 500)

    app.add_exception_handler(Exception, failed)
    app.add_exception_handler(UserError, refused)
    app.add_exception_handler(RequestValidationError, malformed)
    app.add_exception_handler(ValidationError, malformed)


def _as_json(error: UserError) -> dict[str, str]:
    return {"problem": error.problem, "place": error.place, "remedy": error.remedy}


def _malformed(error: RequestValidationError | ValidationError) -> dict[str, str]:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part not in ("body", "query"))
    return {"problem": first["msg"], "place": place, "remedy": "correct the value"}

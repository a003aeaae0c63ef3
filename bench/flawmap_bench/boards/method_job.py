"""One method with one seed in its own process: good images in, a score and a map per image out.

The process knows paths of the test images and nothing else about them: no label, no mask, no kind. It writes into its
folder: ``fit.json`` after training, ``scored/NUMBER.npz`` as it goes, ``done.json`` last.
"""

import json
import os
import random
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flawmap.data.images.files import read_image
from flawmap.data.sample import NormalImage
from flawmap.engine.compute import DeviceName
from flawmap.errors import UserError
from flawmap.reproducibility import atomic_write_text
from flawmap_bench.method import CalibratedMethod, Method, MethodSettings, PlannedMethod
from flawmap_bench.methods import build_method

JOB, FITTED, DONE, FAILED, SCORED = "job.json", "fit.json", "done.json", "failed.json", "scored"


@dataclass(frozen=True)
class MethodJob:
    """What a process is to do.

    Attributes:
        method: its name.
        seed: of everything random.
        image_size_px: see :class:`flawmap_bench.method.MethodSettings`.
        budget_seconds: of training.
        max_steps: for tests.
        overrides: of a recipe.
        device: to compute on.
        good: key, path and group of each image to learn from.
        to_score: paths of the images to score, in the order of the results.
        content: what else determines the result: the data's hash, the recipe, the version of the algorithm.
        with_threshold: see :class:`flawmap_bench.method.MethodSettings`.
    """

    method: str
    seed: int
    image_size_px: int
    budget_seconds: float | None
    max_steps: int | None
    overrides: tuple[str, ...]
    device: DeviceName
    good: tuple[tuple[str, str, str | None], ...]
    to_score: tuple[str, ...]
    content: str = ""
    with_threshold: bool = False


def write_job(folder: Path, job: MethodJob) -> None:
    """Write ``job.json``; the folder exists."""
    atomic_write_text(folder / JOB, json.dumps(asdict(job), indent=1))


def read_job(folder: Path) -> MethodJob:
    """What :func:`write_job` wrote."""
    content = json.loads((folder / JOB).read_text(encoding="utf-8"))
    lists = {
        "overrides": tuple(content["overrides"]),
        "good": tuple((key, path, group) for key, path, group in content["good"]),
        "to_score": tuple(content["to_score"]),
    }
    return MethodJob(**content | lists)


def run_job(folder: Path) -> None:
    """Fit and score; see the module.

    Raises:
        UserError: the method cannot be built, does not learn, or gives a score that is not a number.
    """
    job = read_job(folder)
    settings = MethodSettings(
        job.seed, job.image_size_px, job.budget_seconds, job.device, job.max_steps, job.overrides, job.with_threshold
    )
    random.seed(job.seed)  # for libraries that draw from the global generators; ours are explicit
    np.random.seed(job.seed)
    torch.manual_seed(job.seed)
    method = build_method(job.method, settings)
    images = [NormalImage(key, Path(path), group=group) for key, path, group in job.good]
    if isinstance(method, PlannedMethod):
        method.plan(images)
    started, busy = time.monotonic(), processor_seconds()
    method.fit(images)
    fitted = {
        "train_seconds": time.monotonic() - started,
        "train_processor_seconds": processor_seconds() - busy,
        "parameters": method.num_parameters(),
        "note": method.note,
    }
    atomic_write_text(folder / FITTED, json.dumps(fitted))
    (folder / SCORED).mkdir(exist_ok=True)
    seconds = busy = 0.0
    for number, path in enumerate(job.to_score):
        wall, processor = _score_one(method, path, folder / SCORED / f"{number:05d}.npz", job.method)
        seconds, busy = seconds + wall, busy + processor
    done = fitted | {
        "good_scores": list(method.good_scores) if isinstance(method, CalibratedMethod) else [],
        "map_threshold": method.map_threshold if isinstance(method, CalibratedMethod) else None,
        "seconds_per_image": seconds / max(1, len(job.to_score)),
        "processor_seconds_per_image": busy / max(1, len(job.to_score)),
        "peak_memory_mib": peak_memory_mib(),
        "device": settings.compute.device,
        "precision": settings.compute.precision,
        "threads": torch.get_num_threads(),
    }
    atomic_write_text(folder / DONE, json.dumps(done, indent=2))


def _score_one(method: Method, path: str, target: Path, name: str) -> tuple[float, float]:
    """Score one image and write the result; returns the seconds that scoring took, and those of processors."""
    pixels = read_image(path)
    started, busy = time.perf_counter(), time.process_time()
    scored = method.score(pixels)
    seconds = time.perf_counter() - started, time.process_time() - busy
    anomaly_map = scored.anomaly_map
    if not np.isfinite(scored.image_score) or (anomaly_map is not None and not np.isfinite(anomaly_map).all()):
        raise UserError(f"{name} gives a score that is not a number", path, "see its log; try another seed")
    content: dict[str, Any] = {"image_score": np.float64(scored.image_score)}
    if anomaly_map is not None:
        content["anomaly_map"] = anomaly_map.astype(np.float32)
    with target.open("wb") as file:
        np.savez(file, **content)
    return seconds


def processor_seconds() -> float:
    """Processor time of all threads of this process so far, and of the processes that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def peak_memory_mib() -> float | None:
    """The peak memory of this process, on the accelerator where it used one; None where it is not counted."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0:
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def main(folder: Path) -> int:
    """The process: 0, or 1 with the reason in ``failed.json``."""
    end_with_parent()
    try:
        run_job(folder)
    except UserError as error:
        atomic_write_text(folder / FAILED, json.dumps({"reason": error.problem}))
        print(error, file=sys.stderr)
        return 1
    except Exception as error:
        atomic_write_text(folder / FAILED, json.dumps({"reason": f"{type(error).__name__}: {error}"}))
        raise
    return 0


def end_with_parent() -> None:
    """From now on, end this process when its parent ends, even by a kill: standard input is closed then."""

    def wait() -> None:
        while os.read(0, 1):  # not sys.stdin: at its end the interpreter would wait for the buffer's lock
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

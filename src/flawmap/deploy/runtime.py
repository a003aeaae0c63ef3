"""Runs an exported file: Pillow resizes, the graph does the rest. No torch for ONNX and OpenVINO files."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flawmap.data.images.files import read_image, to_rgb
from flawmap.data.images.resize import resize_image
from flawmap.detect.detection import Detection
from flawmap.detect.model_facts import METADATA_KEY, ModelFacts, facts_of
from flawmap.detect.regions import find_regions
from flawmap.errors import UserError

# squares by size and the original (height, width) -> score, is_anomalous, anomaly_map, scores
LONGEST_REASON = 120  # characters
RunGraph = Callable[[list[NDArray[np.uint8]], NDArray[np.int64]], list[Any]]


class ExportedModel:
    """An exported detector: :meth:`predict` answers as ``AnomalyDetector.predict`` does.

    Attributes:
        facts: name, origin, sizes, thresholds.
    """

    def __init__(self, facts: ModelFacts, run_graph: RunGraph) -> None:
        self.facts = facts
        self._run_graph = run_graph

    def predict(self, image: str | Path | Image.Image | NDArray) -> Detection:
        """The verdict on one image.

        Args:
            image: a path, a PIL image, or an array as ``flawmap.data.images.files.to_rgb`` takes it.

        Raises:
            UserError: a file or array is no image.
        """
        pixels = read_image(image) if isinstance(image, str | Path) else to_rgb(image)
        squares = [np.array(resize_image(pixels, size, size))[None] for size in self.facts.sizes_px]
        score, is_anomalous, anomaly_map, scores = self._run_graph(squares, np.array(pixels.shape[:2], np.int64))
        calibration = self.facts.calibration
        return Detection(
            score=float(score),
            is_anomalous=bool(is_anomalous),
            threshold=calibration.threshold if calibration else None,
            anomaly_map=anomaly_map,
            regions=find_regions(anomaly_map, calibration.map_threshold) if calibration else (),
            scores={name: float(value) for name, value in zip(self.facts.score_names, scores, strict=True)},
        )


def load(path: str | Path, threads: int | None = None) -> ExportedModel:
    """Load a file that ``flawmap export`` wrote: .onnx, .xml (OpenVINO) or .torchscript.

    Args:
        path: of the file.
        threads: of the runtime, for one image; all cores when None.

    Raises:
        UserError: there is no such file, it is damaged, it is not ours, or its runtime is not installed.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError("this is a folder, not an exported file", str(path), "flawmap export RUN --to onnx")
    if not path.is_file():
        raise UserError(f"no such file: {path}  (you are in {Path.cwd()})", "", "flawmap export RUN --to onnx")
    loaders = {".onnx": _load_onnx, ".xml": _load_openvino, ".torchscript": _load_torchscript}
    if path.suffix not in loaders:
        raise UserError("an exported model ends in .onnx, .xml or .torchscript", str(path), "flawmap export RUN")
    try:
        text, run_graph = loaders[path.suffix](path, threads or os.cpu_count() or 1)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        raise UserError(
            f"{package} is not installed, which runs {path.suffix}", str(path), _install(package)
        ) from error
    except Exception as error:  # each runtime has its own errors for a damaged file
        problem = f"the file cannot be loaded: it is damaged, or no {path.suffix} file ({_reason(error)})"
        raise UserError(problem, str(path), "copy it again, or export it again: flawmap export RUN") from error
    return ExportedModel(facts_of(text, str(path)), run_graph)


def _reason(error: Exception) -> str:
    """What a runtime says, in one line and without its own source files."""
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("Exception from")]
    first = (lines or [type(error).__name__])[0]
    return first if len(first) <= LONGEST_REASON else f"{first[:LONGEST_REASON]}..."


def _install(package: str) -> str:
    return {"torch": 'pip install "flawmap[train]"', "openvino": 'pip install "flawmap[export]"'}.get(
        package, f"pip install {package}"
    )


def _load_onnx(path: Path, threads: int) -> tuple[str | None, RunGraph]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # images have many sizes: an arena would keep the memory of the largest for each, and grow
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def run_graph(squares: list[NDArray[np.uint8]], size_px: NDArray[np.int64]) -> list[Any]:
        return list(session.run(None, dict(zip(names, [*squares, size_px], strict=True))))

    return session.get_modelmeta().custom_metadata_map.get(METADATA_KEY), run_graph


def _load_openvino(path: Path, threads: int) -> tuple[str | None, RunGraph]:
    import openvino

    with path.open("rb") as file:
        if b"<net" not in file.read(1024):  # openvino would try every other format that it knows, and print of each
            raise ValueError("it has no element <net>")
    model = openvino.Core().read_model(path)
    # fp32 also where the processor would be faster in bf16: a threshold must not depend on the machine
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.compile_model(model, "CPU", settings)

    def run_graph(squares: list[NDArray[np.uint8]], size_px: NDArray[np.int64]) -> list[Any]:
        found = compiled.create_infer_request().infer([*squares, size_px])  # a request of its own: threads may share
        return [np.array(found[output]) for output in compiled.outputs]

    has_facts = model.has_rt_info([METADATA_KEY])
    return str(model.get_rt_info([METADATA_KEY]).value) if has_facts else None, run_graph


def _load_torchscript(path: Path, threads: int) -> tuple[str | None, RunGraph]:
    import torch

    torch.set_num_threads(threads)
    extra = {METADATA_KEY: ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch would rather have torch.export
        module = torch.jit.load(path, map_location="cpu", _extra_files=extra)

    def run_graph(squares: list[NDArray[np.uint8]], size_px: NDArray[np.int64]) -> list[Any]:
        with torch.no_grad():
            found = module([torch.from_numpy(square) for square in squares], torch.from_numpy(size_px))
        return [tensor.numpy() for tensor in found]

    text: str | bytes = extra[METADATA_KEY]
    return text.decode() if isinstance(text, bytes) else text, run_graph

"""Run an exported file: Pillow resizes, the graph does the rest. ONNX and OpenVINO files need no torch."""

import warnings
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flawmap.advice import command, install
from flawmap.data.images.files import read_image
from flawmap.data.images.resize import resize_image
from flawmap.data.images.rgb import to_rgb
from flawmap.data.images.tiles import Tiling
from flawmap.data.roi import RegionOfInterest
from flawmap.data.similar_name import similar_beside
from flawmap.deploy.file_digest import COPY_OR_EXPORT_AGAIN, refuse_changed_file
from flawmap.deploy.threshold_choice import ThresholdChoice, facts_in_use
from flawmap.detect.detection import Detection
from flawmap.detect.model_facts import METADATA_KEY, ModelFacts, read_facts
from flawmap.engine.cores import usable_cores
from flawmap.errors import UserError
from flawmap.runs.threshold_names import threshold_name

EXTENSIONS = {"onnx": ".onnx", "openvino": ".xml", "torchscript": ".torchscript"}
EXTRAS = {"torch": "train", "openvino": "export"}  # that bring a package
MAX_REASON_LENGTH = 120  # characters of a runtime's own error message

# what is made of the images, in the order of the graph's inputs: squares (b, s, s, 3) per size, their patches inside
# (b, n) where cameras differ in them, of one square also tiles (t, s, s, 3) and their places (t, 2); and the original
# (height, width) -> score, is_anomalous, anomaly_map, scores, with an axis of images where the graph has one
RunGraph = Callable[[list[NDArray], NDArray[np.int64]], list[Any]]


class ExportedModel:
    """An exported detector, which gives the verdicts of ``AnomalyDetector.predict``. Several threads may use it.

    Attributes:
        facts: name, origin, sizes, thresholds.
        batch_size: the most images that share a run of the graph; only those of the same size do.
    """

    def __init__(self, facts: ModelFacts, run_graph: RunGraph, batch_size: int = 1) -> None:
        self.facts, self.batch_size = facts, batch_size
        self._run_graph = run_graph

    def predict(self, image: str | Path | Image.Image | NDArray, camera: str | None = None) -> Detection:
        """The verdict on one image, by the thresholds in use.

        Args:
            image: a path, a PIL image, or an array as ``flawmap.data.images.rgb.to_rgb`` takes it.
            camera: whose region of interest counts; None: that of the camera in use.

        Raises:
            UserError: a file or array is not an image, or there is no region of interest for the camera.
            NotScoredError: a score or the map is not finite, because the model is damaged.
        """
        pixels = read_image(image) if isinstance(image, str | Path) else to_rgb(image)
        rois = self.facts.rois_of([camera] if camera else None, 1)
        return self._predict_together([pixels], [image], rois)[0]

    def predict_many(
        self, images: Sequence[NDArray[np.uint8]], cameras: Sequence[str | None] | None = None
    ) -> list[Detection]:
        """The verdict on each image, uint8 (h, w, 3), in runs of ``batch_size`` consecutive images of one size.

        See :meth:`OpenedModel.predict_many`.
        """
        rois, found = self.facts.rois_of(cameras, len(images)), list[Detection]()
        for _, group in groupby(range(len(images)), key=lambda number: images[number].shape):
            of_one_size = list(group)
            for start in range(0, len(of_one_size), self.batch_size):
                batch = of_one_size[start : start + self.batch_size]
                chosen = [images[number] for number in batch]
                found += self._predict_together(chosen, chosen, rois and [rois[number] for number in batch])
        return found

    def _predict_together(
        self,
        images: Sequence[NDArray[np.uint8]],
        places: Sequence[str | Path | Image.Image | NDArray],
        rois: Sequence[RegionOfInterest] | None,
    ) -> list[Detection]:
        """The verdicts on images of one size, which are what errors call ``places``."""
        of_images = rois or [None] * len(images)
        images = [
            image if roi is None else roi.with_grey_outside(image) for image, roi in zip(images, of_images, strict=True)
        ]
        sides = self.facts.sizes_px
        inputs: list[NDArray] = [np.stack([resize_image(pixels, side, side) for pixels in images]) for side in sides]
        if rois and (patch_size_px := self.facts.patch_size_px):
            inputs += [_inside(rois, side // patch_size_px) for side in sides]
        if tiling := self.facts.tiling:
            inputs += _of_tiles(tiling, images[0], of_images[0])
        _, _, maps, values = self._run_graph(inputs, np.array(images[0].shape[:2], np.int64))
        if not self.facts.has_batch_axis:
            maps, values = maps[None], values[None]
        return [self._judged(*of_image) for of_image in zip(maps, values, places, of_images, strict=True)]

    def _judged(
        self,
        anomaly_map: NDArray[np.float32],
        values: NDArray[np.float32],
        place: str | Path | Image.Image | NDArray,
        roi: RegionOfInterest | None,
    ) -> Detection:
        scores = {name: float(value) for name, value in zip(self.facts.score_names, values, strict=True)}
        inside = None
        if roi is not None:  # the graph knows patches; here are pixels
            anomaly_map, inside = roi.only_inside(anomaly_map), roi.at(*anomaly_map.shape)
            scores["map_max"] = float(anomaly_map.max())
        return self.facts.judging.judge(scores, anomaly_map, inside, place)

    def with_facts(self, facts: ModelFacts) -> "ExportedModel":
        """The same model with other thresholds; this one keeps its own."""
        return ExportedModel(facts, self._run_graph, self.batch_size)

    def in_batches_of(self, batch_size: int) -> "ExportedModel":
        """The same model, of which up to ``batch_size`` images share a run; 1 is faster on a processor.

        Raises:
            UserError: the graph of the file takes one image at a time.
        """
        if batch_size > 1 and not self.facts.has_batch_axis:
            problem = "the graph of this file takes one image at a time"
            raise UserError(problem, f"batch_size={batch_size}", "leave batch_size at 1")
        return ExportedModel(self.facts, self._run_graph, batch_size)

    def attention(self, image: NDArray[np.uint8]) -> None:
        """None: an exported graph has no output for it."""
        return


def _inside(rois: Sequence[RegionOfInterest], side: int) -> NDArray[np.bool_]:
    """The patches (b, n) of square grids that count."""
    return np.stack([roi.patches((side, side)).ravel() for roi in rois])


def _of_tiles(tiling: Tiling, pixels: NDArray[np.uint8], roi: RegionOfInterest | None) -> list[NDArray]:
    """The graph's inputs of an image's tiles."""
    grid = tiling.grid(*pixels.shape[:2])
    inside = None if roi is None else roi.patches(grid)
    places = tiling.places(grid, inside)
    inputs: list[NDArray] = [tiling.tiles(pixels, inside=inside), np.array(places, np.int64)]
    if inside is not None:
        inputs += [np.stack([inside[tiling.where(place)].ravel() for place in places]), np.array(grid, np.int64)]
    return inputs


def is_exported(path: Path) -> bool:
    """Whether a path is that of an exported file, which need not exist, and not of a run or model folder."""
    return path.suffix in LOADERS and not path.is_dir()


def load(
    path: str | Path,
    threads: int | None = None,
    camera: str | None = None,
    at_once: int = 1,
    threshold: str | Path | None = None,
    false_alarm_rate: float | None = None,
    min_area_px: float = 0.0,
    product: str | None = None,
    batch_size: int = 1,
) -> ExportedModel:
    """Load a file that ``flawmap export`` wrote: .onnx, .xml (OpenVINO) or .torchscript.

    A threshold beside the file, NAME.threshold.json, comes before the one in it; ``flawmap calibrate FILE`` writes it.

    Args:
        path: of the file.
        threads: of the runtime, for one image; all cores when None.
        camera: whose thresholds are used; None takes the default ones. The file carries those of all cameras.
        at_once: images that will be scored at the same time, each by ``threads``; OpenVINO has to know.
        threshold: a threshold file to use instead.
        false_alarm_rate: that the thresholds are set for; None keeps the one that they were set for.
        min_area_px: regions with fewer pixels of the image are left out; an image that has no other is called good.
        product: that all images show; None finds that of each image by likeness, where the model knows several.
        batch_size: see :meth:`ExportedModel.in_batches_of`.

    Raises:
        UserError: the file does not exist, is damaged, has changed since its export or was not written by flawmap, its
            runtime is not installed, the camera has no thresholds, or a threshold file is of another model.
    """
    path = Path(path)
    file = None if threshold is None else Path(threshold)
    name = threshold_name(product, camera)
    choice = ThresholdChoice(name, file, false_alarm_rate, min_area_px)
    return load_with(path, choice, threads, at_once).in_batches_of(batch_size)


def load_with(path: Path, choice: ThresholdChoice, threads: int | None = None, at_once: int = 1) -> ExportedModel:
    """As :func:`load`, with thresholds as chosen."""
    facts, run_graph = _opened(path, threads, at_once)
    return ExportedModel(facts_in_use(facts, path, choice), run_graph)


def load_as_exported(path: Path, threads: int | None = None) -> ExportedModel:
    """As :func:`load`, with the default thresholds in the file, whatever lies beside it."""
    return ExportedModel(*_opened(path, threads, 1))


def _opened(path: Path, threads: int | None, at_once: int) -> tuple[ModelFacts, RunGraph]:
    if not path.is_file():
        problem = f"{path} is a folder, not an exported file" if path.is_dir() else f"no such file: {path}"
        near = None if path.exists() else similar_beside(path)
        hint = f"; {near} exists" if near else ""
        raise UserError(f"{problem}  (you are in {Path.cwd()}{hint})", "", "flawmap export RUN --to onnx")
    if path.suffix not in LOADERS:
        problem = f"this is not an exported model, whose extension is one of {', '.join(LOADERS)}"
        raise UserError(problem, str(path), "flawmap export RUN --to onnx")
    try:
        text, run_graph = LOADERS[path.suffix](path, threads or usable_cores(), at_once)
        facts = read_facts(text, str(path))
        refuse_changed_file(path, facts)
    except UserError:
        raise
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        remedy = install(EXTRAS[package]) if package in EXTRAS else command("pip", "install", package)
        raise UserError(f"running a {path.suffix} file needs {package}", str(path), remedy) from error
    except Exception as error:  # each runtime, and the reader of zip files, raises its own errors for a damaged file
        problem = f"the file cannot be loaded: it is damaged, or not a {path.suffix} file ({_reason(error)})"
        raise UserError(problem, str(path), COPY_OR_EXPORT_AGAIN) from error
    return facts, run_graph


def _reason(error: Exception) -> str:
    """A runtime's error message in one line, without its source files."""
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("Exception from")]
    first = (lines or [type(error).__name__])[0]
    return first if len(first) <= MAX_REASON_LENGTH else f"{first[:MAX_REASON_LENGTH]}..."


def _load_onnx(path: Path, threads: int, at_once: int) -> tuple[str | None, RunGraph]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # images have many sizes: an arena would keep the memory of the largest for each, and grow
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [graph_input.name for graph_input in session.get_inputs()]

    def run_graph(inputs: list[NDArray], size_px: NDArray[np.int64]) -> list[Any]:
        return list(session.run(None, dict(zip(names, [*inputs, size_px], strict=True))))

    return session.get_modelmeta().custom_metadata_map.get(METADATA_KEY), run_graph


def _load_openvino(path: Path, threads: int, at_once: int) -> tuple[str | None, RunGraph]:
    import openvino

    with path.open("rb") as file:
        if b"<net" not in file.read(1024):  # OpenVINO would try all its other formats, and print a message for each
            raise ValueError("it has no element <net>")
    model = openvino.Core().read_model(path)
    # fp32 even where the processor would be faster in bf16: a threshold must not depend on the machine
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    settings |= {"NUM_STREAMS": at_once, "INFERENCE_NUM_THREADS": threads * at_once}
    compiled = openvino.compile_model(model, "CPU", settings)

    def run_graph(inputs: list[NDArray], size_px: NDArray[np.int64]) -> list[Any]:
        request = compiled.create_infer_request()  # its own, because several threads may use the model
        results = request.infer([*inputs, size_px])
        return [np.array(results[output]) for output in compiled.outputs]

    has_facts = model.has_rt_info([METADATA_KEY])
    return str(model.get_rt_info([METADATA_KEY]).value) if has_facts else None, run_graph


def _load_torchscript(path: Path, threads: int, at_once: int) -> tuple[str | None, RunGraph]:
    import torch

    torch.set_num_threads(threads)
    extra = {METADATA_KEY: ""}
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # torch recommends torch.export instead
        module = torch.jit.load(path, map_location="cpu", _extra_files=extra)

    def run_graph(squares: list[NDArray], size_px: NDArray[np.int64]) -> list[Any]:
        with torch.no_grad():
            outputs = module([torch.from_numpy(square) for square in squares], torch.from_numpy(size_px))
        return [tensor.numpy() for tensor in outputs]

    text: str | bytes = extra[METADATA_KEY]
    return text.decode() if isinstance(text, bytes) else text, run_graph


LOADERS = {
    EXTENSIONS["onnx"]: _load_onnx,
    EXTENSIONS["openvino"]: _load_openvino,
    EXTENSIONS["torchscript"]: _load_torchscript,
}

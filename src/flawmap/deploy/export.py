"""Write a detector as one file for another runtime; the file is kept only if it answers as the detector does."""

import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, TypeGuard

import onnx
import torch
from torch import Tensor

from flawmap.advice import install
from flawmap.data.images.tiles import Tiling
from flawmap.deploy.file_digest import UNKNOWN, files_sha256
from flawmap.deploy.graph import THRESHOLD, DetectionGraph, ScoreSquares, WithStoredThreshold, default_threshold
from flawmap.deploy.half_weights import halve_weights
from flawmap.deploy.openvino_threshold import store_threshold
from flawmap.deploy.parity import CheckImage, Parity, compare, given_images, images_of_run
from flawmap.deploy.runtime import EXTENSIONS, ExportedModel, load_as_exported
from flawmap.deploy.tiled_graph import tiled_graph
from flawmap.deploy.token_graph import INSIDE, token_graph, with_default_threshold
from flawmap.detect.detection import NotScoredError
from flawmap.detect.detector import AnomalyDetector
from flawmap.detect.model_facts import METADATA_KEY, ModelFacts
from flawmap.errors import UserError
from flawmap.memory.scorer import TokenScorer
from flawmap.memory.search_graph import search_name
from flawmap.memory.tiled_scorer import TiledScorer
from flawmap.runs.calibration import MapScale
from flawmap.runs.model_folder import home_of, model_folder
from flawmap.runs.result_folders import free_path
from flawmap.runs.self_test import SCORE, SelfTest, self_test_image
from flawmap.runs.sidecar import sidecar_path
from flawmap.scorer import Scorer
from flawmap.vit.onnx_known import unknown_parts

Format = Literal["onnx", "openvino", "torchscript"]
Precision = Literal["fp32", "fp16", "int8"]
# Of a model that was fitted in fp32; fp16: weights stored in half precision, computed in fp32
PRECISIONS: dict[Format, tuple[Precision, ...]] = {
    "onnx": ("fp32", "fp16"),
    "openvino": ("fp32", "fp16"),
    "torchscript": ("fp32",),
}
PACKAGES: dict[Format, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "torchscript": (),
}
Write = Callable[[ModelFacts], None]  # writes a graph as a file with these facts
OPSET = 18
PARITY_BATCH = 3  # images that the check gives a graph with an axis for them at once
EXAMPLE_SIZE_PX = (37, 53)  # of an original image; it stays free in the graph


@dataclass(frozen=True)
class Export:
    """What an export has made.

    Attributes:
        path: of the file; where it differs too much from the detector, there is none.
        to: the runtime.
        precision: of the weights.
        parity: how the file differs from the detector.
    """

    path: Path
    to: Format
    precision: Precision
    parity: Parity


def export_run(
    run: Path,
    to: Format = "onnx",
    precision: Precision | None = None,
    output: Path | None = None,
    images: str | None = None,
    count: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> Export:
    """Export a run or model folder; see :func:`export_model`.

    Args:
        run: the folder.
        to: the runtime.
        precision: of the weights; None takes the one that the run was fitted in.
        output: the file, which must not exist; None chooses RUN/NAME with the extension, with a number if taken.
        images: a data location with images to check the file on; None takes those the run was trained from.
        count: the most images to check.
        progress: called with (images done, images) during the check.

    Raises:
        UserError: as :func:`export_model`, or a file of that name exists, or there are no images to check with.
    """
    files = [output, output.with_suffix(".bin")] if output and to == "openvino" else [output]
    if taken := [file for file in files if file and file.exists()]:
        raise UserError("this file already exists", str(taken[0]), "choose another --output, or move the file away")
    folder = model_folder(run)
    if output is not None:
        _refuse_threshold_beside(output)
    detector = AnomalyDetector.from_pretrained(folder, "cpu")
    precision = precision or detector.recipe.encoder_precision
    home = home_of(folder)
    name = home.resolve().name
    check_images = given_images(images, count) if images else images_of_run(home, count)
    if output is None:
        output = free_path(home / f"{name}{'' if precision == 'fp32' else f'-{precision}'}{EXTENSIONS[to]}")
        _refuse_threshold_beside(output)
    parity = export_model(detector, output, to, check_images, precision, name, progress)
    return Export(output, to, precision, parity)


def export_model(
    detector: AnomalyDetector,
    path: str | Path,
    to: Format,
    images: Sequence[CheckImage],
    precision: Precision | None = None,
    name: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Parity:
    """Write a detector as one file (OpenVINO: two), if it answers as the detector does.

    Args:
        detector: fitted, on the processor; calibrated or not.
        path: of the file; an existing file is replaced.
        to: the runtime.
        images: real images to compare the two on.
        precision: of the weights; None takes the one that the detector was fitted in. A file in that precision is
            judged; the loss of another one, ``fp16``, is measured and reported.
        name: of the model, shown by the server; the file's name when empty.
        progress: called with (images done, images) during the check.

    Returns:
        the measured differences. No file was written where ``is_good`` is false and the file is judged, or a score is
        not finite.

    Raises:
        UserError: the detector is not fitted, there are no images, the model cannot be written in this precision or
            format, or a package is missing.
    """
    path, fitted = Path(path), detector.recipe.encoder_precision
    precision = precision or fitted
    _refuse_impossible(path, to, precision, fitted)
    if not images:
        raise UserError("there are no images to check the export with", "", "give a few with --images FOLDER")
    native = detector.self_test()  # a damaged detector is refused before the work begins
    _refuse_tiles_elsewhere(detector, to)
    _refuse_peak_of_region(detector)
    facts = replace(detector.facts(name or path.stem, precision), self_test=None)
    has_batch_axis = _has_batch_axis(detector, to)
    facts = replace(facts, search=_search(detector, to), tiling=_tiling(detector), has_batch_axis=has_batch_axis)
    if facts.has_roi_of_cameras and (scorer := detector.scorer_) is not None:
        facts = replace(facts, patch_size_px=scorer.encoder.patch_size_px)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:
        draft = Path(folder) / path.name
        with _quiet():
            write = GRAPHS[to](detector, facts, draft)
            write(facts)
        exported = load_as_exported(draft)
        parity = compare(detector, exported, images, progress)
        if has_batch_axis:
            parity = parity.with_a_batch(detector, exported.in_batches_of(PARITY_BATCH), images)
        if parity.is_good or (parity.is_finite and precision != fitted):
            tested = replace(facts, self_test=_self_test(exported, native, parity, detector.map_scale))
            del exported  # a runtime may have mapped the file that is written now
            with _quiet():
                _write_with_digest(write, tested, draft)
            for file in sorted(file for file in draft.parent.iterdir() if file.is_file()):  # .bin before .xml
                shutil.move(file, path.parent / file.name)
    return parity


def _refuse_threshold_beside(path: Path) -> None:
    """A threshold that waits there would come before those of the run, which the user expects."""
    if (waiting := sidecar_path(path)).exists():
        problem = "a threshold of an earlier file lies here, and would come before that of the run"
        raise UserError(problem, str(waiting), "move it away, or choose another --output")


def _refuse_impossible(path: Path, to: Format, precision: Precision, fitted: Precision) -> None:
    extension = EXTENSIONS[to]
    if fitted == "int8" and (to, precision) != ("onnx", "int8"):
        problem = f"this model was fitted in int8, so that it cannot be written as {to} in {precision}"
        raise UserError(problem, "--precision" if to == "onnx" else "--to", "--to onnx --precision int8")
    if fitted != "int8" and precision == "int8":
        problem = "this model was fitted in fp32, and its thresholds do not hold for the scores of int8"
        remedy = "train a model in int8: flawmap train DATA --set compute.precision=int8"
        raise UserError(problem, "--precision", f"{remedy}; or choose {' or '.join(PRECISIONS[to])}")
    if precision not in (*PRECISIONS[to], fitted):
        raise UserError(f"{to} is not written in {precision}", "--precision", f"choose {' or '.join(PRECISIONS[to])}")
    if path.suffix != extension:
        remedy = f"name it {path.stem}{extension}"
        raise UserError(f"an export to {to} has the extension {extension}", str(path), remedy)
    if missing := [package for package in PACKAGES[to] if find_spec(package) is None]:
        problem = f"an export to {to} needs {' and '.join(missing)}, which is not installed"
        raise UserError(problem, "", install("export"))


def _refuse_tiles_elsewhere(detector: AnomalyDetector, to: Format) -> None:
    """A graph that torch traces as a whole has no tiles: it would answer for the whole image alone."""
    scorer = detector.scorer_
    if not isinstance(scorer, TiledScorer):
        return
    if to != "onnx":
        raise UserError(f"a model that scores tiles cannot be written as {to}", "--to", "--to onnx")
    if unknown := unknown_parts(scorer.encoder):
        problem = f"the file of a model that scores tiles cannot hold this encoder, because of {unknown[0]}"
        raise UserError(problem, "--to", "train a model without tiles: flawmap train DATA --set data.tiles=none")


def _refuse_peak_of_region(detector: AnomalyDetector) -> None:
    """A graph knows the patches of a region of interest, not its pixels: it could find a peak just outside."""
    if detector.rois is not None and detector.recipe.detect.image_score == "map_max":
        problem = "the file of a model with a region of interest cannot decide by the map's peak (map_max)"
        remedy = "train a model with the other score: flawmap train DATA --roi FILE --set detect.image_score=mean_logit"
        raise UserError(problem, "detect.image_score", remedy)


def _tiling(detector: AnomalyDetector) -> Tiling | None:
    scorer = detector.scorer_
    return scorer.tiling if isinstance(scorer, TiledScorer) else None


def _self_test(exported: ExportedModel, native: SelfTest, parity: Parity, map_scale: MapScale) -> SelfTest:
    """What the file gives for the self-test image; it may differ elsewhere as much as it differs from the detector."""
    try:
        found = exported.predict(self_test_image(), exported.facts.camera_of_self_test)
    except NotScoredError as error:
        raise error.at("self-test image") from None
    score, map_peak = found.scores[SCORE], float(found.anomaly_map.max())
    score_differs_by = max(parity.max_logit_difference, abs(score - native.score))
    map_differs_by = max(parity.max_map_difference, abs(map_peak - native.map_peak))
    return SelfTest.of(score, map_peak, map_scale, score_differs_by, map_differs_by)


def _write_with_digest(write: Write, facts: ModelFacts, path: Path) -> None:
    """Write the file with the SHA-256 of what it is without it, and open it once as every later reader does."""
    beside = files_sha256(path)  # of OpenVINO's .bin, which does not depend on the facts
    write(replace(facts, files_sha256={**beside, path.suffix: UNKNOWN}))
    write(replace(facts, files_sha256=files_sha256(path)))
    load_as_exported(path)


def _module_and_example(detector: AnomalyDetector, facts: ModelFacts) -> tuple[ScoreSquares, list[Tensor]]:
    assert detector.scorer_ is not None and facts.tiling is None
    scorer = detector.scorer_.cpu()
    module = ScoreSquares(scorer, facts.sizes_px, detector.rois).eval()
    inputs = [torch.zeros(1, size, size, 3, dtype=torch.uint8) for size in facts.sizes_px]
    if facts.has_roi_of_cameras:
        grids = [scorer.encoder.grid(size, size) for size in facts.sizes_px]
        inputs += [torch.ones(1, rows * columns, dtype=torch.bool) for rows, columns in grids]
    return module, inputs


def _onnx_graph(detector: AnomalyDetector, facts: ModelFacts, path: Path) -> Write:
    scorer = detector.scorer_
    if isinstance(scorer, TiledScorer):
        model = tiled_graph(scorer.cpu(), facts)
    else:
        model = token_graph(scorer.cpu(), facts) if _is_composed(scorer) else _traced_model(detector, facts)
    if facts.precision == "fp16":
        halve_weights(model)

    def write(facts: ModelFacts) -> None:
        onnx.helper.set_model_props(model, {METADATA_KEY: facts.to_text()})
        path.write_bytes(model.SerializeToString())

    return write


def _is_composed(scorer: Scorer | None) -> TypeGuard[TokenScorer]:
    """Whether the ONNX graph is composed of parts that are faster than traced ones."""
    return isinstance(scorer, TokenScorer) and not unknown_parts(scorer.encoder)


def _has_batch_axis(detector: AnomalyDetector, to: Format) -> bool:
    return to == "onnx" and _is_composed(detector.scorer_)


def _search(detector: AnomalyDetector, to: Format) -> str | None:
    """Of the file's memory, in words; None without a memory."""
    scorer = detector.scorer_
    if isinstance(scorer, TiledScorer):
        whole, tiles = search_name(scorer.whole.memory), search_name(scorer.tiles.memory)
        return whole if whole == tiles else f"{whole}; of tiles: {tiles}"
    if not isinstance(scorer, TokenScorer):
        return None
    return search_name(scorer.memory) if to == "onnx" and _is_composed(scorer) else "fp32"


def _traced(detector: AnomalyDetector, facts: ModelFacts) -> torch.onnx.ONNXProgram:
    module, squares = _module_and_example(detector, facts)
    of_region = [f"{INSIDE}_{size}px" for size in facts.sizes_px] if facts.has_roi_of_cameras else []
    with torch.no_grad():
        program = torch.onnx.export(
            DetectionGraph(module, facts),
            (squares, torch.tensor(EXAMPLE_SIZE_PX), torch.tensor(0.0)),
            input_names=[*(f"square_{size}px" for size in facts.sizes_px), *of_region, "size_px", THRESHOLD],
            output_names=["score", "is_anomalous", "anomaly_map", "scores"],
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return program


def _traced_model(detector: AnomalyDetector, facts: ModelFacts) -> onnx.ModelProto:
    return with_default_threshold(_traced(detector, facts).model_proto, facts)


def _openvino_graph(detector: AnomalyDetector, facts: ModelFacts, path: Path) -> Write:
    import openvino

    onnx_path = _beside(path, "intermediate.onnx")  # stays until all is written: the weights may be read late
    _traced(detector, facts).save(onnx_path)
    model = openvino.convert_model(onnx_path)
    store_threshold(model, float(default_threshold(facts)))

    def write(facts: ModelFacts) -> None:
        model.set_rt_info(facts.to_text(), [METADATA_KEY])
        openvino.save_model(model, path, compress_to_fp16=facts.precision == "fp16")

    return write


def _beside(path: Path, name: str) -> Path:
    """A file that is not part of the export, in a folder that is not kept."""
    folder = path.parent / "not-kept"
    folder.mkdir(exist_ok=True)
    return folder / name


def _torchscript_graph(detector: AnomalyDetector, facts: ModelFacts, path: Path) -> Write:
    module, squares = _module_and_example(detector, facts)
    with torch.no_grad():
        # torch.export first: it turns the encoder's grids into constants, which the older trace cannot
        flat = torch.export.export(module, tuple(squares)).module()
        graph = WithStoredThreshold(DetectionGraph(flat, facts), default_threshold(facts))
        traced = torch.jit.trace(graph, (squares, torch.tensor(EXAMPLE_SIZE_PX)), check_trace=False)

    def write(facts: ModelFacts) -> None:
        torch.jit.save(traced, path, _extra_files={METADATA_KEY: facts.to_text()})

    return write


# a detector, its facts and a path -> the graph, ready to be written there with any facts: only their text may change
GRAPHS: dict[Format, Callable[[AnomalyDetector, ModelFacts, Path], Write]] = {
    "onnx": _onnx_graph,
    "openvino": _openvino_graph,
    "torchscript": _torchscript_graph,
}


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters' notes on deprecations and optional packages; the check afterwards finds what matters."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(logging.NOTSET)

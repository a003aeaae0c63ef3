"""Writes a detector as one file for another runtime; a file appears only after it has passed its check."""

import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from flawmap.deploy.graph import DetectionGraph, ScoreSquares
from flawmap.deploy.parity import CheckImage, Parity, compare
from flawmap.deploy.runtime import EXTENSIONS, load
from flawmap.detect.detector import AnomalyDetector
from flawmap.detect.model_facts import METADATA_KEY, ModelFacts
from flawmap.errors import UserError

Format = Literal["onnx", "openvino", "torchscript"]
Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: dict[Format, tuple[Precision, ...]] = {
    "onnx": ("fp32", "int8"),  # int8: weights of the linear layers, activations scaled per image
    "openvino": ("fp32", "fp16"),  # fp16: weights stored in half precision, computed in fp32
    "torchscript": ("fp32",),
}
OPSET = 18


def export_onnx(detector: AnomalyDetector, path: str | Path, images: Sequence[CheckImage]) -> float:
    """Write an ONNX file, see :func:`export_model`; returns the largest score difference measured on ``images``."""
    return export_model(detector, path, "onnx", images).max_score_difference


def export_model(
    detector: AnomalyDetector,
    path: str | Path,
    to: Format,
    images: Sequence[CheckImage],
    precision: Precision = "fp32",
    name: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Parity:
    """Write a detector as one file (OpenVINO: two), if it answers as the detector does.

    Args:
        detector: fitted, on the processor; calibrated or not.
        path: of the file; what is there is replaced.
        to: the runtime.
        images: real images to compare the two on.
        precision: of weights; the loss of ``fp16`` and ``int8`` is measured and reported, that of ``fp32`` judged.
        name: of the model, shown by the server; the file's name when empty.
        progress: is called with (images done, images) during the check.

    Returns:
        what was measured. Where ``is_good`` is false, no file was written.

    Raises:
        UserError: the detector is not fitted, there are no images, this format has no such precision, or a package
            is missing.
    """
    path = Path(path)
    if precision not in PRECISIONS[to]:
        raise UserError(f"{to} is not written in {precision}", "--precision", f"choose {' or '.join(PRECISIONS[to])}")
    extension = EXTENSIONS[to]
    if path.suffix != extension:
        remedy = f"name it {path.stem}{extension}"
        raise UserError(f"an export to {to} has the extension {extension}", str(path), remedy)
    if not images:
        raise UserError("there are no images to check the export with", "", "give a few with --images FOLDER")
    _refuse_missing_packages(to)
    facts = detector.facts(name or path.stem, precision)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:
        beside = Path(folder) / path.name
        with _quiet():
            WRITERS[to](detector, facts, beside)
        parity = compare(detector, load(beside), images, progress)
        if parity.is_good or precision != "fp32":
            for file in sorted(beside.parent.iterdir()):  # .bin before .xml
                shutil.move(file, path.parent / file.name)
    return parity


def _refuse_missing_packages(to: Format) -> None:
    needed = {"onnx": ("onnx", "onnxscript"), "openvino": ("onnx", "onnxscript", "openvino"), "torchscript": ()}[to]
    missing = [package for package in needed if find_spec(package) is None]
    if missing:
        problem = f"an export to {to} needs {' and '.join(missing)}, which is not installed"
        raise UserError(problem, "", 'pip install "flawmap[export]"')


def _module_and_example(detector: AnomalyDetector, facts: ModelFacts) -> tuple[ScoreSquares, list[Tensor]]:
    assert detector.scorer_ is not None
    module = ScoreSquares(detector.scorer_.cpu(), facts.sizes_px).eval()
    return module, [torch.zeros(1, size, size, 3, dtype=torch.uint8) for size in facts.sizes_px]


EXAMPLE_SIZE_PX = (37, 53)  # of an original image; it stays free in the graph


def _write_onnx(detector: AnomalyDetector, facts: ModelFacts, path: Path) -> None:
    module, squares = _module_and_example(detector, facts)
    with torch.no_grad():
        program = torch.onnx.export(
            DetectionGraph(module, facts),
            (squares, torch.tensor(EXAMPLE_SIZE_PX)),
            input_names=[*(f"square_{size}px" for size in facts.sizes_px), "size_px"],
            output_names=["score", "is_anomalous", "anomaly_map", "scores"],
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props[METADATA_KEY] = facts.to_text()
    program.save(path)
    if facts.precision == "int8":
        _quantize(path, facts)


def _quantize(path: Path, facts: ModelFacts) -> None:
    """Linear layers to 8-bit weights, one scale per output channel; activations are scaled when they are known."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    exact = path.with_name(f"{path.stem}.fp32.onnx")
    path.rename(exact)
    quantize_dynamic(exact, path, ["MatMul", "Gemm"], per_channel=True, weight_type=QuantType.QInt8)
    exact.unlink()
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {METADATA_KEY: facts.to_text()})
    onnx.save(model, path)


def _write_openvino(detector: AnomalyDetector, facts: ModelFacts, path: Path) -> None:
    import openvino

    between = path.with_name("between.onnx")
    _write_onnx(detector, facts, between)
    model = openvino.convert_model(between)
    model.set_rt_info(facts.to_text(), [METADATA_KEY])
    openvino.save_model(model, path, compress_to_fp16=facts.precision == "fp16")
    between.unlink()


def _write_torchscript(detector: AnomalyDetector, facts: ModelFacts, path: Path) -> None:
    module, squares = _module_and_example(detector, facts)
    with torch.no_grad():
        # torch.export first: it turns the encoder's grids into constants, which the older trace cannot
        flat = torch.export.export(module, tuple(squares)).module()
        traced = torch.jit.trace(
            DetectionGraph(flat, facts), (squares, torch.tensor(EXAMPLE_SIZE_PX)), check_trace=False
        )
    torch.jit.save(traced, path, _extra_files={METADATA_KEY: facts.to_text()})


WRITERS: dict[Format, Callable[[AnomalyDetector, ModelFacts, Path], None]] = {
    "onnx": _write_onnx,
    "openvino": _write_openvino,
    "torchscript": _write_torchscript,
}


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporters tell of their own future and of optional packages; the check afterwards tells what matters."""
    logger, level = logging.getLogger(), logging.root.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)

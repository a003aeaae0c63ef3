"""Write a detector as one file for another runtime; the file is kept only if it answers as the detector does."""

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
from flawmap.deploy.parity import CheckImage, Parity, compare, given_images, images_of_run
from flawmap.deploy.runtime import EXTENSIONS, load
from flawmap.detect.detector import AnomalyDetector
from flawmap.detect.model_facts import METADATA_KEY, ModelFacts
from flawmap.errors import UserError
from flawmap.runs.model_folder import home_of, model_folder
from flawmap.runs.result_folders import free_path

Format = Literal["onnx", "openvino", "torchscript"]
Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: dict[Format, tuple[Precision, ...]] = {
    "onnx": ("fp32", "int8"),  # int8: weights of the linear layers, activations scaled per image
    "openvino": ("fp32", "fp16"),  # fp16: weights stored in half precision, computed in fp32
    "torchscript": ("fp32",),
}
PACKAGES: dict[Format, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "torchscript": (),
}
OPSET = 18
EXAMPLE_SIZE_PX = (37, 53)  # of an original image; it stays free in the graph


def export_run(
    run: Path,
    to: Format = "onnx",
    precision: Precision = "fp32",
    output: Path | None = None,
    images: str | None = None,
    count: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Path, Parity]:
    """Export a run or model folder; see :func:`export_model`.

    Args:
        run: the folder.
        to: the runtime.
        precision: of the weights.
        output: the file, which must not exist; None chooses RUN/NAME with the extension, with a number if taken.
        images: a data location with images to check the file on; None takes those the run was trained from.
        count: the most images to check.
        progress: called with (images done, images) during the check.

    Returns:
        the file, and how it differs from the detector; an fp32 file that differs too much is not written.

    Raises:
        UserError: as :func:`export_model`, or a file of that name exists, or there are no images to check with.
    """
    files = [output, output.with_suffix(".bin")] if output and to == "openvino" else [output]
    if taken := [file for file in files if file and file.exists()]:
        raise UserError("this file already exists", str(taken[0]), "choose another --output, or move the file away")
    folder = model_folder(run)
    detector = AnomalyDetector.from_pretrained(folder, "cpu")
    home = home_of(folder)
    name = home.resolve().name
    check_images = given_images(images, count) if images else images_of_run(home, count)
    if output is None:
        output = free_path(home / f"{name}{'' if precision == 'fp32' else f'-{precision}'}{EXTENSIONS[to]}")
    parity = export_model(detector, output, to, check_images, precision, name, progress)
    return output, parity


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
        path: of the file; an existing file is replaced.
        to: the runtime.
        images: real images to compare the two on.
        precision: of the weights. The loss of ``fp16`` and ``int8`` is measured and reported, that of ``fp32`` judged.
        name: of the model, shown by the server; the file's name when empty.
        progress: called with (images done, images) during the check.

    Returns:
        the measured differences. No file was written where ``is_good`` is false for ``fp32``, or a score is not finite.

    Raises:
        UserError: the detector is not fitted, there are no images, this format has no such precision, or a package
            is missing.
    """
    path, extension = Path(path), EXTENSIONS[to]
    if precision not in PRECISIONS[to]:
        raise UserError(f"{to} is not written in {precision}", "--precision", f"choose {' or '.join(PRECISIONS[to])}")
    if path.suffix != extension:
        remedy = f"name it {path.stem}{extension}"
        raise UserError(f"an export to {to} has the extension {extension}", str(path), remedy)
    if not images:
        raise UserError("there are no images to check the export with", "", "give a few with --images FOLDER")
    if missing := [package for package in PACKAGES[to] if find_spec(package) is None]:
        problem = f"an export to {to} needs {' and '.join(missing)}, which is not installed"
        raise UserError(problem, "", 'pip install "flawmap[export]"')
    facts = detector.facts(name or path.stem, precision)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:
        draft = Path(folder) / path.name
        with _quiet():
            WRITERS[to](detector, facts, draft)
        parity = compare(detector, load(draft), images, progress)
        if parity.is_good or (parity.is_finite and precision != "fp32"):
            for file in sorted(draft.parent.iterdir()):  # .bin before .xml
                shutil.move(file, path.parent / file.name)
    return parity


def _module_and_example(detector: AnomalyDetector, facts: ModelFacts) -> tuple[ScoreSquares, list[Tensor]]:
    assert detector.scorer_ is not None
    module = ScoreSquares(detector.scorer_.cpu(), facts.sizes_px).eval()
    return module, [torch.zeros(1, size, size, 3, dtype=torch.uint8) for size in facts.sizes_px]


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
    """Linear layers to 8-bit weights, one scale per output channel; activations are scaled at run time."""
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

    onnx_path = path.with_name("intermediate.onnx")
    _write_onnx(detector, facts, onnx_path)
    model = openvino.convert_model(onnx_path)
    model.set_rt_info(facts.to_text(), [METADATA_KEY])
    openvino.save_model(model, path, compress_to_fp16=facts.precision == "fp16")
    onnx_path.unlink()


def _write_torchscript(detector: AnomalyDetector, facts: ModelFacts, path: Path) -> None:
    module, squares = _module_and_example(detector, facts)
    with torch.no_grad():
        # torch.export first: it turns the encoder's grids into constants, which the older trace cannot
        flat = torch.export.export(module, tuple(squares)).module()
        graph = DetectionGraph(flat, facts)
        traced = torch.jit.trace(graph, (squares, torch.tensor(EXAMPLE_SIZE_PX)), check_trace=False)
    torch.jit.save(traced, path, _extra_files={METADATA_KEY: facts.to_text()})


WRITERS: dict[Format, Callable[[AnomalyDetector, ModelFacts, Path], None]] = {
    "onnx": _write_onnx,
    "openvino": _write_openvino,
    "torchscript": _write_torchscript,
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

"""The C++ program in examples/cpp gives Python's scores. It is skipped where its compiler or headers are missing."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flawmap.data.images.resize import resize_image
from images import striped, write_good, write_image
from tiny_detector import tiny_recipe

EXAMPLE = Path(__file__).parents[2] / "examples" / "cpp"
SETTINGS = ("data.image_size_px=64", "detect.image_score=mean_logit", "pretrain.enabled=false", "method=fused")
SMALL = ("memory.blocks=[1, 2]", "memory.tokens=40", "residual.steps=4", "residual.simulated_images=6")
KINDS = {"fp32": (), "int8": ("compute.precision=int8",), "tiles": ("data.tiles=28",)}
SIZES = ((48, 48), (40, 90), (20, 25), (5, 200), (300, 100))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def resize_program(tmp_path_factory) -> Path:
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    program = tmp_path_factory.mktemp("resize") / "resize_raw"
    flags = ["-std=c++20", "-O2", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off"]
    subprocess.run([compiler, *flags, EXAMPLE / "resize_raw.cpp", "-o", program], check=True)
    return program


@given(sizes=st.tuples(*[st.integers(1, 250)] * 4), seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_its_resize_gives_pillows_pixels(resize_program: Path, sizes: tuple[int, int, int, int], seed: int):
    height, width, new_height, new_width = sizes
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    command = [resize_program, *map(str, sizes)]
    found = subprocess.run(command, input=image.tobytes(), capture_output=True, check=True).stdout
    found = np.frombuffer(found, np.uint8).reshape(new_height, new_width, 3)
    np.testing.assert_array_equal(found, resize_image(image, new_height, new_width))


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    """Built as its README says, with the library of Python's onnxruntime and the headers that CMake finds.

    ONNXRUNTIME_INCLUDE_DIR names their folder where CMake does not look.
    """
    onnxruntime = pytest.importorskip("onnxruntime")
    if missing := [name for name in ("cmake", "c++") if shutil.which(name) is None]:
        pytest.skip(f"there is no {missing[0]}")
    libraries = [*(Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")]
    if not libraries:
        pytest.skip("Python's onnxruntime has no library that programs can link")
    here = tmp_path_factory.mktemp("cpp")
    (here / "lib").mkdir()
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (here / "lib" / name).symlink_to(libraries[0])
    headers = os.environ.get("ONNXRUNTIME_INCLUDE_DIR")
    command = ["cmake", "-S", EXAMPLE, "-B", here / "build", f"-DCMAKE_PREFIX_PATH={here}"]
    command += [f"-DONNXRUNTIME_INCLUDE_DIR={headers}"] if headers else []
    configured = subprocess.run(command, capture_output=True, text=True)
    if configured.returncode:
        lines = [line.strip() for line in configured.stderr.splitlines() if "find" in line or "missing" in line]
        pytest.skip(f"CMake finds not all that the example needs: {(lines or ['see its log'])[0]}")
    subprocess.run(["cmake", "--build", here / "build"], check=True, capture_output=True)
    return here / "build" / "flawmap_detect"


@pytest.fixture(scope="module")
def files(tmp_path_factory, onnx_file) -> dict[str, Path]:
    """Exported files by kind."""
    pytest.importorskip("onnxscript")
    from flawmap.data.open_data import load_images
    from flawmap.deploy.export import export_model
    from flawmap.deploy.parity import CheckImage
    from flawmap.detect.detector import AnomalyDetector

    here = tmp_path_factory.mktemp("files")
    good, check = load_images(write_good(here / "good", 8)), CheckImage(write_image(here / "0.png", striped(3, 70, 50)))
    found = {"paper": onnx_file}
    for kind, changes in KINDS.items():
        detector = AnomalyDetector(tiny_recipe(*SETTINGS, *SMALL, *changes)).fit(good, device="cpu")
        found[kind] = here / f"{kind}.onnx"
        export_model(detector, found[kind], "onnx", [check])
    return found


def run(program: Path, file: Path, *images: Path) -> tuple[int, list[dict], str]:
    done = subprocess.run([program, file, *images], capture_output=True, text=True)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


@pytest.mark.parametrize("kind", ["paper", *KINDS])
def test_its_scores_are_pythons(program: Path, files: dict[str, Path], tmp_path: Path, kind: str):
    from flawmap.deploy import load

    images = [write_image(tmp_path / f"{number}.png", striped(number, *size)) for number, size in enumerate(SIZES)]
    holed = striped(5, 80, 60)
    holed[10:40, 10:40] = 0
    images.append(write_image(tmp_path / "holed.png", holed))
    stored = {"rgb.jpg": "RGB", "grey.jpg": "L", "grey.png": "L", "palette.png": "P", "bits.png": "1"}
    for name, mode in stored.items():
        Image.fromarray(striped(7, 77, 31)).convert(mode).save(tmp_path / name)
        images.append(tmp_path / name)
    code, lines, complaint = run(program, files[kind], *images)
    assert (code, complaint, [line["image"] for line in lines]) == (0, "", [str(image) for image in images])
    model = load(files[kind], threads=1)
    assert (model.facts.tiling is not None) == (kind == "tiles")
    for image, line in zip(images, lines, strict=True):
        expected = model.predict(image)
        assert line["scores"] == pytest.approx(expected.scores, abs=1e-6)
        assert line["map_peak"] == pytest.approx(float(expected.anomaly_map.max()), abs=1e-6)
        assert (line["score"], line["threshold"]) == (line["scores"][model.facts.image_score], expected.threshold)
        assert line["is_anomalous"] == (line["score"] > expected.threshold)


def test_what_it_does_not_read_as_python_does_is_refused(program: Path, files: dict[str, Path], tmp_path: Path):
    image, exif = Image.fromarray(striped(1)), Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    image.convert("CMYK").save(tmp_path / "cmyk.jpg")
    image.convert("RGBA").save(tmp_path / "alpha.png")
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(tmp_path / "deep.png")
    image.save(tmp_path / "good.jpg")
    (tmp_path / "cut-good.jpg").write_bytes((tmp_path / "good.jpg").read_bytes()[:-400])
    (tmp_path / "text.png").write_text("no image")
    reasons = {
        "turned.jpg": "it is stored turned (EXIF orientation): turn its pixels",
        "cmyk.jpg": "it is not grey or RGB",
        "alpha.png": "it has transparency: remove it",
        "deep.png": "16 bits for each channel: convert it to 8",
        "cut-good.jpg": "Premature end of JPEG file",
        "text.png": "it is neither PNG nor JPEG",
        "none.png": "it cannot be read",
    }
    code, lines, _ = run(program, files["fp32"], *(tmp_path / name for name in reasons), tmp_path / "good.jpg")
    assert code == 2 and "score" in lines.pop()
    assert {Path(line["image"]).name: line["error"] for line in lines} == reasons


def test_a_file_that_fails_its_self_test_scores_nothing(program: Path, files: dict[str, Path], tmp_path: Path):
    text = files["fp32"].read_bytes()
    start = text.index(b'"self_test": {"score": ') + len(b'"self_test": {"score": ')
    digit = next(at for at in range(start, start + 20) if text[at : at + 1] in b"0123456789")
    changed = b"9" if text[digit : digit + 1] != b"9" else b"3"
    (tmp_path / "other.onnx").write_bytes(text[:digit] + changed + text[digit + 1 :])
    code, lines, complaint = run(program, tmp_path / "other.onnx", write_image(tmp_path / "0.png", striped(1)))
    assert (code, lines) == (2, []) and complaint.endswith("it fails its self-test\n")

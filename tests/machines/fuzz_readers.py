"""What is fuzzed: each reader of files that come from outside, with inputs to start from.

A reader takes bytes, and may do one of two things with them: return what it says it returns, or raise UserError.
"""

import asyncio
import io
import json
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image

from flawmap.data.annotations.marked import refuse_marked
from flawmap.data.annotations.to_manifest import write_manifest_of
from flawmap.data.images.files import decode_gray_values, decode_image
from flawmap.data.images.mask import decode_mask
from flawmap.data.layouts.manifest import CsvManifest
from flawmap.deploy.reviews import read_reviews
from flawmap.errors import UserError
from flawmap.recipe.files import load_recipe, to_yaml
from flawmap.recipe.settings import DataSettings, Recipe
from flawmap.runs.calibration import read_calibration

MAX_PIXELS = 1_000_000


@dataclass(frozen=True)
class Reader:
    """A reader of one kind of file.

    Attributes:
        read: bytes to nothing; any exception but UserError is a fault.
        seeds: valid inputs, from which others are made.
        instrumented: packages whose branches guide the fuzzer.
    """

    read: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    instrumented: tuple[str, ...]


def _read_image(data: bytes) -> None:
    with suppress(UserError):
        pixels = decode_image(data, MAX_PIXELS)
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size > 0
        assert np.array_equal(pixels, decode_image(data, MAX_PIXELS)), "reading it again gives other pixels"
        deep = decode_gray_values(data, MAX_PIXELS)
        assert deep is None or (deep.values.shape == pixels.shape[:2] and np.isfinite(deep.window).all())


def _read_mask(data: bytes) -> None:
    with suppress(UserError):
        mask = decode_mask(data, max_pixels=MAX_PIXELS).pixels
        assert mask.dtype == bool and mask.ndim == 2


def _read_manifest(data: bytes) -> None:
    path = _written("manifest.csv", data)
    for name in ("a.png", "b.png"):
        if not path.with_name(name).exists():
            path.with_name(name).write_bytes(encoded("PNG"))
    with suppress(UserError):
        for image in CsvManifest().training(path, DataSettings(), {}).images:
            assert image.path.is_file()
    with suppress(UserError):
        for sample in CsvManifest().test(path, DataSettings(), {}).images:
            assert sample.path.is_file() and sample.kind


def _read_annotations(data: bytes) -> None:
    """The first byte of a file says of what kind it is."""
    endings = {b"{": ".json", b"[": ".json", b"<": ".xml"}
    folder = _folder() / "annotated"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(encoded("PNG"))
    (folder / f"a{endings.get(data[:1], '.txt')}").write_bytes(data)
    for masks in (None, folder / "drawn"):
        with suppress(UserError):
            manifest = folder / f"{masks is None}.csv"
            report = write_manifest_of(folder, manifest, unannotated_are_good=True, masks=masks)
            assert report.anomalous == len(CsvManifest().test(manifest, DataSettings(), {}).images) - report.good_test
    with suppress(UserError):
        refuse_marked(folder, [folder / "a.png"])


def _read_recipe(data: bytes) -> None:
    with suppress(UserError):
        recipe = load_recipe(str(_written("recipe.yaml", data)))
        assert load_recipe(str(_written("again.yaml", to_yaml(recipe).encode()))) == recipe


def _read_calibration(data: bytes) -> None:
    with suppress(UserError):
        calibration = read_calibration(_written("calibration.json", data))
        assert calibration is not None and np.isfinite([calibration.threshold, calibration.map_threshold]).all()


def _read_reviews(data: bytes) -> None:
    with suppress(UserError):
        for review in read_reviews(_written("reviews.csv", data)):
            assert np.isfinite([review.score, review.map_peak, review.threshold]).all()


def _read_upload(data: bytes) -> None:
    """The first byte chooses the address and type, the others are the body."""
    choice, body = data[:1] or b"\0", data[1:]
    path, content_type = UPLOADS[choice[0] % len(UPLOADS)]
    status = _asked(path, content_type, body)
    assert status < 500, f"status {status}"


UPLOADS = (
    ("/v1/detect", b"application/octet-stream"),
    ("/v1/detect", b"multipart/form-data; boundary=xx"),
    ("/v1/detect", b"image/png"),
    ("/v1/reviews", b"application/json"),
    ("/v1/detect", b"text/plain"),
)


@cache
def _folder() -> Path:
    """A folder of this process, in memory where there is such a place."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="flawmap-fuzz-", dir=memory if memory.is_dir() else None))


def _written(name: str, data: bytes) -> Path:
    path = _folder() / name
    path.write_bytes(data)
    return path


@cache
def _server() -> tuple[asyncio.AbstractEventLoop, Callable]:
    from flawmap.deploy.server import ServerSettings, create_app

    settings = ServerSettings(_folder() / "served_reviews.csv", max_bytes=200_000, max_pixels=MAX_PIXELS)
    return asyncio.new_event_loop(), create_app(brightness_model().BrightnessModel(), settings)


def brightness_model() -> ModuleType:
    """tests/deploy/brightness_model.py: a model without networks."""
    folder = str(Path(__file__).parents[1] / "deploy")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return import_module("brightness_model")


def _asked(path: str, content_type: bytes, body: bytes) -> int:
    """The status that the server answers with."""
    loop, app = _server()
    statuses: list[int] = []
    parts = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict:
        return parts.pop() if parts else {"type": "http.disconnect"}

    async def send(message: dict) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    headers = [(b"host", b"localhost"), (b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
    }
    loop.run_until_complete(app(scope, receive, send))
    return statuses[0]


# ---- inputs to start from


def picture(mode: str = "RGB", size: tuple[int, int] = (12, 9)) -> Image.Image:
    """A small picture with a gradient."""
    gray = Image.fromarray((np.add.outer(np.arange(size[1]) * 7, np.arange(size[0]) * 11) % 256).astype(np.uint8))
    if mode == "I;16":
        return Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    return gray.convert(mode)


def encoded(kind: str, mode: str = "RGB", **options: object) -> bytes:
    """A picture as a file."""
    file = io.BytesIO()
    picture(mode).save(file, kind, **options)
    return file.getvalue()


def _images() -> list[bytes]:
    exif = Image.Exif()
    exif[274] = 6
    files = [encoded("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")]
    files += [encoded("JPEG", mode) for mode in ("L", "RGB", "CMYK")]
    files += [encoded("BMP", mode) for mode in ("1", "L", "P", "RGB", "RGBA")]
    files += [encoded("WEBP"), encoded("WEBP", "RGBA", lossless=True), encoded("PPM"), encoded("PPM", "L")]
    files += [encoded("GIF", "P"), encoded("JPEG", exif=exif), encoded("PNG", "RGB", exif=exif)]
    return files


def _tiffs() -> list[bytes]:
    modes = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F", "I")
    files = [encoded("TIFF", mode) for mode in modes]
    compressions = ("tiff_lzw", "tiff_deflate", "packbits", "jpeg", "group4")
    files += [encoded("TIFF", "1" if kind == "group4" else "RGB", compression=kind) for kind in compressions]
    file = io.BytesIO()
    picture().save(file, "TIFF", save_all=True, append_images=[picture("L", (5, 4)), picture()])
    return [*files, file.getvalue(), *(_plain_tiff(kind) for kind in "BHIbhifd")]


def _plain_tiff(kind: str, height: int = 6, width: int = 8) -> bytes:
    """One strip of numbers of any type, which Pillow would not write."""
    values = struct.pack(f"<{height * width}{kind}", *(number % 100 for number in range(height * width)))
    sample_format = 3 if kind in "fd" else 2 if kind.islower() else 1
    bits = struct.calcsize(kind) * 8
    tags = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, 0 if kind == "H" else 1)]
    tags += [(273, 4, 8), (277, 3, 1), (278, 4, height), (279, 4, len(values)), (339, 3, sample_format)]
    entries = b"".join(struct.pack("<HHII", *tag[:2], 1, tag[2]) for tag in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(values)) + values + struct.pack("<H", len(tags)) + entries + bytes(4)


def _dicoms() -> list[bytes]:
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset

    files = []
    for stored, signed, photometric in ((8, 0, "MONOCHROME2"), (12, 0, "MONOCHROME1"), (16, 1, "MONOCHROME2")):
        for compress in (False, True):
            meta = FileMetaDataset()
            meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.3"
            meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
            made = FileDataset("made", {}, file_meta=meta, preamble=bytes(128))
            made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3"
            made.Rows, made.Columns, made.SamplesPerPixel = 6, 8, 1
            made.BitsStored, made.HighBit, made.PixelRepresentation = stored, stored - 1, signed
            made.BitsAllocated = 8 if stored == 8 else 16
            made.PhotometricInterpretation = photometric
            made.WindowCenter, made.WindowWidth, made.RescaleSlope, made.RescaleIntercept = 40, 80, 1, 0
            made.PixelPaddingValue = 0
            values = np.arange(48, dtype=np.uint8 if stored == 8 else np.uint16)
            made.PixelData = values.tobytes()
            made["PixelData"].VR = "OB" if stored == 8 else "OW"
            if compress:
                made.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
            file = io.BytesIO()
            made.save_as(file, enforce_file_format=True)
            files.append(file.getvalue())
    return [*files, files[0][128:]]


def _manifests() -> list[bytes]:
    head = "image,split,label,kind,mask,boxes,sex,group\n"
    rows = 'a.png,train,0,,,,M,p1\nb.png,test,1,crack,,"[[""crack"", 1, 2, 3, 4]]",F,p2\n'
    texts = [head + rows, head.replace(",", ";") + rows.replace('"', "").replace(",", ";"), "image,split,label\n"]
    return [text.encode() for text in texts] + [(head + rows).encode("utf-16"), (head + rows).encode("utf-8-sig")]


def _annotations() -> list[bytes]:
    coco = {
        "images": [{"id": 1, "file_name": "a.png", "width": 12, "height": 9}, {"id": 2, "file_name": "b.png"}],
        "categories": [{"id": 1, "name": "crack"}],
        "annotations": [
            {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 12},
            {"image_id": 1, "category_id": 1, "segmentation": [[1, 1, 5, 1, 5, 5]]},
            {"image_id": 2, "category_id": 1, "segmentation": {"size": [9, 12], "counts": "c027000n1"}},
            {"image_id": 2, "category_id": 1, "segmentation": {"size": [9, 12], "counts": [10, 20, 78]}},
        ],
    }
    shapes = {"polygon": [[1, 1], [5, 1], [5, 5]], "rectangle": [[1, 1], [4, 4]], "circle": [[4, 4], [6, 4]]}
    labelme = {
        "shapes": [{"label": name, "points": points, "shape_type": name} for name, points in shapes.items()],
        "imagePath": "a.png",
        "imageWidth": 12,
        "imageHeight": 9,
    }
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>5</xmax><ymax>6</ymax></bndbox>"
    voc = f"<annotation><filename>a.png</filename><object><name>crack</name>{box}</object></annotation>"
    yolo = "0 0.5 0.5 0.25 0.5\n1 0.1 0.1 0.9 0.1 0.5 0.9\n"
    return [json.dumps(coco).encode(), json.dumps(labelme).encode(), voc.encode(), yolo.encode()]


def _recipes() -> list[bytes]:
    return [to_yaml(Recipe()).encode(), b"method: memory\nmemory: {tokens: 5000}\nseed: 3\n", b"method: paper\n"]


def _calibrations() -> list[bytes]:
    content = {
        "threshold": 1.5,
        "false_alarm_rate": 0.01,
        "n_held_out": 3,
        "smallest_resolvable_rate": 0.25,
        "map_threshold": 2.5,
        "map_scale": {"low": 0.0, "high": 5.0},
        "held_out_scores": [0.5, 1.0, 1.5],
    }
    return [json.dumps(content).encode()]


def _reviews() -> list[bytes]:
    head = "time_utc,image,sha256,model_id,score,map_peak,threshold,shown,review,truth,note\n"
    row = f"2026-01-01T00:00:00+00:00,a.png,{'ab' * 32},abc-fp32,1.5,2.5,1.0,anomaly,disagree,good,dust\n"
    return [(head + row).encode(), (head + row + row).encode("utf-8-sig"), head.encode()]


def _uploads() -> list[bytes]:
    part = b'--xx\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    review = {"image": "a.png", "sha256": "ab" * 32, "model_id": "abababababababab-fp32", "score": 1.5}
    review |= {"map_peak": 2.0, "threshold": 100.0, "review": "agree", "note": "n"}
    files = [b"\0" + encoded("PNG"), b"\1" + part + encoded("PNG") + b"\r\n--xx--\r\n", b"\2" + encoded("JPEG")]
    return [*files, b"\3" + json.dumps(review).encode(), b"\4hello"]


READERS: dict[str, Reader] = {
    "image": Reader(_read_image, _images, ("flawmap.data.images", "PIL")),
    "tiff": Reader(_read_image, _tiffs, ("flawmap.data.images", "PIL")),
    "dicom": Reader(_read_image, _dicoms, ("flawmap.data.images", "pydicom")),
    "mask": Reader(_read_mask, lambda: _images() + _tiffs(), ("flawmap.data.images",)),
    "manifest": Reader(_read_manifest, _manifests, ("flawmap.data", "csv")),
    "annotations": Reader(_read_annotations, _annotations, ("flawmap.data.annotations",)),
    "recipe": Reader(_read_recipe, _recipes, ("flawmap.recipe", "yaml")),
    "calibration": Reader(_read_calibration, _calibrations, ("flawmap.runs",)),
    "reviews": Reader(_read_reviews, _reviews, ("flawmap.deploy", "csv")),
    "upload": Reader(_read_upload, _uploads, ("flawmap.deploy", "flawmap.data.images", "python_multipart")),
}


def mutated(seed: bytes, generator: np.random.Generator) -> bytes:
    """A seed with a few bytes changed, cut out, repeated or added: what the short form of the test tries."""
    data = bytearray(seed)
    for _ in range(int(generator.integers(1, 5))):
        at = int(generator.integers(0, len(data) + 1))
        length = int(generator.integers(1, 9))
        match int(generator.integers(0, 5)):
            case 0:
                data[at : at + length] = generator.integers(0, 256, length, np.uint8).tobytes()
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = data[at : at + length]
            case 3:
                data[at : at + 1] = bytes([int(generator.choice([0, 1, 127, 128, 255]))])
            case _:
                del data[at:]
    return bytes(data)


def mutations(reader: Reader, count: int, seed: int) -> Iterator[bytes]:
    """``count`` inputs near a reader's seeds, always the same ones."""
    generator, seeds = np.random.default_rng(seed), reader.seeds()
    for number in range(count):
        yield mutated(seeds[number % len(seeds)], generator)

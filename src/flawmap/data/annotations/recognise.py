"""What a file beside images is: annotations of another tool, or an archive; told by its name and a part of its content.

Nothing is parsed here: a key that is looked for may lie anywhere in the file's first or last 64 kB.
"""

import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PART_BYTES = 65_536  # labelme stores the whole image inside its file, with keys of interest before or after it
CONVERTED = "flawmap manifest DATA turns them into a manifest"
EXPORT = "not read: export them as COCO, YOLO, Pascal VOC or labelme, which flawmap manifest DATA turns into a manifest"
LISTED = "not read: list the images in a manifest.csv with the columns image, split and label"
UNPACK = "unpack it"


@dataclass(frozen=True)
class Recognised:
    """What a file is.

    Attributes:
        name: such as "COCO annotations", the same for all files of a kind.
        advice: what to do with it.
    """

    name: str
    advice: str

    def __str__(self) -> str:
        return f"{self.name}; {self.advice}"


COCO = Recognised("COCO annotations", CONVERTED)
YOLO = Recognised("YOLO labels", CONVERTED)
YOLO_NAMES = Recognised("YOLO class names", CONVERTED)
VOC = Recognised("Pascal VOC annotations", CONVERTED)
LABELME = Recognised("labelme annotations", CONVERTED)

MAGIC = (  # first bytes of archives; only zip, and formats built on it, begin with PK
    (b"PK\x03\x04", "zip archive"),
    (b"PK\x05\x06", "zip archive"),
    (b"\xfd7zXZ\x00", "xz archive"),
    (b"\x1f\x8b", "gzip archive"),
    (b"BZh", "bzip2 archive"),
    (b"7z\xbc\xaf\x27\x1c", "7z archive"),
    (b"Rar!\x1a\x07", "rar archive"),
    (b"\x28\xb5\x2f\xfd", "zstd archive"),
)
TAR_MAGIC, TAR_MAGIC_AT = b"ustar", 257

# The first line whose keys are all in a JSON file names it; "|" separates alternatives.
JSON_KEYS: tuple[tuple[tuple[str, ...], Recognised], ...] = (
    (("source-ref",), Recognised("SageMaker or Lookout manifest (JSON lines)", LISTED)),
    (("_via_settings|_via_img_metadata|region_attributes|shape_attributes",), Recognised("VIA annotations", EXPORT)),
    (("rectanglelabels|polygonlabels|brushlabels",), Recognised("Label Studio annotations", EXPORT)),
    (("annotations", "result"), Recognised("Label Studio annotations", EXPORT)),
    (("shapes", "imagePath|shape_type"), LABELME),
    (("annotations", "coordinates"), Recognised("CreateML annotations", EXPORT)),
    (("objects", "classTitle|geometryType"), Recognised("Supervisely annotations", EXPORT)),
    (("data_row",), Recognised("Labelbox annotations", EXPORT)),
    (("items", "annotations", "label_id"), Recognised("Datumaro annotations", EXPORT)),
    (("images", "annotations|file_name"), COCO),
    (("image_id", "annotations|bbox|segmentation", "file_name|images|iscrowd|area"), COCO),
    (("image_id", "score", "bbox|segmentation"), Recognised("COCO detection results", LISTED)),
)
CSV_COLUMNS: tuple[tuple[tuple[str, ...], Recognised], ...] = (
    (("region_shape_attributes",), Recognised("VIA annotations", EXPORT)),
    (("image_path", "label"), Recognised("anomalib list of images", LISTED)),
    (("filename", "xmin", "ymax"), Recognised("TensorFlow boxes", EXPORT)),
    (("imageid", "xmin", "ymax"), Recognised("Open Images boxes", EXPORT)),
    (("image", "split", "label"), Recognised("manifest", "open it itself: its path is a data location")),
)


def recognised(path: Path) -> Recognised | None:
    """What a file is, if it is a known annotation file or an archive; None for anything else.

    At most 128 kB are read. A file that cannot be opened is None, too.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            head, tail = file.read(PART_BYTES), b""
            if size > PART_BYTES:
                file.seek(max(PART_BYTES, size - PART_BYTES))
                tail = file.read(PART_BYTES)
    except OSError:
        return None
    for magic, name in MAGIC:
        if head.startswith(magic):
            return Recognised(name, UNPACK)
    if head[TAR_MAGIC_AT : TAR_MAGIC_AT + len(TAR_MAGIC)] == TAR_MAGIC:
        return Recognised("tar archive", UNPACK)
    text = _text(head)
    if text is None:
        return None
    begin = text.lstrip()[:1]
    if begin and begin in "{[":
        return _by_json_keys(text + (_text(tail) or ""))
    if begin == "<":
        return _by_xml_tags(text)
    by_suffix: dict[str, Callable[[str], Recognised | None]] = {
        ".csv": _by_columns,
        ".txt": _by_numbers,
        ".yaml": _by_yaml_keys,
        ".yml": _by_yaml_keys,
    }
    by_content = by_suffix.get(path.suffix.lower())
    return by_content(text) if by_content else None


def _text(data: bytes) -> str | None:
    """Text as far as it is there; None for binary content."""
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if data.startswith(mark):
            return data.decode(encoding, errors="replace")
    return None if b"\0" in data else data.decode("utf-8", errors="replace")


def _by_json_keys(text: str) -> Recognised | None:
    keys = set(re.findall(r'"([\w-]+)"\s*:', text))
    return next((known for wanted, known in JSON_KEYS if _has_all(keys, wanted)), None)


def _by_columns(text: str) -> Recognised | None:
    header = text.lstrip().partition("\n")[0].lower()
    names = {name.strip().strip('"') for name in re.split(r"[,;\t]", header)}
    return next((known for wanted, known in CSV_COLUMNS if _has_all(names, wanted)), None)


def _has_all(names: set[str], wanted: tuple[str, ...]) -> bool:
    return all(names & set(alternatives.split("|")) for alternatives in wanted)


def _by_xml_tags(text: str) -> Recognised | None:
    if re.search(r"<annotations[\s>]", text) and re.search(r"<(image|track)[\s>]", text):
        return Recognised("CVAT annotations", EXPORT)
    if re.search(r"<annotation[\s>]", text) and re.search(r"<(filename|object|size)[\s>/]", text):
        return VOC
    return None


def _by_numbers(text: str) -> Recognised | None:
    """Lines of a class number and at least four numbers of which all, or nearly all, are shares of the image."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if len(text) >= PART_BYTES // 2:
        lines = lines[:-1]  # the last one may be cut
    is_label = bool(lines) and all(
        len(line) >= 5 and line[0].isdigit() and all(_is_share(value) for value in line[1:]) for line in lines
    )
    return YOLO if is_label else None


def _is_share(value: str) -> bool:
    return re.fullmatch(r"-?[01]?(\.\d*)?([eE]-?\d+)?", value) is not None and value not in ("", "-", ".")


def _by_yaml_keys(text: str) -> Recognised | None:
    keys = set(re.findall(r"^(\w+)\s*:", text, re.MULTILINE))
    return YOLO_NAMES if "names" in keys and keys & {"train", "val", "test", "nc"} else None

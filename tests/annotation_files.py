"""Images and annotation files of other tools, as small as they can be."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flawmap.data.annotations.image_names import ImageNames
from images import noise, write_image

WIDTH, HEIGHT = 16, 12  # of the images


def write_images(folder: Path, names: Sequence[str]) -> list[Path]:
    return [write_image(folder / name, noise(seed, HEIGHT, WIDTH)) for seed, name in enumerate(names)]


def names_below(folder: Path) -> ImageNames:
    return ImageNames(sorted(folder.rglob("*.png")))


def coco(names: Sequence[str], *annotations: Mapping[str, Any], **further: Any) -> dict[str, Any]:
    """Images 1, 2, ... of the usual size, and annotations of them; category 1 is called scratch."""
    return {
        "images": [
            {"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT}
            for number, name in enumerate(names, start=1)
        ],
        "annotations": [{"id": n, "image_id": 1, "category_id": 1, **values} for n, values in enumerate(annotations)],
        "categories": [{"id": 1, "name": "scratch"}, {"id": 2, "name": "hole"}, {"id": 3, "name": "Good"}],
        **further,
    }


def labelme(image: str | None, *shapes: Mapping[str, Any], **further: Any) -> dict[str, Any]:
    content = {"version": "5.2", "flags": {}, "shapes": list(shapes), "imagePath": image, "imageData": None}
    return content | {"imageWidth": WIDTH, "imageHeight": HEIGHT} | further


def rectangle(*points: Sequence[float], label: str = "scratch", **further: Any) -> dict[str, Any]:
    return {"label": label, "points": [list(point) for point in points], "shape_type": "rectangle", **further}


def voc(filename: str | None, *objects: tuple[str, Sequence[float]], size: str | None = None) -> str:
    """A file with objects (name, (xmin, ymin, xmax, ymax)); ``size`` is the content of its element."""
    name = f"<filename>{filename}</filename>" if filename is not None else ""
    if size is None:
        size = f"<width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth>"
    entries = [
        f"<object><name>{kind}</name><difficult>0</difficult><bndbox>"
        + "".join(
            f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        )
        + "</bndbox></object>"
        for kind, box in objects
    ]
    return f"<annotation><folder>x</folder>{name}<size>{size}</size>{''.join(entries)}</annotation>"


def write_text(path: Path, text: str | Mapping[str, Any], encoding: str = "utf-8") -> Path:
    """Write text, or JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((text if isinstance(text, str) else json.dumps(text)).encode(encoding))
    return path

"""Small and large pictures of images for the pages, made by the reader that the model uses, and kept on the disk."""

import hashlib
import io
import os
import secrets
import threading
from pathlib import Path

from PIL import Image

from flawmap.data.images.files import decode_upright, read_file
from flawmap_studio.image_list import StudioImage
from flawmap_studio.place import Place

THUMBNAIL_PX, LARGE_PX = 192, 1400  # the longer side
KEPT_BYTES = 300_000_000  # of thumbnails; about 50,000
AT_ONCE = 2  # large images that are decoded at the same time, which bounds the server's memory
QUALITY = {THUMBNAIL_PX: 78, LARGE_PX: 92}


class Pictures:
    """JPEG pictures of images. Thumbnails are kept until the image changes; large ones are made each time."""

    def __init__(self, place: Place) -> None:
        self._place, self._folder = place, place.own / "thumbnails"
        self._decoding = threading.Semaphore(AT_ONCE)
        self._folder.mkdir(parents=True, exist_ok=True)

    def thumbnail(self, image: StudioImage) -> bytes:
        """JPEG of at most 192 px.

        Raises:
            UserError: the image is gone or cannot be decoded.
        """
        version = f"{image.path}|{image.size_bytes}|{image.mtime_ns}"
        name = hashlib.sha256(version.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        kept = self._folder / name[:2] / f"{name}.jpg"
        try:
            return kept.read_bytes()
        except FileNotFoundError:
            content = self._drawn(image, THUMBNAIL_PX)
        unfinished = kept.with_name(f".{secrets.token_hex(6)}")
        kept.parent.mkdir(exist_ok=True)
        unfinished.write_bytes(content)
        os.replace(unfinished, kept)
        return content

    def large(self, image: StudioImage) -> bytes:
        """JPEG of at most 1400 px.

        Raises:
            UserError: as :meth:`thumbnail`.
        """
        return self._drawn(image, LARGE_PX)

    def size_px(self, image: StudioImage) -> tuple[int, int]:
        """Width and height of the upright image.

        Raises:
            UserError: as :meth:`thumbnail`.
        """
        with self._decoding:
            return self._decoded(image).size

    def prune(self, kept_bytes: int = KEPT_BYTES) -> None:
        """Remove the oldest thumbnails where there are too many; the originals are elsewhere, and stay."""
        files = [(path.stat(), path) for path in self._folder.glob("*/*.jpg")]
        excess = sum(status.st_size for status, _ in files) - kept_bytes
        for status, path in sorted(files, key=lambda item: item[0].st_mtime_ns):
            if excess <= 0:
                return
            path.unlink(missing_ok=True)
            excess -= status.st_size

    def _drawn(self, image: StudioImage, longest_px: int) -> bytes:
        with self._decoding:
            picture = self._decoded(image).convert("RGB")
            picture.thumbnail((longest_px, longest_px), Image.Resampling.BILINEAR, reducing_gap=2.0)
            file = io.BytesIO()
            picture.save(file, "JPEG", quality=QUALITY[longest_px])
            return file.getvalue()

    def _decoded(self, image: StudioImage) -> Image.Image:
        path: Path = self._place.existing(image.path)
        return decode_upright(read_file(path), place=image.path)

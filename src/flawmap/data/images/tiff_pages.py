"""The pages of a TIFF file, and which of them is the image."""

import struct
from dataclasses import dataclass, field

from flawmap.errors import UserError

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
STRIP_OFFSETS, ORIENTATION, CHANNELS, ROWS_PER_STRIP, STRIP_BYTES, PLANAR = 273, 274, 277, 278, 279, 284
PREDICTOR, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES = 317, 322, 323, 324, 325
NEW_SUBFILE_TYPE, SUBFILE_TYPE, SUB_PAGES, EXTRA_SAMPLES, SAMPLE_FORMAT, JPEG_TABLES = 254, 255, 330, 338, 339, 347
REDUCED, MASK = 1, 4  # bits of NEW_SUBFILE_TYPE
INTEGERS = {
    1: "B",
    3: "H",
    4: "I",
    6: "b",
    7: "B",
    8: "h",
    9: "i",
    13: "I",
    16: "Q",
    17: "q",
    18: "Q",
}  # by type of tag
MAX_PAGES, MAX_TAGS, MAX_NUMBERS = 1000, 1000, 1_000_000  # more would only keep the reader busy
THUMBNAIL = 0.25  # a page with less than this share of the largest page's pixels is not worth a remark


@dataclass(frozen=True)
class Page:
    """One page, whose tags are read when they are asked for.

    Attributes:
        data: the whole file.
        order: "<" or ">", the order of its bytes.
        offset: where the page's directory begins.
        tags: by number: the type, the count and the place of the values.
    """

    data: bytes = field(repr=False)
    order: str
    offset: int
    tags: dict[int, tuple[int, int, int]]

    @property
    def width(self) -> int:
        """In pixels, before rotation."""
        return self.number(WIDTH)

    @property
    def height(self) -> int:
        """In pixels, before rotation."""
        return self.number(HEIGHT)

    @property
    def is_reduced_or_mask(self) -> bool:
        """Whether the file says that this is a smaller copy of another page, or another page's mask."""
        return bool(self.number(NEW_SUBFILE_TYPE, 0) & (REDUCED | MASK)) or self.number(SUBFILE_TYPE, 1) == 2

    def number(self, tag: int, default: int | None = None) -> int:
        """The only or first value of a tag.

        Raises:
            OSError: the tag is missing, and there is no default; or its value is not an integer.
        """
        return self.numbers(tag, None if default is None else (default,))[0]

    def numbers(self, tag: int, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """All values of a tag.

        Raises:
            OSError: as :meth:`number`.
        """
        if tag not in self.tags:
            if default is None:
                raise OSError(f"TIFF tag {tag} is missing")
            return default
        kind, count, at = self.tags[tag]
        if kind not in INTEGERS or not 0 < count <= MAX_NUMBERS:
            raise OSError(f"TIFF tag {tag} is invalid")
        try:
            return struct.unpack_from(f"{self.order}{count}{INTEGERS[kind]}", self.data, at)
        except (struct.error, OverflowError) as error:
            raise OSError("truncated") from error


def read_pages(data: bytes) -> tuple[list[Page], bool]:
    """The pages of a file, at most ``MAX_PAGES``, and whether the list of pages breaks off.

    Raises:
        OSError: there is no page.
    """
    order = "<" if data[:2] == b"II" else ">"
    is_big = data[2:4] in (b"+\0", b"\0+")
    pages: list[Page] = []
    seen = set()
    try:
        (offset,) = struct.unpack_from(f"{order}Q" if is_big else f"{order}I", data, 8 if is_big else 4)
        while offset and offset not in seen and len(pages) < MAX_PAGES:
            seen.add(offset)
            page, offset = _read_page(data, order, offset, is_big)
            pages.append(page)
    except (OSError, struct.error, OverflowError) as error:
        if not pages:
            raise OSError("truncated") from error
        return pages, True
    if not pages:
        raise OSError("there is no page")
    return pages, False


def choose_page(pages: list[Page], is_broken: bool) -> tuple[Page, tuple[str, ...]]:
    """The page that is the image, and remarks: the largest, and the first among equally large ones.

    Thumbnails and reduced copies may come before or after it.

    Raises:
        UserError: the image is in a sub-page, as in camera raw files.
    """
    full = [page for page in pages if not page.is_reduced_or_mask]
    if not full and any(SUB_PAGES in page.tags for page in pages):
        problem = f"only a preview of {pages[0].width} x {pages[0].height} px is a page of this TIFF: it is camera raw"
        raise UserError(problem, "", "develop it, and save it as PNG or TIFF, with the same settings for every image")
    candidates = full or pages  # some programs mark all pages as reduced
    areas = [page.width * page.height for page in candidates]
    chosen = candidates[areas.index(max(areas))]
    remarks = []
    if is_broken:
        remarks.append(f"the list of pages breaks off after {len(pages)}: the file may be damaged")
    if sum(area > THUMBNAIL * max(areas) for area in areas) > 1:
        number = pages.index(chosen)
        which = "the first" if number == 0 else f"page {number + 1}, the largest,"
        remarks.append(f"{len(pages)}{'' if len(pages) < MAX_PAGES else ' or more'} pages; {which} is read")
    return chosen, tuple(remarks)


def with_first_page(page: Page) -> bytes:
    """The file, with this page as its first."""
    is_big = page.data[2:4] in (b"+\0", b"\0+")
    at, kind = (8, "Q") if is_big else (4, "I")
    pointer = struct.pack(f"{page.order}{kind}", page.offset)
    if page.data[at : at + len(pointer)] == pointer:
        return page.data
    return page.data[:at] + pointer + page.data[at + len(pointer) :]


def with_own_page(data: bytes, tags: dict[int, tuple[int, ...]]) -> bytes:
    """The bytes of a file behind a header and a directory of one page with these tags."""
    at = len(data) + len(data) % 2
    values_at = at + 2 + 12 * len(tags) + 4
    entries, values = struct.pack("<H", len(tags)), b""
    for tag, numbers in sorted(tags.items()):
        packed = struct.pack(f"<{len(numbers)}I", *numbers)
        entries += struct.pack("<HHI", tag, 4, len(numbers))
        if len(packed) == 4:
            entries += packed
        else:
            entries += struct.pack("<I", values_at + len(values))
            values += packed
    return b"".join((b"II*\0", struct.pack("<I", at), data[8:], bytes(len(data) % 2), entries, bytes(4), values))


def _read_page(data: bytes, order: str, offset: int, is_big: bool) -> tuple[Page, int]:
    """The page at an offset, and the offset of the next, 0 if there is none."""
    (count,) = struct.unpack_from(f"{order}Q" if is_big else f"{order}H", data, offset)
    entry, pointer, inline_bytes, at = ("HHQ", "Q", 8, offset + 8) if is_big else ("HHI", "I", 4, offset + 2)
    tags: dict[int, tuple[int, int, int]] = {}
    size = struct.calcsize(f"={entry}") + inline_bytes
    if count > MAX_TAGS or at + count * size > len(data):
        raise OSError("truncated")
    for number in range(count):
        tag, kind, num_values = struct.unpack_from(f"{order}{entry}", data, at + number * size)
        values_at = at + number * size + size - inline_bytes
        if struct.calcsize(f"={INTEGERS.get(kind, 'B')}") * num_values > inline_bytes:
            (values_at,) = struct.unpack_from(f"{order}{pointer}", data, values_at)
        tags.setdefault(tag, (kind, num_values, values_at))
    page = Page(data, order, offset, tags)
    if page.width <= 0 or page.height <= 0:
        raise OSError("a page without pixels")
    (following,) = struct.unpack_from(f"{order}{pointer}", data, at + count * size)
    return page, following

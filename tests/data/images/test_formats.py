"""What kind of file it is, by its content, and what is said about one that is not read."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from assertions import explained, mistake
from flawmap.data.images.files import IMAGE_SUFFIXES, read_image
from flawmap.data.images.formats import (
    HEAD_BYTES,
    OTHER_REMEDIES,
    PICTURE_REMEDIES,
    READ_FORMATS,
    SIGNATURES,
    format_of,
    not_read,
)
from images import noise, write_image

KNOWN = "(PNG, JPEG, BMP, TIFF, WebP, PGM/PPM, DICOM are read)"


def encoded(pillow_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    try:
        Image.fromarray(noise(0, 32, 32)).save(file, pillow_format, **options)
    except (KeyError, OSError):
        pytest.skip(f"this Pillow does not write {pillow_format}")
    return file.getvalue()


@pytest.mark.parametrize(
    ("pillow_format", "name"),
    [
        *(("PNG", "PNG"), ("JPEG", "JPEG"), ("BMP", "BMP"), ("TIFF", "TIFF"), ("WEBP", "WebP"), ("PPM", "PGM/PPM")),
        *(("GIF", "GIF"), ("JPEG2000", "JPEG 2000"), ("AVIF", "AVIF"), ("TGA", "TGA"), ("ICO", "ICO"), ("PCX", "PCX")),
        *(("DDS", "DDS"), ("PDF", "PDF"), ("EPS", "PostScript")),
    ],
)
def test_what_pillow_writes_is_recognised(pillow_format: str, name: str):
    assert format_of(encoded(pillow_format)[:HEAD_BYTES]) == name


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (bytes(128) + b"DICM\x02\0\0\0", "DICOM"),
        (b"II*\0" + bytes(124) + b"DICM", "DICOM"),  # a preamble for programs that know TIFF only
        (b"MM\0+\0\x08\0\0", "TIFF"),
        (b"\xff\x4f\xff\x51\0\x2f", "JPEG 2000"),
        (b"\xff\xd8\xff\xf7\0\x0b", "JPEG-LS"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0", "HEIC"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "video"),
        (b"RIFF\0\0\0\0AVI LIST", "video"),
        (b"RIFF\0\0\0\0WAVEfmt ", None),
        (b"P5 4 4 255 ", "PGM/PPM"),
        (b"P2\n# made by a camera\n4 4\n15\n", "PGM/PPM"),
        (b"P7\nWIDTH 4\n", "PAM"),
        (b"P5", None),
        (b"PNG is a format", None),
        (b"BM is the name of a road", None),
        (b"BM" + struct.pack("<IHHII", 100, 0, 0, 54, 124), "BMP"),
        (b"\xef\xbb\xbf\n<!DOCTYPE html><svg/>", "HTML"),
        (b"  <HTML><HEAD>", "HTML"),
        (b"<!-- " + b"x" * 700 + b" --><html>", "HTML"),
        (b'<?xml version="1.0"?><!-- drawn --><svg xmlns="http://www.w3.org/2000/svg"><title>', "SVG"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS pointer"),
        (b"/annex/objects/SHA256E-s10--00.png\n", "git-annex pointer"),
        (b"\0\x05\x16\x07\0\x02\0\0Mac OS X        ", "AppleDouble"),
        (b"II*\0\x10\0\0\0CR\x02\0", "camera raw"),
        (b"PK\x03\x04", "ZIP"),
        (b"\x93NUMPY\x01\0", "NumPy array"),
        (b"", None),
        (b"P", None),
        (bytes(HEAD_BYTES), None),
        (b"no image at all", None),
    ],
)
def test_what_a_head_says(head: bytes, name: str | None):
    assert format_of(head[:HEAD_BYTES]) == name


def test_random_bytes_are_no_picture():
    names = [format_of(np.random.default_rng(seed).bytes(64)) for seed in range(500)]
    assert names.count(None) >= 498  # TGA and ICO have weak signatures


def test_every_format_that_is_not_read_has_a_remedy():
    names = {name for _, name in SIGNATURES} | {"AVIF", "HEIC", "ICO", "SVG", "HTML", "XML", "TGA", "video"}
    assert names - set(READ_FORMATS) == set(PICTURE_REMEDIES) | set(OTHER_REMEDIES)
    assert not set(PICTURE_REMEDIES) & (set(OTHER_REMEDIES) | set(READ_FORMATS))


def test_the_picture_of_a_part_is_never_to_be_removed():
    assert all("PNG" in remedy and "remove" not in remedy for remedy in PICTURE_REMEDIES.values())
    assert not_read(None) == (f"not an image {KNOWN}", "if it is a picture, save it as PNG; if not, remove it")


@pytest.mark.parametrize("name", ["part.png", "part.jpg", "part.gif", "part"])
@pytest.mark.parametrize("pillow_format", ["GIF", "JPEG2000", "AVIF", "TGA", "ICO"])
def test_a_picture_that_is_not_read_is_named_with_what_to_do(pillow_format: str, name: str, tmp_path):
    (tmp_path / name).write_bytes(encoded(pillow_format))
    said = explained(lambda: read_image(tmp_path / name))
    assert said.problem == f"{pillow_format.replace('JPEG2000', 'JPEG 2000')} is not read"
    assert said.place == str(tmp_path / name) and said.remedy.startswith("save it as PNG")


@pytest.mark.parametrize(
    ("content", "problem", "remedy"),
    [
        (b"<html><body>404 Not Found</body></html>", "not an image: HTML", "download it again"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not an image: Git LFS pointer", "git lfs pull"),
        (b"\0\x05\x16\x07\0\x02\0\0Mac OS X", "not an image: AppleDouble", "remove it"),
        (b"no image at all", f"not an image {KNOWN}", "if it is a picture, save it as PNG"),
    ],
)
def test_a_file_that_holds_no_picture_is_named(content: bytes, problem: str, remedy: str, tmp_path):
    (tmp_path / "part.png").write_bytes(content)
    with mistake(problem, tmp_path / "part.png", remedy):
        read_image(tmp_path / "part.png")


# ---- WebP and PGM/PPM are read


def test_suffixes_are_in_lower_case_and_unique():
    assert len(set(IMAGE_SUFFIXES)) == len(IMAGE_SUFFIXES)
    assert {".webp", ".pgm", ".ppm", ".pnm"} <= set(IMAGE_SUFFIXES)
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in IMAGE_SUFFIXES)


@pytest.mark.parametrize("name", ["part.webp", "part.png", "part"])
def test_lossless_webp_is_exact(name: str, tmp_path):
    (tmp_path / name).write_bytes(encoded("WEBP", lossless=True))
    assert np.array_equal(read_image(tmp_path / name), noise(0, 32, 32))


@pytest.mark.parametrize(
    ("content", "gray"),
    [
        (b"P5\n3 1\n255\n\x00\x80\xff", [0, 128, 255]),
        (b"P5 # a comment\n3 1\n65535\n\x00\x00\x80\x00\xff\xff", [0, 128, 255]),  # 32768 / 257 = 127.5
        (b"P5\n3 1\n4095\n\x00\x00\x08\x00\x0f\xff", [0, 128, 255]),  # 2048 / 4095 of 255 is 127.5: the file says
        (b"P2\n3 1\n15\n0 5 15\n", [0, 85, 255]),  # what is white, so 12 bits are not dark
        (b"P4\n3 1\n\x40", [255, 0, 255]),  # a set bit is black
        (b"P6\n1 1\n255\n\x01\x02\x03", None),
    ],
)
def test_portable_maps(content: bytes, gray: list[int] | None, tmp_path):
    (tmp_path / "part.pgm").write_bytes(content)
    pixels = read_image(tmp_path / "part.pgm")
    assert pixels.tolist() == ([[[value] * 3 for value in gray]] if gray else [[[1, 2, 3]]])


def test_a_portable_map_that_ends_early_is_an_error(tmp_path):
    path = write_image(tmp_path / "part.ppm", noise(0))
    path.write_bytes(path.read_bytes()[:-1])
    assert "truncated" in explained(lambda: read_image(path)).problem

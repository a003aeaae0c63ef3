"""What kind of file it is, by its first bytes, whatever it is called; and what to do with one that is not read."""

from flawmap.data.images.dicom import is_dicom

READ_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WebP", "PGM/PPM", "DICOM")
HEAD_BYTES = 1024  # what format_of needs: a web page may begin with comments

BMP_HEADER_BYTES = (12, 16, 40, 52, 56, 64, 108, 124)  # the sizes of its versions; "BM" alone may begin a text
TGA_KINDS = (1, 2, 3, 9, 10, 11)
TGA_BITS = (8, 15, 16, 24, 32)

SIGNATURES = (  # the first that fits: longer ones stand before those that they begin with
    (b"\x89PNG", "PNG"),
    (b"\xff\xd8\xff\xf7", "JPEG-LS"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"II*\0\x10\0\0\0CR", "camera raw"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),  # BigTIFF: offsets of 64 bits
    (b"MM\0+", "TIFF"),
    (b"IIU\0", "camera raw"),
    (b"IIRO", "camera raw"),
    (b"IIRS", "camera raw"),
    (b"FUJIFILMCCD-RAW", "camera raw"),
    (b"II\xbc", "JPEG XR"),
    (b"GIF8", "GIF"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"8BPS", "Photoshop"),
    (b"gimp xcf", "GIMP"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"#?RGBE", "Radiance HDR"),
    (b"PF\n", "PFM"),
    (b"Pf\n", "PFM"),
    (b"P7\n", "PAM"),
    (b"DDS ", "DDS"),
    (b"qoif", "QOI"),
    (b"SIMPLE  =", "FITS"),
    (b"\x0a\x05\x01", "PCX"),
    (b"\x93NUMPY", "NumPy array"),
    (b"\x89HDF\r\n", "HDF5"),
    (b"MATLAB ", "MATLAB"),
    (b"\0\x05\x16\x07", "AppleDouble"),
    (b"\0\x05\x16\0", "AppleDouble"),
    (b"version https://git-lfs", "Git LFS pointer"),
    (b"version https://hawser", "Git LFS pointer"),  # its first name
    (b"/annex/objects/", "git-annex pointer"),
    (b"PK\x03\x04", "ZIP"),
    (b"PK\x05\x06", "ZIP"),
    (b"\x1f\x8b", "gzip"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    (b"Rar!", "RAR"),
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"\x1aE\xdf\xa3", "video"),
    (b"\xd0\xcf\x11\xe0", "Windows compound file"),  # such as Thumbs.db
    (b"L\0\0\0\x01\x14\x02\0", "Windows shortcut"),
)
RIFF_KINDS = {b"WEBP": "WebP", b"AVI ": "video"}
MEDIA_BRANDS = {  # what follows "ftyp" in files made of boxes
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"),
    b"crx ": "camera raw",
}

EXACT_COPY = "save it as PNG or TIFF, with 16 bits if it has more than 8"
PICTURE_REMEDIES = {  # formats that may hold the picture of a part
    **dict.fromkeys(("GIF", "ICO", "PCX", "QOI", "TGA", "SVG", "DDS", "Photoshop", "GIMP"), "save it as PNG"),
    **dict.fromkeys(("AVIF", "HEIC", "JPEG 2000", "JPEG-LS", "JPEG XL", "JPEG XR", "PAM", "FITS"), EXACT_COPY),
    **dict.fromkeys(("PFM", "OpenEXR", "Radiance HDR", "NumPy array", "HDF5", "MATLAB"), EXACT_COPY),
    "camera raw": "develop it, and save it as PNG or TIFF, with the same settings for every image",
    "PDF": "export its images as PNG",
    "PostScript": "export its images as PNG",
    "video": "save its frames as PNG",
}
OTHER_REMEDIES = {
    "HTML": "download it again: this is a web page, often one that says why the download failed",
    "XML": "download it again: it holds text, such as an error message",
    "Git LFS pointer": "fetch the file that it stands for: git lfs pull",
    "git-annex pointer": "fetch the file that it stands for: git annex get",
    "AppleDouble": "remove it: macOS keeps a file's attributes in it, and no picture",
    "Windows compound file": "remove it",
    "Windows shortcut": "copy the file that it points to",
    **dict.fromkeys(("ZIP", "gzip", "7-Zip", "RAR"), "unpack it"),
}


def format_of(head: bytes) -> str | None:
    """The name of a file's format, for people; those in ``READ_FORMATS`` are read.

    Args:
        head: the first ``HEAD_BYTES`` bytes of the file, or all.

    Returns:
        None if the format is not recognised.
    """
    if is_dicom(head):  # first: its preamble may begin as a TIFF file does
        return "DICOM"
    for signature, name in SIGNATURES:
        if head.startswith(signature):
            return name
    if head[:4] == b"RIFF":
        return RIFF_KINDS.get(head[8:12])
    if head[4:8] == b"ftyp":
        return MEDIA_BRANDS.get(head[8:12], "video")
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in BMP_HEADER_BYTES:
        return "BMP"
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3] in b" \t\r\n#" and len(head) > 2:
        return "PGM/PPM"
    if head[:4] in (b"\0\0\1\0", b"\0\0\2\0") and head[4:6] != b"\0\0" and head[9:10] == b"\0":
        return "ICO"
    return _markup(head) or ("TGA" if _is_tga(head) else None)


def not_read(name: str | None) -> tuple[str, str]:
    """What is wrong with a file of a format that is not read, and what to do.

    Args:
        name: as :func:`format_of` gives it.
    """
    if name is None:
        known = ", ".join(READ_FORMATS)
        return f"not an image ({known} are read)", "if it is a picture, save it as PNG; if not, remove it"
    if name in PICTURE_REMEDIES:
        return f"{name} is not read", PICTURE_REMEDIES[name]
    return f"not an image: {name}", OTHER_REMEDIES[name]


def _markup(head: bytes) -> str | None:
    """A text of tags, whose first tag may follow declarations and comments."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not text.startswith(b"<"):
        return None
    if b"<!doctype html" in text or b"<html" in text:
        return "HTML"  # it may hold drawings
    if b"<svg" in text:
        return "SVG"
    if any(tag in text for tag in (b"<head", b"<body", b"<title")):
        return "HTML"
    return "XML" if text.startswith(b"<?xml") else None


def _is_tga(head: bytes) -> bool:
    """A plausible header: TGA has no signature at its beginning."""
    if len(head) < 18 or head[1] > 1 or head[2] not in TGA_KINDS or head[16] not in TGA_BITS or head[17] & 0xC0:
        return False
    has_palette = head[2] in (1, 9)
    width, height = int.from_bytes(head[12:14], "little"), int.from_bytes(head[14:16], "little")
    return width > 0 and height > 0 and has_palette == bool(head[1]) and (has_palette or not any(head[3:8]))

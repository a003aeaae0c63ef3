"""Which DICOM files hold no image: told from the class in the file's header, before anything is decoded."""

from flawmap.data.images.dicom import MAGIC, MAGIC_AT

WITHOUT_IMAGE = {  # how the UIDs of such classes begin
    "1.2.840.10008.1.3.10": "the list of a medium's files",
    "1.2.840.10008.5.1.4.1.1.88.": "a structured report",
    "1.2.840.10008.5.1.4.1.1.11.": "a presentation state",
    "1.2.840.10008.5.1.4.1.1.104.": "a document",
    "1.2.840.10008.5.1.4.1.1.9.": "a waveform",
    "1.2.840.10008.5.1.4.1.1.66.1": "a registration",
    "1.2.840.10008.5.1.4.1.1.66.2": "fiducials",
    "1.2.840.10008.5.1.4.1.1.481.3": "structures of a radiotherapy",
    "1.2.840.10008.5.1.4.1.1.481.4": "a record of a radiotherapy",
    "1.2.840.10008.5.1.4.1.1.481.5": "a plan of a radiotherapy",
}
CLASS_TAG = b"\x02\0\x02\0"  # (0002,0002), in the group that is always explicit and little-endian
LONG_TYPES = (b"OB", b"OW", b"SQ", b"UN", b"UT")


def what_without_image(head: bytes) -> str | None:
    """What a DICOM file is that holds no image; None if it may hold one.

    Args:
        head: the first 1024 bytes of the file, or all.
    """
    uid = _class_of(head)
    return next((what for prefix, what in WITHOUT_IMAGE.items() if uid.startswith(prefix)), None)


def _class_of(head: bytes) -> str:
    """The UID of the file's class; empty if its header does not name one."""
    at = MAGIC_AT + len(MAGIC)
    if head[MAGIC_AT:at] != MAGIC:
        return ""
    while head[at : at + 2] == CLASS_TAG[:2]:
        is_long = head[at + 4 : at + 6] in LONG_TYPES
        start, length_at = (at + 12, slice(at + 8, at + 12)) if is_long else (at + 8, slice(at + 6, at + 8))
        end = start + int.from_bytes(head[length_at], "little")
        if head[at : at + 4] == CLASS_TAG:
            return head[start:end].rstrip(b"\0 ").decode("ascii", "replace")
        at = end
    return ""

"""DICOM files for tests, written by pydicom: any stored values, any field changed or left out, truly compressed."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)  # every 12-bit value once
EIGHT_BITS = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
SIXTEEN_BITS = {"BitsStored": 16, "HighBit": 15}
RGB = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0, **EIGHT_BITS}
ALL_12_BITS = {"WindowCenter": 2048, "WindowWidth": 4096}
MISSING = object()  # a field that is left out
# 16 x 12 px of 300 * row + 20 * column, coded by OpenJPH: no installable encoder of Python writes HTJ2K
HTJ2K = bytes.fromhex(
    "ff4fff5100294000000000100000000c0000000000000000000000100000000c000000000000000000010f0101ff50000800020000000aff52"
    "000c00020001000504044001ff5c00132088909090909090909090909090888888ff64001700014f70656e4a50482056657220302e32362e33"
    "2eff90000a00000000007f0001ff93c0002691f50507740000c00012c00013006c0187740010f403877400c000134000130034da01027400a7"
    "a700423400c00015300005601886fda0223082760044252a5189fac05281beb600c0002ae00016a0c61863cce78a7a70027700565ab162c58a"
    "152b56fefa10807bf64201ecba00ffd9"
)


def dicom(path: Path, stored: np.ndarray | None, **changes: Any) -> Path:
    """A file with these stored values; 12 of 16 bits are used unless ``changes`` say otherwise.

    Args:
        path: to write to.
        stored: (height, width), (frames, height, width), or colours (height, width, 3); None for no pixels at all.
        changes: fields by their keywords; ``MISSING`` leaves one out.
    """
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPClassUID, "1.2.3"
    dataset.Modality, dataset.PatientName = "DX", "Nobody"
    if stored is not None:
        dataset.Rows, dataset.Columns = stored.shape[-2:] if stored.shape[-1] != 3 else stored.shape[-3:-1]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
        dataset.PixelRepresentation = 0
        dataset.add_new("PixelData", "OW", stored.tobytes() + b"\0" * (stored.nbytes % 2))
    for name, value in changes.items():
        if value is not MISSING:
            setattr(dataset, name, value)
        elif name in dataset:
            delattr(dataset, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def item(**fields: Any) -> Any:
    """An item of a sequence."""
    dataset = pydicom.Dataset()
    for name, value in fields.items():
        setattr(dataset, name, value)
    return dataset


def table(values: Any, first: int, bits: int, **fields: Any) -> Any:
    """An item with a lookup table: a list of numbers, or bytes."""
    made = item(**fields)
    count = len(values) // (1 if bits == 8 else 2) if isinstance(values, bytes) else len(values)
    made.add_new("LUTDescriptor", "SS" if first < 0 else "US", [count, first, bits])
    made.add_new("LUTData", "OW" if isinstance(values, bytes) else "US", values)
    return made


def with_codestream(path: Path, syntax: str, frames: list[bytes], **changes: Any) -> Path:
    """The file with its pixels replaced by compressed frames."""
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = pydicom.encaps.encapsulate(frames)
    dataset["PixelData"].is_undefined_length = True
    for name, value in changes.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def compressed(path: Path, syntax: str) -> Path:
    """The file with its pixels compressed: by GDCM for JPEG Lossless, else by pydicom's encoders."""
    if syntax in ("1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"):
        return _compressed_by_gdcm(path, syntax)
    if encoder := {"80": "jpeg_ls", "81": "jpeg_ls", "90": "openjpeg"}.get(syntax.removeprefix("1.2.840.10008.1.2.4.")):
        pytest.importorskip(encoder)
    dataset = pydicom.dcmread(path)
    dataset.compress(syntax, generate_instance_uid=False)
    dataset.save_as(path, enforce_file_format=True)
    return path


def first_frame(path: Path) -> bytes:
    """The codestream of a compressed file."""
    dataset = pydicom.dcmread(path)
    return pydicom.encaps.get_frame(dataset.PixelData, 0, number_of_frames=int(dataset.get("NumberOfFrames", 1)))


def without_preamble(path: Path) -> Path:
    """The file without its first 128 bytes."""
    path.write_bytes(path.read_bytes()[128:])
    return path


def fields_alone(path: Path, implicit: bool, little_endian: bool = True) -> bytes:
    """The content of the file without preamble and file meta information."""
    out = io.BytesIO()
    fields = pydicom.Dataset(pydicom.dcmread(path))
    pydicom.dcmwrite(out, fields, implicit_vr=implicit, little_endian=little_endian, enforce_file_format=False)
    return out.getvalue()


def _compressed_by_gdcm(path: Path, syntax: str) -> Path:
    gdcm = pytest.importorskip("gdcm")
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return path

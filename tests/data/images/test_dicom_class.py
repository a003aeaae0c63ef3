"""A DICOM file that holds no image is told from its header."""

import pytest
from pydicom import uid
from pydicom.dataset import FileDataset, FileMetaDataset

from flawmap.data.images.dicom_class import what_without_image


def head_of(sop_class: str, tmp_path, **fields) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, "1.2.3"
    meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset = FileDataset(str(tmp_path / "x"), {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, "1.2.3"
    dataset.update(fields)
    dataset.save_as(tmp_path / "x", enforce_file_format=True)
    return (tmp_path / "x").read_bytes()[:1024]


@pytest.mark.parametrize(
    ("sop_class", "what"),
    [
        (uid.BasicTextSRStorage, "a structured report"),
        (uid.KeyObjectSelectionDocumentStorage, "a structured report"),
        (uid.GrayscaleSoftcopyPresentationStateStorage, "a presentation state"),
        (uid.EncapsulatedPDFStorage, "a document"),
        (uid.RTPlanStorage, "a plan of a radiotherapy"),
        (uid.RTStructureSetStorage, "structures of a radiotherapy"),
        (uid.MediaStorageDirectoryStorage, "the list of a medium's files"),
        (uid.ComputedRadiographyImageStorage, None),
        (uid.DigitalXRayImageStorageForPresentation, None),
        (uid.SecondaryCaptureImageStorage, None),
        (uid.UltrasoundImageStorage, None),
        (uid.RTDoseStorage, None),
        (uid.SegmentationStorage, None),
    ],
)
def test_the_class_tells_what_holds_no_image(sop_class, what, tmp_path):
    assert what_without_image(head_of(sop_class, tmp_path)) == what


@pytest.mark.parametrize("head", [b"", b"\x89PNG", bytes(128) + b"DICM", bytes(128) + b"DICM\x02\0\x02\0UI"])
def test_a_header_without_a_class_says_nothing(head):
    assert what_without_image(head) is None

"""What a file beside images is, by its name and content."""

import json
from pathlib import Path

import pytest

from flawmap.data.annotations.recognise import CONVERTED, PART_BYTES, recognised

COCO = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [], "categories": []}
LABELME = {"version": "5.0", "shapes": [], "imagePath": "a.png", "imageData": None}
CVAT = "<?xml version='1.0'?>\n<annotations><version>1.1</version><image name='a.png'/></annotations>"
VOC = "<annotation>\n  <folder>x</folder><filename>a.png</filename></annotation>"
VIA_CSV = "filename,file_size,region_count,region_shape_attributes\n"


@pytest.mark.parametrize(
    ("file", "content", "name"),
    [
        ("annotations.json", json.dumps(COCO), "COCO annotations"),
        ("_annotations.coco.json", json.dumps(COCO, indent=4), "COCO annotations"),
        ("bom.json", "\ufeff" + json.dumps(COCO), "COCO annotations"),
        ("a.json", json.dumps(LABELME), "labelme annotations"),
        ("via.json", json.dumps({"_via_settings": {}, "_via_img_metadata": {}}), "VIA annotations"),
        ("via2.json", json.dumps({"a.png1": {"regions": [{"shape_attributes": {}}]}}), "VIA annotations"),
        ("ls.json", json.dumps([{"id": 1, "annotations": [{"result": []}]}]), "Label Studio annotations"),
        ("ls_min.json", json.dumps([{"image": "a", "label": [{"rectanglelabels": []}]}]), "Label Studio annotations"),
        ("m.manifest", '{"source-ref": "s3://a/a.png"}\n', "SageMaker or Lookout manifest (JSON lines)"),
        ("ml.json", json.dumps([{"image": "a", "annotations": [{"coordinates": {}}]}]), "CreateML annotations"),
        ("r.json", json.dumps([{"image_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]), "COCO detection results"),
        ("annotations.xml", CVAT, "CVAT annotations"),
        ("a.xml", VOC, "Pascal VOC annotations"),
        ("via.csv", VIA_CSV, "VIA annotations"),
        ("samples.csv", "image_path,label,label_index,mask_path,split\n", "anomalib list of images"),
        ("boxes.csv", "filename,width,height,class,xmin,ymin,xmax,ymax\n", "TensorFlow boxes"),
        ("list.csv", "Image;Split;Label\n", "manifest"),
        ("a.txt", "0 0.5 0.5 .1 0.1\r\n3 1 1 0.2 1e-3\r\n", "YOLO labels"),
        ("seg.txt", "0 0.1 0.1 0.9 0.1 0.5 0.9\n", "YOLO labels"),
        ("data.yaml", "train: images/train\nnc: 1\nnames: [scratch]\n", "YOLO class names"),
    ],
)
def test_annotations_are_named(file: str, content: str, name: str, tmp_path: Path):
    path = tmp_path / file
    path.write_text(content, encoding="utf-8")
    known = recognised(path)
    assert known is not None and known.name == name and str(known) == f"{name}; {known.advice}"
    by_us = name.split()[0] in ("COCO", "labelme", "YOLO", "Pascal") and name != "COCO detection results"
    assert (known.advice == CONVERTED) is by_us


@pytest.mark.parametrize(
    ("file", "content", "name"),
    [
        ("a.zip", b"PK\x03\x04", "zip archive"),
        ("no ending", b"PK\x05\x06" + bytes(18), "zip archive"),
        ("bottle.tar.xz", b"\xfd7zXZ\x00", "xz archive"),
        ("a.tgz", b"\x1f\x8b\x08", "gzip archive"),
        ("a.tar", b"a.png".ljust(257, b"\0") + b"ustar\x0000", "tar archive"),
        ("a.7z", b"7z\xbc\xaf\x27\x1c", "7z archive"),
    ],
)
def test_archives_are_named(file: str, content: bytes, name: str, tmp_path: Path):
    path = tmp_path / file
    path.write_bytes(content)
    assert str(recognised(path)) == f"{name}; unpack it"


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("notes.txt", b"shift 2, camera 1\n"),
        ("numbers.txt", b"1 2 3 4 5 6\n"),
        ("settings.json", b'{"exposure": 4}'),
        ("broken.json", b"{"),
        ("empty.json", b""),
        ("empty.txt", b""),
        ("results.csv", b"name,value\na,1\n"),
        ("page.xml", b"<html></html>"),
        ("photo.png", b"\x89PNG\r\n\x1a\n\0\0"),
        ("recipe.yaml", b"base: standard\n"),
    ],
)
def test_other_files_are_not(file: str, content: bytes, tmp_path: Path):
    path = tmp_path / file
    path.write_bytes(content)
    assert recognised(path) is None


def test_what_cannot_be_opened_is_nothing(tmp_path: Path):
    assert recognised(tmp_path) is None
    assert recognised(tmp_path / "missing.json") is None


def test_keys_behind_a_whole_image_are_found(tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"imageData": "A" * 3 * PART_BYTES, "imagePath": "a.png", "shapes": []}))
    known = recognised(path)
    assert known is not None and known.name == "labelme annotations"

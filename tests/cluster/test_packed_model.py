"""A model travels as bytes and arrives under its own name."""

import pytest

from assertions import files_and_bytes
from flawmap.runs.cameras import Calibrations
from flawmap_cluster.packed_model import packed, unpacked
from made_up_model import write_made_up_run


def test_of_a_run_its_model_arrives_under_the_runs_name(tmp_path):
    model = write_made_up_run(tmp_path / "parts", Calibrations())
    arrived = unpacked(packed(tmp_path / "parts"), tmp_path / "there")
    assert arrived == tmp_path / "there" / "parts"
    assert files_and_bytes(arrived) == files_and_bytes(model)


@pytest.mark.parametrize("name", ["p.onnx", "p.xml"])
def test_of_a_file_its_weights_come_with_it(tmp_path, name):
    for file in ("p.onnx", "p.xml", "p.bin", "p.threshold.json"):
        (tmp_path / file).write_text(file)
    arrived = unpacked(packed(tmp_path / name), tmp_path / "there")
    assert arrived.name == name
    assert set(files_and_bytes(arrived.parent)) == ({"p.onnx"} if name == "p.onnx" else {"p.xml", "p.bin"})

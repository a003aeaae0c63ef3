"""The trial of the line at a tenth of its length; the whole of it is run by hand, see line_trial.py."""

import pytest
from line_trial import trial

from flawmap.deploy.parity import CheckImage
from images import striped, write_image
from tiny_detector import fitted_detector


@pytest.mark.slow
def test_each_file_is_judged_once_and_told_through_kills_restarts_and_a_slow_webhook(tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("paho.mqtt")
    from flawmap.deploy.export import export_model

    model = tmp_path / "tile.onnx"
    export_model(fitted_detector(), model, "onnx", [CheckImage(write_image(tmp_path / "one.png", striped(3)))])
    found = trial(model, tmp_path / "line", 200, 8.0)
    assert found.nothing_is_missing, found
    assert found.kills >= 1 and found.broker_restarts >= 1 and found.webhook_failures >= 5

"""metrics.json: what is written is read again, and so is what earlier versions wrote."""

import json
from pathlib import Path

from flawmap.runs.evaluation import METRICS, read_evaluation, write_evaluation
from made_up_evaluation import made_up_evaluation


def test_an_evaluation_is_read_as_it_was_written(tmp_path: Path):
    assert read_evaluation(tmp_path) is None
    write_evaluation(tmp_path, made_up_evaluation(10, 20))
    assert read_evaluation(tmp_path) == made_up_evaluation(10, 20)


def test_strata_that_an_earlier_version_called_groups(tmp_path: Path):
    write_evaluation(tmp_path, made_up_evaluation(10, 20))
    content = json.loads((tmp_path / METRICS).read_text())
    content["by_group"] = content.pop("by_stratum")
    (tmp_path / METRICS).write_text(json.dumps(content))
    assert read_evaluation(tmp_path) == made_up_evaluation(10, 20)

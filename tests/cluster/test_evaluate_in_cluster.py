"""An evaluation whose images are scored elsewhere: the files of one process."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assertions import files_and_bytes
from flawmap import __version__
from flawmap.data.open_data import open_test_data
from flawmap.errors import UserError
from flawmap.evaluate.evaluate import evaluate
from flawmap.recipe.settings import DataSettings
from flawmap_cluster.evaluate import Analyst, in_order
from flawmap_cluster.packed_model import packed, refuse_other_version
from images import write_category
from tiny_detector import fitted_detector


@given(st.permutations(range(12)))
def test_answers_come_in_the_order_of_their_numbers(numbers):
    assert list(in_order((number, str(number)) for number in numbers)) == [str(number) for number in range(12)]


@pytest.fixture
def analyst(tmp_path):
    fitted_detector().save_pretrained(tmp_path / "model")
    threads = torch.get_num_threads()
    analyst = Analyst(packed(tmp_path / "model"), "cpu", __version__)
    analyst.ready()
    yield analyst
    torch.set_num_threads(threads)


def test_scored_elsewhere_the_files_are_those_of_one_process(analyst, tmp_path):
    data = open_test_data(write_category(tmp_path / "tile"), DataSettings())

    def elsewhere(samples, device):
        assert device == "cpu"
        for sample in samples:
            yield analyst.analyse(sample.path.read_bytes(), str(sample.path))

    found = []
    for name, where in (("here", None), ("there", elsewhere)):
        (tmp_path / name).mkdir()
        evaluation = evaluate(fitted_detector(), data, tmp_path / name, elsewhere=where)
        found.append(asdict(replace(evaluation, seconds_per_image=0.0)))
    assert found[0] == found[1] and found[1]["threads"] == 1
    here, there = (files_and_bytes(tmp_path / name) for name in ("here", "there"))
    of_here, of_there = (json.loads(files.pop("metrics.json")) for files in (here, there))
    assert here == there and len(here) > 3
    assert of_here.keys() == of_there.keys()


def test_an_image_that_cannot_be_read_is_the_answer(analyst):
    answer = analyst.analyse(b"no image", "a.png")
    assert isinstance(answer, UserError) and answer.place == "a.png"


def test_another_version_of_flawmap_is_refused():
    with pytest.raises(UserError, match=f"has flawmap {__version__}, and this machine 0.0.0"):
        refuse_other_version("0.0.0")

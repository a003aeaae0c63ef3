"""Which split a name says."""

import pytest

from flawmap.data.annotations.split_names import split_folder, split_named


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *(("train", "train"), ("Training", "train"), ("train2017", "train"), ("instances_train", "train")),
        *(("val", "val"), ("valid", "val"), ("validation_set", "val"), ("instances_val2014", "val"), ("dev", "val")),
        *(("test", "test"), ("TEST-1", "test"), ("testing", "test"), ("part2test3", "test")),
        *((None, None), ("", None), ("images", None), ("strained", None), ("latest", None), ("value", None)),
        *(("train_val", None), ("contest", None), ("valley", None)),
    ],
)
def test_the_split_that_a_name_says(name, split):
    assert split_named(name) == split


def test_the_folder_that_a_list_is_about():
    assert split_folder("instances_Train2017") == "train2017"
    assert split_folder("annotations") is None

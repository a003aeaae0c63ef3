"""Nothing is overwritten, and processes do not share folders."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from flawmap.runs.result_folders import free_path, new_folder, put_in_place


def folder_with(path, text):
    path.mkdir(parents=True)
    (path / "metrics.json").write_text(text)
    return path


def test_names_are_numbered_from_two(tmp_path):
    folder_with(tmp_path / "out", "1")
    assert free_path(tmp_path / "out") == tmp_path / "out-2"
    (tmp_path / "model.onnx").write_text("file")
    assert free_path(tmp_path / "model.onnx") == tmp_path / "model-2.onnx"  # a suffix stays at the end
    (tmp_path / "empty").mkdir()
    assert free_path(tmp_path / "empty") == tmp_path / "empty"


def test_a_new_folder_is_made_or_an_empty_one_taken(tmp_path):
    assert new_folder(tmp_path / "a" / "out") == tmp_path / "a" / "out"
    assert new_folder(tmp_path / "a" / "out") == tmp_path / "a" / "out"  # still empty
    folder_with(tmp_path / "b", "1")
    assert new_folder(tmp_path / "b") == tmp_path / "b-2"
    assert (tmp_path / "b-2").is_dir()


def test_earlier_results_are_kept_under_other_names(tmp_path):
    final = tmp_path / "evaluation"
    for number in range(3):
        put_in_place(folder_with(tmp_path / f"unfinished-{number}", str(number)), final)
    kept = {path.name: (path / "metrics.json").read_text() for path in tmp_path.iterdir()}
    assert kept == {"evaluation": "2", "evaluation-earlier": "0", "evaluation-earlier-2": "1"}


def test_an_empty_folder_of_that_name_is_replaced(tmp_path):
    (tmp_path / "evaluation").mkdir()
    put_in_place(folder_with(tmp_path / "unfinished", "new"), tmp_path / "evaluation")
    assert [path.name for path in tmp_path.iterdir()] == ["evaluation"]


def test_of_many_that_finish_at_once_none_is_lost(tmp_path):
    made = [folder_with(tmp_path / f"unfinished-{number}", str(number)) for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda folder: put_in_place(folder, tmp_path / "evaluation"), made))
    kept = [(path / "metrics.json").read_text() for path in tmp_path.iterdir()]
    assert sorted(kept) == [str(number) for number in range(6)]
    assert (tmp_path / "evaluation").is_dir()


def test_what_can_never_be_renamed_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        put_in_place(tmp_path / "not there", tmp_path / "evaluation")

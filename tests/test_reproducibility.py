"""Hashes that stay, generators that depend on names, files that are whole or absent."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flawmap import __version__, reproducibility
from flawmap.recipe.settings import MaskingSettings, PretrainSettings, Recipe
from flawmap.reproducibility import (
    atomic_write_bytes,
    atomic_write_text,
    environment,
    file_sha256,
    numpy_generator,
    stable_hash,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def in_other_process(code: str, hash_seed: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    return done.stdout.strip()


# ---- stable_hash


@dataclass(frozen=True)
class Pair:
    left: object
    right: object


def test_the_hash_is_sha256_of_canonical_json():
    assert stable_hash({"b": [1, 2.5, None, True], "a": "é"}) == sha(r'{"a":"\u00e9","b":[1,2.5,null,true]}')
    assert stable_hash(Pair(1e-6, ("x",))) == sha('{"left":1e-06,"right":["x"]}')


def test_what_is_equal_hashes_alike():
    assert stable_hash(1.0) == stable_hash(1) == stable_hash(np.float32(1)) == stable_hash(np.int64(1))
    assert stable_hash(-0.0) == stable_hash(0)
    assert stable_hash((1, 2)) == stable_hash([1, 2])
    assert stable_hash({"a": 1, "b": 2}) == stable_hash({"b": 2, "a": 1})
    assert stable_hash({3, 1, 2}) == stable_hash(frozenset([2, 1, 3])) == stable_hash([1, 2, 3])
    assert stable_hash(Path("a") / "b") == stable_hash(PureWindowsPath("a\\b")) == stable_hash("a/b")
    assert stable_hash(Pair(1, 2)) == stable_hash({"left": 1, "right": 2})


def test_every_change_of_a_recipe_changes_its_hash():
    recipe = Recipe()
    masked = replace(recipe, pretrain=PretrainSettings(masking=MaskingSettings(drop_ratio=0.30000001)))
    assert len({stable_hash(recipe), stable_hash(replace(recipe, seed=1)), stable_hash(masked)}) == 3
    assert stable_hash(recipe) == stable_hash(Recipe())


@pytest.mark.parametrize(("one", "other"), [(1, "1"), (True, 1), (None, "null"), ([], {}), ([1, [2]], [[1], 2])])
def test_what_differs_hashes_differently(one, other):
    assert stable_hash(one) != stable_hash(other)


@given(value=JSON)
def test_the_hash_survives_a_round_trip_through_json(value):
    assert stable_hash(json.loads(json.dumps(value))) == stable_hash(value)


@pytest.mark.parametrize("value", [object(), b"bytes", {1: 2}, int, lambda: 1, np.zeros(2)])
def test_what_has_no_canonical_form_is_refused(value):
    with pytest.raises(TypeError, match="cannot hash"):
        stable_hash({"a": [value]})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("-inf")])
def test_numbers_that_are_not_finite_are_refused(value):
    with pytest.raises(ValueError, match="not a finite number"):
        stable_hash([value])


# ---- generators


def test_a_generator_depends_on_seed_and_key_alone():
    assert numpy_generator(3, "views", 7).random(4).tolist() == numpy_generator(3, "views", 7).random(4).tolist()
    keys = [(3, "views", 7), (3, "views", 8), (4, "views", 7), (3, "view", 7), (3, "views", "7"), (3, "views"), (3,)]
    assert len({float(numpy_generator(seed, *key).random()) for seed, *key in keys}) == len(keys)


def test_hash_and_generator_are_the_same_in_every_process():
    code = (
        "from flawmap.reproducibility import numpy_generator, stable_hash;"
        "print(stable_hash({'a', 'b', 'c'}), numpy_generator(5, 'x', 1).integers(1 << 60))"
    )
    here = f"{stable_hash({'a', 'b', 'c'})} {numpy_generator(5, 'x', 1).integers(1 << 60)}"
    assert {in_other_process(code, "1"), in_other_process(code, "2"), here} == {here}


def test_generators_of_neighbouring_keys_are_independent():
    draws = np.stack([numpy_generator(0, "sample", i).standard_normal(200) for i in range(100)])
    between = np.corrcoef(draws)[np.triu_indices(100, k=1)]
    assert abs(float(between.mean())) < 0.01  # standard error 0.001
    assert float(np.abs(between).max()) < 0.4  # 4950 pairs of standard deviation 0.07


# ---- environment


def test_the_environment_is_json_and_names_what_runs():
    found = environment("cpu")
    assert json.loads(json.dumps(found)) == found
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["numpy"] == np.__version__
    assert found["flawmap"] == __version__
    assert (found["device"], found["device_name"], found["cores"]) == ("cpu", None, os.cpu_count())
    assert found["processor"]


def test_the_commit_is_that_of_flawmap_s_code_wherever_it_runs(tmp_path, monkeypatch):
    code = tmp_path / "clone" / "src" / "flawmap"
    code.mkdir(parents=True)
    (code / "a.py").write_text("1")
    monkeypatch.setattr(reproducibility, "__file__", str(code / "reproducibility.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    assert environment()["git_commit"] is None
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "A")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "a@example.org")
    at = ["git", "-C", str(tmp_path / "clone")]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*at, *command], check=True)
    head = subprocess.run([*at, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert environment()["git_commit"] == head
    (code / "a.py").write_text("22")
    assert environment()["git_commit"] == f"{head}-dirty"


def test_a_repository_around_an_installed_flawmap_is_not_its_own(tmp_path, monkeypatch):
    code = tmp_path / ".venv" / "lib" / "python3" / "site-packages" / "flawmap"
    code.mkdir(parents=True)
    subprocess.run(["git", "-C", str(tmp_path), "init", "-q"], check=True)
    monkeypatch.setattr(reproducibility, "__file__", str(code / "reproducibility.py"))
    assert environment()["git_commit"] is None


# ---- files


def test_a_file_is_replaced_as_a_whole(tmp_path):
    file = tmp_path / "a.json"
    atomic_write_text(file, "é\n")
    assert file.read_bytes() == b"\xc3\xa9\n"
    atomic_write_bytes(file, b"\x00\xff")
    assert file.read_bytes() == b"\x00\xff"
    assert list(tmp_path.iterdir()) == [file]
    assert file_sha256(file) == hashlib.sha256(b"\x00\xff").hexdigest()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    file = tmp_path / "a.txt"
    atomic_write_text(file, "old")

    def broken(*paths: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        atomic_write_text(file, "new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_a_file_has_the_mode_of_any_other_new_file(tmp_path):
    (tmp_path / "plain").write_text("1")
    atomic_write_text(tmp_path / "atomic", "1")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_writing_into_a_folder_that_is_not_there_fails(tmp_path):
    with pytest.raises(FileNotFoundError):
        atomic_write_text(tmp_path / "none" / "a.txt", "1")

"""flawmap check --gallery: writes one page, and never overwrites another."""

import re

import pytest

from assertions import assert_explained, files_and_bytes
from flawmap.advice import install
from flawmap.simulators.by_name import simulator_names
from images import NUM_TRAIN, write_good

TINY = ("--set", "model.weights=random", "--set", "model.architecture=test_vit", "--set", "data.image_size_px=32")


@pytest.fixture
def parts(tmp_path):
    return write_good(tmp_path / "here" / "parts")


def test_the_page_lies_in_runs_and_has_a_name_of_its_own(cli, parts, tmp_path):
    before = files_and_bytes(parts)
    result = cli("check", parts, *TINY, "--gallery")
    assert result.code == 0 and result.out.splitlines()[-1] == "gallery    runs/check/parts/gallery.html"
    page = tmp_path / "here" / "runs" / "check" / "parts" / "gallery.html"
    text = page.read_text(encoding="utf-8")
    chosen = [f"{number:03d}.png" for number in range(2, 24, 4)]
    assert re.findall(r"<h2>(\d+\.png)</h2>", text) == 2 * chosen  # the defects of the training, and all the rest
    assert text.count("<figure>") == 6 * (4 + 2 + 5 + len(simulator_names()))
    assert "(this recipe has no masked stage 1)" in text  # standard leaves stage 1 out
    assert re.search(r"<dt>Varied</dt><dd>[^<]+<b class=\"used\">in this recipe</b>", text)
    assert "random initialization, seed 0" in text and f"6 of {NUM_TRAIN} good images" in text
    assert files_and_bytes(parts) == before
    again = cli("check", parts, *TINY, "--gallery", "--json")
    assert again.json["gallery"] == "runs/check/parts/gallery-2.html"
    assert page.read_text(encoding="utf-8") == text
    second = (page.parent / "gallery-2.html").read_text(encoding="utf-8")
    assert second.replace(" --json", "") == text  # the command is all that differs


def test_a_page_with_a_name_never_replaces_anything(cli, parts, tmp_path):
    assert cli("check", parts, *TINY, "--gallery", "--images", 2, "--output", "pages/one.html").code == 0
    page = tmp_path / "here" / "pages" / "one.html"
    assert page.read_text(encoding="utf-8").count("<figure>") == 2 * (4 + 2 + 5 + len(simulator_names()))
    before = page.read_bytes()
    result = cli("check", parts, *TINY, "--gallery", "--output", "pages/one.html")
    assert_explained(result, ("exists already", "not overwritten"), "pages/one.html", ("--output",))
    assert page.read_bytes() == before
    assert_explained(
        cli("check", parts, *TINY, "--gallery", "--output", "pages"), ("is a folder",), "pages", ("--output",)
    )


def test_without_gallery_nothing_is_written(cli, parts, tmp_path):
    result = cli("check", parts)
    assert result.code == 0 and "gallery" not in result.out
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["parts"]


def test_a_wrong_path_is_the_users_error(cli, parts, tmp_path):
    result = cli("check", "prats", *TINY, "--gallery")
    assert_explained(result, ("no such folder: prats", "parts exists"), "", ("flawmap check parts",))
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["parts"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--images", 3), "--images is an option of the gallery"),
        (("--output", "a.html"), "--output is an option of the gallery"),
        (("--gallery", "--images", 0), "--images is 0, must be a whole number above 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(cli, parts, words, problem):
    assert_explained(
        cli("check", parts, *TINY, *words), (problem,), words[-2] if words[0] != "--gallery" else "", ("",)
    )


def test_weights_that_are_not_there_are_the_users_error(cli, parts, tmp_path):
    result = cli("check", parts, "--set", "model.weights=lost.safetensors", "--gallery")
    assert_explained(result, ("lost.safetensors",), "model.weights", ("path",))
    assert not (tmp_path / "here" / "runs").exists()


def test_without_torch_it_says_what_to_install(cli, parts, monkeypatch):
    import sys

    for name in [name for name in sys.modules if name.startswith(("flawmap.vit.weights", "flawmap.gallery"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    result = cli("check", parts, *TINY, "--gallery")
    assert_explained(result, ("the package torch is not installed",), "", (install("train"),))

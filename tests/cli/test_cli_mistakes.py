"""The mistakes that users make, each through the command line: exit code 2, no traceback, problem, place and remedy."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from assertions import assert_explained
from images import striped, write_category, write_good, write_image


@dataclass(frozen=True)
class Mistake:
    """Words of a command and what its answer must hold.

    Attributes:
        make: puts the mistake into the current folder; gives the words after ``flawmap``.
        problem: parts of the first line.
        place: part of the second.
        remedy: parts of the last.
    """

    make: Callable[[Path], list[object]]
    problem: tuple[str, ...]
    place: str
    remedy: tuple[str, ...]


def wrong_path(_: Path) -> list[object]:
    write_good(Path("parts"), 1)
    return ["train", "part"]


def unknown_layout(_: Path) -> list[object]:
    for name in ("OK", "NG", "masks"):
        write_good(Path("parts") / name, 1)
    return ["train", "parts"]


def empty_folder(_: Path) -> list[object]:
    Path("parts").mkdir()
    return ["check", "parts"]


def masks_not_paired(_: Path) -> list[object]:
    write_category(Path("tile"))
    mask = Path("tile/ground_truth/hole/000_mask.png")
    mask.rename(mask.with_name("000_img.png"))
    return ["check", "tile"]


def masks_by_a_pattern(_: Path) -> list[object]:
    write_category(Path("tile"))
    return ["check", "tile", "--set", "data.mask_pattern={stem}_label"]


def too_few(_: Path) -> list[object]:
    write_good(Path("parts"), 4)
    shutil.copyfile("parts/000.png", "parts/copy.png")
    return ["train", "parts", "--recipe", "paper_cpu"]


def repeated(_: Path) -> list[object]:
    write_good(Path("parts"), 19)
    for number in range(6):
        shutil.copyfile("parts/000.png", f"parts/copy{number}.png")
    return ["check", "parts", "--recipe", "paper_cpu"]


def unreadable(_: Path) -> list[object]:
    write_good(Path("good"))
    Path("good/003.png").write_bytes(Path("good/003.png").read_bytes()[:300])
    Path("good/readme.png").write_text("not an image")
    return ["train", "good"]


def leak_of_a_copy(_: Path) -> list[object]:
    write_category(Path("tile"))
    shutil.copyfile("tile/train/good/007.png", "tile/test/hole/004.png")
    return ["train", "tile"]


def leak_in_another_format(_: Path) -> list[object]:
    write_category(Path("tile"))
    write_image(Path("tile/test/good/004.bmp"), striped(7))  # the pixels of train/good/007.png
    return ["check", "tile"]


def typo_in_the_recipe(_: Path) -> list[object]:
    Path("my.yaml").write_text("base: quick\npretrain:\n  masking:\n    dropratio: 0.2\n")
    return ["train", "parts", "--recipe", "my.yaml"]


def range_in_the_recipe(_: Path) -> list[object]:
    Path("my.yaml").write_text("pretrain:\n  masking:\n    drop_ratio: 1.5\n")
    return ["recipe", "my.yaml"]


def typo_in_set(_: Path) -> list[object]:
    return ["check", "parts", "--set", "masking.drop_ratio=0.1"]


def no_such_recipe(_: Path) -> list[object]:
    return ["train", "parts", "--recipe", "standart"]


def device_that_is_not_there(tiny: Path) -> list[object]:
    write_good(Path("parts"))
    return ["train", "parts", "--recipe", tiny, "--device", "cuda"]


def weights_that_do_not_fit(tiny: Path) -> list[object]:
    write_good(Path("parts"))
    other = timm.create_model("test_vit2", pretrained=False, num_classes=0)
    save_file(other.state_dict(), "other.safetensors")
    return ["train", "parts", "--recipe", tiny, "--set", "model.weights=other.safetensors"]


def weights_with_an_unknown_name(tiny: Path) -> list[object]:
    write_good(Path("parts"))
    return ["train", "parts", "--recipe", tiny, "--set", "model.weights=dino_vits61"]


def architecture_with_an_unknown_name(tiny: Path) -> list[object]:
    write_good(Path("parts"))
    return ["train", "parts", "--recipe", tiny, "--set", "model.architecture=vit_smal_patch16_224"]


def weights_that_would_be_executed(tiny: Path) -> list[object]:
    write_good(Path("parts"))
    torch.save({"model": torch.nn.Linear(2, 2)}, "weights.pth")  # a whole module, not a state dict
    return ["train", "parts", "--recipe", tiny, "--set", "model.weights=weights.pth"]


def collapse(tiny: Path) -> list[object]:
    write_good(Path("parts"))
    uniform = ("--set", "pretrain.sinkhorn_epsilon=1", "--set", "pretrain.steps=44")
    return ["train", "parts", "--recipe", tiny, *uniform, "--run", "r", "--device", "cpu"]


def no_quotes(tiny: Path) -> list[object]:
    write_good(Path("good parts"))
    return ["check", "good", "parts"]


MISTAKES = {
    "1 wrong path": Mistake(
        wrong_path, ("no such folder: part ", "you are in ", "; parts exists"), "", ("flawmap check parts",)
    ),
    "1 no quotes": Mistake(
        no_quotes, ("no such folder: good ", "; good parts exists"), "", ("flawmap check 'good parts'",)
    ),
    "2 unknown layout": Mistake(
        unknown_layout,
        ("parts/ has folders NG, OK, masks; expected train/good (MVTec AD)", "or images directly inside"),
        "parts",
        ("flawmap train parts/", "--set data.normal="),
    ),
    "2 nothing in the folder": Mistake(empty_folder, ("no images here",), "parts", ("PNG",)),
    "3 masks not paired": Mistake(
        masks_not_paired, ("1 of 6 masks match no image, first: 000_img.png",), "ground_truth", ("{stem}", "rename")
    ),
    "3 masks by another pattern": Mistake(
        masks_by_a_pattern, ("6 of 6 masks match no image",), "ground_truth", ("STEM_label", "data.mask_pattern")
    ),
    "4 too few": Mistake(
        too_few,
        ("5 good images (2 identical by content); at least 20 are needed to set a threshold",),
        "parts",
        ("add images", "--set calibration.held_out_fraction=0 and calibrate later"),
    ),
    "4 repeated": Mistake(
        repeated, ("25 good images (7 identical by content); at least 20 are needed",), "parts", ("add images",)
    ),
    "5 unreadable": Mistake(
        unreadable, ("2 files cannot be decoded: 003.png (", "readme.png (not an image"), "good", ("--skip-unreadable",)
    ),
    "6 leak of a copy": Mistake(
        leak_of_a_copy,
        ("test/hole/004.png is also in training as train/good/007.png (same content)",),
        "tile",
        ("remove one copy; scores would be meaningless",),
    ),
    "6 leak in another format": Mistake(
        leak_in_another_format, ("test/good/004.bmp is also in training",), "tile", ("remove one copy",)
    ),
    "7 typo": Mistake(
        typo_in_the_recipe,
        ("unknown key pretrain.masking.dropratio; did you mean pretrain.masking.drop_ratio?",),
        "my.yaml line 4",
        ("flawmap recipe standard",),
    ),
    "7 range": Mistake(
        range_in_the_recipe,
        ("pretrain.masking.drop_ratio is 1.5, must be between 0 and 0.9",),
        "my.yaml line 3",
        ("default 0.3",),
    ),
    "7 typo in --set": Mistake(
        typo_in_set,
        ("unknown key masking.drop_ratio; did you mean pretrain.masking.drop_ratio?",),
        "--set masking.drop_ratio=0.1",
        ("flawmap recipe",),
    ),
    "7 no such recipe": Mistake(
        no_such_recipe, ("no recipe called 'standart'; did you mean standard?",), "", ("presets are quick",)
    ),
    "8 device": Mistake(device_that_is_not_there, ("--device cuda, but ",), "--device", ("--device cpu",)),
    "9 weights do not fit": Mistake(
        weights_that_do_not_fit,
        ("these weights do not fit the architecture: ",),
        "other.safetensors",
        ("--set model.architecture=NAME",),
    ),
    "9 unknown architecture": Mistake(
        architecture_with_an_unknown_name,
        ("timm knows no model 'vit_smal_patch16_224'",),
        "model.architecture",
        ("vit_small_patch16_224",),
    ),
    "10 unknown weights": Mistake(
        weights_with_an_unknown_name, ("dino_vits61",), "model.weights", ("dino_vits16", "random", "path")
    ),
    "10 weights that would be executed": Mistake(
        weights_that_would_be_executed, ("the weights cannot be read safely",), "weights.pth", ("safetensors",)
    ),
    "10 collapse": Mistake(
        collapse,
        ("pre-training has collapsed: the clusters' targets are uniform",),
        "stage pretrain, step ",
        ("--set pretrain.sinkhorn_epsilon=",),
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_explained(cli, trained, name):
    if name == "8 device" and torch.cuda.is_available():
        pytest.skip("the device is there")
    mistake = MISTAKES[name]
    assert_explained(cli(*mistake.make(trained.recipe)), mistake.problem, mistake.place, mistake.remedy)


@pytest.mark.parametrize("name", ["1 wrong path", "7 range"])
def test_debug_adds_the_traceback_to_a_mistake(cli, trained, name):
    words = MISTAKES[name].make(trained.recipe)
    result = cli(*words, "--debug")
    assert result.code == 2
    assert result.err.startswith("Traceback (most recent call last)") and "UserError" in result.err
    assert result.err.endswith(cli(*words).err)


def test_nothing_is_created_before_the_data_is_found_sound(cli, trained):
    for name in ("4 too few", "5 unreadable", "6 leak of a copy", "8 device"):
        cli(*MISTAKES[name].make(trained.recipe))
        for data in ("parts", "good", "tile"):
            shutil.rmtree(data, ignore_errors=True)
    assert list(Path.cwd().iterdir()) == []


def test_unreadable_files_can_be_skipped_and_are_named(cli, trained):
    words = [*unreadable(trained.recipe), "--skip-unreadable", "--recipe", trained.recipe, "--run", "r"]
    result = cli(*words, "--set", "pretrain.enabled=false", "--set", "finetune.steps=1")
    assert result.code == 0, result.err
    assert "left out   003.png: " in result.err and "left out   readme.png: " in result.err
    assert "003.png" not in Path("r/data_manifest.csv").read_text()

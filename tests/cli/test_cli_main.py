"""The command line as a whole: exit codes, what goes where, and what happens when something is wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import flawmap as package
import flawmap.cli.recipe
from flawmap.advice import install
from flawmap.cli.verbs import VERBS
from flawmap.errors import UserError
from flawmap.recipe.files import PRESETS, load_recipe

SOURCE = Path(package.__file__).parents[1]


def process(*words: object, **options) -> subprocess.CompletedProcess:
    """``python -m flawmap WORDS`` in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "flawmap", *map(str, words)]
    return subprocess.run(command, capture_output=True, env=environment, timeout=300, **options)


# ---- help


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"], ["--debug"]])
def test_the_overview_names_every_verb(cli, words):
    result = cli(*words)
    assert result.code == 0 and result.err == ""
    assert all(f"\n  {verb} " in result.out for verb in VERBS)


@pytest.mark.parametrize("word", ["--version", "-V"])
def test_version(cli, word):
    assert cli(word).out == f"flawmap {package.__version__}\n"


def test_help_of_a_verb_can_be_asked_for_in_two_ways(cli):
    assert cli("help", "train").out == cli("train", "--help").out
    assert "did you mean flawmap train?" in cli("help", "trian").err


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb_says_what_it_is_for_and_lists_json(cli, verb):
    result = cli(verb, "--help")
    assert result.code == 0 and result.err == ""
    assert result.out.startswith(f"usage: flawmap {verb} ")
    assert VERBS[verb].split(":")[0] in " ".join(result.out.split())
    others = "serve", "benchmark", "completion"  # answers of a server; options of its suites; a script
    assert "--json" in result.out or verb in others


# ---- mistakes on the line itself


@pytest.mark.parametrize(
    ("words", "problem", "remedy"),
    [
        (["trian"], "there is no verb 'trian'", "did you mean flawmap train?"),
        (["--nonsense"], "there is no verb '--nonsense'", "flawmap --help lists all verbs"),
        (["train"], "no data given", "name a folder of good images: flawmap train FOLDER"),
        (["train", "a", "--seed", "1"], "unknown option --seed", "--set seed=VALUE"),
        (["train", "a", "--memory.tokens", "1"], "unknown option --memory.tokens", "--set memory.tokens=VALUE"),
        (["evaluate", "a"], "the following arguments are required: data", "flawmap evaluate --help"),
        (["detect"], "the following arguments are required: images", "flawmap detect --help"),
        (["train", "a", "--nope"], "unknown option --nope", "flawmap train --help"),
        (["train", "--recpie", "quick"], "did you mean --recipe?", "flawmap train --help"),
        (["train", "a", "--recip", "quick"], "unknown option --recip; did you mean --recipe?", "flawmap train --help"),
        (["detect", "a", "--set", "detect.sizes_px=64"], "unknown option --set", "flawmap detect --help"),
        (["recipe", "a.yaml", "b.yaml"], "unrecognized arguments: b.yaml", "flawmap recipe --help"),
        (
            ["recipe", "quick", "--set", "finetune.steps=1"],
            "finetune.steps has no effect on method fused",
            "leave it out",
        ),
        (
            ["recipe", "--set", "calibration.held_out_fraction=0"],
            "calibration.held_out_fraction has no effect on method fused, only on paper",
            "--set calibration.folds=0 trains without one",
        ),
        (
            ["recipe", "--set", "compute.precision=bf16"],
            "bf16 has no effect on method fused, whose encoder is frozen",
            "--set compute.precision=int8",
        ),
        (["recipe", "--set", "pretrain.steps=1"], "pretrain.steps has no effect", "--set pretrain.enabled=true"),
        (["train", "a", "--device", "tpu"], "invalid choice: 'tpu'", "flawmap train --help"),
        (["train", "a", "--device", "cude"], "did you mean cuda?", "flawmap train --help"),
        (["benchmark", "peer", "a"], "did you mean peers?", "flawmap benchmark --help"),
        (["benchmark", "peers", "a", "--metods", "x"], "did you mean --methods?", "flawmap benchmark"),
        (["benchmark", "peers", "a", "--table", "1"], "unknown option --table", "flawmap benchmark"),
        (["train", "a", "--stage", "last"], "invalid choice: 'last'", "flawmap train --help"),
        (["calibrate", "a", "b", "--false-alarm-rate", "x"], "--false-alarm-rate is x, must be a number", "0.01"),
        (["serve", "a", "--port", "x"], "--port is x, must be a whole number", "flawmap serve --help"),
        (["train", ""], "data is empty", "is a shell variable unset?"),
        (["train", "a", "--run", ""], "run is empty", "is a shell variable unset?"),
        (["detect", "a.png", ""], "images is empty", "is a shell variable unset?"),
    ],
)
def test_a_mistyped_line_is_explained(cli, words, problem, remedy):
    result = cli(*words)
    assert result.code == 2 and result.out == ""
    first, *_, last = result.err.splitlines()
    assert first.startswith("error: ") and problem in first
    assert last.startswith("remedy: ") and remedy in last


def test_words_that_look_like_yaml_stay_what_they_are(cli):
    for name in ("null", "[a]", "{a: b}", "1e3", "-"):
        result = cli("check", name)
        assert result.code == 2 and f"no such folder: {name} " in result.err


# ---- unexpected errors


@pytest.fixture
def failing(monkeypatch):
    """Makes ``flawmap recipe`` fail with a given error."""

    def fail_with(error: BaseException) -> None:
        def run(_):
            raise error

        monkeypatch.setattr(flawmap.cli.recipe, "run", run)

    return fail_with


def test_an_unexpected_error_is_called_a_bug_and_tells_how_to_report_it(cli, failing):
    failing(ValueError("the sky is falling"))
    result = cli("recipe", "my recipe.yaml")
    assert result.code == 2 and result.out == ""
    assert result.err == (
        "error: ValueError: the sky is falling\n"
        "this is a bug in flawmap; please report it\n"
        "remedy: run `flawmap recipe 'my recipe.yaml' --debug` and include its output\n"
    )


def test_debug_shows_the_traceback_and_keeps_the_exit_code(cli, failing):
    failing(ValueError("the sky is falling"))
    result = cli("recipe", "--debug")
    assert result.code == 2
    assert "Traceback (most recent call last)" in result.err and "in run" in result.err
    assert "--debug --debug" not in result.err


@pytest.mark.parametrize("place", [0, 1, 2])
def test_debug_may_stand_anywhere(cli, place):
    words = ["recipe", "--set"]
    words.insert(place, "--debug")
    result = cli(*words)
    assert result.code == 2 and "Traceback" in result.err and "expected one argument" in result.err


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(28, "No space left on device", "/disk/x.png"), ["No space left on device", "at: /disk/x.png"]),
        (PermissionError(13, "Permission denied", "/root/runs"), ["Permission denied", "at: /root/runs"]),
        (MemoryError(), ["error: out of memory", "remedy: --device cpu"]),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), ["error: out of memory"]),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), ["torch is not installed", install("train")]),
    ],
)
def test_what_the_machine_lacks_is_no_bug(cli, failing, error, expected):
    failing(error)
    result = cli("recipe")
    assert result.code == 2 and "bug" not in result.err and "Traceback" not in result.err
    assert all(part in result.err for part in expected) and "remedy: " in result.err


def test_a_missing_module_of_our_own_is_a_bug(cli, failing):
    failing(ModuleNotFoundError("No module named 'flawmap.nothing'", name="flawmap.nothing"))
    assert "this is a bug in flawmap" in cli("recipe").err


def test_a_user_error_shows_its_three_parts(cli, failing):
    failing(UserError("too few", "parts/", "add some"))
    assert cli("recipe").err == "error: too few\n  at: parts/\nremedy: add some\n"


def test_ctrl_c_ends_with_130(cli, failing):
    failing(KeyboardInterrupt())
    result = cli("recipe")
    assert (result.code, result.out, result.err) == (130, "", "\ninterrupted\n")


# ---- recipe


def test_recipe_prints_a_file_that_reads_back(cli, tmp_path):
    result = cli("recipe", "paper", "--set", "seed=7")
    assert result.code == 0 and result.err == ""
    again = tmp_path / "again.yaml"
    again.write_text(result.out, encoding="utf-8")
    assert load_recipe(again) == load_recipe("paper", ["seed=7"])


def test_recipe_alone_lists_the_presets(cli):
    lines = cli("recipe").out.splitlines()
    assert [line.split()[0] for line in lines] == list(PRESETS)
    assert cli("recipe", "--json").json["standard"] in lines[PRESETS.index("standard")]


def test_recipe_as_json_says_the_same(cli):
    as_yaml, as_json = cli("recipe", "standard").out, cli("recipe", "standard", "--json")
    assert as_json.json == yaml.safe_load(as_yaml)
    assert as_json.out.endswith("}\n") and as_json.out.count("\n") == 1


# ---- real processes


def test_a_process_separates_results_from_notes_and_exits_with_the_code(trained, tmp_path):
    done = process("detect", trained.data / "test" / "hole", "--model", trained.run, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len([json.loads(line) for line in done.stdout.splitlines()]) == 6
    assert done.stderr.decode().startswith("6 scored, ")
    wrong = process("check", "nowhere", cwd=tmp_path)
    assert wrong.returncode == 2 and wrong.stdout == b"" and b"Traceback" not in wrong.stderr


WITHOUT_TORCH = """
import sys
for name in ("torch", "torchvision", "timm", "lightning", "cv2", "jaxtyping"):
    sys.modules[name] = None
from flawmap.cli import main
print([main([verb, *words]) for verb, *words in {commands!r}])
"""


def test_check_recipe_and_report_need_no_torch_and_train_says_what_to_install(trained, run_copy):
    data, run = str(trained.data), str(run_copy)
    commands = [
        ["check", data, "--json"],
        ["recipe"],
        ["report", run],
        ["train", data],
        ["detect", data, "--model", run],
    ]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    code = WITHOUT_TORCH.format(commands=commands)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines()[-1] == "[0, 0, 0, 2, 2]", done.stderr
    assert done.stderr.count(f"is not installed\nremedy: {install('train')}") == 2
    assert "bug" not in done.stderr


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [sys.executable, "-m", "flawmap", "recipe"], stdout=write_end, stderr=subprocess.PIPE, env=environment
    )
    os.close(write_end)
    assert (done.returncode, done.stderr) == (0, b"")

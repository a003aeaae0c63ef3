"""flawmap benchmark peers, from the command line."""

import json
from pathlib import Path

import pytest

from flawmap.cli import main
from flawmap_bench.boards import peers
from flawmap_bench.boards.peers import PeersOrder
from flawmap_bench.methods import BASELINES, DEFAULT_METHODS


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[PeersOrder]:
    """What the command line orders; nothing runs."""
    found: list[PeersOrder] = []

    def note(order: PeersOrder, command: str) -> Path:
        found.append(order)
        (tmp_path / "scoreboard.md").write_text(f"# {command}\n", encoding="utf-8")
        (tmp_path / "scoreboard.json").write_text('{"rows": []}', encoding="utf-8")
        return tmp_path / "scoreboard.md"

    monkeypatch.setattr(peers, "run_peers", note)
    return found


def test_words_become_an_order(orders: list[PeersOrder], capsys: pytest.CaptureFixture[str]):
    words = "benchmark peers mtd --methods padim,standard,padim --seeds 0,2 --minutes-per-method 0.5 --image-size 112"
    assert main([*words.split(), "--set", "data.train_subset=40", "--output", "out", "--device", "cpu"]) == 0
    (order,) = orders
    overrides = ("data.train_subset=40",)
    assert order == PeersOrder("mtd", ("padim", "standard"), (0, 2), Path("out"), 112, 0.5, overrides, "cpu")
    assert capsys.readouterr().out.startswith("# flawmap benchmark peers mtd")


def test_without_words_all_rows_of_the_paper_run(orders: list[PeersOrder], capsys: pytest.CaptureFixture[str]):
    assert main(["benchmark", "peers", "mtd", "--json"]) == 0
    (order,) = orders
    assert order.methods == DEFAULT_METHODS and set(BASELINES) < set(order.methods)
    assert (order.minutes_per_method, order.image_size_px, order.folder) == (5.0, 224, Path("runs/peers"))
    assert json.loads(capsys.readouterr().out) == {"rows": []}


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--minutes-per-method", "0"], "--minutes-per-method is 0, must be above 0"),
        (["--minutes-per-method", "nan"], "--minutes-per-method is nan, must be above 0"),
        (["--image-size", "16"], "--image-size is 16, must be between 32 and 1024"),
        (["--seeds", "x"], "--seeds is 'x', must be whole numbers"),
    ],
)
def test_numbers_out_of_range_are_refused(
    orders: list[PeersOrder], words: list[str], problem: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["benchmark", "peers", "mtd", *words]) == 2
    assert problem in capsys.readouterr().err and not orders


def test_an_unknown_method_is_named_with_its_neighbour(capsys: pytest.CaptureFixture[str], mvtec_folder: Path):
    assert main(["benchmark", "peers", str(mvtec_folder), "--methods", "patchcor"]) == 2
    error = capsys.readouterr().err
    assert "'patchcor'" in error and "did you mean patchcore?" in error and "--methods" in error

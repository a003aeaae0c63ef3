"""The trial on the aspect of images: the grids, the part of an image, and evidence as the product has it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from flawmap.recipe.settings import MemorySettings, Recipe
from flawmap_bench.trials import aspect
from flawmap_bench.trials.aspect import Columns, grid_of_aspect, memory_evidence
from images import texture, write_image


@pytest.mark.parametrize(
    ("size_px", "grid"), [((224, 224), (16, 16)), ((1000, 400), (25, 10)), ((700, 1024), (13, 19)), ((1, 4), (8, 32))]
)
def test_grids_keep_the_aspect_and_the_area(size_px: tuple[int, int], grid: tuple[int, int]):
    assert grid_of_aspect(*size_px, 256) == grid


def test_columns_are_the_same_in_image_and_mask():
    mask = np.zeros((4, 10), bool)
    mask[:, 3:7] = True
    part = Columns(0.3, 0.7)
    assert part.of(mask).all() and part.of(mask).shape == (4, 4)
    assert part.of(np.zeros((4, 10, 3), np.uint8)).shape == (4, 4, 3)


def test_a_token_that_no_good_image_has_stands_out_and_an_order_of_patches_does_not_matter():
    good = torch.randn(6, 8, 2, 16, generator=torch.Generator().manual_seed(0))
    test = good[:1].flip(1).repeat(2, 1, 1, 1)
    test[1, 3] = -good.flatten(0, 1).mean(dim=0)
    recipe = Recipe(memory=MemorySettings(tokens=48))
    evidence = memory_evidence(good.half(), test.half(), recipe, seed=0)
    assert evidence.shape == (2, 8) and torch.equal(evidence[0, :3], evidence[1, :3])
    assert int(evidence[1].argmax()) == 3
    turned = memory_evidence(good.flip(1).half(), test.half(), recipe, seed=0)
    torch.testing.assert_close(evidence, turned, atol=1e-3, rtol=0)


@pytest.mark.slow
def test_both_rows_of_a_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    for number in range(4):
        write_image(tmp_path / "part" / "train" / "good" / f"{number}.png", texture(number, 80, 40))
        write_image(tmp_path / "part" / "test" / "good" / f"{number}.png", texture(10 + number, 80, 40))
        spoilt = texture(20 + number, 80, 40)
        spoilt[30:50, 10:30] = 255 * (number % 2)
        write_image(tmp_path / "part" / "test" / "bad" / f"{number}.png", spoilt)
    monkeypatch.setattr("sys.argv", ["aspect", str(tmp_path / "part")])
    aspect.main()
    rows = capsys.readouterr().out.splitlines()
    assert [row.split("|")[3].strip() for row in rows[1:]] == ["square, 16 x 16", "aspect kept, 23 x 11"]
    assert float(rows[1].split("|")[4]) >= 50

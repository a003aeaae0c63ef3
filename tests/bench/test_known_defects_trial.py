"""The trial of known defects: each kind left out once, the image score of the memory unchanged, and results kept."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from test_trials import RECIPE

from flawmap_bench.trials import known_defects
from flawmap_bench.trials.encoded_board import open_board
from flawmap_bench.trials.fitted_board import fit_board
from flawmap_bench.trials.known_defects import IMAGE_WEIGHTS, PIXEL_MEASURES, known_examples, run_board, table
from images import scratched, write_image


@pytest.mark.slow
def test_each_kind_is_left_out_once_and_the_memory_scores_as_before(mvtec_folder: Path, tmp_path: Path, monkeypatch):
    for number in range(3):
        image, mask = scratched(300 + number)
        write_image(mvtec_folder / "test" / "hole" / f"{number:03d}.png", image)
        write_image(mvtec_folder / "ground_truth" / "hole" / f"{number:03d}_mask.png", mask.astype(np.uint8) * 255)
    recipe, results = tmp_path / "tiny.yaml", tmp_path / "results.jsonl"
    recipe.write_text(yaml.safe_dump(RECIPE))
    fitted = fit_board(open_board(f"{mvtec_folder}:{recipe}", tmp_path / "cache"), 0, tmp_path / "cache")
    found = run_board(fitted, 2, 0, results)
    assert found.keys() == {"hole", "scratch"}
    for sides in found.values():
        for differences in sides.values():
            assert len(differences) == len(IMAGE_WEIGHTS) + len(PIXEL_MEASURES) and differences[0] == 0
    monkeypatch.delattr(known_defects, "left_out_kind")
    assert run_board(fitted, 2, 0, results) == found  # from the file
    first = next(n for n, sample in enumerate(fitted.board.test.samples) if sample.is_anomalous)
    known = known_examples(fitted, [first])
    assert 0 < len(known.anomalous.pools[0]) < len(known.beside.pools[0])


def test_a_table_has_means_over_seeds_and_kinds():
    seeds = [{"a": {"unseen": [0.01], "seen": [0.02]}, "b": {"unseen": [-0.01], "seen": [0.0]}}]
    seeds.append({"a": {"unseen": [0.03], "seen": [0.02]}, "b": {"unseen": [-0.01], "seen": [0.02]}})
    assert table(seeds) == ["| a | +2.00 | +2.00 |", "| b | -1.00 | +1.00 |", "| mean | +0.50 | +1.50 |"]

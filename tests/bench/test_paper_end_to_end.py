"""Table 1 from the command line, on a folder with all fifteen classes of MVTec AD, made up and tiny."""

import json
from pathlib import Path

import numpy as np
import pytest

from assertions import files_and_bytes
from flawmap.cli import main
from flawmap_bench.protocols import MVTEC_AD
from images import striped, write_good, write_image
from tiny_detector import write_tiny_recipe

SIDE_PX = 48


def write_classes(root: Path) -> Path:
    """Each class has twenty good images to train, and to test three good ones and three with a hole and its mask."""
    for number, name in enumerate(MVTEC_AD.classes):
        first = 10_000 * number
        write_good(root / name / "train" / "good", 20, first)
        write_good(root / name / "test" / "good", 3, first + 100)
        mask = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
        mask[8:20, 10:24] = 255
        for image in range(3):
            pixels = striped(first + 200 + image)
            pixels[mask > 0] = 0
            write_image(root / name / "test" / "hole" / f"{image:03d}.png", pixels)
            write_image(root / name / "ground_truth" / "hole" / f"{image:03d}_mask.png", mask)
    return root


@pytest.mark.slow
def test_table_one_trains_scores_and_averages_all_fifteen_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = write_classes(tmp_path / "mvtec"), tmp_path / "out"
    base = write_tiny_recipe(tmp_path / "tiny.yaml", "pretrain.enabled=false", "finetune.steps=2")
    words = ["benchmark", "paper", "--table", "1", "--data", str(root), "--base", str(base), "--seeds", "0"]
    words += ["--output", str(out), "--device", "cpu"]
    before = files_and_bytes(root)
    assert main(words) == 0
    printed = capsys.readouterr()
    results = {
        name: json.loads(next((out / name).rglob("ablation.json")).read_text(encoding="utf-8"))
        for name in MVTEC_AD.classes
    }
    assert all((r["n_good"], r["n_anomalous"]) == (3, 3) for r in results.values())
    image, pixel = (np.array([100 * r[f"{level}_auroc"] for r in results.values()]) for level in ("image", "pixel"))
    assert len(set(pixel)) == 15  # a model and data of its own for each
    assert f"| Ours | {image.mean():.1f} (1 seed) | {pixel.mean():.1f} (1 seed) | 98.3 | 98.2 |" in printed.out
    assert f"| method | {' | '.join(MVTEC_AD.classes)} | mean |" in printed.out
    for values in (image, pixel):
        line = " | ".join(f"{value:.1f}" for value in (*values, values.mean()))
        assert f"| Ours, measured here | {line} |" in printed.out
    assert files_and_bytes(root) == before

    runs = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    assert main(words) == 0
    again = capsys.readouterr()
    assert again.err.count("1 runs, 1 done, 0 to do") == 15 and again.out == printed.out
    assert runs == {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}

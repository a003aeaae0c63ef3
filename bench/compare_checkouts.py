"""Does a change of the code change what the methods compute? Compares two checkouts on the same images.

    python bench/compare_checkouts.py record CHECKOUT DATA FOLDER    # once for each checkout
    python bench/compare_checkouts.py compare FOLDER_A FOLDER_B

``record`` trains `quick` (seed 0) and ten steps of `paper_cpu` with the code of CHECKOUT, scores 40 test images with
the trained model and with its ONNX file, and keeps scores and maps. ``compare`` requires native results to be equal
to the last bit and exported ones to agree within the export's parity gate. Both recordings have to be made on the
same processor; they run on one thread.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

NUM_IMAGES = 40
TRAININGS = {"quick": ["--recipe", "quick"], "paper_cpu": ["--recipe", "paper_cpu", "--set", "finetune.steps=10"]}
MAX_SCORE_DIFFERENCE = 1e-3  # the parity gate of `flawmap export`
MAX_MAP_DIFFERENCE = 0.05  # of the colour scale's range

SCORE_IMAGES = """
import json, sys
import numpy as np
from PIL import Image
from flawmap import AnomalyDetector
from flawmap.deploy import load
run, exported, images, output = sys.argv[1:]
native, graph = AnomalyDetector.from_pretrained(run, device="cpu"), load(exported)
arrays = {"map_range": np.array([native.map_scale.low, native.map_scale.high])}
for name, model in (("native", native), ("exported", graph)):
    answers = [model.predict(np.array(Image.open(path).convert("RGB"))) for path in json.load(open(images))]
    arrays[f"{name}_scores"] = np.array([answer.score for answer in answers])
    arrays |= {f"{name}_map_{number}": answer.anomaly_map for number, answer in enumerate(answers)}
np.savez(output, **arrays)
"""


def record(checkout: Path, data: Path, folder: Path) -> None:
    """Train, export and score with the code of one checkout."""
    folder.mkdir(parents=True)
    environment = os.environ | {"PYTHONPATH": f"{checkout / 'src'}:{checkout / 'bench'}", "OMP_NUM_THREADS": "1"}
    images = sorted(str(path) for path in (data / "test").glob("*/*"))
    chosen = [images[round(place)] for place in np.linspace(0, len(images) - 1, NUM_IMAGES)]
    (folder / "images.json").write_text(json.dumps(chosen))
    for name, options in TRAININGS.items():
        run, exported = folder / name, folder / f"{name}.onnx"
        flawmap = [sys.executable, "-m", "flawmap"]
        for command in (
            [*flawmap, "train", str(data), "--run", str(run), "--device", "cpu", *options],
            [*flawmap, "export", str(run), "--to", "onnx", "--output", str(exported)],
            [sys.executable, "-c", SCORE_IMAGES, run, exported, folder / "images.json", folder / f"{name}.npz"],
        ):
            subprocess.run(command, env=environment, check=True)


def compare(before: Path, after: Path) -> bool:
    """Print the largest differences; True if nothing changed."""
    unchanged = True
    for name in TRAININGS:
        first, second = np.load(before / f"{name}.npz"), np.load(after / f"{name}.npz")
        map_range = float(np.diff(first["map_range"])[0])
        for kind in ("native", "exported"):
            scores = float(np.abs(first[f"{kind}_scores"] - second[f"{kind}_scores"]).max())
            maps = max(
                float(np.abs(first[f"{kind}_map_{number}"] - second[f"{kind}_map_{number}"]).max())
                for number in range(NUM_IMAGES)
            )
            if kind == "native":
                same = scores == maps == 0
            else:
                same = scores <= MAX_SCORE_DIFFERENCE and maps <= MAX_MAP_DIFFERENCE * map_range
            unchanged &= same
            verdict = "same" if same else "CHANGED"
            print(f"{name:<10} {kind:<9} scores differ by {scores:.2e}, maps by {maps:.2e}: {verdict}")
    return unchanged


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    recording = verbs.add_parser("record")
    for argument in ("checkout", "data", "folder"):
        recording.add_argument(argument, type=Path)
    comparison = verbs.add_parser("compare")
    for argument in ("before", "after"):
        comparison.add_argument(argument, type=Path)
    arguments = parser.parse_args()
    if arguments.verb == "record":
        record(arguments.checkout.resolve(), arguments.data.resolve(), arguments.folder.resolve())
        return 0
    return 0 if compare(arguments.before, arguments.after) else 1


if __name__ == "__main__":
    sys.exit(main())

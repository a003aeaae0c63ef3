"""One model of several products beside one model of each.

    python -m flawmap_bench.trials.products DATA/screw DATA/transistor DATA/toothbrush --images 60 --recipe quick

Each folder is a product. Its good training images, at most ``--images`` spread evenly by name, train a model of its own
and are a part of what the common model is trained on; ``--tokens`` gives further common models that keep more tokens.
All are measured on all test images of each product. No model is told which product an image shows. Images in folders of
``--strange`` show none of them, and should be found to be unknown.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from flawmap.data.images.truth import read_truth
from flawmap.data.open_data import evenly_spaced, open_test_data, open_training_data
from flawmap.data.sample import NormalImage, TestData
from flawmap.detect.detector import AnomalyDetector
from flawmap.metrics.pixel_pool import PixelPool, count_pixels
from flawmap.metrics.ranking import auroc
from flawmap.recipe.files import load_recipe
from flawmap.recipe.settings import Recipe


def good_images(folders: Sequence[Path], count: int, recipe: Recipe) -> list[list[NormalImage]]:
    """The training images of each product, which know its name."""
    found = []
    for folder in folders:
        images = evenly_spaced(open_training_data(folder, recipe.data).images, count)
        found.append([replace(image, key=f"{folder.name}/{image.key}", product=folder.name) for image in images])
    return found


def measured(detector: AnomalyDetector, test: TestData, product: str) -> dict[str, float | int | None]:
    """Ranking, verdicts, and how many images were found to show the right product."""
    verdicts = detector.predict([sample.path for sample in test.samples])
    bad = np.array([sample.is_anomalous for sample in test.samples])
    flagged = np.array([verdict.is_anomalous for verdict in verdicts])
    found = np.array([verdict.product == product for verdict in verdicts])
    unknown = np.array([verdict.is_unknown_product for verdict in verdicts])
    pool = PixelPool()
    for sample, verdict in zip(test.samples, verdicts, strict=True):
        truth = read_truth(sample, *verdict.anomaly_map.shape)
        if truth is not None:
            pool.add(count_pixels(verdict.anomaly_map, truth))
    return {
        "image_auroc": auroc(np.array([verdict.score for verdict in verdicts]), bad),
        "pixel_auroc": pool.values()["auroc"],
        "good": int((~bad).sum()),
        "false_alarms": int((flagged & ~bad).sum()),
        "defects": int(bad.sum()),
        "missed": int((~flagged & bad).sum()),
        "right_product": int(found.sum()),
        "wrong_product": int((~found & ~unknown).sum()),
        "unknown_good": int((unknown & ~bad).sum()),
        "unknown_defects": int((unknown & bad).sum()),
    }


def main() -> None:
    """Train and measure; one line of JSON for each model and product."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("products", nargs="+", type=Path, help="folders with train and test images, one a product")
    parser.add_argument("--recipe", default="quick")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C")
    parser.add_argument("--images", type=int, default=60, help="good images of each product")
    parser.add_argument("--tokens", type=int, nargs="*", default=[], help="of further common models")
    parser.add_argument("--strange", type=Path, nargs="*", default=[], help="folders of images of no product")
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe, arguments.set)
    good = good_images(arguments.products, arguments.images, recipe)
    common = {"common": recipe}
    for tokens in arguments.tokens:
        common[f"common, {tokens} tokens"] = replace(recipe, memory=replace(recipe.memory, tokens=tokens))
    models = [("own", recipe, [folder], images) for folder, images in zip(arguments.products, good, strict=True)]
    models += [(name, one, arguments.products, [i for of in good for i in of]) for name, one in common.items()]
    for name, of_model, folders, images in models:
        detector = AnomalyDetector(of_model).fit(images, device="cpu")
        for folder in folders:
            found = measured(detector, open_test_data(folder, recipe.data), folder.name)
            print(json.dumps({"model": name, "product": folder.name, **found}), flush=True)
        for strange in arguments.strange if len(folders) > 1 else ():
            verdicts = detector.predict(sorted(strange.glob("*.*"))[:100])
            unknown = sum(verdict.is_unknown_product for verdict in verdicts)
            print(json.dumps({"model": name, "strange": strange.name, "images": len(verdicts), "unknown": unknown}))


if __name__ == "__main__":
    main()

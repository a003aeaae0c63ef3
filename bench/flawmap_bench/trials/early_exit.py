"""By what are like-looking good images found? The last [CLS] token costs the encoder's last blocks in detection.

    python -m flawmap_bench.trials.early_exit mtd nih:chest_xray elpv --cache /tmp/trials --seeds 0 1 2

For each board it prints every appearance with image AUROC, its difference from the last [CLS] token with the 95 %
interval over images, and the measures of pixels: means over the seeds, which decide what is held out, what the memory
keeps and, where the recipe has a head, which defects are simulated.
"""

import argparse
from dataclasses import replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flawmap.data.sample import LabelledImage
from flawmap.engine.progress import say
from flawmap.memory.head_training import train_on_examples
from flawmap.memory.scorer import ResidualScorer
from flawmap_bench.trials.encoded_board import Board, EncodedImages, add_board_arguments, open_board
from flawmap_bench.trials.fitted_board import FittedBoard, fit_board, head_examples
from flawmap_bench.trials.measures import PIXEL_MEASURES, Truths, auroc_difference, weighted_auroc
from flawmap_bench.trials.variant_scores import Appearance, TestScores, cls_token, patches_of, score_test_images

LAST_CLS = "last [CLS]"
EXIT = 10  # the last block that the recipe standard needs for its tokens; 1 is the first
WITHIN = "view"  # the stratum within which the image AUROC is also given: the view of an X-ray


def cls_after(block: int, encoded: EncodedImages) -> Tensor:
    """The [CLS] token after a block, 1 = first, as the block gives it."""
    return encoded.cls[:, block - 1]


def mean_after(block: int, encoded: EncodedImages) -> Tensor:
    """The mean of the normed patch tokens after a block, 1 = first."""
    return encoded.means[:, block - 1]


def appearances(board: Board) -> dict[str, Appearance]:
    """Every appearance by name: after block EXIT, and after the recipe's own last block."""
    blocks, norm = board.recipe.memory.blocks, board.encoder.vit.norm
    found: dict[str, Appearance] = {LAST_CLS: cls_token}
    for block in sorted({min(EXIT, len(board.encoder.vit.blocks) - 1), max(blocks)}, reverse=True):
        found[f"[CLS] after block {block}"] = partial(cls_after, block)
        found[f"[CLS] after block {block}, final norm"] = lambda encoded, block=block: norm(cls_after(block, encoded))
        found[f"mean of block {block}"] = partial(mean_after, block)
    numbers = [block - 1 for block in blocks]
    found[f"mean of blocks {', '.join(map(str, blocks))}"] = lambda encoded: encoded.means[:, numbers].mean(dim=1)
    found["… joined"] = lambda encoded: F.normalize(encoded.means[:, numbers], dim=-1).flatten(1)
    return found


def scores_of(board: Board, fitted: FittedBoard) -> dict[str, TestScores]:
    """The test scores with every appearance."""
    if isinstance(fitted.scorer, ResidualScorer):
        state = train_on_examples(fitted.scorer, head_examples(fitted), board.recipe.residual, fitted.context)
        fitted.scorer.head.load_state_dict(state)
        fitted.scorer.eval()
    patches = patches_of(fitted)
    with torch.no_grad():
        return {name: score_test_images(fitted, patches, look) for name, look in appearances(board).items()}


def rows_of(board: Board, trainings: list[dict[str, TestScores]]) -> list[list[str]]:
    """The table's rows, each beginning with the name of an appearance."""
    samples, truths = board.test.samples, Truths.of(board.test)
    labels = np.array([sample.is_anomalous for sample in samples], bool)
    rows = []
    for name in trainings[0]:
        scores = [training[name].image for training in trainings]
        reference = [training[LAST_CLS].image for training in trainings]
        row = [name]
        if labels.any() and not labels.all():
            row += [" ".join(f"{100 * auroc_of(score, labels):.2f}" for score in scores)]
            value, low, high = auroc_difference(samples, scores, reference)
            row += [f"{100 * np.mean([auroc_of(score, labels) for score in scores]):.2f}"]
            row += [f"{100 * value:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"]
        row += [
            f"{stratum} {100 * np.mean([auroc_of(score[members], labels[members]) for score in scores]):.2f}"
            for stratum, members in strata_of(samples).items()
        ]
        pixels = [truths.measures(training[name].evidence) for training in trainings]
        row += [f"{100 * np.mean([p[key] for p in pixels]):.2f}" for key in PIXEL_MEASURES if key in pixels[0]]
        rows.append(row)
    return rows


def auroc_of(scores: np.ndarray, labels: np.ndarray) -> float:
    """AUROC of images of both classes."""
    return float(weighted_auroc(scores, labels, np.ones((1, len(labels))))[0])


def strata_of(samples: tuple[LabelledImage, ...]) -> dict[str, np.ndarray]:
    """Which images are of each value of WITHIN; nothing where the images have none."""
    values = np.array([sample.strata.get(WITHIN, "") for sample in samples])
    return {value: values == value for value in sorted(set(values) - {""})}


def main() -> None:
    """Compare the appearances on every board."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_board_arguments(parser)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="each is a training of its own")
    parser.add_argument("--no-maps", action="store_true", help="train no head, which leaves image scores as they are")
    arguments = parser.parse_args()
    for name in arguments.boards:
        board = open_board(name, arguments.cache, arguments.set)
        if board.recipe.method == "fused" and (arguments.no_maps or board.test.protocol.pixel_pool == "none"):
            board = replace(board, recipe=replace(board.recipe, method="memory"))  # the head draws maps only
        trainings = [scores_of(board, fit_board(board, seed, arguments.cache)) for seed in arguments.seeds]
        print(f"{board.name}, seeds {arguments.seeds}: {len(board.good)} good, {len(board.test.samples)} test images")
        for row in rows_of(board, trainings):
            print("| " + " | ".join(row) + " |", flush=True)
        say("done", board.name)


if __name__ == "__main__":
    main()

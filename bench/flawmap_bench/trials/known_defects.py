"""Do known defects of some kinds harm the kinds that nobody has seen, and do they help those that were?

    python -m flawmap_bench.trials.known_defects screw:quick transistor:quick mtd:quick --cache /tmp/trials --seeds 0 1

For each board and each kind of defect, some images of the other kinds are taken out of the test set and given to the
head as known defects. Everything else stays as it is. Each number is a measure of a training with known defects less
that of one without, on the same images: those of the kind left out ("unseen"), and those left of the other kinds
("seen"), each with all good test images. Results are kept in the cache, so that an interrupted command goes on.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from torch import Tensor

from flawmap.data.sample import Boxes, KnownDefect, MaskFile
from flawmap.memory.head_training import HeadExamples, train_on_examples
from flawmap.memory.known_defects import DefectsToLearn, KnownExamples, far_from_good, shown_by
from flawmap.memory.patch_memory import Lookup
from flawmap.memory.scorer import ResidualScorer
from flawmap.memory.token_pool import TokenPool
from flawmap.metrics.ranking import auroc
from flawmap.reproducibility import numpy_generator, stable_hash
from flawmap_bench.trials.encoded_board import add_board_arguments, open_board
from flawmap_bench.trials.fitted_board import FittedBoard, fit_board, head_examples, tokens_of
from flawmap_bench.trials.measures import Truths
from flawmap_bench.trials.variant_scores import appearance_of, patches_of, score_test_images

IMAGE_WEIGHTS = ((1.0, 0.0), (1.0, 0.5), (0.0, 1.0))  # of memory and head in the image score; the first is the recipes'
PIXEL_MEASURES = ("average_precision", "aupro_05")
RESULTS = "known_defects.jsonl"


def known_examples(fitted: FittedBoard, numbers: Sequence[int]) -> KnownExamples:
    """What the head learns from some test images, as :func:`flawmap.memory.known_defects.encode_known` gives it."""
    board, memory, settings = fitted.board, fitted.scorer.memory, fitted.board.recipe.residual
    rows, columns = fitted.good.attention.shape[1:]
    far, anomalous, beside = far_from_good(memory, fitted.of_others, None), list[TokenPool](), list[TokenPool]()
    for number in numbers:
        sample, lookup = board.test.samples[number], _row(fitted.of_test, number)
        assert sample.truth is None or isinstance(sample.truth, MaskFile | Boxes)
        defect = DefectsToLearn((KnownDefect(sample.key, sample.path, sample.truth),))
        squares = defect.read(0, fitted.context.size_px, (rows, columns))
        shows, is_normal = shown_by(
            squares, memory.standardised(memory.recalled(lookup)), far, settings.anomalous_cover
        )
        pool = TokenPool(tokens_of(board.encoded_test, number, board.recipe)[0].half(), lookup.indices[0].int())
        anomalous.append(pool.at(shows[0].nonzero()[:, 0]))
        beside.append(pool.at(is_normal[0].nonzero()[:, 0]))
    return KnownExamples.of(anomalous, beside, settings.simulated_images)


def _row(lookup: Lookup, number: int) -> Lookup:
    return Lookup(lookup.distances[number : number + 1], lookup.indices[number : number + 1])


def scores_of(fitted: FittedBoard, examples: HeadExamples, seed: int) -> tuple[list[np.ndarray], Tensor]:
    """Train a head; the image scores with each of ``IMAGE_WEIGHTS``, and the maps."""
    scorer = fitted.scorer
    assert isinstance(scorer, ResidualScorer)
    context, settings = replace(fitted.context, seed=seed), fitted.board.recipe.residual
    scorer.head.load_state_dict(train_on_examples(scorer, examples, settings, context, is_logged=False))
    scorer.eval()
    patches, looks, own = patches_of(fitted), appearance_of(fitted.board), scorer.image_weights
    found, evidence = list[np.ndarray](), torch.empty(0)
    for weights in IMAGE_WEIGHTS:
        scorer.image_weights = weights
        scores = score_test_images(fitted, patches, looks)
        found.append(scores.image)
        evidence = scores.evidence
    scorer.image_weights = own
    return found, evidence


def measures(
    fitted: FittedBoard, truths: Truths, scored: tuple[list[np.ndarray], Tensor], bad: Sequence[int]
) -> list[float]:
    """Image AUROC for each of ``IMAGE_WEIGHTS``, then pixel measures, of some defective images and all good ones."""
    good = [number for number, sample in enumerate(fitted.board.test.samples) if not sample.is_anomalous]
    counted, (images, evidence) = [*good, *bad], scored
    labels = np.array([False] * len(good) + [True] * len(bad))
    found = [auroc(scores[counted], labels) for scores in images]
    pixels = Truths({n: truths.masks[n] for n in counted if n in truths.masks}).measures(evidence)
    return [float("nan") if value is None else value for value in (*found, *(pixels[name] for name in PIXEL_MEASURES))]


def left_out_kind(
    fitted: FittedBoard, truths: Truths, plain: tuple[list[np.ndarray], Tensor], kind: str, count: int, seed: int
) -> dict[str, list[float]]:
    """Differences on the kind left out and on the others, with ``count`` known defects of the others."""
    samples = fitted.board.test.samples
    unseen = [number for number, sample in enumerate(samples) if sample.kind == kind]
    others = [number for number, sample in enumerate(samples) if sample.is_anomalous and sample.kind != kind]
    known = sorted(numpy_generator(seed, "known defects", kind).permutation(others)[:count].tolist())
    examples = replace(head_examples(fitted), known=known_examples(fitted, known))
    taught = scores_of(fitted, examples, seed)
    sides = {"unseen": unseen, "seen": [number for number in others if number not in set(known)]}
    return {
        side: [
            with_known - without
            for with_known, without in zip(
                *(measures(fitted, truths, scored, bad) for scored in (taught, plain)), strict=True
            )
        ]
        for side, bad in sides.items()
    }


def run_board(fitted: FittedBoard, count: int, seed: int, results: Path) -> dict[str, dict[str, list[float]]]:
    """The differences for each kind left out; those in ``results`` are not computed again."""
    kinds = sorted({sample.kind for sample in fitted.board.test.samples if sample.is_anomalous})
    done = dict[str, dict[str, list[float]]]()
    for line in results.read_text(encoding="utf-8").splitlines() if results.is_file() else ():
        record = json.loads(line)
        done[record["key"]] = record["differences"]
    keys = {kind: stable_hash([fitted.board.name, fitted.context.inputs, kind, count, seed])[:16] for kind in kinds}
    if any(key not in done for key in keys.values()):
        truths, plain = Truths.of(fitted.board.test), scores_of(fitted, head_examples(fitted), seed)
        for kind, key in keys.items():
            if key in done:
                continue
            done[key] = left_out_kind(fitted, truths, plain, kind, count, seed)
            about = {"key": key, "board": fitted.board.name, "kind": kind, "known": count, "seed": seed}
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**about, "differences": done[key]}) + "\n")
    return {kind: done[key] for kind, key in keys.items()}


def table(of_seeds: Sequence[dict[str, dict[str, list[float]]]]) -> list[str]:
    """Rows of kinds, each the mean over the seeds, in points; the last is the mean over the kinds."""
    cells = defaultdict[str, list[list[float]]](list)
    for of_kinds in of_seeds:
        for kind, sides in of_kinds.items():
            cells[kind].append([*sides["unseen"], *sides["seen"]])
    means = {kind: [mean(column) for column in zip(*rows, strict=True)] for kind, rows in cells.items()}
    means["mean"] = [mean(column) for column in zip(*means.values(), strict=True)]
    return [f"| {kind} | " + " | ".join(f"{100 * value:+.2f}" for value in row) + " |" for kind, row in means.items()]


def main() -> None:
    """Leave each kind out on every board."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_board_arguments(parser)
    parser.add_argument("--known", type=int, default=5, help="known defects of the other kinds (default: 5)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    columns = [f"image {memory:g}:{head:g}" for memory, head in IMAGE_WEIGHTS] + list(PIXEL_MEASURES)
    for name in arguments.boards:
        board, of_seeds = open_board(name, arguments.cache, arguments.set), []
        for seed in arguments.seeds:
            fitted = fit_board(board, seed, arguments.cache)
            of_seeds.append(run_board(fitted, arguments.known, seed, arguments.cache / RESULTS))
        print(f"{board.name}, seeds {arguments.seeds}, {arguments.known} known defects; unseen, then seen: {columns}")
        print("\n".join(table(of_seeds)), flush=True)


if __name__ == "__main__":
    main()

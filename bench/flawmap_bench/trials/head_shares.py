"""Of which normal tokens does the head learn most: those beside simulated defects, or those of reference images?

    python -m flawmap_bench.trials.head_shares mtd screw transistor --cache /tmp/trials --head-seeds 0 1 2

For each board it trains heads on the same examples, with different shares of normal tokens from beside the defects,
and prints the measures of pixels: mean over the head's seeds, and in brackets the difference from the first share with
its standard error over the pairs of equal seeds.
"""

import argparse
from dataclasses import replace
from statistics import mean, stdev

from flawmap.memory.head_training import train_on_examples
from flawmap.memory.scorer import ResidualScorer
from flawmap_bench.trials.encoded_board import add_board_arguments, open_board
from flawmap_bench.trials.fitted_board import FittedBoard, fit_board, head_examples
from flawmap_bench.trials.measures import PIXEL_MEASURES, Truths
from flawmap_bench.trials.variant_scores import appearance_of, patches_of, score_test_images

SHARES = (0.5, 1.0, 0.75, 0.25)


def measures_of_share(fitted: FittedBoard, truths: Truths, share: float, head_seed: int) -> dict[str, float]:
    """Train a head and measure the maps."""
    scorer, context = fitted.scorer, replace(fitted.context, seed=head_seed)
    assert isinstance(scorer, ResidualScorer)
    settings = fitted.board.recipe.residual
    scorer.head.load_state_dict(train_on_examples(scorer, head_examples(fitted), settings, context, share))
    scorer.eval()
    scores = score_test_images(fitted, patches_of(fitted), appearance_of(fitted.board))
    return truths.measures(scores.evidence)


def described(of_share: list[dict[str, float]], of_first: list[dict[str, float]]) -> list[str]:
    """Each measure's mean over the seeds, and its difference from the first share."""
    cells = []
    for key in PIXEL_MEASURES:
        differences = [100 * (own[key] - first[key]) for own, first in zip(of_share, of_first, strict=True)]
        error = f" ± {stdev(differences) / len(differences) ** 0.5:.2f}" if len(differences) > 1 else ""
        cells.append(f"{100 * mean(m[key] for m in of_share):.2f} ({mean(differences):+.2f}{error})")
    return cells


def main() -> None:
    """Compare the shares on every board."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_board_arguments(parser)
    parser.add_argument(
        "--shares", nargs="+", type=float, default=SHARES, help="the others are compared with the first"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the split, the memory and the simulated defects")
    parser.add_argument("--head-seeds", nargs="+", type=int, default=[0, 1, 2], help="each trains heads of its own")
    arguments = parser.parse_args()
    for name in arguments.boards:
        board = open_board(name, arguments.cache, arguments.set)
        fitted, truths = fit_board(board, arguments.seed, arguments.cache), Truths.of(board.test)
        print(f"{board.name}, seed {arguments.seed}, head seeds {arguments.head_seeds}; {', '.join(PIXEL_MEASURES)}")
        first: list[dict[str, float]] = []
        for share in arguments.shares:
            measured = [measures_of_share(fitted, truths, share, seed) for seed in arguments.head_seeds]
            first = first or measured
            print("| " + " | ".join([f"{share:g}", *described(measured, first)]) + " |", flush=True)


if __name__ == "__main__":
    main()

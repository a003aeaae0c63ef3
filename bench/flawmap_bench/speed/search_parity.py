"""Compares the fast search of a run's memory with the plain one on a whole test set.

``python -m flawmap_bench.speed.search_parity RUN DATA`` scores all labelled images of DATA twice, once with the search
that this processor takes (a coarse product proposes, an exact one decides) and once with the exact product of all
tokens, and prints how far scores, maps and verdicts differ.
"""

import argparse
import copy
import sys
from collections.abc import Sequence

from flawmap.data.open_data import open_test_data
from flawmap.deploy.parity import CheckImage, Parity, compare
from flawmap.detect.detector import AnomalyDetector
from flawmap.errors import UserError
from flawmap.memory.scorer import TokenScorer
from flawmap.memory.search import Product, fastest_product
from flawmap_bench.speed.export_parity import evenly


def searching(detector: AnomalyDetector, product: Product) -> AnomalyDetector:
    """A detector on tokens whose memory is searched in another type; all else is shared.

    Raises:
        UserError: it has no memory.
    """
    scorer = detector.scorer_
    if not isinstance(scorer, TokenScorer):
        raise UserError("this model has no memory to search", "", "give a run of a method on tokens")
    memory, other = copy.copy(scorer.memory), copy.copy(detector)
    memory.search_in(product)
    other.scorer_ = scorer.with_memory(memory, scorer.expectation)
    return other


def described(parity: Parity, product: str) -> str:
    """Markdown: one row, with its heading."""
    aurocs = ", ".join(f"{100 * auroc:.2f}" for auroc in parity.auroc) if parity.auroc else "–"
    share = parity.max_map_difference / parity.map_range
    return "\n".join(
        [
            "| search | images | score differs by | map differs by, of its range | verdicts changed | image AUROC |",
            "|---|---|---|---|---|---|",
            f"| {product} and fp32 | {parity.n} | {parity.max_score_difference:.1e} | {share:.2%} "
            f"| {parity.n_verdicts_changed} | {aurocs} |",
        ]
    )


def main(words: Sequence[str] | None = None) -> int:
    """``RUN DATA [--count N]``: print the table; 2 when the run or the data cannot be opened."""
    parser = argparse.ArgumentParser(prog="python -m flawmap_bench.speed.search_parity", description=__doc__)
    parser.add_argument("run", help="a run or model folder of a method on tokens")
    parser.add_argument("data", help="labelled test images, as for flawmap evaluate")
    parser.add_argument("--count", type=int, default=None, help="number of images, evenly spaced (default: all)")
    arguments = parser.parse_args(words)
    try:
        detector = AnomalyDetector.from_pretrained(arguments.run, "cpu")
        samples = open_test_data(arguments.data, detector.recipe.data).samples
        images = evenly([CheckImage(sample.path, sample.is_anomalous) for sample in samples], arguments.count)
        print(described(compare(detector, searching(detector, "fp32"), images), fastest_product("cpu")))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

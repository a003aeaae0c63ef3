"""What do defects among the good images do, and does training name them?

    python -m flawmap_bench.trials.planted_defects screw mtd elpv --cache /tmp/trials --shares 0.05 0.1 0.2 --seeds 0

Test defects take the place of good images and leave the test set. For each board and share it prints the image AUROC on
the remaining test images, without and with them; how many of the planted images are among as many that look most
unusual; and how many images training names, planted ones and others. Share 0 is the set as it is.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from flawmap.data.groups import by_image_if_few, identities
from flawmap.data.sample import NormalImage
from flawmap.engine.batch_size import ImagesAtOnce
from flawmap.engine.compute import choose_compute
from flawmap.engine.progress import say
from flawmap.engine.stage import StageContext
from flawmap.memory.fit import OF_OTHERS, dealt, fit_memory, learn_expectation, taken_from
from flawmap.memory.folds import Folds, evidence_out_of_fold
from flawmap.memory.patch_memory import Lookup
from flawmap.memory.scorer import TokenScorer, build_scorer
from flawmap.metrics.unusual_scores import unusual
from flawmap.reproducibility import numpy_generator
from flawmap.runs.run_folder import RunFolder
from flawmap_bench.trials.early_exit import auroc_of
from flawmap_bench.trials.encoded_board import Board, EncodedImages, add_board_arguments, open_board
from flawmap_bench.trials.fitted_board import good_images, tokens_of
from flawmap_bench.trials.variant_scores import appearance_of


@dataclass(frozen=True)
class Planted:
    """A board some of whose good images are test defects.

    Attributes:
        board: with the defects among its good images; its test images are all as they were.
        is_planted: of each good image.
        stays: of each test image, whether it is still one.
    """

    board: Board
    is_planted: Bool[np.ndarray, "g"]
    stays: Bool[np.ndarray, "t"]


def planted(board: Board, share: float, seed: int) -> Planted:
    """Put test defects in the place of a share of the good images; both are drawn at random."""
    generator = numpy_generator(seed, "planted defects")
    defects = np.flatnonzero([sample.is_anomalous for sample in board.test.samples])
    count = round(share * len(board.good))
    chosen = generator.permutation(defects)[:count]
    replaced = generator.permutation(len(board.good))[: len(chosen)]
    good, samples = list(board.good), board.test.samples
    for place, number in zip(replaced, chosen, strict=True):
        good[place] = NormalImage(f"planted/{samples[number].key}", samples[number].path)
    is_planted, stays = np.zeros(len(good), bool), np.ones(len(samples), bool)
    is_planted[replaced], stays[chosen] = True, False
    encoded = _replaced(board.encoded_good, board.encoded_test, replaced, chosen)
    return Planted(replace(board, good=tuple(good), encoded_good=encoded), is_planted, stays)


def _replaced(
    good: EncodedImages, test: EncodedImages, replaced: Int[np.ndarray, "k"], chosen: Int[np.ndarray, "k"]
) -> EncodedImages:
    fields = {}
    for name, values in vars(good).items():
        fields[name] = values.clone()
        fields[name][torch.from_numpy(replaced)] = getattr(test, name)[torch.from_numpy(chosen)]
    return EncodedImages(**fields)


@dataclass(frozen=True)
class Scored:
    """Scores of the test images, and of the good images by fits without their fold; ``references`` are those scored."""

    test: Float[np.ndarray, "t"]
    unseen: Float[np.ndarray, "k"]
    references: Int[np.ndarray, "k"]


def train_and_score(board: Board, seed: int) -> Scored:
    """What a training with this seed and without shifted images gives; encoded images are the board's."""
    recipe = replace(board.recipe, method="memory", seed=seed)  # the head draws maps only
    good = good_images(board.encoded_good, recipe, seed)
    looks = appearance_of(board)
    good = replace(good, reference_appearances=looks(board.encoded_good)[good.references])
    with tempfile.TemporaryDirectory(prefix="flawmap-trial-") as folder:
        context = StageContext(
            RunFolder(Path(folder)), choose_compute("cpu", "fp32"), seed, recipe.data.image_size_px, {}
        )
        fold_of_image = dealt(good, identities(by_image_if_few(board.good)), recipe)
        assert fold_of_image is not None
        state = fit_memory(good, fold_of_image, recipe, context)
        of_others = Lookup(state.pop(f"{OF_OTHERS}distances"), state.pop(f"{OF_OTHERS}indices"))
        folds = Folds(fold_of_image, taken_from(state), good.references)
        scorer = build_scorer(board.encoder, recipe, memory_tokens=state["tokens"].shape[1])
        scorer.memory.load_state_dict(state)
        scorer.restore_expectation(learn_expectation(scorer, good, of_others, context))
    scorer.eval()
    at_once = ImagesAtOnce(1)
    evidence = evidence_out_of_fold(scorer, good, folds, recipe.memory.spacing_neighbours, at_once)
    grid = good.attention.shape[1], good.attention.shape[2]
    unseen = [float(scorer.output(of_image, grid).image[0]) for of_image in evidence]
    return Scored(test_scores(scorer, board, grid), np.array(unseen), good.references.numpy())


@torch.no_grad()
def test_scores(scorer: TokenScorer, board: Board, grid: tuple[int, int]) -> Float[np.ndarray, "t"]:
    """Image scores of all test images."""
    looks = appearance_of(board)(board.encoded_test)
    scores = []
    for number in range(len(board.test.samples)):
        tokens = tokens_of(board.encoded_test, number, board.recipe)
        evidence = scorer.evidence_in(looks[number : number + 1], tokens, scorer.memory.nearest(tokens))
        scores.append(float(scorer.output(evidence, grid).image[0]))
    return np.array(scores)


def row_of(planted: Planted, scored: Scored, clean: Scored) -> list[str]:
    """Share, AUROC without and with planted images, and what is named."""
    is_anomalous = np.array([sample.is_anomalous for sample in planted.board.test.samples])[planted.stays]
    without, with_them = (100 * auroc_of(some.test[planted.stays], is_anomalous) for some in (clean, scored))
    is_planted, named = planted.is_planted[scored.references], unusual(scored.unseen)
    count = int(is_planted.sum())
    highest = np.argsort(-scored.unseen, kind="stable")[:count]
    found = f"{int(is_planted[highest].sum())} of {count}" if count else "–"
    return [
        f"{without:.2f}",
        f"{with_them:.2f}",
        f"{with_them - without:+.2f}",
        found,
        f"{int(is_planted[named].sum())} and {int((~is_planted[named]).sum())}",
    ]


def main() -> None:
    """Plant defects on every board."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_board_arguments(parser)
    parser.add_argument("--shares", nargs="+", type=float, default=[0.05, 0.1, 0.2], help="of the good images")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="of the draw and of the training")
    arguments = parser.parse_args()
    for name in arguments.boards:
        board = open_board(name, arguments.cache, arguments.set)
        print(f"{board.name}: {len(board.good)} good, {len(board.test.samples)} test images")
        print("| seed | share | AUROC clean | planted | fall | planted among as many | named: planted and others |")
        for seed in arguments.seeds:
            _print_rows(board, seed, arguments.shares)
        say("done", board.name)


def _print_rows(board: Board, seed: int, shares: Sequence[float]) -> None:
    clean = train_and_score(board, seed)
    for share in (0.0, *shares):
        some = planted(board, share, seed)
        scored = train_and_score(some.board, seed) if share else clean
        print("| " + " | ".join([str(seed), f"{share:g}", *row_of(some, scored, clean)]) + " |", flush=True)


if __name__ == "__main__":
    main()

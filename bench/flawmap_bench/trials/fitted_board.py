"""A board after everything that does not differ between variants: the memory, and what it finds for every image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.sample import NormalImage, content_hash
from flawmap.data.split import split_normals
from flawmap.detect.fit import ALGORITHM_VERSION
from flawmap.engine.compute import choose_compute
from flawmap.engine.stage import StageContext
from flawmap.memory.fit import OF_OTHERS, PIXELS_KEPT_BYTES, fit_memory
from flawmap.memory.good_images import BATCH_SIZE, GoodImages, Shares
from flawmap.memory.head_training import HeadExamples, TokenPool, encode_examples
from flawmap.memory.patch_memory import Lookup, PatchMemory
from flawmap.memory.scorer import ResidualScorer, TokenScorer, build_scorer
from flawmap.recipe.settings import Recipe
from flawmap.runs.run_folder import RunFolder
from flawmap.simulators.by_name import simulator_by_name
from flawmap.simulators.dataset import SimulationDataset, crop_margin
from flawmap_bench.trials.encoded_board import Board, EncodedImages

HELD_OUT, TEST = "held_out.", "test."  # lookups beside that of the reference images


@dataclass(frozen=True)
class FittedBoard:
    """One split of a board's good images, its memory, and the nearest normal tokens of all images.

    Attributes:
        context: seed, and the folder where results are kept.
        trained, held_out: numbers of the board's good images.
        good: those that are learned from.
        scorer: with its memory; the head is not trained yet.
        of_others: of the reference images, each without its own tokens.
        of_held_out, of_test: of the held-out and of the test images.
    """

    board: Board
    context: StageContext
    trained: tuple[int, ...]
    held_out: tuple[int, ...]
    good: GoodImages
    scorer: TokenScorer
    of_others: Lookup
    of_held_out: Lookup
    of_test: Lookup

    @property
    def references(self) -> list[int]:
        """Numbers of the reference images among all good images of the board."""
        return [self.trained[number] for number in self.good.references.tolist()]


def fit_board(board: Board, seed: int, cache: Path) -> FittedBoard:
    """Split the good images, choose the memory and look all images up, as a training with this seed does."""
    recipe, run = board.recipe, RunFolder(cache / f"{board.name.replace(', ', '-')}-seed{seed}")
    run.path.mkdir(parents=True, exist_ok=True)
    number_of = {image.key: number for number, image in enumerate(board.good)}
    train, held_out = split_normals(board.good, recipe.calibration.held_out_fraction, seed)
    trained, held_out = (tuple(number_of[image.key] for image in side) for side in (train, held_out))
    test = [NormalImage(sample.key, sample.path) for sample in board.test.samples]
    inputs = {"algorithm": ALGORITHM_VERSION, "images": content_hash(train), "test": content_hash(test)}
    context = StageContext(run, choose_compute("cpu", "fp32"), seed, recipe.data.image_size_px, inputs)
    good = good_images(board.encoded_good, trained, recipe, seed)

    def fitted() -> dict[str, Tensor]:
        state = fit_memory(good, recipe, context)
        memory = _scorer(board, state).memory
        lookups = {
            HELD_OUT: _lookup(memory, board.encoded_good, held_out, recipe),
            TEST: _lookup(memory, board.encoded_test, range(len(board.test.samples)), recipe),
        }
        return state | {f"{name}{key}": value for name, found in lookups.items() for key, value in vars(found).items()}

    state = context.stage("memory", settings=vars(recipe.memory), method=recipe.method).result(fitted, BATCH_SIZE)
    lookups = [
        Lookup(state.pop(f"{name}distances"), state.pop(f"{name}indices")) for name in (OF_OTHERS, HELD_OUT, TEST)
    ]
    return FittedBoard(board, context, trained, held_out, good, _scorer(board, state), *lookups)


def good_images(encoded: EncodedImages, numbers: tuple[int, ...], recipe: Recipe, seed: int) -> GoodImages:
    """What :func:`flawmap.memory.good_images.encode_good_images` keeps of chosen images that are encoded already."""
    rows = torch.tensor(numbers)
    patches = encoded.tokens.shape[1]
    shares = Shares.of(len(numbers), patches, recipe)
    generator = torch.Generator().manual_seed(seed)
    takes_all = shares.per_image == patches and len(shares.references) == len(numbers)
    orders = (torch.arange(patches) if takes_all else torch.randperm(patches, generator=generator) for _ in numbers)
    drawn = [order[: shares.per_image] for order in orders]
    candidates = [tokens_of(encoded, n, recipe).half()[0, picked] for n, picked in zip(numbers, drawn, strict=True)]
    references = torch.tensor(shares.references)
    return GoodImages(
        attention=encoded.attention[rows],
        references=references,
        reference_appearances=encoded.cls[rows[references], -1],
        reference_tokens=torch.cat([tokens_of(encoded, n, recipe).half() for n in rows[references].tolist()]),
        candidates=torch.cat(candidates),
        sources=torch.from_numpy(np.repeat(np.arange(len(numbers), dtype=np.int32), shares.per_image)),
    )


def tokens_of(encoded: EncodedImages, number: int, recipe: Recipe) -> Float[Tensor, "1 p l d"]:
    """Tokens of one image, as the scorer takes them."""
    tokens = encoded.tokens[number : number + 1].float()
    return tokens - tokens.mean(dim=1, keepdim=True) if recipe.memory.relative else tokens


def head_examples(fitted: FittedBoard) -> HeadExamples:
    """Simulated defects after the encoder, and the normal tokens beside them and of the reference images."""
    board, context, scorer, settings = fitted.board, fitted.context, fitted.scorer, fitted.board.recipe.residual
    assert isinstance(scorer, ResidualScorer)

    def encoded() -> dict[str, Tensor]:
        for_crops_px = round(context.size_px * crop_margin(settings.augmentation))
        pixels = NormalPixels([board.good[number] for number in fitted.trained], for_crops_px, PIXELS_KEPT_BYTES)
        simulate = simulator_by_name(settings.simulation.simulator, settings.simulation)
        attention = fitted.good.attention.float().numpy()
        defects = SimulationDataset(pixels, attention, context.size_px, settings.augmentation, simulate, context.seed)
        examples = encode_examples(scorer, fitted.good, fitted.of_others, defects, settings, context)
        pools = {"anomalous": examples.anomalous, "beside": examples.beside}
        return {f"{name}.{key}": value for name, pool in pools.items() for key, value in vars(pool).items()}

    state = context.stage("examples", memory=vars(board.recipe.memory)).result(encoded, BATCH_SIZE)
    anomalous, beside = (
        TokenPool(state[f"{name}.tokens"], state[f"{name}.nearest"]) for name in ("anomalous", "beside")
    )
    of_good = TokenPool(fitted.good.reference_tokens.flatten(0, 1), fitted.of_others.indices.flatten(0, 1))
    return HeadExamples(anomalous, beside, of_good)


def _scorer(board: Board, state: dict[str, Tensor]) -> TokenScorer:
    scorer = build_scorer(board.encoder, board.recipe, memory_tokens=state["tokens"].shape[1])
    scorer.memory.load_state_dict({name: state[name] for name in scorer.memory.state_dict()})
    return scorer.eval()


@torch.no_grad()
def _lookup(memory: PatchMemory, encoded: EncodedImages, numbers: Sequence[int], recipe: Recipe) -> Lookup:
    if not numbers:  # nothing is held out
        shape = (0, *encoded.tokens.shape[1:3])
        return Lookup(torch.empty(shape), torch.empty(shape, dtype=torch.int32))
    found = [memory.lookup(tokens_of(encoded, number, recipe)) for number in numbers]
    return Lookup(torch.cat([part.distances for part in found]), torch.cat([part.indices.int() for part in found]))

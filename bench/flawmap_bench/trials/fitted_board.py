"""A board after everything that does not differ between variants: the memory, and what it finds for every image.

It is what a training without folds and shifts (``calibration.folds=0``, ``memory.shifts=0``) makes of the board: no
variant needs a threshold, and shifted images are not encoded.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.sample import NormalImage, content_hash
from flawmap.detect.fit import ALGORITHM_VERSION
from flawmap.engine.compute import choose_compute
from flawmap.engine.stage import StageContext
from flawmap.memory.candidates import Candidates, Shares
from flawmap.memory.fit import OF_OTHERS, PIXELS_KEPT_BYTES, fit_memory
from flawmap.memory.good_images import BATCH_SIZE, GoodImages
from flawmap.memory.head_training import HeadExamples, encode_examples
from flawmap.memory.patch_memory import Lookup, PatchMemory
from flawmap.memory.scorer import ResidualScorer, TokenScorer, build_scorer
from flawmap.memory.token_pool import TokenPool
from flawmap.recipe.settings import Recipe
from flawmap.runs.run_folder import RunFolder
from flawmap.simulators.by_name import simulator_by_name
from flawmap.simulators.dataset import SimulationDataset, crop_margin
from flawmap_bench.trials.encoded_board import Board, EncodedImages

TEST = "test."  # the lookup beside that of the reference images


@dataclass(frozen=True)
class FittedBoard:
    """A board with its memory, and the nearest normal tokens of all images.

    Attributes:
        context: seed, and the folder where results are kept.
        good: the board's good images.
        scorer: with its memory; the head is not trained yet.
        of_others: of the reference images, each without its own tokens.
        of_test: of the test images.
    """

    board: Board
    context: StageContext
    good: GoodImages
    scorer: TokenScorer
    of_others: Lookup
    of_test: Lookup


def fit_board(board: Board, seed: int, cache: Path) -> FittedBoard:
    """Choose the memory and look all images up, as a training with this seed does."""
    recipe, run = board.recipe, RunFolder(cache / f"{board.name.replace(', ', '-')}-seed{seed}")
    run.path.mkdir(parents=True, exist_ok=True)
    recipe = replace(recipe, calibration=replace(recipe.calibration, folds=0))
    test = [NormalImage(sample.key, sample.path) for sample in board.test.samples]
    inputs = {"algorithm": ALGORITHM_VERSION, "images": content_hash(board.good), "test": content_hash(test)}
    context = StageContext(run, choose_compute("cpu", "fp32"), seed, recipe.data.image_size_px, inputs)
    good = good_images(board.encoded_good, recipe, seed)

    def fitted() -> dict[str, Tensor]:
        state = fit_memory(good, None, recipe, context)
        found = _lookup(_scorer(board, state).memory, board.encoded_test, recipe)
        return state | {f"{TEST}{key}": value for key, value in vars(found).items()}

    state = context.stage("memory", settings=vars(recipe.memory), method=recipe.method).result(fitted, BATCH_SIZE)
    lookups = [Lookup(state.pop(f"{name}distances"), state.pop(f"{name}indices")) for name in (OF_OTHERS, TEST)]
    return FittedBoard(board, context, good, _scorer(board, state), *lookups)


def good_images(encoded: EncodedImages, recipe: Recipe, seed: int) -> GoodImages:
    """What :func:`flawmap.memory.good_images.encode_good_images` keeps of images that are encoded already."""
    numbers, grid = range(len(encoded.tokens)), (encoded.attention.shape[1], encoded.attention.shape[2])
    shares = replace(Shares.of(len(numbers), grid, recipe), shifts=())  # no shifted images are encoded
    references = torch.tensor(shares.references)
    of_references = torch.cat([tokens_of(encoded, n, recipe).half() for n in shares.references])
    num_blocks, dim = of_references.shape[-2:]
    candidates = Candidates(len(numbers), grid, shares, (num_blocks, dim), seed)
    for number in numbers:
        candidates.take(number, tokens_of(encoded, number, recipe)[0])
    return GoodImages(
        attention=encoded.attention,
        references=references,
        reference_appearances=encoded.cls[references, -1],
        reference_tokens=of_references,
        candidates=candidates.tokens(of_references),
        sources=candidates.sources,
        images=torch.arange(len(numbers), dtype=torch.int32),
        originals_px=torch.zeros(len(numbers), 2, dtype=torch.int32),  # only thresholds need them
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
        pixels = NormalPixels(board.good, for_crops_px, PIXELS_KEPT_BYTES)
        simulate = simulator_by_name(settings.simulation.simulator, settings.simulation)
        attention = fitted.good.attention.float().numpy()
        defects = SimulationDataset(pixels, attention, context.size_px, settings.augmentation, simulate, context.seed)
        examples = encode_examples(scorer, fitted.good, fitted.of_others, defects, settings, context)
        pools = {"anomalous": examples.anomalous, "beside": examples.beside}
        return {
            f"{name}.{key}": value
            for name, pool in pools.items()
            for key, value in (("tokens", pool.tokens), ("nearest", pool.nearest))
        }

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
def _lookup(memory: PatchMemory, encoded: EncodedImages, recipe: Recipe) -> Lookup:
    found = [memory.lookup(tokens_of(encoded, number, recipe)) for number in range(len(encoded.tokens))]
    return Lookup(torch.cat([part.distances for part in found]), torch.cat([part.indices.int() for part in found]))

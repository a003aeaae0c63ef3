"""A trained detector to and from a model folder: which scorer its recipe names, and the scorer's tensors."""

import hashlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

import flawmap
from flawmap.engine.tensor_files import read_tensors
from flawmap.errors import UserError
from flawmap.memory.scorer import TokenScorer, build_scorer
from flawmap.memory.tiled_scorer import TiledScorer, build_tiled_scorer
from flawmap.paper.heads import PaperHead
from flawmap.recipe.settings import Recipe
from flawmap.runs.cameras import Calibrations
from flawmap.runs.hub import download, is_hub_id
from flawmap.runs.model_config import COPY_AGAIN, FORMAT, ModelConfig, ModelRecord, ProxyScores
from flawmap.runs.model_folder import SHARED_FILES, ModelFiles, read_model, refuse_changed_weights, write_model
from flawmap.runs.run_folder import MODEL_CONFIG, WEIGHTS
from flawmap.runs.self_test import SelfTest
from flawmap.scorer import Scorer
from flawmap.vit.encoder import Encoder
from flawmap.vit.positions import round_to_patches
from flawmap.vit.weights import WeightsOrigin, build_vit


@dataclass(frozen=True)
class Saved:
    """What a model folder holds.

    Attributes:
        scorer: in evaluation mode.
        recipe: of the training.
        calibrations: thresholds, of all cameras.
        origin: of the initial weights.
        stage_keys: hashes of what determined each stage's result.
        proxy: scores on simulated defects, or None.
        self_test: what the scorer gives for the self-test image; None in a folder of an earlier flawmap.
        encoder_backend: what computed the frozen encoder in training; None where that is not known.
        record: what the run knows of the model.
        weights_sha256: of the file that the scorer was read from; None for one that was not.
        trained: good images of each product and camera, see :class:`ModelConfig`.
    """

    scorer: Scorer
    recipe: Recipe
    calibrations: Calibrations
    origin: WeightsOrigin
    stage_keys: dict[str, str]
    proxy: ProxyScores | None
    self_test: SelfTest | None
    encoder_backend: str | None
    record: ModelRecord
    weights_sha256: str | None = None
    trained: Mapping[str, int] = field(default_factory=dict)


def write_pretrained(folder: Path, saved: Saved) -> None:
    """Write a model folder.

    Raises:
        UserError: the folder already holds a model or other files of these names.
    """
    scorer, origin, weights = saved.scorer, saved.origin, weights_of(saved.scorer)
    whole = scorer.whole if isinstance(scorer, TiledScorer) else scorer
    on_tokens = isinstance(whole, TokenScorer)
    config = ModelConfig(
        format=FORMAT,
        flawmap=flawmap.__version__,
        architecture=origin.architecture,
        weights_source=origin.source,
        weights_licence=origin.licence,
        stage_keys=saved.stage_keys,
        memory_tokens=whole.memory.tokens.shape[1] if on_tokens else None,
        reference_images=len(whole.expectation.appearances) if on_tokens else None,
        held_out_simulated_defects=saved.proxy,
        calibrated=saved.calibrations.default is not None,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        self_test=saved.self_test,
        encoder_backend=saved.encoder_backend,
        record=saved.record,
        trained=saved.trained,
        reference_products=whole.expectation.labels if on_tokens else (),
    )
    write_model(folder, weights, ModelFiles(config, saved.recipe, saved.calibrations))


def weights_of(scorer: Scorer) -> bytes:
    """The content of model.safetensors."""
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in scorer.state_dict().items()})


def load_pretrained(path: str | Path, with_thresholds: bool = True) -> Saved:
    """Read a model folder, or a run folder that has one, or a model of the hub (``hub:OWNER/NAME``).

    Args:
        path: of the folder, or the name on the hub.
        with_thresholds: False leaves them unread, for the command that replaces damaged ones.

    Raises:
        UserError: there is no model, or it is incomplete, damaged, of a format that cannot be opened, or has other
            weights than were saved.
    """
    is_from_hub = is_hub_id(path)
    path = download(str(path), SHARED_FILES) if is_from_hub else Path(path)
    folder, files = read_model(path, with_thresholds)
    config = files.config
    origin = WeightsOrigin(config.weights_source, config.architecture, config.weights_licence)
    try:
        encoder = Encoder(_vit_to_fill(origin.architecture))
    except UserError as error:
        raise UserError(error.problem, str(folder / MODEL_CONFIG), COPY_AGAIN) from error
    tensors = _tensors_of(folder / WEIGHTS)
    scorer = _scorer_to_fill(encoder, files, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    if any(
        tuple(tensors[name].shape) != tuple(x.shape) for name, x in scorer.state_dict().items() if name in tensors
    ) or (tensors.keys() != scorer.state_dict().keys()):
        problem = f"the tensors are not those of {origin.architecture} with this recipe's scorer"
        raise UserError(problem, str(folder / WEIGHTS), COPY_AGAIN)
    scorer.load_state_dict(tensors)
    whole = scorer.whole if isinstance(scorer, TiledScorer) else scorer
    if config.reference_products and isinstance(whole, TokenScorer):
        whole.expectation.label(config.reference_products)
    # afterwards, because that a file is cut off says more than that it has changed; the hub's cache links to its files
    cached = shlex.quote(str((folder / WEIGHTS).resolve()))
    download_again = f"remove this file, so that it is downloaded again: rm {cached}"
    sha256 = refuse_changed_weights(folder, config, download_again if is_from_hub else COPY_AGAIN)
    return Saved(
        scorer=scorer.eval(),
        recipe=files.recipe,
        calibrations=files.calibrations,
        origin=origin,
        stage_keys=config.stage_keys,
        proxy=config.held_out_simulated_defects,
        self_test=config.self_test,
        encoder_backend=config.encoder_backend,
        record=config.record,
        weights_sha256=sha256,
        trained=config.trained,
    )


def _vit_to_fill(architecture: str) -> VisionTransformer:
    """As :func:`build_vit`, without drawing weights that are replaced anyway: for ViT-S that takes 0.4 s."""
    try:
        with torch.device("meta"):
            vit = build_vit(architecture, 0.0, draws_weights=False)
    except TypeError:  # no vision transformer
        return build_vit(architecture, 0.0)
    if any(True for _ in vit.buffers()):  # whose values may be in no file
        return build_vit(architecture, 0.0)
    return vit.to_empty(device="cpu")


def _scorer_to_fill(encoder: Encoder, files: ModelFiles, shapes: Mapping[str, tuple[int, ...]]) -> Scorer:
    """The scorer that a recipe names, for tensors of these shapes."""
    recipe, config = files.recipe, files.config
    if recipe.method == "paper":
        return PaperHead(encoder)
    if "tiles.memory.tokens" in shapes:
        return build_tiled_scorer(
            encoder, recipe, round_to_patches(recipe.data.image_size_px, encoder.patch_size_px), shapes
        )
    return build_scorer(encoder, recipe, config.memory_tokens, config.reference_images or 0)


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _tensors_of(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file. Raises UserError: it is damaged."""
    try:
        return read_tensors(path)
    except UserError as error:
        raise UserError(error.problem, error.place, COPY_AGAIN) from error

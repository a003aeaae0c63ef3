"""Score images at every test size, average the maps and derive the image scores (Fig. 3 of the paper, bottom).

This is the only implementation: the detector calls it with one image or a batch, and the exported graph
(:mod:`flawmap.deploy.graph`) traces the same functions.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from flawmap.data.images.resize import resize_image
from flawmap.data.roi import RegionOfInterest
from flawmap.detect.detection import APPEARANCE_DISTANCE
from flawmap.detect.image_like import ImageLike, as_rgb, place_of
from flawmap.detect.products import OF_PRODUCT
from flawmap.engine.batch_size import ImagesAtOnce
from flawmap.engine.cores import reading_threads
from flawmap.engine.in_order import PIXELS_PER_THREAD, PixelBudget, batches_of, fewer_if_large, in_order
from flawmap.engine.transfer import to_device, to_host
from flawmap.memory.tiled_scorer import MAP_SHARES, TiledScorer
from flawmap.scorer import ScaleResult, Scorer, average_maps
from flawmap.vit.inputs import normalise

IMAGE_SCORES = ("vote_mean", "vote", "mean_logit", "map_max")
VOTES = ("vote_mean", "vote")


@dataclass(frozen=True)
class Analysis:
    """Everything that is computed for one image.

    Attributes:
        scales: one result per test size, smallest size first.
        anomaly_map: float32 (h, w) at the image's own resolution; higher = more anomalous. Outside of a region of
            interest, it is the lowest value inside.
        scores: the image scores by name, float64; higher = more anomalous.
        inside: (h, w), the pixels in the region of interest; None: all.
    """

    scales: tuple[ScaleResult, ...]
    anomaly_map: Float[np.ndarray, "h w"]
    scores: dict[str, float]
    inside: Bool[np.ndarray, "h w"] | None = None


def images_at_once(scorer: Scorer, sizes_px: Sequence[int]) -> ImagesAtOnce:
    """How many images share a pass where the scorer lies: one on a processor."""
    return ImagesAtOnce.on(device_of(scorer), scorer.bytes_per_image(max(sizes_px)))


def device_of(scorer: Scorer) -> str:
    """Where it lies: ``cpu``, ``cuda`` or ``mps``."""
    return next(scorer.parameters()).device.type


@torch.no_grad()
def analyse(
    scorer: Scorer,
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    sizes_px: Sequence[int],
    at_once: ImagesAtOnce,
    rois: Sequence[RegionOfInterest] | None = None,
) -> tuple[Analysis, ...]:
    """Score whole images at each size, in fp32.

    Several threads may call it at once. They resize, and make maps and scores, at the same time; where images share a
    pass, they take turns in it.

    Args:
        scorer: in evaluation mode.
        images: of any sizes.
        sizes_px: sides of the squares, multiples of the patch size.
        at_once: how many images share a pass.
        rois: the part of each image that counts; None: all.

    Raises:
        UserError: a region of interest covers no patch of its image.
    """
    shapes, inside = [image.shape[:2] for image in images], None
    if rois is not None:
        images = [roi.with_grey_outside(image) for roi, image in zip(rois, images, strict=True)]
        inside = [counted_patches(rois, scorer.encoder.grid(size, size)) for size in sizes_px]
    of_images = [None] * len(images) if rois is None else rois
    squares = [torch.from_numpy(np.stack([resize_image(image, size, size) for image in images])) for size in sizes_px]

    def in_batches(size: int) -> list[tuple[ScaleResult, ...]]:
        starts = range(0, len(images), size)
        return [
            scales
            for start in starts
            for scales in _scale_results(
                scorer,
                [of_size[start : start + size] for of_size in squares],
                None if inside is None else [of_size[start : start + size] for of_size in inside],
            )
        ]

    names, by_image = score_names(scorer), at_once.run(in_batches)
    if isinstance(scorer, TiledScorer):
        by_image = [
            _with_tiles(scorer, image, *scales, at_once, roi)
            for image, scales, roi in zip(images, by_image, of_images, strict=True)
        ]
    return tuple(
        analysis_of(scales, h, w, names, roi) for scales, (h, w), roi in zip(by_image, shapes, of_images, strict=True)
    )


def counted_patches(rois: Sequence[RegionOfInterest], grid: tuple[int, int]) -> Bool[Tensor, "b n"]:
    """The patches of a grid in the regions of interest of some images."""
    return torch.from_numpy(np.stack([roi.patches(grid).ravel() for roi in rois]))


def analyse_in_order(
    analyse_many: Callable[[Sequence[ImageLike], Sequence[str], Sequence[str | None]], list[Analysis]],
    images: Sequence[ImageLike],
    cameras: Sequence[str | None],
    at_once: ImagesAtOnce,
) -> Iterator[Analysis]:
    """Read and analyse images in order.

    On an accelerator, several images share each forward pass, and several threads read images and make maps. On a
    processor they go one at a time: a batch gains nothing there, and a score cannot depend on the other images, not
    even by rounding.

    Args:
        analyse_many: takes images, what they are called in errors, and cameras; several threads call it.
        images: to read.
        cameras: that took them; None where nobody has said which one.
        at_once: how many images share a pass.
    """
    size, places = at_once.size, [place_of(image, number, len(images)) for number, image in enumerate(images, 1)]
    if len(images) <= size:
        yield from analyse_many(images, places, cameras) if images else ()
        return
    if size > 1:
        size = fewer_if_large(size, as_rgb(images[0]).size // 3)
    threads = reading_threads(at_once.device)
    budget = PixelBudget((threads + 1) * PIXELS_PER_THREAD)

    def analyses(number: int, batch: Sequence[tuple[ImageLike, str, str | None]]) -> list[Analysis]:
        pixels = [as_rgb(image, place) for image, place, _ in batch]
        budget.take(number, sum(image.size // 3 for image in pixels))
        return analyse_many(pixels, [place for _, place, _ in batch], [camera for *_, camera in batch])

    batches = batches_of([*zip(images, places, cameras, strict=True)], size)
    with closing(in_order(analyses, batches, threads, budget)) as found:
        for of_batch in found:
            yield from of_batch


def _scale_results(
    scorer: Scorer, squares: Sequence[UInt8[Tensor, "b _ _ 3"]], inside: Sequence[Bool[Tensor, "b _"]] | None
) -> list[tuple[ScaleResult, ...]]:
    """For each image of one batch, what the scorer computes at each size; results are copied to the host together."""
    device = device_of(scorer)
    with torch.autocast(device, enabled=False):
        logits, evidence, distances = score_squares(scorer, [to_device(of_size, device) for of_size in squares], inside)
    logits, *evidence = to_host([logits, *evidence, *([] if distances is None else [distances])])
    of_images = [None] * logits.shape[1] if distances is None else evidence.pop().tolist()
    sizes_px, maps = [of_size.shape[1] for of_size in squares], [of_size.numpy() for of_size in evidence]
    return [
        tuple(
            ScaleResult(*scale, 1.0, None if of_products is None else tuple(of_products))
            for scale in zip(sizes_px, of_image, [m[number] for m in maps], strict=True)
        )
        for number, (of_image, of_products) in enumerate(zip(logits.T.tolist(), of_images, strict=True))
    ]


def _with_tiles(
    scorer: TiledScorer,
    image: UInt8[np.ndarray, "h w 3"],
    whole: ScaleResult,
    at_once: ImagesAtOnce,
    roi: RegionOfInterest | None,
) -> tuple[ScaleResult, ScaleResult]:
    """What the scorer computes for the whole image, with its share of the map, and for the image's tiles."""
    tiling, device = scorer.tiling, device_of(scorer)
    grid = tiling.grid(*image.shape[:2])
    inside = None if roi is None else roi.patches(grid)
    tiles = torch.from_numpy(tiling.tiles(image, inside=inside)).permute(0, 3, 1, 2)  # (t, 3, s, s)
    patches = None
    if inside is not None:  # (t, n)
        of_tiles = [inside[tiling.where(place)].ravel() for place in tiling.places(grid, inside)]
        patches = to_device(torch.from_numpy(np.stack(of_tiles)), device)

    def in_batches(size: int) -> list[Tensor]:
        masks = [None] * len(tiles) if patches is None else patches.split(size)
        with torch.autocast(device, enabled=False):
            outputs = [
                scorer.score_tiles(normalise(to_device(some.contiguous(), device)), mask)
                for some, mask in zip(tiles.split(size), masks, strict=False)
            ]
        return to_host([torch.cat([o.image for o in outputs]), torch.cat([o.evidence for o in outputs])])

    scores, evidence = at_once.run(in_batches)
    joined = tiling.joined(evidence.numpy(), grid, inside)
    of_tiles = ScaleResult(whole.size_px, scorer.standardised_highest(float(scores.max())), joined, MAP_SHARES[1])
    return replace(whole, map_share=MAP_SHARES[0]), of_tiles


def analysis_of(
    scales: Sequence[ScaleResult], height: int, width: int, names: Sequence[str], roi: RegionOfInterest | None = None
) -> Analysis:
    """The analysis of an image of this height and width, from what the scorer gave at each size."""
    anomaly_map = mean_map(scales, height, width)
    if roi is not None:
        anomaly_map = roi.only_inside(anomaly_map)
    logits, distances = [scale.logit for scale in scales], scales[0].appearance_distances
    scores = image_scores(logits, float(anomaly_map.max()), names, distances)
    return Analysis(tuple(scales), anomaly_map, scores, None if roi is None else roi.at(height, width))


def score_squares(
    scorer: Scorer,
    squares: Sequence[UInt8[Tensor, "b _ _ 3"]],
    inside: Sequence[Bool[Tensor, "b _"]] | None = None,
) -> tuple[Float[Tensor, "t b"], list[Float[Tensor, "b _ _"]], Float[Tensor, "b p"] | None]:
    """Score resized images.

    Args:
        scorer: in evaluation mode.
        squares: one batch per test size (T of them), all of the same images.
        inside: for each size, the patches of each image that count; None: all.

    Returns:
        image scores (T, b); the evidence on each size's patch grid, T maps (b, r, c); and how unlike good images of
        each product the images look at the first size (b, p), None where the scorer does not know.
    """
    masks = [None] * len(squares) if inside is None else [of_size.to(squares[0].device) for of_size in inside]
    outputs = [
        scorer.score(normalise(batch.permute(0, 3, 1, 2).contiguous()), mask)
        for batch, mask in zip(squares, masks, strict=True)
    ]
    logits, distances = torch.stack([output.image for output in outputs]), outputs[0].appearance_distances
    return logits, [output.evidence for output in outputs], distances


def mean_map(scales: Sequence[ScaleResult], height: int, width: int) -> Float[np.ndarray, "h w"]:
    """The anomaly map from some sizes only, for example one."""
    shares = [scale.map_share for scale in scales]
    evidence = [torch.from_numpy(scale.evidence)[None] for scale in scales]
    return average_maps(evidence, height, width, shares)[0].numpy()


def score_names(scorer: Scorer) -> tuple[str, ...]:
    """The image scores that mean something: a scorer that makes no decision has no votes to cast."""
    names = IMAGE_SCORES if scorer.decides else tuple(name for name in IMAGE_SCORES if name not in VOTES)
    of_products = [f"{OF_PRODUCT}{product}" for product in scorer.products]
    return (*names, APPEARANCE_DISTANCE, *of_products) if scorer.knows_appearances else names


def image_scores(
    logits: Sequence[Any], map_max: Any, names: Sequence[str] = IMAGE_SCORES, appearance_distances: Any = None
) -> dict[str, Any]:
    """The image scores ``names``, in that order.

    ``vote``: share of sizes that call the image anomalous (p > 0.5); its majority is the paper's decision.
    ``vote_mean``: votes first, the mean logit within equal votes; breaks ties of an even number of sizes.
    ``mean_logit``: the mean logit. ``map_max``: the highest value of the averaged map.
    ``appearance_distance``: the smallest of those given; it decides nothing. ``appearance_distance:NAME``: that of a
    product, by which the product is found where nobody names it.

    Args:
        logits: one per size: floats in the detector, tensors (b,) in an exported graph.
        map_max: highest value of the anomaly map, of the same kind.
        names: among :data:`IMAGE_SCORES`, ``appearance_distance``, and those of products, in their order.
        appearance_distances: of the same kind, one for each product; see :class:`flawmap.scorer.ScorerOutput`.
    """
    vote = sum(logit > 0 for logit in logits) / len(logits)
    mean_logit = sum(logits) / len(logits)
    # a sigmoid in (0, 1) scaled below one vote keeps the order: votes decide first, the mean logit among equals
    vote_mean = vote + _sigmoid(mean_logit) / len(logits)
    scores = {"vote_mean": vote_mean, "vote": vote, "mean_logit": mean_logit, "map_max": map_max}
    if appearance_distances is not None:
        first, *others = appearance_distances
        if others:
            in_graph = isinstance(first, Tensor)
            first = torch.stack([first, *others]).amin(dim=0) if in_graph else min(first, *others)
        scores[APPEARANCE_DISTANCE] = first
        of_products = [name for name in names if name.startswith(OF_PRODUCT)]
        scores |= dict(zip(of_products, appearance_distances, strict=False))
    return {name: scores[name] for name in names}


def _sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)) without overflow; two very negative logits, as of clearly normal images, stay apart."""
    if isinstance(x, Tensor):
        return x.sigmoid()
    with np.errstate(invalid="ignore"):  # NaN stays NaN without a warning; judge() refuses it
        return float(np.exp(-np.logaddexp(0.0, -x)))

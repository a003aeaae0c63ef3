"""The module that every exported format is made of: resized squares in, the verdict out.

The graph begins after the image resize, because Pillow's bilinear filter rounds to 8 bits after each of its two
passes, which no graph operator repeats. A runtime resizes with Pillow, as training did. Everything else is inside the
graph, by the functions of :mod:`flawmap.detect.scoring`: normalisation, the scorer at all test sizes, the average of
the maps at the original resolution, the image scores and the comparison with a threshold. The threshold is an input,
whose default is the calibrated one: another threshold needs no other file.
"""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from flawmap.data.rois import RegionsOfInterest
from flawmap.detect.detection import APPEARANCE_DISTANCE
from flawmap.detect.model_facts import ModelFacts
from flawmap.detect.scoring import counted_patches, image_scores, score_squares
from flawmap.scorer import Scorer, average_maps
from flawmap.vit.encoder import Encoder

THRESHOLD = "threshold"  # name of the input that has a default


class ScoreSquares(nn.Module):
    """:func:`flawmap.detect.scoring.score_squares` as a module.

    Args:
        scorer: in evaluation mode, on the processor; it is copied, and the copy's positions are stored at ``sizes_px``.
        sizes_px: sides of the squares, multiples of the patch size.
        rois: the part of each image that counts; None: all.
    """

    def __init__(self, scorer: Scorer, sizes_px: Sequence[int], rois: RegionsOfInterest | None = None) -> None:
        super().__init__()
        self.scorer, self.inside = with_stored_positions(scorer, sizes_px), None
        self.num_sizes = len(sizes_px)
        if rois is not None and not rois.cameras:
            self.inside = [counted_patches(rois.all, scorer.encoder.grid(size, size)) for size in sizes_px]

    def forward(self, *inputs: UInt8[Tensor, "1 _ _ 3"] | Bool[Tensor, "1 _"]) -> tuple[Tensor, ...]:
        """Score one image.

        Args:
            inputs: its squares, and, where cameras have regions of interest of their own, its patches that count.

        Returns:
            image scores (T, 1), the appearance's distances (1, p) if it knows them, T maps (1, r, c); all float32.
        """
        squares, given = inputs[: self.num_sizes], inputs[self.num_sizes :]
        logits, evidence, distance = score_squares(self.scorer, squares, given or self.inside)
        return (logits, *evidence) if distance is None else (logits, distance, *evidence)


def with_stored_positions(scorer: Scorer, sizes_px: Sequence[int]) -> Scorer:
    """A copy whose encoder needs no bicubic resize at these sizes; it shares all parameters with the original."""
    shared = {id(tensor): tensor for tensor in (*scorer.parameters(), *scorer.buffers())}
    copied = copy.deepcopy(scorer, shared)
    for module in copied.modules():
        if isinstance(module, Encoder):
            for size in sizes_px:
                grid = module.grid(size, size)
                module.stored_positions[grid] = module.patch_positions(grid)[1].detach().clone()
    return copied


class Verdict(nn.Module):
    """Image scores, maps of all test sizes and a threshold in; score, verdict, map at the original size and all image
    scores out, of one image or of several of the same size.

    An image whose scores or map are not finite is called anomalous here, because the output is a bool: a program that
    looks at nothing else must not pass a part that was not scored. flawmap's own runtime gives no verdict on it.

    Args:
        facts: which image score decides.
        map_shares: of each map in the average; None: equal ones.
    """

    def __init__(self, facts: ModelFacts, map_shares: Sequence[float] | None = None) -> None:
        super().__init__()
        self.map_shares = map_shares
        self.image_score, self.score_names = facts.image_score, facts.score_names

    def forward(
        self,
        logits: Float[Tensor, "t b"],
        evidence: list[Float[Tensor, "b _ _"]],
        size_px: Int[Tensor, "2"],
        threshold: Float[Tensor, ""],
        appearance_distances: Float[Tensor, "b p"] | None = None,
    ) -> tuple[Tensor, ...]:
        """Returns score (b,), is_anomalous (b,) bool, anomaly_map (b, height, width), scores (b, k) as the facts name
        them.
        """
        anomaly_map = average_maps(evidence, *_sides(size_px), self.map_shares)  # (b, height, width)
        distances = None if appearance_distances is None else appearance_distances.unbind(dim=1)
        scores = image_scores(logits.unbind(), anomaly_map.amax((1, 2)), self.score_names, distances)
        score, all_scores = scores[self.image_score], torch.stack(list(scores.values()), dim=1)  # (b,), (b, k)
        is_finite = all_scores.isfinite().all(dim=1) & anomaly_map.isfinite().flatten(1).all(dim=1)
        return score, (score > threshold) | ~is_finite, anomaly_map, all_scores


def of_one_image(outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """What :class:`Verdict` gives, without the axis of images: (), (), (height, width), (k,)."""
    return tuple(output[0] for output in outputs)


class DetectionGraph(nn.Module):
    """What :class:`ScoreSquares` takes, the original size and a threshold in; what :class:`Verdict` gives of one image
    out.

    Args:
        score_squares: a :class:`ScoreSquares`, possibly traced.
        facts: see :class:`Verdict`.
    """

    def __init__(self, score_squares: nn.Module, facts: ModelFacts) -> None:
        super().__init__()
        self.score_squares, self.verdict = score_squares, Verdict(facts)
        self.knows_appearances = APPEARANCE_DISTANCE in facts.score_names

    def forward(
        self, squares: list[Tensor], size_px: Int[Tensor, "2"], threshold: Float[Tensor, ""]
    ) -> tuple[Tensor, ...]:
        """What :class:`Verdict` gives of one image."""
        logits, *evidence = self.score_squares(*squares)  # (t, 1), t x (1, r, c)
        distance = evidence.pop(0) if self.knows_appearances else None  # (1, p)
        return of_one_image(self.verdict(logits, evidence, size_px, threshold, distance))


class WithStoredThreshold(nn.Module):
    """A graph whose threshold is a tensor in it, for TorchScript, whose traced modules have no default inputs.

    Args:
        graph: a :class:`DetectionGraph`.
        threshold: see :func:`default_threshold`.
    """

    def __init__(self, graph: nn.Module, threshold: Float[Tensor, ""]) -> None:
        super().__init__()
        self.graph = graph
        self.register_buffer(THRESHOLD, threshold)

    def forward(self, squares: list[Tensor], size_px: Int[Tensor, "2"]) -> tuple[Tensor, ...]:
        """What :class:`Verdict` gives of one image."""
        return self.graph(squares, size_px, self.threshold)


def default_threshold(facts: ModelFacts) -> Float[Tensor, ""]:
    """The threshold that a graph uses where none is given: float32 (), infinite before calibration.

    A graph's scores are float32. They are above the calibrated number, which has more digits, exactly where they are
    above the largest float32 that is not greater.
    """
    exact = facts.calibration.threshold if facts.calibration else np.inf
    rounded = np.float32(exact)
    return torch.tensor(rounded if float(rounded) <= exact else np.nextafter(rounded, np.float32(-np.inf)))


def _sides(size_px: Tensor) -> tuple[Any, Any]:
    """Height and width as numbers that stay free in the graph: torch.jit wants tensors, torch.export integers."""
    if torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
        return size_px[0], size_px[1]
    height, width = size_px[0].item(), size_px[1].item()  # int() would fix them
    torch._check(height >= 1)
    torch._check(width >= 1)
    return height, width

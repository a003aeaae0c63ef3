"""Measures of test scores, and of the difference between two variants on the same images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from flawmap.data.images.files import read_image
from flawmap.data.images.truth import read_truth
from flawmap.data.sample import LabelledImage, TestData
from flawmap.metrics.bootstrap import N_RESAMPLES, resample_weights
from flawmap.metrics.curves import auroc_of_counts
from flawmap.metrics.pixel_pool import PixelPool, count_pixels
from flawmap.reproducibility import numpy_generator
from flawmap.scorer import upsample_map
from flawmap_bench.boards.method_scores import BOOTSTRAP_SEED, counts_pixels

PIXEL_MEASURES = ("auroc", "average_precision", "aupro_30", "aupro_05")


@dataclass(frozen=True)
class Truths:
    """Ground truth of the test images that count for pixel measures: (h, w) by the number of the image."""

    masks: dict[int, NDArray[np.bool_]]

    @classmethod
    def of(cls, data: TestData) -> "Truths":
        """Read masks or boxes once."""
        masks = {}
        for number, sample in enumerate(data.samples):
            if counts_pixels(sample, data.protocol.pixel_pool):
                truth = read_truth(sample, *read_image(sample.path).shape[:2])
                if truth is not None:
                    masks[number] = truth
        return cls(masks)

    def measures(self, evidence: Float[Tensor, "n r c"]) -> dict[str, float]:
        """PIXEL_MEASURES over all images, at their own resolution; nothing where no image has a mask."""
        pool = PixelPool()
        for number, mask in self.masks.items():
            pool.add(count_pixels(upsample_map(evidence[number : number + 1], *mask.shape)[0].numpy(), mask))
        values = pool.values() if self.masks else {}
        return {name: values[name] for name in PIXEL_MEASURES if name in values}


def auroc_difference(
    samples: Sequence[LabelledImage],
    scores: Sequence[Float[np.ndarray, "n"]],
    reference: Sequence[Float[np.ndarray, "n"]],
) -> tuple[float, float, float]:
    """Mean AUROC less that of the reference, over the trainings, with its 95 % interval.

    Images (or groups, where there are some) are drawn with replacement; both variants and all trainings are measured on
    the same ones, so that what they have in common cancels.

    Args:
        samples: n test images.
        scores, reference: of each training.
    """
    labels = np.array([sample.is_anomalous for sample in samples], bool)
    pairs = list(zip(scores, reference, strict=True))

    def difference(weights: Float[np.ndarray, "b n"]) -> Float[np.ndarray, "b"]:
        return np.mean(
            [weighted_auroc(a, labels, weights) - weighted_auroc(b, labels, weights) for a, b in pairs], axis=0
        )

    generator, groups = numpy_generator(BOOTSTRAP_SEED, "bootstrap"), [sample.group for sample in samples]
    drawn = [difference(weights) for weights in resample_weights(labels, N_RESAMPLES, generator, groups=groups)]
    ends = np.nanquantile(np.concatenate(drawn), [0.025, 0.975])
    return float(difference(np.ones((1, len(labels))))[0]), float(ends[0]), float(ends[1])


def weighted_auroc(
    scores: Float[np.ndarray, "n"], labels: NDArray[np.bool_], weights: Float[np.ndarray, "b n"]
) -> Float[np.ndarray, "b"]:
    """AUROC when image i counts ``weights[:, i]`` times."""
    order = np.argsort(scores, kind="stable")
    first = np.flatnonzero(np.append(True, np.diff(scores[order]) != 0))  # of each distinct score
    normal, anomalous = (np.add.reduceat((weights * chosen)[:, order], first, axis=1) for chosen in (~labels, labels))
    return auroc_of_counts(normal, anomalous)

"""One trained detector on one labelled data set. The only place where test images are scored.

Nothing here flows back: thresholds and settings are those of the detector as it was saved.
"""

import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flawmap.advice import install
from flawmap.data.groups import groups_of, identities
from flawmap.data.images.files import DecodedImage, decode_with_remarks, read_file
from flawmap.data.images.truth import Truth, truth_of
from flawmap.data.left_out import as_records
from flawmap.data.sample import LabelledImage, TestData
from flawmap.detect.detection import APPEARANCE_DISTANCE
from flawmap.engine.cores import reading_threads, usable_cores
from flawmap.engine.in_order import PIXELS_PER_THREAD, PixelBudget, batches_of, fewer_if_large, in_order
from flawmap.engine.progress import say
from flawmap.evaluate.evaluable import Analysed, AnalysesElsewhere, Evaluable, ScoredFile
from flawmap.evaluate.measures import (
    PooledPixels,
    ScoredSample,
    block_of_all,
    blocks_by_kind,
    blocks_by_size,
    blocks_by_stratum,
    scores_and_labels,
)
from flawmap.metrics.ranking import auroc
from flawmap.metrics.score_drift import score_drift
from flawmap.runs.evaluation import (
    Evaluation,
    ScaleScore,
    ScoredImage,
    write_evaluation,
    write_maps,
    write_per_image,
    write_pixel_curves,
)
from flawmap.runs.file_names import numbered_name


def evaluate(
    detector: Evaluable,
    data: TestData,
    folder: Path | None = None,
    command: str = "",
    progress: Callable[[int, int], None] = lambda done, total: None,
    evaluation_size_px: int | None = None,
    elsewhere: AnalysesElsewhere | None = None,
) -> Evaluation:
    """Score every test image and measure how well the detector does.

    Args:
        detector: fitted or loaded.
        data: labelled images and the protocol that says how they are pooled.
        folder: exists; metrics, scores, curves, maps and truth are written there. None writes nothing.
        command: that repeats this, for the record.
        progress: called after each image with (done, total).
        evaluation_size_px: side of the square at which pixels are compared, as in papers that evaluate at 224 or 256;
            None compares them at the original resolution of each image.
        elsewhere: scores the images instead of this process, which measures them in the order of the data.

    Returns:
        the content of metrics.json.

    Raises:
        UserError: an image cannot be read or gets no finite score, or a result cannot be written.
    """
    pixels = PooledPixels(data.protocol, evaluation_size_px)
    scored, images, seconds = [], [], 0.0
    here = elsewhere is None
    judged_images = _judged(detector, data, folder) if here else _judged_elsewhere(elsewhere, detector, data, folder)
    with closing(judged_images) as found:
        for judged in found:
            sample, analysis, marked = judged.sample, judged.analysis, judged.marked
            pixels.add(sample, analysis, marked, judged.map_threshold)
            logits = {scale.size_px: scale.logit for scale in analysis.scales}
            share = float(marked.pixels.mean()) if sample.is_anomalous and marked.pixels is not None else None
            scored.append(ScoredSample(sample, dict(analysis.scores), logits, share, judged.is_flagged))
            seconds += judged.seconds
            if judged.record is not None:
                images.append(judged.record)
            progress(len(scored), len(data.samples))
    evaluation = _evaluation(
        detector, data, scored, pixels, seconds / max(1, len(scored)), command, _threads() if here else 1
    )
    if folder is not None:
        write_per_image(folder, images)
        write_pixel_curves(folder, pixels.pools.everything().curves())
        write_evaluation(folder, evaluation)
    return evaluation


@dataclass(frozen=True)
class _Judged:
    """A test image after scoring: what is pooled, its line of the record where files are written, and its time.

    Its thresholds are those of its product and camera, as in detection; see :func:`_verdict`.
    """

    sample: LabelledImage
    analysis: Analysed
    marked: Truth
    is_flagged: bool | None
    map_threshold: float | None
    record: ScoredImage | None
    seconds: float


def _judged(detector: Evaluable, data: TestData, folder: Path | None) -> Generator[_Judged, None, None]:
    """Read, score and write each image; in several threads where an accelerator scores. The order is that of the data.

    On a processor one thread does this, and each image has all cores.
    """
    samples, size = list(enumerate(data.samples)), detector.batch_size
    if size > 1 and samples:
        height, width = _decoded(samples[0][1]).pixels.shape[:2]
        size = fewer_if_large(size, height * width)
    threads = reading_threads(detector.device)
    budget = PixelBudget((threads + 1) * PIXELS_PER_THREAD)

    def judged(number: int, batch: Sequence[tuple[int, LabelledImage]]) -> list[_Judged]:
        decoded = [_decoded(sample) for _, sample in batch]
        budget.take(number, sum(image.pixels.shape[0] * image.pixels.shape[1] for image in decoded))
        started = time.perf_counter()
        pixels, cameras = [image.pixels for image in decoded], [sample.camera for _, sample in batch]
        analyses = detector.analyse_many(pixels, [str(sample.path) for _, sample in batch], cameras)
        seconds = (time.perf_counter() - started) / len(batch)
        return [
            _judge(detector, data, folder, index, ScoredFile(analysis, image.orientation, seconds))
            for (index, _), image, analysis in zip(batch, decoded, analyses, strict=True)
        ]

    with closing(in_order(judged, batches_of(samples, size), threads, budget)) as results:
        for of_batch in results:
            yield from of_batch


def _judged_elsewhere(
    elsewhere: AnalysesElsewhere, detector: Evaluable, data: TestData, folder: Path | None
) -> Generator[_Judged, None, None]:
    """Write each image, in the order of the data, as it comes."""
    with closing(elsewhere(data.samples, detector.device)) as answers:
        for index, scored in enumerate(answers):
            yield _judge(detector, data, folder, index, scored)


def _judge(detector: Evaluable, data: TestData, folder: Path | None, index: int, scored: ScoredFile) -> _Judged:
    sample, analysis = data.samples[index], scored.analysis
    height, width = analysis.anomaly_map.shape
    has_truth = data.protocol.pixel_pool != "none"
    marked = truth_of(sample, height, width, scored.orientation) if has_truth else Truth(None)
    flagged, map_threshold = _verdict(detector, sample, analysis)
    record = None
    if folder is not None:
        record = _written(detector, folder, index, sample, analysis, marked.pixels, bool(flagged))
    return _Judged(sample, analysis, marked, flagged, map_threshold, record, scored.seconds)


def _decoded(sample: LabelledImage) -> DecodedImage:
    return decode_with_remarks(read_file(sample.path), place=str(sample.path))


def _verdict(detector: Evaluable, sample: LabelledImage, analysis: Analysed) -> tuple[bool | None, float | None]:
    """Whether an image is called anomalous, and the threshold of its map; each None without a threshold.

    Where the test data do not say which product an image shows, it is found by likeness.
    """
    if (judging := detector.judging).calibration is None:
        return None, None
    choice = judging.named(sample.product, sample.camera).choose(analysis.scores)
    calibration = choice.calibration or judging.calibration
    score = analysis.scores[detector.recipe.detect.image_score]
    return choice.is_unknown_product or score > calibration.threshold, calibration.map_threshold


def _written(
    detector: Evaluable,
    folder: Path,
    index: int,
    sample: LabelledImage,
    analysis: Analysed,
    truth: NDArray[np.bool_] | None,
    is_flagged: bool,
) -> ScoredImage:
    """Write an image's map and truth; returns its line of the record."""
    name = f"{numbered_name(index, sample.path)}.png"
    map_file, truth_file = write_maps(folder, name, analysis.anomaly_map, truth, detector.map_scale)
    return ScoredImage(
        key=sample.key,
        path=sample.path.absolute(),  # a report may be written from another folder
        kind=sample.kind,
        is_anomalous=sample.is_anomalous,
        score=analysis.scores[detector.recipe.detect.image_score],
        is_flagged=is_flagged,
        map_file=map_file,
        truth_file=truth_file,
        scores=dict(analysis.scores),
        camera=sample.camera,
    )


def _evaluation(
    detector: Evaluable,
    data: TestData,
    scored: Sequence[ScoredSample],
    pixels: PooledPixels,
    seconds_per_image: float,
    command: str,
    threads: int,
) -> Evaluation:
    name, calibration = detector.recipe.detect.image_score, detector.calibration_
    scores, labels = scores_and_labels(scored, name)
    all_images, has_truth = block_of_all(scored, name, pixels), data.protocol.pixel_pool != "none"
    flagged = drift = None
    if calibration is not None:
        flagged = np.array([s.is_flagged for s in scored], bool)
        wanted = calibration.false_alarm_rate
        before, n_groups = (
            np.array(calibration.held_out_scores),
            (calibration.n_groups, _n_groups(data, only_good=True)),
        )
        try:
            drift = score_drift(before, calibration.threshold, wanted, scores[~labels], n_groups=n_groups)
        except ImportError:  # scipy is not in the base installation, which evaluates an exported file
            say("note", f"not compared with the scores of the calibration: {install('train')}")
    return Evaluation(
        **vars(all_images),
        data=data.name,
        layout=data.layout,
        root=str(data.root),
        command=command,
        image_score=name,
        image_scores={
            n: auroc(scores_and_labels(scored, n)[0], labels) for n in detector.score_names if n != APPEARANCE_DISTANCE
        },
        n_pixel_images=pixels.n_images,
        pixel_pool=data.protocol.pixel_pool,
        evaluation_size_px=pixels.evaluation_size_px,
        by_kind=blocks_by_kind(scored, name, pixels),
        by_size=blocks_by_size(scored, name, pixels),
        by_stratum=blocks_by_stratum(scored, name, pixels),
        per_scale=tuple(_scale_score(size, scored, labels, pixels) for size in _sizes(scored)),
        training_size_px=detector.recipe.training_size_px,
        calibration=calibration,
        realised_false_alarm_rate=_share(flagged[~labels]) if flagged is not None else None,
        missed_rate=_share(~flagged[labels]) if flagged is not None else None,
        drift=drift,
        seconds_per_image=seconds_per_image,
        threads=threads,
        device=detector.device,
        without_truth=tuple(
            s.sample.key for s in scored if has_truth and s.sample.is_anomalous and s.anomalous_share is None
        ),
        skipped=data.skipped,
        remarks=data.remarks,
        left_out=tuple(as_records(data.left_out)),
        grouped_by=data.grouped_by,
        n_groups=_n_groups(data),
        outside_roi=pixels.outside_roi,
    )


def _scale_score(
    size_px: int, scored: Sequence[ScoredSample], labels: NDArray[np.bool_], pixels: PooledPixels
) -> ScaleScore:
    image_auroc = auroc(np.array([s.logits[size_px] for s in scored]), labels)
    return ScaleScore(size_px, image_auroc, pixels.by_scale[size_px].auroc() if size_px in pixels.by_scale else None)


def _sizes(scored: Sequence[ScoredSample]) -> list[int]:
    """The test sizes that have scores of their own."""
    return sorted({size for sample in scored for size in sample.logits})


def _threads() -> int:
    """Of the processor, for one image."""
    torch = sys.modules.get("torch")  # an exported file is evaluated without it, on all cores
    return torch.get_num_threads() if torch else usable_cores()


def _n_groups(data: TestData, only_good: bool = False) -> int | None:
    """How many groups the images are of; None where each is on its own."""
    samples = [sample for sample in data.samples if not (only_good and sample.is_anomalous)]
    return len(set(identities(samples))) if groups_of(samples) else None


def _share(flags: NDArray[np.bool_]) -> float | None:
    return float(flags.mean()) if len(flags) else None

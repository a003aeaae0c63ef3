"""What is in a data location: read, checked and counted before anything is trained."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flawmap.data.checks import (
    CheckedData,
    FileFacts,
    LeakCheck,
    check_leak,
    check_training_data,
    refuse_unwritable_names,
)
from flawmap.data.groups import groups_in_words, refuse_unmatched
from flawmap.data.known_defects import KnownDefects, read_known_defects, refuse_without_head
from flawmap.data.leave_out import LeaveOut, Omitted, without_named
from flawmap.data.left_out import lines as left_out_lines
from flawmap.data.left_out import refuse_left_out, unreadable
from flawmap.data.open_data import Location, find_all_test_data, open_training_data, subset_of_tests
from flawmap.data.pool import Pool, read_pool
from flawmap.data.remark_lines import remark_lines
from flawmap.data.remarks import detail_lost, few_images, nearly_black, ungrouped_patients
from flawmap.data.roi_proposal import ProposedRois, propose_rois
from flawmap.data.rois import in_words, refuse_too_small, refuse_unfit
from flawmap.data.sample import FileRemark, LeftOut, SkippedFile, TrainingData
from flawmap.plural import plural
from flawmap.recipe.fields import is_used
from flawmap.recipe.settings import Recipe
from flawmap.reproducibility import atomic_write_text
from flawmap.runs.result_folders import free_path

PROPOSED_ROI = "proposed-roi.json"
NAME_WITH_PATCH = re.compile(r"(?:_patch|_vit[a-z])(\d+)")  # of an encoder, such as dinov2_vits14


@dataclass(frozen=True)
class SoundData:
    """Data that can be trained on.

    Attributes:
        opened: the good images as they were found.
        checked: those that can be decoded and do not repeat each other.
        pool: further good images for stage 1.
        leak: how many test images were compared with all of these; None if there are none.
        omitted: good images that the user does not want to be learned from.
        known: defects that the head learns from.
    """

    opened: TrainingData
    checked: CheckedData
    pool: Pool
    leak: LeakCheck | None
    omitted: Omitted = field(default_factory=Omitted)
    known: KnownDefects = field(default_factory=KnownDefects)

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """Files and folders that are not read, and good images that the user has named."""
        beside = self.opened.left_out + self.pool.left_out + (self.leak.left_out if self.leak else ())
        return beside + self.omitted.left_out + self.known.left_out


@dataclass(frozen=True)
class TestReport:
    """Labelled images; ``with_truth`` of the anomalous ones have a mask or boxes."""

    good: int
    anomalous: int
    with_truth: int
    kinds: dict[str, int]


@dataclass(frozen=True)
class DataReport:
    """What was found in a data location.

    Attributes:
        good_images: images to learn from, without those that repeat others (``identical_images``, such as
            ``first_identical``).
        skipped: files that cannot be decoded, test images and images for stage 1 among them.
        file_remarks: on single files, test images and their masks among them.
        left_out: files and folders that are not read, beside the images for training, for stage 1 and for a test.
        sizes: the number of images of each of the most frequent sizes, such as ``640x480``.
        detail_lost: a warning that small defects vanish at the size that the model sees.
        nearly_black: a warning that images are too dark.
        pool: the further images for stage 1, in words; None without any.
        groups: how many groups of images there are, in words; None where no image has one.
        ungrouped: a warning that the images of patients are split.
        test_files_compared: test images that share neither content nor a group with training.
        roi: how much of an image counts, in words; None without a region of interest.
        known_defects: how many there are, in words; None without any.
        few: what so few good images mean; None where there are enough.
    """

    data: str
    root: Path
    layout: str
    good_images: int
    identical_images: int
    first_identical: str | None
    skipped: tuple[SkippedFile, ...]
    file_remarks: tuple[FileRemark, ...]
    left_out: tuple[LeftOut, ...]
    sizes: dict[str, int]
    distinct_sizes: int
    detail_lost: str | None
    nearly_black: str | None
    pool: str | None
    pool_images: int
    groups: str | None
    ungrouped: str | None
    test_files_compared: int
    roi: str | None = None
    known_defects: str | None = None
    few: str | None = None

    @property
    def passed_over(self) -> tuple[LeftOut, ...]:
        """Everything that is left out, files that cannot be decoded included."""
        return self.left_out + unreadable(self.skipped)


def read_sound_data(
    location: Location,
    recipe: Recipe,
    skip_unreadable: bool = False,
    strict: bool = False,
    leave_out: LeaveOut | None = None,
    defects: str | Path | None = None,
) -> SoundData:
    """Open a location and decode all its images.

    Args:
        location: a folder of good images, a data set's folder, a ``manifest.csv``, or ``elpv``; or several of these.
        recipe: how the data is read, whether a threshold is set, and which further images stage 1 uses.
        skip_unreadable: leave out files that cannot be decoded.
        strict: refuse data with anything beside it that is not read.
        leave_out: good images that are not learned from.
        defects: where known defects are, for the head; None where there are none.

    Raises:
        UserError: no such data, unreadable files, too few images, a test image that is also in training or whose group
            is, a pattern of groups that matches no image, or no such image to leave out.
    """
    data = open_training_data(location, recipe.data)
    tests = find_all_test_data(location, recipe.data)
    if strict:
        refuse_left_out(data.left_out + (tests.left_out if tests else ()), str(data.root))
    refuse_unwritable_names([data.name, *(image.key for image in data.images)])
    refuse_unmatched(data.images, recipe.data.group_by, str(data.root))
    checked = check_training_data(data, recipe.no_threshold, skip_unreadable, recipe.fewest_images)
    sizes_px = {fact.key: (fact.height_px, fact.width_px) for fact in checked.facts}
    refuse_unfit(recipe, checked.data.images, sizes_px, str(data.root))
    if (patch_size_px := _patch_size_px(recipe)) is not None:
        side = max(1, int(recipe.training_size_px / patch_size_px + 0.5))  # as round_to_patches, which needs torch
        refuse_too_small(recipe, (side, side))
    pool = read_pool(recipe, checked.facts, skip_unreadable)
    if strict:
        refuse_left_out(pool.left_out, str(recipe.data.pretrain_on))
    omitted = Omitted()
    if leave_out is not None:  # after stage 1's images, which must not be those that are left out either
        checked, omitted = without_named(checked, leave_out, recipe.no_threshold, recipe.fewest_images)
    known = KnownDefects()
    if defects is not None:
        refuse_without_head(recipe)
        good = (*checked.facts, *omitted.facts)
        known = read_known_defects(defects, recipe.data, good, skip_unreadable)
        sizes_px = {fact.key: (fact.height_px, fact.width_px) for fact in known.facts}
        refuse_unfit(recipe, known.defects, sizes_px, str(known.root))
        if strict:
            refuse_left_out(known.left_out, str(known.root))
    further = (*pool.facts, *known.facts)
    leak = check_leak(checked, tests, skip_unreadable, further, known.defects)
    return SoundData(data, checked, pool, leak, omitted, known)


def _patch_size_px(recipe: Recipe) -> int | None:
    """The side of the encoder's patches, as far as a name says it; None: nobody knows before the weights are read."""
    named = NAME_WITH_PATCH.search(recipe.model.architecture or recipe.model.weights)
    return int(named[1]) if named and not Path(recipe.model.weights).exists() else None


def _detail_lost(facts: Sequence[FileFacts], recipe: Recipe) -> str | None:
    """What happens to small defects, and the recipe's remedy: the paper's method is tested at sizes of its own."""
    if recipe.method != "paper":
        return detail_lost(facts, recipe.seen_px) if recipe.data.tiles == "none" else None
    closer = " ".join(f"--set {name}={2 * recipe.seen_px}" for name in ("data.image_size_px", "detect.sizes_px"))
    return detail_lost(facts, recipe.seen_px, f"cut images into parts, or {closer} (slower)")


def report_on(sound: SoundData, recipe: Recipe) -> DataReport:
    """Count what :func:`read_sound_data` has read with the same recipe; labelled images are not looked at."""
    data, facts, pool, leak = sound.checked.data, sound.checked.facts, sound.pool, sound.leak
    nobody_said = data.grouped_by is None and recipe.data.group_by is None
    sizes = Counter(f"{fact.width_px}x{fact.height_px}" for fact in facts)
    return DataReport(
        data=data.name,
        root=data.root,
        layout=data.layout,
        good_images=len(data.images),
        identical_images=len(sound.checked.duplicates),
        first_identical=next(iter(sound.checked.duplicates), None),
        skipped=(*data.skipped, *pool.skipped, *(leak.skipped if leak else ()), *sound.known.skipped),
        file_remarks=tuple(
            dict.fromkeys((*data.remarks, *(leak.remarks if leak else ()), *sound.known.remarks))
        ),  # a list has those of both
        left_out=sound.left_out,
        sizes=dict(sizes.most_common(5)),
        distinct_sizes=len(sizes),
        detail_lost=_detail_lost(facts, recipe),
        nearly_black=nearly_black(facts),
        pool=pool.words if pool.images else None,
        pool_images=len(pool.images),
        groups=groups_in_words(data.images, data.grouped_by),
        ungrouped=ungrouped_patients(facts) if nobody_said else None,
        test_files_compared=leak.num_compared if leak else 0,
        roi=in_words(recipe),
        known_defects=sound.known.words if sound.known.defects else None,
        few=few_images(len(data.images)) if recipe.method != "paper" else None,
    )


def remarks(report: DataReport) -> Iterator[tuple[str, str]]:
    """What a person should know of the good images, line by line: a label and a text."""
    yield "data", f'{report.data}  {plural(report.good_images, "good image")}, layout "{report.layout}"'
    more = f", {report.distinct_sizes} different sizes in total" if report.distinct_sizes > len(report.sizes) else ""
    yield "sizes", ", ".join(f"{size} ({count})" for size, count in report.sizes.items()) + more
    if report.few:
        yield "few", report.few
    if report.roi:
        yield "region", report.roi
    if report.known_defects:
        yield "defects", report.known_defects
    if report.groups:
        yield "groups", report.groups
    if report.ungrouped:
        yield "groups", report.ungrouped
    if report.detail_lost:
        yield "detail", report.detail_lost
    if report.nearly_black:
        yield "dark", report.nearly_black
    if count := report.identical_images:
        images = "1 image repeats" if count == 1 else f"{count} images repeat"
        first = f": {report.first_identical}" if count == 1 else f", the first is {report.first_identical}"
        yield "identical", f"{images} the content of another one and {'is' if count == 1 else 'are'} left out{first}"
    if report.pool:
        yield "pool", report.pool
    for line in left_out_lines(report.passed_over, report.root):
        yield "left out", line
    for line in remark_lines(report.file_remarks):
        yield "remark", line


def report_on_tests(sound: SoundData, location: Location, recipe: Recipe) -> TestReport | None:
    """Count labelled images, without training images, which a folder may offer as good test images, too."""
    tests = find_all_test_data(location, recipe.data) if sound.leak else None
    if sound.leak is None or tests is None or not tests.samples:
        return None
    left_out = {image.key for image in sound.opened.images} | {file.key for file in sound.leak.skipped}
    chosen = subset_of_tests(tests, recipe.data.test_subset).samples
    samples = [sample for sample in chosen if sample.key not in left_out]
    anomalous = [sample for sample in samples if sample.is_anomalous]
    return TestReport(
        good=len(samples) - len(anomalous),
        anomalous=len(anomalous),
        with_truth=sum(sample.truth is not None for sample in anomalous),
        kinds=dict(Counter(sample.kind for sample in anomalous)),
    )


def proposed_rois(sound: SoundData, recipe: Recipe) -> ProposedRois | None:
    """What regions of interest should leave out; None also where the recipe has one, or its method knows none."""
    if recipe.data.roi is not None or not is_used("data.roi", recipe):
        return None
    return propose_rois(sound.checked.data.images)


def write_proposed_rois(proposal: ProposedRois, folder: Path) -> Path:
    """Write a proposal as JSON, unless the folder has it. A proposal that somebody has changed is kept."""
    text, path = proposal.to_text(), folder / PROPOSED_ROI
    for written in sorted(folder.glob(f"{path.stem}*{path.suffix}")):
        if written.read_bytes() == text.encode("ascii"):
            return written
    path = free_path(path)
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, text)
    return path

"""The words and numbers of the report: verdict, comparisons and provenance, ready to print."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flawmap.advice import command
from flawmap.plural import plural
from flawmap.report.run_files import RunFiles
from flawmap.runs.calibration import Calibration
from flawmap.runs.evaluation import Evaluation
from flawmap.runs.model_config import ModelConfig

NOTHING = "–"

IMAGE_SCORE_TITLES = {
    "vote": "votes of the sizes",
    "vote_mean": "votes, ties by mean logit",
    "mean_logit": "mean logit",
    "map_max": "highest value of the map",
}


@dataclass(frozen=True)
class Verdict:
    """The first lines of the report: a sentence, and remarks below it."""

    sentence: str
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table of strings; the first column names the row. ``strong`` lists the rows to emphasize."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    strong: frozenset[int] = frozenset()


def number(value: float | None, digits: int = 3) -> str:
    """A metric with fixed digits, or a dash for None."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def verdict_of(files: RunFiles) -> Verdict:
    """What this run can do, in one sentence, from the counts of the test images."""
    evaluate = command("flawmap", "evaluate", files.run, "DATA")
    if not files.is_evaluated:
        return Verdict(
            "Not evaluated yet: it is unknown how well this model finds defects.",
            (f"To score it on labelled images: {evaluate}", *_promise(files.calibration)),
        )
    if files.threshold is None:
        to_do = (
            f"One was calibrated since; to count with it: {evaluate}"
            if files.is_calibrated_since
            else f"Evaluate again once one is set: {command('flawmap', 'calibrate', files.run, 'GOOD_IMAGES')}"
        )
        return Verdict("Scored, but without a threshold: it ranks images and decides about none.", (to_do,))
    good = [image for image in files.images if not image.is_anomalous]
    bad = [image for image in files.images if image.is_anomalous]
    n_found, n_alarms = sum(image.is_flagged for image in bad), sum(image.is_flagged for image in good)
    finds = f"finds {n_found} of {plural(len(bad), 'anomalous image')}"
    count = plural(n_alarms, "false alarm") if n_alarms else "no false alarm"
    alarms = f"raises {count} on {plural(len(good), 'good image')}"
    if good and bad:
        sentence = f"It {finds} and {alarms}."
    elif bad:
        sentence = f"It {finds}; the test data has no good images, so false alarms are unknown."
    else:
        sentence = f"It {alarms}; the test data has no defects, so what it would find is unknown."
    return Verdict(sentence, (*_promise(files.calibration), *_drift(files)))


def _promise(calibration: Calibration | None) -> tuple[str, ...]:
    if calibration is None:
        return ()
    text = (
        f"Threshold {calibration.threshold:.4g}, for {_rate(calibration.false_alarm_rate)} false alarms, "
        f"{'estimated ' if calibration.is_estimate else ''}from {plural(calibration.n_held_out, 'good image')}"
        f"{calibration.of_groups}"
    )
    if not calibration.is_resolved:
        finest = _rate(calibration.smallest_resolvable_rate)
        more = "good images of further groups" if calibration.of_groups else "good images"
        verb = "promise" if calibration.is_estimate else "guarantee"
        text += f", which cannot {verb} less than {finest}: add {more} for a firmer threshold"
    return (text + ".",)


def _drift(files: RunFiles) -> tuple[str, ...]:
    """That the evaluation used another threshold, or what it says of a rate that is not the wanted one."""
    if files.calibration is None or files.evaluation is None:
        return ()
    if files.calibration.threshold != files.threshold:
        return (f"Calibrated again since the evaluation: the counts are for the threshold {files.threshold:.4g}.",)
    drift = files.evaluation.drift
    return (drift.text,) if drift is not None and drift.is_remarkable else ()


def simulated(config: ModelConfig | None, calibration: Calibration | None = None) -> Table:
    """How well simulated defects on unseen good images are found; empty when training did not measure it."""
    proxy = config.held_out_simulated_defects if config else None
    if proxy is None:
        return Table((), ())
    counted_on = f"{plural(proxy.n, 'image')}, each with and without a defect"
    values = {"image AUROC": proxy.image_auroc, "pixel AUROC": proxy.pixel_auroc}
    rows = [(title, number(value), counted_on) for title, value in values.items() if value is not None]
    if calibration is not None and (count := len(proxy.defect_scores)):
        missed = sum(score <= calibration.threshold for score in proxy.defect_scores)
        rows.append(
            ("missed at the threshold", f"{missed / count:.0%}", f"{count} simulated defects; real ones differ")
        )
    return Table(("measure", "value", "counted on"), tuple(rows))


def image_scores(evaluation: Evaluation) -> Table:
    """The ways to score an image, side by side; the one in use is emphasized."""
    scores = evaluation.image_scores
    titles = IMAGE_SCORE_TITLES if "vote" in scores else IMAGE_SCORE_TITLES | {"mean_logit": "the model's own"}
    rows = tuple((titles[name], number(value)) for name, value in scores.items())
    used = frozenset(i for i, name in enumerate(scores) if name == evaluation.image_score)
    return Table(("image score", "image AUROC"), rows, used)


def scales(evaluation: Evaluation) -> Table:
    """Each image size alone, and all of them together (emphasized); empty where there is one size."""
    head = ("image size", "image AUROC by mean logit", "pixel AUROC")
    if len(evaluation.per_scale) < 2:
        return Table(head, ())
    rows = []
    for scale in evaluation.per_scale:
        nearest = " (nearest to training's)" if scale == evaluation.single_scale else ""
        rows.append((f"{scale.size_px} px alone{nearest}", number(scale.image_auroc), number(scale.pixel_auroc)))
    together = number(evaluation.image_scores["mean_logit"]), number(evaluation.pixel_auroc)
    rows.append(("all sizes together", *together))
    return Table(head, tuple(rows), frozenset({len(rows) - 1}))


def identity(files: RunFiles) -> str:
    """Seed, commit, device and software of the training in one line; "" when the run does not say."""
    known = files.environment
    parts = [f"seed {known['seed']}"] if known.get("seed") is not None else []
    parts += [f"flawmap {known['flawmap']}"] if known.get("flawmap") else []
    parts += [f"commit {str(known['git_commit'])[:10]}"] if known.get("git_commit") else []
    parts += [f"trained on {known.get('device_name') or known['device']}"] if known.get("device") else []
    parts += [files.config.architecture] if files.config else []
    return ", ".join(parts)


def commands(files: RunFiles) -> list[str]:
    """What makes this run again, in order: the training, its updates, the calibrations in force, and the evaluation.

    The evaluation comes after the calibration that set its threshold.
    """
    calibrations = files.history.calibrations
    made_by = [files.environment.get("command"), *(update.command for update in files.updates)]
    found = [*made_by, *(version.change.command for version in calibrations)]
    if (evaluation := files.evaluation) is not None:
        of_default = [version.change if version.change.camera is None else None for version in calibrations]
        before = [i for i, change in enumerate(of_default, 1) if change and change.threshold == evaluation.threshold]
        found.insert(len(made_by) + max(before, default=0), evaluation.command)
    return [command for command in found if command]


def data_rows(files: RunFiles) -> list[tuple[str, str]]:
    """How many images went where, how large they are, and what was left out."""
    splits = Counter(row.split for row in files.manifest)
    rows = [(split.replace("_", " "), plural(n, "image") + _of_groups(files, split)) for split, n in splits.items()]
    if files.manifest:
        by_area = sorted(files.manifest, key=lambda row: row.width_px * row.height_px)
        smallest, largest = (f"{row.width_px} × {row.height_px} px" for row in (by_area[0], by_area[-1]))
        rows.append(("size", smallest if smallest == largest else f"{smallest} to {largest}"))
    if (evaluation := files.evaluation) is not None:
        rows.append(("test", f"{evaluation.n_good} good, {evaluation.n_anomalous} anomalous"))
        without = sum(image.is_anomalous and image.truth_file is None for image in files.images)
        if without and without < evaluation.n_anomalous:
            rows.append(("anomalous without ground truth", f"{plural(without, 'image')}, in no pixel measure"))
        rows.append(("test files left out", str(len(evaluation.skipped) + len(evaluation.left_out))))
    return rows


def _of_groups(files: RunFiles, split: str) -> str:
    """How many groups the images of a split are of, to follow their number; "" where none has a group."""
    rows = [row for row in files.manifest if row.split == split]
    if not any(row.group for row in rows):
        return ""
    return f" of {plural(len({('group', row.group) if row.group else ('image', row.key) for row in rows}), 'group')}"


def flat(source: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A nested JSON object as rows of dotted name and text."""
    rows: list[tuple[str, str]] = []
    for name, value in source.items():
        if isinstance(value, Mapping):
            rows += flat(value, f"{prefix}{name}.")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            rows.append((prefix + name, ", ".join(str(item) for item in value)))
        else:
            rows.append((prefix + name, NOTHING if value is None else str(value)))
    return rows


def _rate(rate: float) -> str:
    """A rate that someone chose or that a count allows, which may be small."""
    return f"{100 * rate:.3g} %"

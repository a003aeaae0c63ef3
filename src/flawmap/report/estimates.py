"""Measures with their 95 % intervals as ``evaluation/metrics.json`` holds them, in words and as tables.

Evaluations of older versions have no intervals: their tables then hold what there is, and say what is missing.
"""

from collections.abc import Mapping
from typing import Any

from flawmap.report.run_files import RunFiles
from flawmap.report.tables import NOTHING, Table, number, plural

IMAGE_TITLES = {
    "auroc": "image AUROC",
    "ap": "image average precision",
    "f1_max": "image F1-max",
    "fpr_at_95_tpr": "false alarms when 95 % are found",
}
PIXEL_TITLES = {
    "auroc": "pixel AUROC",
    "ap": "pixel average precision",
    "f1_max": "pixel F1-max",
    "aupro_30": "AUPRO up to 30 % false pixels",
    "aupro_05": "AUPRO up to 5 % false pixels",
}
NO_TRUTH = "no ground truth for pixels in this data"


def why_no_pixels(files: RunFiles) -> str:
    """Why pixels were not measured."""
    if files.images and not any(image.is_anomalous for image in files.images):
        return "no defects in this data"
    if files.metrics.get("evaluation_size_px") and any(image.truth_file for image in files.images):
        return "the defects vanish at the size of the evaluation"
    return NO_TRUTH


def has_estimates(metrics: Mapping[str, Any]) -> bool:
    """Whether the evaluation gave intervals."""
    return isinstance(metrics.get("image"), Mapping)


def interval_of(metrics: Mapping[str, Any], level: str) -> str:
    """The 95 % interval of the AUROC of the level ``image`` or ``pixel``, or "" where there is none."""
    interval = _value_and_interval((metrics.get(level) or {}).get("auroc"))[1]
    return "" if interval == NOTHING else interval


def headline(files: RunFiles) -> Table:
    """Every measure with its interval and what it was counted on; an older evaluation gives the two AUROCs alone."""
    metrics = files.metrics
    n_anomalous = sum(image.is_anomalous for image in files.images)
    n_good = len(files.images) - n_anomalous
    of_images = f"{n_good} good, {n_anomalous} anomalous pictures"
    of_pixels = f"pixels of {plural(int(metrics.get('n_pixel_images') or 0), 'picture')}"
    if not has_estimates(metrics):
        image, pixel = metrics.get("image_auroc"), metrics.get("pixel_auroc")
        rows = [
            ("image AUROC", number(image), NOTHING, of_images if image is not None else _needs_both(of_images)),
            ("pixel AUROC", number(pixel), NOTHING, of_pixels if pixel is not None else why_no_pixels(files)),
        ]
    else:
        rows = [
            (title, *_value_and_interval(metrics["image"].get(name)), of_images)
            if metrics["image"].get(name)
            else (title, NOTHING, NOTHING, _needs_both(of_images))
            for name, title in IMAGE_TITLES.items()
        ]
        pixel = metrics.get("pixel")
        if pixel:
            rows += [(title, *_value_and_interval(pixel.get(name)), of_pixels) for name, title in PIXEL_TITLES.items()]
        else:
            rows.append(("pixel measures", NOTHING, NOTHING, why_no_pixels(files)))
    if metrics.get("seconds_per_image") is not None:
        device, threads = metrics.get("device", "cpu"), metrics.get("threads")
        with_what = plural(int(threads), "thread") if threads and device == "cpu" else f"on {device}"
        by = f"per picture, {with_what}" if threads else "per picture"
        rows.append(("time", f"{float(metrics['seconds_per_image']):.2g} s", NOTHING, by))
    return Table(("measure", "value", "95 % interval", "counted on"), tuple(rows))


def headline_notes(metrics: Mapping[str, Any]) -> tuple[str, ...]:
    """What a reader must know about the numbers of :func:`headline`."""
    notes = []
    if metrics and not has_estimates(metrics):
        notes.append("This evaluation is of an older version: no intervals, no further measures. Evaluate again.")
    if has_estimates(metrics):
        notes.append("Intervals are of a bootstrap over pictures: another sample of pictures like these.")
    if any(_is_perfect(metrics.get(level)) for level in ("image", "pixel")):
        notes.append("A perfect ranking has an interval without width; it does not say how sure the ranking is.")
    if metrics.get("evaluation_size_px"):
        notes.append(f"Maps and ground truth were compared at {metrics['evaluation_size_px']} px.")
    return tuple(notes)


def kinds(files: RunFiles) -> Table:
    """Every kind of defect against all good pictures: how many, how many were found, and how well."""
    source = files.metrics.get("by_kind") or files.metrics.get("per_kind") or {}
    rows = []
    for kind, values in source.items():
        of_kind = [image for image in files.images if image.kind == kind and image.is_anomalous]
        if kind == "good" and not of_kind:
            continue
        found = NOTHING
        if files.threshold is not None and of_kind:
            found = f"{sum(image.is_flagged for image in of_kind)} of {len(of_kind)}"
        rows.append((kind, str(values.get("n", len(of_kind))), found, *_short(values)))
    return Table(("kind", "pictures", "found", "image AUROC", "pixel AUROC", "AUPRO 30 %"), tuple(rows))


def sizes(metrics: Mapping[str, Any]) -> Table:
    """Defects by the share of the picture they cover, in the order of their meanings; empty for an older evaluation."""
    words, by_size = metrics.get("size_classes") or {}, metrics.get("by_size") or {}
    rows = [
        (f"{name} ({words[name]})" if name in words else name, str(values.get("n", NOTHING)), *_short(values))
        for name, values in sorted(
            by_size.items(), key=lambda item: list(words).index(item[0]) if item[0] in words else -1
        )
    ]
    return Table(("size of the defect", "pictures", "image AUROC", "pixel AUROC", "AUPRO 30 %"), tuple(rows))


def groups(metrics: Mapping[str, Any]) -> Table:
    """Each group of pictures (sex, view, ...) scored on its own."""
    rows = [
        (name, str(values.get("n", NOTHING)), *_short(values))
        for name, values in (metrics.get("by_group") or metrics.get("groups") or {}).items()
    ]
    return Table(("group", "pictures", "image AUROC", "pixel AUROC", "AUPRO 30 %"), tuple(rows))


def without_empty_columns(table: Table) -> Table:
    """The table without columns that hold nothing but dashes."""
    kept = [i for i in range(len(table.head)) if any(row[i] != NOTHING for row in table.rows)]
    rows = tuple(tuple(row[i] for i in kept) for row in table.rows)
    return Table(tuple(table.head[i] for i in kept), rows, table.strong)


def _is_perfect(measures: Mapping[str, Any] | None) -> bool:
    auroc = (measures or {}).get("auroc") or {}
    return auroc.get("low") == auroc.get("value") == 1


def _short(values: Mapping[str, Any]) -> tuple[str, str, str]:
    """Image AUROC, pixel AUROC and AUPRO, each with its interval in brackets."""
    image, pixel = values.get("image"), values.get("pixel")
    if image is None and pixel is None:  # of an older evaluation
        return number(values.get("image_auroc")), number(values.get("pixel_auroc")), NOTHING
    return _brief((image or {}).get("auroc")), _brief((pixel or {}).get("auroc")), _brief((pixel or {}).get("aupro_30"))


def _brief(estimate: Mapping[str, Any] | None) -> str:
    value, interval = _value_and_interval(estimate)
    return value if interval == NOTHING else f"{value} ({interval})"


def _value_and_interval(estimate: Mapping[str, Any] | None) -> tuple[str, str]:
    """``("0.931", "0.900–0.960")``; two dashes for None, and one where an interval could not be had."""
    if not estimate or estimate.get("value") is None:
        return NOTHING, NOTHING
    low, high = estimate.get("low"), estimate.get("high")
    interval = NOTHING if low is None or high is None else f"{number(low)}–{number(high)}"
    return number(estimate["value"]), interval


def _needs_both(of_images: str) -> str:
    return f"needs good and anomalous pictures, has {of_images}"

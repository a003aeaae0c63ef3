"""Measures with their 95 % intervals as tables."""

from collections.abc import Mapping

from flawmap.metrics.defect_size import SIZE_CLASS_MEANING
from flawmap.plural import plural
from flawmap.report.run_files import RunFiles
from flawmap.report.tables import NOTHING, Table, number
from flawmap.runs.evaluation import IMAGE_TITLES, PIXEL_TITLES, Block, Evaluation, Measure, Measures

_BLOCK_COLUMNS = ("images", "image AUROC", "pixel AUROC", "AUPRO 30 %")
_SATURATED_COLUMNS = {"au_spro_30": "AU-sPRO 30 %", "au_spro_05": "AU-sPRO 5 %"}


def why_no_pixels(files: RunFiles) -> str:
    """Why pixels were not measured."""
    if files.images and not any(image.is_anomalous for image in files.images):
        return "no defects in this data"
    resized = files.evaluation is not None and files.evaluation.evaluation_size_px
    if resized and any(image.truth_file for image in files.images):
        return "the defects vanish at the size of the evaluation"
    return "no ground truth for pixels in this data"


def headline(files: RunFiles) -> Table:
    """Every measure with its interval and what it was counted on; empty without an evaluation."""
    head, evaluation = ("measure", "value", "95 % interval", "counted on"), files.evaluation
    if evaluation is None:
        return Table(head, ())
    of_images = f"{evaluation.n_good} good, {evaluation.n_anomalous} anomalous images"
    of_pixels = f"pixels of {plural(evaluation.n_pixel_images, 'image')}"
    rows = []
    for name, measure in evaluation.image.items():
        counted_on = of_images if measure else f"needs good and anomalous images, has {of_images}"
        rows.append((IMAGE_TITLES[name], *_value_and_interval(measure), counted_on))
    if evaluation.pixel:
        for name, measure in evaluation.pixel.items():
            rows.append((PIXEL_TITLES[name], *_value_and_interval(measure), of_pixels))
    else:
        rows.append(("pixel measures", NOTHING, NOTHING, why_no_pixels(files)))
    where = plural(evaluation.threads, "thread") if evaluation.device == "cpu" else f"on {evaluation.device}"
    rows.append(("time", f"{evaluation.seconds_per_image:.2g} s", NOTHING, f"per image, {where}"))
    return Table(head, tuple(rows))


def headline_notes(evaluation: Evaluation | None) -> tuple[str, ...]:
    """What a reader must know about the numbers of :func:`headline`."""
    if evaluation is None:
        return ()
    notes = ["Intervals come from a bootstrap over images: how far a value might move on other images like these."]
    if evaluation.n_groups is not None:
        count, by = plural(evaluation.n_groups, "group"), f" ({evaluation.grouped_by})" if evaluation.grouped_by else ""
        notes = [
            f"Intervals come from a bootstrap over the {count}{by} of the test images: how far a value might "
            "move on other groups like these. Images of one group are no independent evidence."
        ]
    if any(_is_perfect(measures) for measures in (evaluation.image, evaluation.pixel)):
        notes.append("A perfect ranking has an interval without width; that does not mean that it is certain.")
    if evaluation.pixel:
        notes.append("Pixel scores are counted in fine bins, which changes a pixel measure by less than 0.001.")
    if evaluation.evaluation_size_px:
        notes.append(f"Maps and ground truth were compared at {evaluation.evaluation_size_px} px.")
    if evaluation.outside_roi is not None:
        notes.append(f"Pixels are counted in the region of interest alone: {evaluation.outside_roi.words}.")
    return tuple(notes)


def kinds(files: RunFiles) -> Table:
    """Every kind of defect against all good images: how many, how many were found, and how well."""
    rows = []
    for kind, block in files.evaluation.by_kind.items() if files.evaluation else ():
        flags = [image.is_flagged for image in files.images if image.kind == kind and image.is_anomalous]
        found = NOTHING if files.threshold is None else f"{sum(flags)} of {len(flags)}"
        saturated = [_brief((block.pixel or {}).get(name)) for name in _SATURATED_COLUMNS]
        rows.append((kind, str(block.n_anomalous), found, *_short(block), *saturated))
    images, *measures = _BLOCK_COLUMNS
    return Table(("kind", images, "found", *measures, *_SATURATED_COLUMNS.values()), tuple(rows))


def sizes(evaluation: Evaluation | None) -> Table:
    """Defects by the share of the image that they cover, from small to large."""
    blocks: Mapping[str, Block] = evaluation.by_size if evaluation else {}
    rows = [
        (f"{name} ({meaning})", str(blocks[name].n_anomalous), *_short(blocks[name]))
        for name, meaning in SIZE_CLASS_MEANING.items()
        if name in blocks
    ]
    return Table(("size of the defect", *_BLOCK_COLUMNS), tuple(rows))


def strata(evaluation: Evaluation | None) -> Table:
    """The images of each stratum (sex, view, ...) scored on their own."""
    blocks: Mapping[str, Block] = evaluation.by_stratum if evaluation else {}
    rows = [
        (name, str(block.n_good + block.n_anomalous), str(block.n_anomalous), *_short(block))
        for name, block in blocks.items()
    ]
    images, *measures = _BLOCK_COLUMNS
    return Table(("stratum", images, "anomalous", *measures), tuple(rows))


def without_empty_columns(table: Table) -> Table:
    """The table without columns that hold nothing but dashes."""
    kept = [i for i in range(len(table.head)) if any(row[i] != NOTHING for row in table.rows)]
    rows = tuple(tuple(row[i] for i in kept) for row in table.rows)
    return Table(tuple(table.head[i] for i in kept), rows, table.strong)


def _is_perfect(measures: Measures | None) -> bool:
    auroc = (measures or {}).get("auroc")
    return auroc is not None and auroc.low == auroc.value == 1


def _short(block: Block) -> tuple[str, str, str]:
    """Image AUROC, pixel AUROC and AUPRO, each with its interval in brackets."""
    pixel = block.pixel or {}
    return _brief(block.image["auroc"]), _brief(pixel.get("auroc")), _brief(pixel.get("aupro_30"))


def _brief(measure: Measure | None) -> str:
    value, interval = _value_and_interval(measure)
    return value if interval == NOTHING else f"{value} ({interval})"


def _value_and_interval(measure: Measure | None) -> tuple[str, str]:
    """``("0.931", "0.900–0.960")``; two dashes for None, and one where there is no interval."""
    return (number(measure.value), measure.interval or NOTHING) if measure else (NOTHING, NOTHING)

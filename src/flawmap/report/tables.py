"""The words and numbers of the report: verdict, metrics and comparisons, ready to print."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flawmap.metrics.rates import probability_of_alarms
from flawmap.report.run_files import RunFiles

NOTHING = "–"
_SURPRISING = 0.025  # what chance alone would do less often needs another explanation

IMAGE_SCORE_TITLES = {
    "vote": "votes of the sizes",
    "vote_mean": "votes, ties by mean logit",
    "mean_logit": "mean logit",
    "map_max": "highest value of the map",
}


_PROVENANCE_TITLES = {
    "weights_source": "weights",
    "weights_licence": "licence of the weights",
    "record.data.licence": "licence of the data",
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


def number(value: Any, digits: int = 3) -> str:
    """A metric with fixed digits, or a dash for None."""
    return NOTHING if value is None else f"{float(value):.{digits}f}"


def verdict_of(files: RunFiles) -> Verdict:
    """What this run can do, in one sentence, from the counts of the test images."""
    if not files.is_evaluated:
        return Verdict(
            "Not evaluated yet: nothing is known about how well this model finds defects.",
            (f"To score it on labelled pictures: flawmap evaluate {files.run} DATA", *_promise_of(files)),
        )
    if files.threshold is None:
        to_do = (
            f"One was calibrated since; to count with it: flawmap evaluate {files.run} DATA"
            if files.is_calibrated_since
            else f"To set one: flawmap calibrate {files.run} GOOD_IMAGES, then evaluate again."
        )
        return Verdict("Scored, but without a threshold: it ranks pictures and decides about none.", (to_do,))
    good = [image for image in files.images if not image.is_anomalous]
    bad = [image for image in files.images if image.is_anomalous]
    n_found, n_alarms = sum(image.is_flagged for image in bad), sum(image.is_flagged for image in good)
    found = f"finds {n_found} of {plural(len(bad), 'anomalous picture')}"
    count = plural(n_alarms, "false alarm") if n_alarms else "no false alarm"
    alarms = f"raises {count} on {plural(len(good), 'good picture')}"
    if good and bad:
        sentence = f"It {found} and {alarms}."
    elif bad:
        sentence = f"It {found}; the test data has no good pictures, so false alarms are unknown."
    else:
        sentence = f"It {alarms}; the test data has no defects, so what it would find is unknown."
    return Verdict(sentence, (*_promise_of(files), *_surprises_of(files, n_alarms, len(good))))


def _promise_of(files: RunFiles) -> tuple[str, ...]:
    calibration = files.calibration
    if "threshold" not in calibration:
        return ()
    rate, n = float(calibration.get("false_alarm_rate", 0.0)), int(calibration.get("n_held_out", 0))
    text = f"Threshold {calibration['threshold']:.4g}, for {_rate(rate)} false alarms"
    if n:
        text += f", from {plural(n, 'held-out good picture')}"
    finest = calibration.get("smallest_resolvable_rate")
    if finest is not None and rate < float(finest) * (1 - 1e-9):
        text += f", which cannot promise less than {_rate(float(finest))}: add good pictures for a firmer one"
    return (text + ".",)


def _surprises_of(files: RunFiles, n_alarms: int, n_good: int) -> tuple[str, ...]:
    """A remark when observed false alarms contradict the promise, or are of another threshold."""
    calibrated = files.calibration.get("threshold")
    if calibrated is not None and float(calibrated) != files.threshold:
        return (f"Calibrated anew since the evaluation: the counts are those of the threshold {files.threshold:.4g}.",)
    rate = files.metrics.get("false_alarm_rate", files.calibration.get("false_alarm_rate"))
    n_held_out = int(files.calibration.get("n_held_out", 0))
    if rate is None or not n_held_out or not n_good:
        return ()
    if probability_of_alarms(n_alarms, n_good, n_held_out, float(rate)) >= _SURPRISING:
        return ()
    promised = max(float(rate), float(files.calibration.get("smallest_resolvable_rate", 0.0)))
    return (
        f"More false alarms than promised ({_percent(n_alarms / n_good)} against {_rate(promised)}), more than chance "
        f"explains with {plural(n_held_out, 'held-out picture')}: the good test pictures differ from those, in light, "
        "camera or position for example.",
    )


def simulated(config: Mapping[str, Any]) -> Table:
    """How well simulated defects on held-out pictures are found; empty when training did not measure it."""
    proxy = config.get("held_out_simulated_defects") or {}
    rows = [
        (
            name.replace("_auroc", " AUROC"),
            number(proxy[name]),
            f"{plural(int(proxy.get('n', 0)), 'picture')}, each with and without a defect",
        )
        for name in ("image_auroc", "pixel_auroc")
        if proxy.get(name) is not None
    ]
    return Table(("measure", "value", "counted on"), tuple(rows))


def image_scores(metrics: Mapping[str, Any]) -> Table:
    """The ways to score an image, side by side; the one in use is emphasized."""
    scores = metrics.get("image_scores") or {}
    titles = IMAGE_SCORE_TITLES if "vote" in scores else IMAGE_SCORE_TITLES | {"mean_logit": "the model's own"}
    rows = tuple((titles.get(name, str(name)), number(value)) for name, value in scores.items())
    used = frozenset(i for i, name in enumerate(scores) if name == metrics.get("image_score"))
    return Table(("image score", "image AUROC"), rows, used)


def scales(metrics: Mapping[str, Any]) -> Table:
    """Each image size alone, and all of them together (emphasized)."""
    alone = list(metrics.get("per_scale") or [])
    single = metrics.get("single_scale") or {}
    if single and all(row.get("size_px") != single.get("size_px") for row in alone):
        alone.insert(0, single)
    rows = []
    for row in alone:
        name = f"{row.get('size_px')} px alone"
        if row.get("size_px") == single.get("size_px"):
            name += " (nearest to training's)"
        rows.append((name, number(row.get("image_auroc")), number(row.get("pixel_auroc"))))
    if len(rows) == 1:
        rows = []  # one size has nothing to be compared with
    if rows:
        rows.append(
            (
                "all sizes together",
                number((metrics.get("image_scores") or {}).get("mean_logit", metrics.get("image_auroc"))),
                number(metrics.get("pixel_auroc")),
            )
        )
    return Table(("image size", "image AUROC by mean logit", "pixel AUROC"), tuple(rows), frozenset({len(rows) - 1}))


def calibration_rows(calibration: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The threshold and its promise; empty without a threshold."""
    if "threshold" not in calibration:
        return []
    rows = [("threshold", f"{float(calibration['threshold']):.4g}")]
    if calibration.get("false_alarm_rate") is not None:
        rows.append(("false-alarm rate asked for", _rate(float(calibration["false_alarm_rate"]))))
    if calibration.get("n_held_out") is not None:
        rows.append(("held-out good pictures", str(calibration["n_held_out"])))
    if calibration.get("smallest_resolvable_rate") is not None:
        rows.append(("smallest rate they can promise", _rate(float(calibration["smallest_resolvable_rate"]))))
    if calibration.get("map_threshold") is not None:
        rows.append(("threshold of the map", f"{float(calibration['map_threshold']):.4g}"))
    return rows


def identity(files: RunFiles) -> str:
    """Seed, commit, device and software of the training in one line; "" when the run does not say."""
    known = files.environment
    parts = [f"seed {known['seed']}"] if known.get("seed") is not None else []
    parts += [f"flawmap {known['flawmap']}"] if known.get("flawmap") else []
    parts += [f"commit {str(known['git_commit'])[:10]}"] if known.get("git_commit") else []
    parts += [f"trained on {known.get('device_name') or known['device']}"] if known.get("device") else []
    parts += [str(files.config["architecture"])] if files.config.get("architecture") else []
    return ", ".join(parts)


def data_rows(files: RunFiles) -> list[tuple[str, str]]:
    """How many pictures went where, how large they are, and what was left out."""
    rows = [(split.replace("_", " "), plural(n, "picture")) for split, n in files.splits.items()]
    if files.sizes_px:
        smallest, largest = (f"{width} × {height} px" for width, height in files.sizes_px)
        rows.append(("size", smallest if smallest == largest else f"{smallest} to {largest}"))
    if files.is_evaluated:
        n_anomalous = sum(image.is_anomalous for image in files.images)
        rows.append(("test", f"{len(files.images) - n_anomalous} good, {n_anomalous} anomalous"))
        without = sum(image.is_anomalous and image.truth_file is None for image in files.images)
        if without and without < n_anomalous:
            rows.append(("anomalous without ground truth", f"{plural(without, 'picture')}, in no pixel measure"))
        rows.append(("test files left out", str(len(files.metrics.get("skipped") or []))))
    return rows


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


def provenance(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What model/config.json says about weights, data and their licences."""
    telling = ("licen", "weight", "architecture", "source")
    rows = [(name, text) for name, text in flat(config) if any(word in name.lower() for word in telling)]
    return [(_PROVENANCE_TITLES.get(name, name), text) for name, text in rows]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _rate(rate: float) -> str:
    """A rate that someone chose or that a count allows, which may be small."""
    return f"{100 * rate:.3g} %"


def plural(n: int, noun: str) -> str:
    """``1 picture``, ``2 pictures``."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"

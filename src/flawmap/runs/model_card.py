"""README.md of a model folder: what the model is for, what it rests on, and under which licences."""

from typing import Any

from flawmap.recipe.settings import Recipe
from flawmap.runs.calibration import Calibration
from flawmap.runs.manifest import ONLY_PRETRAINED

FRONT_MATTER = """---
library_name: flawmap
pipeline_tag: image-classification
license: other
license_name: see-the-licences-section
tags: [anomaly-detection, anomaly-localization, visual-inspection, self-supervised-learning]
---
"""


_METRICS = {
    **{"auroc": "AUROC", "ap": "AP", "f1_max": "F1-max", "fpr_at_95_tpr": "FPR at 95 % TPR"},
    **{"aupro_30": "AUPRO up to 30 % FPR", "aupro_05": "AUPRO up to 5 % FPR"},
}


def model_card(
    config: dict[str, Any], recipe: Recipe, calibration: Calibration | None, record: dict[str, Any] | None = None
) -> str:
    """The card, with the front matter that the Hugging Face hub reads.

    Args:
        config: the content of config.json.
        recipe: of the training.
        calibration: thresholds, or None.
        record: see :func:`flawmap.runs.model_record.record_of_run`.
    """
    record = record or {}
    parts = [
        FRONT_MATTER,
        "# Anomaly detector trained with flawmap\n",
        f"- encoder: {config['architecture']}; initial weights: {config['weights_source']}",
        f"- training: recipe.yaml in this folder, seed {recipe.seed}; image score: {recipe.detect.image_score}",
        f"- flawmap {config.get('flawmap', '?')}",
        *_threshold(calibration),
        "\n## Intended use\n",
        "Inspection of parts of one kind, seen by one camera in the light of the training pictures. It learned from "
        "good parts only: it says that something differs from them, not what it is. Another camera, light or lot "
        "needs a new threshold (`flawmap calibrate`) or a new training. Test it on your own labelled images before "
        "relying on it. Not a medical device.",
        "\n```python\nfrom flawmap import AnomalyDetector\n\n"
        'AnomalyDetector.from_pretrained("THIS FOLDER").predict("part.png")\n```',
        "\n## Data\n",
        *_data(record.get("data")),
        "\n## Metrics\n",
        *_metrics(record.get("evaluation")),
        *_proxy(config.get("held_out_simulated_defects")),
        "\n## Licences\n",
        f"- licence of the initial weights: {config['weights_licence']}",
        f"- licence of the training data: {(record.get('data') or {}).get('licence', 'not known')}",
        "- flawmap: Apache-2.0",
        "",
    ]
    return "\n".join(parts)


def _threshold(calibration: Calibration | None) -> list[str]:
    if calibration is None:
        return ["- threshold: none yet, so nothing is called anomalous; `flawmap calibrate` sets one"]
    return [
        f"- threshold: {calibration.threshold:.4g} for {calibration.false_alarm_rate:.2%} false alarms, from "
        f"{calibration.n_held_out} held-out normal images (cannot resolve below "
        f"{calibration.smallest_resolvable_rate:.1%})"
    ]


def _data(data: dict[str, Any] | None) -> list[str]:
    if not data:
        return ["Not recorded."]
    pooled = f", {data[ONLY_PRETRAINED]} more for stage 1 alone" if data.get(ONLY_PRETRAINED) else ""
    return [
        f"- {data['train']} good images to train, {data['held_out']} held out for the threshold{pooled}",
        f"- SHA-256 of the sorted SHA-256 of all of them: `{data['sha256']}`",
    ]


def _metrics(evaluation: dict[str, Any] | None) -> list[str]:
    if not evaluation:
        return ["Not tested on labelled images yet: `flawmap evaluate`."]
    lines = [
        f"On {evaluation['data']}: {evaluation['n_good']} good and {evaluation['n_anomalous']} anomalous images. "
        "Intervals are 95 % bootstrap intervals over images.\n",
        "| metric | value | interval |",
        "|---|---|---|",
    ]
    for level in ("image", "pixel"):
        for name, one in (evaluation.get(level) or {}).items():
            interval = "too few images" if one["low"] is None else f"{_number(one['low'])} to {_number(one['high'])}"
            lines.append(f"| {level} {_METRICS.get(name, name)} | {_number(one['value'])} | {interval} |")
    for name in ("realised_false_alarm_rate", "missed_rate"):
        if evaluation.get(name) is not None:  # its threshold is named: calibrate may have set another since
            at = f"{evaluation.get('threshold') or 0.0:.4g}"
            lines.append(f"| {name.replace('_', ' ')} at the threshold {at} | {evaluation[name]:.1%} | |")
    return lines


def _proxy(proxy: dict[str, Any] | None) -> list[str]:
    if not proxy:
        return []
    return [
        f"\nHeld-out *simulated* defects (not a test result): image AUROC {_number(proxy.get('image_auroc'))}, "
        f"pixel AUROC {_number(proxy.get('pixel_auroc'))}, n = {proxy.get('n', 0)}."
    ]


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"

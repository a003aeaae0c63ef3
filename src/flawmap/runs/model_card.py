"""README.md of a model folder: what the model is for, what it rests on, and under which licences."""

from flawmap.recipe.settings import Recipe
from flawmap.runs.calibration import Calibration
from flawmap.runs.evaluation import IMAGE_TITLES, PIXEL_TITLES
from flawmap.runs.model_config import DataRecord, ModelConfig, ProxyScores, TestRecord

FRONT_MATTER = """---
library_name: flawmap
pipeline_tag: image-classification
license: other
license_name: see-the-licences-section
tags: [anomaly-detection, anomaly-localization, visual-inspection, self-supervised-learning]
---
"""


def model_card(config: ModelConfig, recipe: Recipe, calibration: Calibration | None) -> str:
    """The card, with the front matter that the Hugging Face hub reads."""
    data = config.record.data
    parts = [
        FRONT_MATTER,
        "# Anomaly detector trained with flawmap\n",
        f"- encoder: {config.architecture}; initial weights: {config.weights_source}",
        f"- training: recipe.yaml in this folder, seed {recipe.seed}; image score: {recipe.detect.image_score}",
        f"- flawmap {config.flawmap}",
        _threshold(calibration),
        "\n## Intended use\n",
        "Inspection of parts of one kind, seen by one camera under the lighting of the training images. The model has "
        "learned from good parts only: it shows that a part differs from them, not what the defect is. Another camera, "
        "lighting or lot needs a new threshold (`flawmap calibrate`) or a new training. Test the model on your own "
        "labelled images before you rely on it. Not a medical device.",
        "\n```python\nfrom flawmap import AnomalyDetector\n\n"
        'AnomalyDetector.from_pretrained("THIS FOLDER").predict("part.png")\n```',
        "\n## Data\n",
        *_data(data),
        "\n## Metrics\n",
        *_metrics(config.record.evaluation),
        *_proxy(config.held_out_simulated_defects),
        "\n## Licences\n",
        f"- licence of the initial weights: {config.weights_licence}",
        f"- licence of the training data: {data.licence if data else 'not known'}",
        "- flawmap: Apache-2.0",
        "",
    ]
    return "\n".join(parts)


def _threshold(calibration: Calibration | None) -> str:
    if calibration is None:
        return "- threshold: none yet, so nothing is called anomalous; `flawmap calibrate` sets one"
    return (
        f"- threshold: {calibration.threshold:.4g} for {calibration.false_alarm_rate:.2%} false alarms, from "
        f"{calibration.n_held_out} held-out good images (cannot resolve below "
        f"{calibration.smallest_resolvable_rate:.1%})"
    )


def _data(data: DataRecord | None) -> list[str]:
    if data is None:
        return ["Not recorded."]
    pooled = f", {data.pretrain_only} more for stage 1 alone" if data.pretrain_only else ""
    return [
        f"- {data.train} good images to train, {data.held_out} held out for the threshold{pooled}",
        f"- SHA-256 of the sorted SHA-256 of all of them: `{data.sha256}`",
    ]


def _metrics(test: TestRecord | None) -> list[str]:
    if test is None:
        return ["Not tested on labelled images yet: `flawmap evaluate`."]
    lines = [
        f"On {test.data}: {test.n_good} good and {test.n_anomalous} anomalous images. "
        "Intervals are 95 % bootstrap intervals over images.\n",
        "| metric | value | interval |",
        "|---|---|---|",
    ]
    for titles, measures in ((IMAGE_TITLES, test.image), (PIXEL_TITLES, test.pixel or {})):
        for name, measure in measures.items():
            if measure is not None:
                interval = measure.interval or "too few images"
                lines.append(f"| {titles[name]} | {measure.value:.3f} | {interval} |")
    rates = {"realised false alarm rate": test.realised_false_alarm_rate, "missed rate": test.missed_rate}
    for name, rate in rates.items():
        if rate is not None:  # the threshold is named, because a later calibration may have set another
            lines.append(f"| {name} at the threshold {test.threshold:.4g} | {rate:.1%} | |")
    return lines


def _proxy(proxy: ProxyScores | None) -> list[str]:
    if proxy is None:
        return []
    return [
        f"\nHeld-out *simulated* defects (not a test result): image AUROC {_number(proxy.image_auroc)}, "
        f"pixel AUROC {_number(proxy.pixel_auroc)}, n = {proxy.n}."
    ]


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"

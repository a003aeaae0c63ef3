"""The verbs and their one-line meanings; imports nothing, because ``flawmap --help`` needs no more than this."""

VERBS = {
    "demo": "train and evaluate on real solar-cell images, and write a report (CPU, minutes)",
    "check": "check the data before training: counts, sizes, unreadable files, duplicates, masks",
    "train": "learn from good images, and set the threshold from those held out",
    "detect": "tell whether new images show a defect, and where",
    "evaluate": "score a trained run on labelled test images",
    "calibrate": "set a new threshold from good images, for example of another camera, without retraining",
    "export": "write a run as one file for ONNX Runtime, OpenVINO or TorchScript, checked against it",
    "serve": "inspection page and HTTP interface on this machine",
    "report": "write a run's report.html again",
    "benchmark": "compare variants of the method, or other methods, on the same files; the paper's tables",
    "recipe": "list the presets, or print the settings of one as YAML",
}

EXAMPLES = """examples:
  flawmap check parts/
  flawmap train parts/
  flawmap detect new/*.png --model runs/2026-11-24_parts_a1f3
  flawmap evaluate runs/2026-11-24_parts_a1f3 parts/ --json
"""


def overview() -> str:
    """Text of ``flawmap --help``."""
    width = max(map(len, VERBS))
    lines = [f"  {name:<{width}}  {meaning}" for name, meaning in VERBS.items()]
    return "\n".join(
        [
            "usage: flawmap VERB ... [--debug]   (flawmap VERB --help lists its options)",
            "",
            *lines,
            "",
            EXAMPLES.rstrip(),
            "",
            "exit codes: 0 done, 1 a check failed, 2 usage or data error, 130 interrupted",
        ]
    )

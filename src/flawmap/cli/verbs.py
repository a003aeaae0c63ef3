"""The verbs and their one-line meanings; imports nothing, because ``flawmap --help`` needs no more than this."""

VERBS = {
    "demo": "train and evaluate on real solar-cell images, and write a report (CPU, minutes)",
    "check": "look at the data before training: counts, sizes, unreadable files, duplicates, masks",
    "train": "learn from good images, and set the threshold from those held out",
    "detect": "say of new images whether something is wrong, and where",
    "evaluate": "score a trained run against labelled test images",
    "calibrate": "set a new threshold from good images, for example of another camera, without retraining",
    "export": "write a run as one file for ONNX Runtime, OpenVINO or TorchScript, checked against it",
    "serve": "inspection page and HTTP interface on this machine",
    "report": "write report.html of a run again",
    "benchmark": "compare variants of the method, or other methods, on the same files; the paper's tables",
    "recipe": "print a preset's settings as YAML",
}

EXAMPLES = """examples:
  flawmap check parts/
  flawmap train parts/ --recipe standard
  flawmap detect new/*.png --model runs/2026-11-24_parts_a1f3
  flawmap evaluate runs/2026-11-24_parts_a1f3 parts/ --json
"""


def overview() -> str:
    """Text of ``flawmap --help``."""
    width = max(map(len, VERBS))
    lines = [f"  {name:<{width}}  {meaning}" for name, meaning in VERBS.items()]
    return "\n".join(
        [
            "usage: flawmap VERB ... [--debug]   (flawmap VERB --help tells more)",
            "",
            *lines,
            "",
            EXAMPLES.rstrip(),
            "",
            "exit codes: 0 done, 1 a check failed, 2 a mistake to repair, 130 interrupted",
        ]
    )

"""The verbs and their one-line meanings; imports nothing, because ``flawmap --help`` needs no more than this.

Other packages add verbs by entry points of the group ``flawmap.verbs``. Each names a module with ``MEANING``,
``add_arguments`` and ``run`` that loads nothing heavy. They are looked for when a verb is not one of ours; the overview
does not list them, because reading the metadata of all packages would double its time.
"""

from importlib import import_module
from types import ModuleType

GROUP = "flawmap.verbs"

VERBS = {
    "demo": "train and evaluate on real solar-cell images, and write a report (minutes on a CPU)",
    "check": "check the data before training: counts, sizes, unreadable files, duplicates, masks",
    "manifest": "turn annotations of COCO, YOLO, Pascal VOC or labelme into a manifest",
    "train": "learn from good images, and set the threshold from what they score unseen",
    "detect": "tell whether new images show a defect, and where",
    "evaluate": "score a trained run on labelled test images",
    "calibrate": "set a new threshold from good images, for example of another camera, without retraining",
    "update": "learn from further good images or reviewed false alarms, without training again",
    "export": "write a run as one file for ONNX Runtime, OpenVINO or TorchScript, and check the file against the run",
    "serve": "inspection page and HTTP interface on this machine",
    "watch": "judge images of a line as they come, and tell other machines",
    "report": "rewrite a run's report.html",
    "benchmark": "compare variants or other methods on the same files, or reproduce the paper's tables (flawmap-bench)",
    "completion": "print the script by which a shell completes verbs, options and paths",
    "recipe": "list the presets, or print the settings of one as YAML",
}

# Verbs of packages beside this one in the same distribution: their modules and meanings.
SHIPPED = {"studio": ("flawmap_studio.verb", "collect images, train, test, review and update in the browser")}

EXAMPLES = """examples:
  flawmap check parts/
  flawmap train parts/
  flawmap detect new/*.png --model runs/2026-11-24_parts_a1f3
  flawmap evaluate runs/2026-11-24_parts_a1f3 labelled/
"""


def added_verbs() -> list[str]:
    """Names of the verbs of other packages."""
    from flawmap.plugins import plugin_names

    return sorted({*SHIPPED, *plugin_names(GROUP)} - VERBS.keys())


def added_verb(name: str) -> ModuleType | None:
    """The module of a verb of another package; None where there is none.

    Raises:
        UserError: it cannot be loaded, or several packages have it.
    """
    from flawmap.plugins import load_plugin

    module = load_plugin(GROUP, name)
    return import_module(SHIPPED[name][0]) if module is None and name in SHIPPED else module


def overview() -> str:
    """Text of ``flawmap --help``."""
    meanings = VERBS | {name: meaning for name, (_, meaning) in SHIPPED.items()}
    width = max(map(len, meanings))
    lines = [f"  {name:<{width}}  {meaning}" for name, meaning in meanings.items()]
    return "\n".join(
        [
            "usage: flawmap VERB ...   (flawmap VERB --help lists its options; --debug shows tracebacks)",
            "",
            *lines,
            "",
            EXAMPLES.rstrip(),
            "",
            "exit codes: 0 done, 1 a check failed, 2 usage or data error, 130 interrupted",
        ]
    )

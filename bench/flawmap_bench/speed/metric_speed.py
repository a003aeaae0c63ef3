"""Time and memory of our pixel metrics and those of other libraries: ``python -m flawmap_bench.speed.metric_speed``.

All get the same artificial maps, one after the other, each in its own process. Processor time is measured without the
time to make the maps: several cores bring no advantage, and other processes do not matter. Memory is the growth of the
peak from before the first map to after the last metric. A library that needs more than ``--memory-gib`` is stopped and
reported.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flawmap.metrics.pixel_pool import FPR_LIMITS, PIXEL_METRICS, PixelPool, count_pixels
from flawmap.reproducibility import numpy_generator

GIB = 1 << 30
NO_MEMORY = "out of memory"


class ArtificialMaps:
    """Smooth noise in (0, 1); two in three maps have one to three defects with somewhat higher values.

    Each iteration makes the same maps again; ``seconds`` counts the processor time spent on making them.
    """

    def __init__(self, count: int, size_px: int) -> None:
        self.count, self.size_px, self.seconds = count, size_px, 0.0

    def __iter__(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
        """Maps with their ground truth, both (size, size)."""
        for number in range(self.count):
            started = time.process_time()
            pair = self._make(number)
            self.seconds += time.process_time() - started
            yield pair

    def _make(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        rng, size = numpy_generator(number, "map"), self.size_px
        truth = np.zeros((size, size), bool)
        for _ in range(rng.integers(1, 4) if number % 3 else 0):
            height, width = rng.integers(max(2, size // 50), max(3, size // 6), size=2)
            row, column = rng.integers(size - height), rng.integers(size - width)
            truth[row : row + height, column : column + width] = True
        coarse = rng.normal(-2, 1, (16, 16)).astype(np.float32)
        logits = np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))
        logits = logits + 0.3 * rng.standard_normal((size, size), np.float32) + np.float32(2.5) * truth
        return (1 / (1 + np.exp(-logits))).astype(np.float32), truth


def flawmap(maps: ArtificialMaps) -> dict[str, float]:
    """All five metrics, streaming."""
    pool = PixelPool()
    for anomaly_map, truth in maps:
        pool.add(count_pixels(anomaly_map, truth))
    return pool.values()


def flawmap_with_intervals(maps: ArtificialMaps) -> dict[str, float]:
    """The same with 1,000 bootstrap resamples."""
    pool = PixelPool()
    for anomaly_map, truth in maps:
        pool.add(count_pixels(anomaly_map, truth))
    estimates = pool.estimates(numpy_generator(0, "bootstrap"))
    return {name: estimate.value for name, estimate in estimates.items() if estimate.value is not None}


def scikit_learn(maps: ArtificialMaps) -> dict[str, float]:
    """Three metrics of all pixels at once; scikit-learn has no AUPRO."""
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

    pairs = list(maps)
    scores = np.concatenate([anomaly_map.ravel() for anomaly_map, _ in pairs])
    labels = np.concatenate([truth.ravel() for _, truth in pairs])
    del pairs
    values = {
        "auroc": float(roc_auc_score(labels, scores)),
        "average_precision": float(average_precision_score(labels, scores)),
    }
    precision, recall, _ = precision_recall_curve(labels, scores)
    return values | {"f1_max": float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12)))}


def torchmetrics(maps: ArtificialMaps) -> dict[str, float]:
    """Three metrics, exact (``thresholds=None``); maps are passed one by one."""
    import torch
    from torchmetrics.classification import BinaryAUROC, BinaryAveragePrecision, BinaryPrecisionRecallCurve

    metrics = BinaryAUROC(), BinaryAveragePrecision(), BinaryPrecisionRecallCurve()
    for anomaly_map, truth in maps:
        for metric in metrics:
            metric.update(torch.from_numpy(anomaly_map), torch.from_numpy(truth).int())
    precision, recall, _ = metrics[2].compute()
    f1 = 2 * precision * recall / (precision + recall).clamp(min=1e-12)
    return {
        "auroc": float(metrics[0].compute()),
        "average_precision": float(metrics[1].compute()),
        "f1_max": float(f1.max()),
    }


def anomalib(maps: ArtificialMaps) -> dict[str, float]:
    """AUROC, F1-max and AUPRO; its AUPR is not average precision (it uses trapezoids)."""
    import torch
    from anomalib.metrics.aupro import _AUPRO  # pyright: ignore[reportMissingImports]
    from anomalib.metrics.auroc import _AUROC  # pyright: ignore[reportMissingImports]
    from anomalib.metrics.f1_score import _F1Max  # pyright: ignore[reportMissingImports]

    metrics = {"auroc": _AUROC(), "f1_max": _F1Max()}
    metrics |= {name: _AUPRO(fpr_limit=limit) for name, limit in FPR_LIMITS.items()}
    for anomaly_map, truth in maps:
        for metric in metrics.values():
            metric.update(torch.from_numpy(anomaly_map)[None], torch.from_numpy(truth)[None].int())
    return {name: float(metric.compute()) for name, metric in metrics.items()}


CONTENDERS: dict[str, tuple[Callable[[ArtificialMaps], dict[str, float]], str]] = {
    "flawmap": (flawmap, "numpy"),
    "with intervals": (flawmap_with_intervals, "numpy"),
    "scikit-learn": (scikit_learn, "sklearn"),
    "torchmetrics": (torchmetrics, "torchmetrics"),
    "anomalib": (anomalib, "anomalib"),
}


def measure_here(name: str, count: int, size_px: int, memory_gib: float = 0.0) -> dict[str, float]:
    """Seconds, peak memory in MiB and values of one contender, in this process.

    Args:
        name: of ``CONTENDERS``.
        count: maps.
        size_px: height and width of each.
        memory_gib: limit of the data segment, where the system supports it; 0 for none.
    """
    import resource  # Unix only

    contender = CONTENDERS[name][0]
    contender(ArtificialMaps(3, 32))  # imports, and other one-time work
    if memory_gib:
        limit = int(memory_gib * GIB)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    maps, before = ArtificialMaps(count, size_px), _peak_mib()
    started = time.process_time()
    values = contender(maps)
    seconds = time.process_time() - started - maps.seconds
    return {"seconds": seconds, "mebibytes": _peak_mib() - before, **values}


def measure(name: str, count: int, size_px: int, memory_gib: float) -> dict[str, float] | str:
    """The same in its own process, or why there is no result."""
    if find_spec(CONTENDERS[name][1]) is None:
        return "not installed"
    command = [sys.executable, "-m", "flawmap_bench.speed.metric_speed", "--measure", name]
    command += ["--maps", str(count), "--size", str(size_px), "--memory-gib", str(memory_gib)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    out_of_memory = "MemoryError" in done.stderr or "allocate memory" in done.stderr or done.returncode < 0
    return NO_MEMORY if out_of_memory else f"failed: {done.stderr.strip().splitlines()[-1]}"


def table(results: dict[str, dict[str, float] | str], count: int, size_px: int, memory_gib: float) -> str:
    """The results for people: values and times of all, and the others' times relative to ours."""
    ours = results["flawmap"]
    lines = [
        f"pixel metrics of {count} maps of {size_px} x {size_px} px: processor time, peak memory, values"
        f" (at most {memory_gib:g} GiB each)",
        f"  {'':<15}{'time':>10}{'memory':>12}  " + "".join(f"{name:>19}" for name in PIXEL_METRICS),
    ]
    for name, result in results.items():
        if isinstance(result, str):
            lines.append(f"  {name:<15}{result}")
            continue
        values = "".join(f"{result[metric]:>19.6f}" if metric in result else f"{'':>19}" for metric in PIXEL_METRICS)
        lines.append(f"  {name:<15}{result['seconds']:>8.2f} s{result['mebibytes']:>8.0f} MiB  {values}")
    for name, result in results.items():
        if isinstance(result, dict) and isinstance(ours, dict) and CONTENDERS[name][1] != "numpy":
            slower = result["seconds"] / max(ours["seconds"], 1e-9)
            heavier = result["mebibytes"] / max(ours["mebibytes"], 1.0)
            lines.append(f"  {name} takes {slower:.1f} times our time and {heavier:.1f} times our memory")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure all contenders in turn and print the table."""
    parser = argparse.ArgumentParser(prog="python -m flawmap_bench.speed.metric_speed", description=__doc__)
    parser.add_argument("--maps", type=int, default=100, help="how many maps")
    parser.add_argument("--size", type=int, default=256, help="their height and width in pixels")
    parser.add_argument("--memory-gib", type=float, default=8.0, help="stop a library that needs more memory than this")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), help="what to measure")
    parser.add_argument("--measure", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        print(json.dumps(measure_here(options.measure, options.maps, options.size, options.memory_gib)))
        return
    names = dict.fromkeys(["flawmap", *options.only])
    results = {name: measure(name, options.maps, options.size, options.memory_gib) for name in names}
    print(table(results, options.maps, options.size, options.memory_gib))


def _peak_mib() -> float:
    import resource  # Unix only

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / 1024


if __name__ == "__main__":
    main()

"""The page Images with thousands of images: first paint, memory, and scrolling by the browser's own trace.

    python -m flawmap_bench.studio.many_images --images 5000

Makes the images (noise on stripes, 320 x 240 px, JPEG) in a temporary folder. Once without thumbnails on the disk, and
once with them. Prints one JSON object for each.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, CDPSession, Page

from flawmap_bench.studio.browser import chromium, studio

DIFFERENT = 50  # contents; each has a file for every group, whose bytes differ by a comment
GROUPS = 10
LONG_TASK_MS = 50.0  # what the browser itself calls long
SCROLL_PX, SCROLL_PX_PER_S = 40_000, 4_000
TASK = "RunTask"  # in the category below; of one thread each
TRACED = ("devtools.timeline", "disabled-by-default-devtools.timeline.frame", "disabled-by-default-devtools.timeline")
PAINTED = """() => ({
    first_paint_ms: performance.getEntriesByName("first-contentful-paint")[0].startTime,
    cells: document.querySelectorAll(".cell").length, nodes: document.querySelectorAll("*").length,
})"""
FIRST_CELL = """() => new Promise((done) => {
    const look = () => document.querySelector(".cell")
        ? requestAnimationFrame(() => done(performance.now())) : setTimeout(look, 5);
    look();
})"""
FIRST_PICTURES = """() => new Promise((done) => {
    const look = () => {
        const view = document.querySelector(".grid").getBoundingClientRect();
        const cells = [...document.querySelectorAll(".cell")]
            .filter((cell) => cell.getBoundingClientRect().top < view.bottom);
        const isThere = (cell) => cell.firstChild.complete && cell.firstChild.naturalWidth;
        cells.length && cells.every(isThere) ? done(performance.now()) : setTimeout(look, 10);
    };
    look();
})"""


def write_images(folder: Path, count: int) -> None:
    """So many JPEG files in folders of their own."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:240, :320]
    for number in range(DIFFERENT):
        waves = 120 + 50 * np.sin(columns / 9 + number) + 20 * np.cos(rows / 13)
        pixels = (waves + generator.normal(0, 8, waves.shape)).clip(0, 255).astype(np.uint8)
        image = Image.fromarray(pixels).convert("RGB")
        for copy in range(number, count, DIFFERENT):
            path = folder / f"lot_{copy % GROUPS}" / f"part_{copy:05d}.jpg"
            path.parent.mkdir(exist_ok=True)
            image.save(path, quality=85, comment=str(copy))


def main() -> None:
    """Measure twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--port", type=int, default=8351)
    parser.add_argument("--shot", type=Path, help="a screenshot of the page")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, chromium() as browser:
        write_images(Path(temporary), given.images)
        for thumbnails in ("none yet", "kept"):
            found = measured(browser, Path(temporary), given.port, given.shot)
            print(json.dumps({"images": given.images, "thumbnails": thumbnails} | found), flush=True)


def measured(browser: Browser, folder: Path, port: int, shot: Path | None) -> dict[str, Any]:
    """One look at the page, in a browser without a cache."""
    began = time.monotonic()
    with studio(folder, port) as (process, address):
        started_s = time.monotonic() - began
        context = browser.new_context(viewport={"width": 1280, "height": 860})
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.goto(address, wait_until="commit")
        found: dict[str, Any] = {"start_of_the_studio_s": round(started_s, 2)}
        found["first_images_listed_ms"] = round(page.evaluate(FIRST_CELL))
        found["first_pictures_ms"] = round(page.evaluate(FIRST_PICTURES))
        found |= {name: round(value) for name, value in page.evaluate(PAINTED).items()}
        session = context.new_cdp_session(page)
        found |= scrolled(page, session)
        session.send("Performance.enable")
        session.send("HeapProfiler.collectGarbage")
        metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
        found["page_heap_mb"] = round(metrics["JSHeapUsedSize"] / 1e6, 1)
        found["server_peak_mb"] = peak_mb(process)
        found["nodes_after_scrolling"] = page.evaluate("document.querySelectorAll('*').length")
        if shot:
            page.screenshot(path=shot)
        context.close()
    return found


def scrolled(page: Page, session: CDPSession) -> dict[str, Any]:
    """Scroll as a wheel does, and read the trace: frames that were drawn, and tasks of the page's thread."""
    events: list[dict[str, Any]] = []
    ended: list[bool] = []
    session.on("Tracing.dataCollected", lambda data: events.extend(data["value"]))
    session.on("Tracing.tracingComplete", lambda _: ended.append(True))
    box = page.locator(".grid").bounding_box()
    assert box is not None
    session.send("Tracing.start", {"categories": ",".join(TRACED), "transferMode": "ReportEvents"})
    gesture = {"x": box["x"] + 300, "y": box["y"] + 200, "yDistance": -SCROLL_PX, "speed": SCROLL_PX_PER_S}
    began = time.monotonic()
    session.send("Input.synthesizeScrollGesture", gesture)
    seconds = time.monotonic() - began
    session.send("Tracing.end")
    while not ended:
        page.wait_for_timeout(50)
    threads = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    busy = {(event["pid"], event["tid"]) for event in events if event["name"] == "FireAnimationFrame"}
    tasks = [
        event["dur"] / 1000
        for event in events
        if event["name"] == TASK and "dur" in event and (event["pid"], event["tid"]) in threads & busy
    ]
    frames = sorted(event["ts"] / 1000 for event in events if event["name"] == "DrawFrame")
    gaps = np.diff(frames)
    scrolled_px = page.evaluate("document.querySelector('.grid').scrollTop")
    return {
        "scrolled_px": round(scrolled_px),
        "scrolled_s": round(seconds, 1),
        "frames_per_s": round(len(frames) / seconds, 1),
        "frame_gap_p95_ms": round(float(np.percentile(gaps, 95)), 1) if len(gaps) else None,
        "longest_task_ms": round(max(tasks, default=0.0), 1),
        "long_tasks": sum(task > LONG_TASK_MS for task in tasks),
        "pages_thread_busy": round(sum(tasks) / 1000 / seconds, 3),
    }


def peak_mb(process: "subprocess.Popen[str]") -> float | None:
    """The most memory that the server has used; None where the system does not say."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return None
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return round(int(line.split()[1]) / 1000, 1)


if __name__ == "__main__":
    main()

"""results.csv: what ``flawmap detect`` found, as a table for a spreadsheet."""

import csv
import json
import os
from collections.abc import Mapping
from pathlib import Path

from flawmap.deploy.reviews import plain_cell
from flawmap.runs.result_log import LINES, TABLE
from flawmap.storage.remote_file import RemoteFile

TABLE_COLUMNS = ("image", "verdict", "score", "threshold", "regions", "picture", "problem")


def write_table(folder: Path, not_scored: Mapping[Path | RemoteFile, str]) -> None:
    """results.csv for a spreadsheet: a row for each line of results.jsonl, then the images without a result."""
    unfinished = folder / f".{TABLE}.tmp"
    with (
        (folder / LINES).open(encoding="ascii") as lines,
        unfinished.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,  # any bytes in names
    ):
        file.write("\ufeff")  # the byte order mark, for Excel
        rows = csv.writer(file, lineterminator="\r\n")
        rows.writerow(TABLE_COLUMNS)
        for record in map(json.loads, lines):
            verdict = "" if record["threshold"] is None else "anomaly" if record["is_anomalous"] else "ok"
            verdict = "unknown product" if record.get("is_unknown_product") else verdict
            cells = [verdict, record["score"], record["threshold"], len(record["regions"])]
            rows.writerow([plain_cell(record["image"]), *cells, plain_cell(record["overlay"] or ""), ""])
        for image, problem in not_scored.items():
            rows.writerow([plain_cell(str(image)), "not scored", "", "", "", "", plain_cell(problem)])
    os.replace(unfinished, folder / TABLE)

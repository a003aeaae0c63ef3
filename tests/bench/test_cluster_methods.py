"""Methods of a board on nodes of a cluster: the files of one machine, and why one failed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from assertions import files_and_bytes
from flawmap.errors import UserError
from flawmap.runs.run_folder import RunFolder
from flawmap_bench.boards import cluster_methods
from flawmap_bench.boards.cluster_methods import MethodRow, in_cluster, run_row
from flawmap_bench.boards.peers import PeersOrder, planned_jobs, run_peers


def order_for(data: Path, out: Path) -> PeersOrder:
    return PeersOrder(str(data), ("padim", "riad"), (0,), out, 32, 1.0, ("data.image_size_px=32",), "cpu")


def test_methods_on_nodes_leave_the_files_of_one_machine(
    mvtec_folder: Path, tmp_path: Path, built: list[str], monkeypatch: pytest.MonkeyPatch
):
    """Nodes are folders here, and the last task is done first."""

    def on_nodes(address: str, rows: dict, task, stages: Path):
        assert address == "auto" and stages == tmp_path / "there" / "runs" / "stages"
        for number, (name, row) in enumerate(reversed(rows.items())):
            yield name, task(row, tmp_path / f"node-{number}", RunFolder)

    monkeypatch.setattr(cluster_methods, "run_grid", on_nodes)
    run_peers(order_for(mvtec_folder, tmp_path / "here"), "")
    path = run_peers(order_for(mvtec_folder, tmp_path / "there"), "", in_cluster("auto"))
    assert built == ["padim", "riad", "riad", "padim"]
    here, there = (files_and_bytes(tmp_path / name / "runs") for name in ("here", "there"))
    assert here.keys() == there.keys() and sum(name.endswith("result.json") for name in there) == 1
    measured = [json.loads(files[next(n for n in files if n.endswith("result.json"))]) for files in (here, there)]
    assert measured[0]["image"] == measured[1]["image"] and measured[0]["pixel"] == measured[1]["pixel"]
    text = path.read_text(encoding="utf-8")
    assert "- RIAD: failed, seed 0: riad gives a score that is not a number" in text and "node-" not in text


def test_a_node_with_other_data_says_so(mvtec_folder: Path, tmp_path: Path, built: list[str]):
    order = replace(order_for(mvtec_folder, tmp_path / "out"), methods=("padim",))
    (job,) = planned_jobs(order)[0].values()
    with pytest.raises(UserError, match="other data"):
        run_row(MethodRow(order, replace(job, content="other")), tmp_path / "node", RunFolder)
    assert built == []

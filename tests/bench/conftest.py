"""What the tests of several boards share."""

import json
from pathlib import Path

import pytest
from made_up_methods import Broken, CalibratedDarkness, Darkness

from flawmap.errors import UserError
from flawmap_bench.boards import method_job, peers
from flawmap_bench.method import MethodSettings
from flawmap_bench.methods import is_recipe


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Methods are made-up ones that run in this process; the names of those that were built."""
    names: list[str] = []

    def build(name: str, settings: MethodSettings) -> Darkness:
        names.append(name)
        if name == "riad":
            return Broken(settings)
        return CalibratedDarkness(settings) if is_recipe(name) else Darkness(settings)

    def here(folder: Path, limit_seconds: float | None) -> int:
        try:
            method_job.run_job(folder)
        except UserError as error:
            (folder / method_job.FAILED).write_text(json.dumps({"reason": error.problem}), encoding="utf-8")
        return 0

    monkeypatch.setattr(method_job, "build_method", build)
    monkeypatch.setattr(peers, "run_in_own_process", here)
    return names

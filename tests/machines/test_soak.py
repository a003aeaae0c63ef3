"""A server under many requests: the short form in the quick tests, 20,000 requests in the slow ones."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from soak import ALLOWED_GROWTH, soak


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
@pytest.mark.parametrize("requests", [300, pytest.param(20_000, marks=pytest.mark.slow)])
def test_no_answer_is_lost_or_wrong_and_memory_is_flat(requests: int, tmp_path: Path) -> None:
    tally = soak(requests, tmp_path)
    assert tally.wrong == []
    assert tally.requests >= requests and tally.slow_clients > 0
    assert tally.statuses[200] > 0.9 * requests and tally.statuses[422] > 0
    if requests > 5000:
        assert tally.end_mb < (1 + ALLOWED_GROWTH) * tally.warm_mb

"""What a mistyped path may have meant."""

from pathlib import Path

from flawmap.data.similar_name import similar_beside


def test_the_most_similar_name_beside_it(tmp_path: Path) -> None:
    for name in ("first", "second", "good parts"):
        (tmp_path / name).mkdir()
    assert similar_beside(tmp_path / "frist") == tmp_path / "first"
    assert similar_beside(tmp_path / "good") == tmp_path / "good parts"  # without its quotes, a shell cuts it there
    assert similar_beside(tmp_path / "quite else") is None
    assert similar_beside(tmp_path / "gone" / "first") is None

"""reviews.csv: what a word on a verdict means, and what a damaged file is told."""

import pytest

from assertions import explained
from flawmap.deploy.reviews import COLUMNS, ReviewFile, is_review_file, make_review, read_reviews

SHA = "1" * 64


@pytest.mark.parametrize(
    ("score", "word", "shown", "truth"),
    [
        (2.0, "agree", "anomaly", "defect"),
        (2.0, "disagree", "anomaly", "good"),
        (0.5, "agree", "ok", "good"),
        (0.5, "disagree", "ok", "defect"),
        (1.0, "agree", "ok", "good"),  # at the threshold is not above it
    ],
)
def test_truth_follows_from_the_verdict_and_the_word(score, word, shown, truth):
    review = make_review("a.png", SHA, "m", score, 3.0, 1.0, word, "")
    assert (review.shown, review.truth) == (shown, truth)


def test_what_is_written_is_read_again_and_the_last_word_counts(tmp_path):
    file = ReviewFile(tmp_path / "reviews.csv")
    first = make_review('a, "b".png', SHA, "m", 0.1 + 0.2, -1e-9, 1.0, "agree", "ö")
    last = make_review('a, "b".png', SHA, "m", 0.1 + 0.2, -1e-9, 1.0, "disagree", "")
    other = make_review("c.png", "2" * 64, "m", 5.0, 6.0, 1.0, "agree", "")
    for one in (first, other, last):
        file.append(one)
    assert set(read_reviews(file.path)) == {last, other}
    assert file.path.read_text(encoding="utf-8").count("time_utc") == 1
    ReviewFile(file.path).append(first)  # the next server goes on in the same file
    assert set(read_reviews(file.path)) == {first, other}


def test_a_line_that_was_torn_or_edited_costs_no_other(tmp_path):
    """Without a line feed at its end, and with the mark that a spreadsheet puts first."""
    file = ReviewFile(tmp_path / "reviews.csv")
    reviews = [make_review(f"{i}.png", str(i) * 64, "m", 1.5, 3.5, 1.0, "agree", "") for i in range(3)]
    file.append(reviews[0])
    file.append(reviews[1])
    file.path.write_bytes(b"\xef\xbb\xbf" + file.path.read_bytes().rstrip(b"\n"))
    assert is_review_file(file.path)
    ReviewFile(file.path).append(reviews[2])
    assert set(read_reviews(file.path)) == set(reviews)


def test_a_file_in_another_encoding_is_explained(tmp_path):
    file = ReviewFile(tmp_path / "reviews.csv")
    file.append(make_review("a.png", SHA, "m", 1.5, 3.5, 1.0, "agree", "möglich"))
    file.path.write_bytes(file.path.read_text(encoding="utf-8").encode("cp1252"))
    error = explained(lambda: read_reviews(file.path))
    assert "not UTF-8 text" in error.problem and "UTF-8" in error.remedy


def test_a_file_without_a_folder_is_refused_before_the_first_review(tmp_path):
    error = explained(lambda: ReviewFile(tmp_path / "none" / "reviews.csv"))
    assert "no such folder" in error.problem and "--reviews" in error.remedy


def test_a_file_of_something_else_is_not_touched(tmp_path):
    path = tmp_path / "reviews.csv"
    path.write_text("name,price\n")
    error = explained(lambda: ReviewFile(path))
    assert "reviews.csv" in error.problem and error.place == str(path)
    assert not is_review_file(path) and not is_review_file(tmp_path / "none.csv") and not is_review_file(tmp_path)


@pytest.mark.parametrize(
    ("column", "value", "says"), [("score", "many", "many"), ("truth", "so-so", "so-so"), ("map_peak", "nan", "finite")]
)
def test_a_damaged_line_is_named(tmp_path, column, value, says):
    file = ReviewFile(tmp_path / "reviews.csv")
    file.append(make_review("a", SHA, "m", 1.5, 3.5, 1.0, "agree", ""))
    cells = file.path.read_text().splitlines()[1].split(",")
    cells[COLUMNS.index(column)] = value
    with file.path.open("a") as lines:
        lines.write(",".join(cells) + "\n")
    error = explained(lambda: read_reviews(file.path))
    assert says in error.problem and error.place == f"{file.path} line 3" and "the line" in error.remedy


@pytest.mark.parametrize("sign", ["\x1c", "\x1f", " ", "\u00a0"])
def test_a_sign_after_the_last_column_makes_another_file(tmp_path, sign: str):
    """Found by fuzzing: it was taken for white space, and the column for an unknown one."""
    path = tmp_path / "reviews.csv"
    path.write_text(",".join(COLUMNS) + sign + "\n0,a,,p,1,2,1,Y,,good,\n", encoding="utf-8")
    assert not is_review_file(path)
    assert "not a reviews.csv" in explained(lambda: read_reviews(path)).problem
    assert explained(lambda: read_reviews(path.with_name("x.csv"))).problem == "there is no such file"

"""What the name of a folder says about the images in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flawmap.data.layouts.folder_names import BAD, GOOD, HARMLESS, MASKS, SPLITS, meaning_of

NAMES = {
    "good": """good Good OK ok normal NORMAL io i.O. pass Good_Parts GoodParts no_defects defect-free ohne_Fehler OK2
        line2_good gute_Teile Gutteile""",
    "bad": """bad NG nok NIO n.i.O. not_ok no_good scratch Scratches_2 lot_17_NG defect01 Fehler Ausschuß anomaly
        bad_weather schlechte_Teile Schlechtteile""",
    "masks": "masks GT ground_truth groundtruth labels SegmentationClass Annotations heatmaps",
    "split": "train Test testing val validation test_2",
    "harmless": """2024-05-01 20240501T0630 lot_17 LOT17 monday Montag Mittwoch_2 Charge_7 KW12 shiftA shift_B
        Frühschicht cam1 camera_left Kamera-2 line3 press_3 1 017 part_017 images JPEGImages SN004711 a1 2024_05_01_(2)
        3f2a77c1 PA000001 1.2.840.113619 Tag_1 new_lot""",
    "unknown": "new Neu new_2 a bubbles kos01 class1 Blase type_b scuff residue 汚れ _",
}
CASES = [(name, meaning) for meaning, names in NAMES.items() for name in names.split()]


@pytest.mark.parametrize(("name", "meaning"), CASES)
def test_the_meaning_of_a_name(name, meaning):
    assert meaning_of(name) == meaning
    assert meaning_of(name.replace("_", " ")) == meaning


def test_no_word_has_two_meanings():
    sets = (GOOD, BAD, MASKS, SPLITS, HARMLESS)
    assert sum(map(len, sets)) == len(frozenset().union(*sets))


@given(
    bad=st.sampled_from(sorted(BAD)),
    other=st.sampled_from(sorted(GOOD | HARMLESS | {"7", "2024"})),
    first=st.booleans(),
)
def test_a_word_for_defects_decides(bad, other, first):
    name = f"{bad}_{other}" if first else f"{other} {bad.upper()}"
    assert meaning_of(name) == "bad"


@given(st.text(max_size=12))
def test_any_text_has_a_meaning(text):
    assert meaning_of(text) in ("good", "bad", "masks", "split", "harmless", "unknown")

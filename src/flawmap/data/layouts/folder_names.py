"""What the name of a folder says about the images in it.

Defects must not be trained on, so a name counts as harmless only if each of its words does: a date, a number, or a word
for when, where or of which lot the images were taken.
"""

import re
import unicodedata
from typing import Literal

Meaning = Literal["good", "bad", "masks", "split", "harmless", "unknown"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# all in lower case and without accents
GOOD = _words(
    """good normal ok okay io pass passed fine intact healthy flawless perfect
    gut gute guter gutes guten gutteil gutteile bon bonne bonnes bons buono buona buoni bueno buena buenos buenas"""
)
GOOD_PHRASES = _words(  # without what separates their words
    """nodefect nodefects defectfree nondefective nondefect withoutdefect withoutdefects nofinding nofindings
    noanomaly noanomalies anomalyfree nofault faultless faultfree fehlerfrei ohnefehler undamaged inordnung"""
)
BAD = _words(
    """bad ng nok nio ko defect defects defective def anomaly anomalies anomalous anomal abnormal fail failed failure
    failures fault faults faulty fehler fehlerhaft defekt defekte ausschuss schlecht reject rejects rejected rework
    scrap damage damaged damages broken flaw flaws flawed error errors outlier outliers positive
    scratch scratches crack cracks dent dents hole holes stain stains chip chips burr burrs bend bent cut cuts
    contamination contaminated poke squeeze glue color colour print thread misplaced missing rust corrosion blister
    kratzer riss risse delle dellen loch flecken fleck grat schlechte schlechter schlechtes
    schlechten schlechtteil schlechtteile malo mauvais defaut defauts defecto defectos"""
)
MASKS = _words(
    """mask masks masken gt groundtruth truth label labels annotation annotations annotated seg segm segmentation
    segmentationclass segmentationobject overlay overlays heatmap heatmaps maps"""
)
SPLITS = _words("train training test testing tests val valid validation eval evaluation")
NEGATIONS = _words("no not non nicht un kein keine without ohne")
WHEN = _words(
    """day days date week weeks kw cw month year q hour time morning noon evening night early late am pm shift schicht
    fruh fruhschicht spat spatschicht nacht nachtschicht tag woche monat jahr
    monday tuesday wednesday thursday friday saturday sunday mon tue tues wed thu thur thurs fri sat sun
    montag dienstag mittwoch donnerstag freitag samstag sonnabend sonntag
    lundi mardi mercredi jeudi vendredi samedi dimanche lunes martes miercoles jueves viernes sabado domingo
    january february march april may june july august september october november december
    jan feb mar apr jun jul aug sep sept oct nov dec januar februar marz mai juni juli oktober dezember okt dez"""
)
OF_WHICH_LOT = _words(
    """lot lots batch batches charge chargen los lote series serie set run order auftrag job session part parts teil
    teile piece pieces sample samples item items unit tray pallet box roll rolle coil reel wafer panel board sheet
    product products produkt bauteil bauteile component components"""
)
WHERE_AND_HOW = _words(
    """line linie station machine maschine press presse cell zelle plant werk site hall halle lane
    cam cams camera cameras kamera kameras view views position pos side seite left right top bottom front back upper
    lower links rechts oben unten exposure light lighting licht bright dark regular overexposed underexposed"""
)
WHICH_FILES = _words(
    """image images img imgs picture pictures photo photos foto fotos bild bilder jpegimages raw data daten frame
    frames capture captures export exports png jpg jpeg bmp tif tiff dcm dicom new old neu alt more folder the of and
    from to patient patients study studies scan scans pa st se subject"""
)
ALONE_UNKNOWN = _words("new neu")  # `flawmap detect new`: images to judge, more likely than those of a new lot
HARMLESS = WHEN | OF_WHICH_LOT | WHERE_AND_HOW | WHICH_FILES


def meaning_of(name: str) -> Meaning:
    """What a folder of this name holds; ``unknown`` may be a kind of defect.

    >>> [meaning_of(name) for name in ("Good", "not_ok", "2024-05-01", "lot_17", "bubbles", "GT")]
    ['good', 'bad', 'harmless', 'harmless', 'unknown', 'masks']
    """
    text = unicodedata.normalize("NFKD", name)
    text = re.sub(r"([a-z])([A-Z])", r"\1 \2", "".join(c for c in text if not unicodedata.combining(c))).casefold()
    words = re.findall(r"[^\W\d_]+", text)
    joined = "".join(words)
    if joined in GOOD_PHRASES or joined in GOOD:  # ohne_fehler, i.O.
        return "good"
    if joined in MASKS or MASKS.intersection(words):
        return "masks"
    if joined in BAD or BAD.intersection(words):
        return "bad"
    num_digits = sum(character.isdigit() for character in text)
    if GOOD.intersection(words):
        is_negated = NEGATIONS.intersection(words)
        return "bad" if is_negated else "good" if _are_harmless(words, HARMLESS | GOOD, num_digits) else "unknown"
    if SPLITS.intersection(words):
        return "split"
    if joined in ALONE_UNKNOWN:
        return "unknown"
    return "harmless" if _are_harmless(words, HARMLESS, num_digits) else "unknown"


def _are_harmless(words: list[str], known: frozenset[str], num_digits: int) -> bool:
    """Known words and numbers only; letters that tell these apart may be with them: shift A, cam_b2, SN004711."""
    unknown = [word for word in words if word not in known]
    if not unknown:
        return bool(words) or num_digits > 0
    if all(len(word) == 1 for word in unknown):
        return len(unknown) < len(words) or num_digits > 0
    return num_digits >= sum(map(len, words))

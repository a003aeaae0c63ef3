"""Good images of a list are left out: the data without them, and what is known of them."""

from pathlib import Path

from assertions import explained, mistake
from flawmap.check import read_sound_data
from flawmap.data.leave_out import LeaveOut, read_leave_out
from flawmap.recipe.files import load_recipe
from images import NUM_TRAIN, noise, striped, write_image

RECIPE = load_recipe("standard", [])


def test_lists_of_any_spreadsheet_are_read(tmp_path: Path):
    path = tmp_path / "list.csv"
    path.write_text('Score;Image\n3;"a;b.png"\n2;c.png\n1;c.png\n;\n', encoding="utf-16")
    assert read_leave_out(path) == LeaveOut(("a;b.png", "c.png"), str(path))
    path.write_text("# mine\nimage\nä.png\n", encoding="utf-8-sig")
    assert read_leave_out(path).names == ("ä.png",)


def test_the_data_is_without_them_and_their_hashes_are_kept(good_folder: Path):
    keys = [image.key for image in read_sound_data(good_folder, RECIPE).checked.data.images]
    sound = read_sound_data(good_folder, RECIPE, leave_out=LeaveOut((keys[3], keys[1]), "list.csv"))
    kept = [key for key in keys if key not in (keys[1], keys[3])]
    assert [image.key for image in sound.checked.data.images] == [fact.key for fact in sound.checked.facts] == kept
    assert [fact.key for fact in sound.omitted.facts] == [keys[1], keys[3]]
    assert set(sound.checked.data.unused) == {keys[1], keys[3]}
    assert [item.path.name for item in sound.left_out] == [Path(keys[1]).name, Path(keys[3]).name]
    assert len(kept) == NUM_TRAIN - 2


def test_a_copy_stands_for_its_original(good_folder: Path):
    write_image(good_folder / "zz.png", striped(7))
    write_image(good_folder / "007.png", striped(7))
    sound = read_sound_data(good_folder, RECIPE, leave_out=LeaveOut(("zz.png",), "list.csv"))
    assert [fact.key for fact in sound.omitted.facts] == ["007.png"]
    assert sound.checked.duplicates == {"zz.png": "007.png"}


def test_an_image_that_a_subset_does_not_take_may_be_named(good_folder: Path):
    write_image(good_folder / "zz.png", noise(99))
    recipe = load_recipe("standard", ["data.train_subset=20", "calibration.folds=0"])
    chosen = [image.key for image in read_sound_data(good_folder, recipe).checked.data.images]
    other = next(f"{n:03d}.png" for n in range(NUM_TRAIN) if f"{n:03d}.png" not in chosen)
    sound = read_sound_data(good_folder, recipe, leave_out=LeaveOut((other,), "list.csv"))
    assert [image.key for image in sound.checked.data.images] == chosen and sound.omitted.facts == ()


def test_names_that_are_not_there_are_refused(good_folder: Path):
    remedy = "unusual/images.csv of a run"
    with mistake(f"x003.png is no good image of {good_folder}; is 003.png meant?", "list.csv", remedy):
        read_sound_data(good_folder, RECIPE, leave_out=LeaveOut(("003.png", "x003.png"), "list.csv"))
    many = LeaveOut(tuple(f"{number:03d}.png" for number in range(5)), "list.csv")
    left = read_sound_data(good_folder, load_recipe("standard"), leave_out=many).checked.data.images
    assert len(left) == NUM_TRAIN - 5
    paper = load_recipe("paper_cpu")
    said = explained(lambda: read_sound_data(good_folder, paper, leave_out=many))
    assert "19 good images; at least 20" in said.problem

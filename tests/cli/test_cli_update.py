"""flawmap update: what it prints, and what it refuses."""

from pathlib import Path

from flawmap.runs.run_folder import RunFolder
from images import texture, write_image

TINY = (
    *("--set", "method=memory", "--set", "data.image_size_px=64", "--set", "model.weights=random"),
    *("--set", "model.architecture=test_vit", "--set", "memory.blocks=[1, 2]", "--set", "memory.tokens=40"),
)


def test_an_update_is_told_and_taken_back(cli):
    for number in range(24):
        write_image(Path("parts" if number < 21 else "new") / f"{number:03d}.png", texture(number))
    assert cli("train", "parts", "--run", "runs/a", "--device", "cpu", *TINY).code == 0
    facts = cli("update", "runs/a", "new", "--device", "cpu", "--dry-run", "--json").json
    assert (facts["version"], facts["n_new"], facts["n_images"]) == (None, 3, 24)
    assert facts["before"]["n_good"] == 21 and facts["after"]["n_good"] == 24
    assert [image["path"] for image in facts["images"]] == ["021.png", "022.png", "023.png"]
    for number in range(30, 36):
        write_image(Path("fresh") / f"{number:03d}.png", texture(number))
    for camera in ((), ("--camera", "left")):
        assert cli("calibrate", "runs/a", "fresh", "--device", "cpu", *camera).code == 0
    lines = cli("update", "runs/a", "new", "--device", "cpu").out.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("note"))
    assert lines[start].endswith("belong to the previous version: the default, left; to set them again:")
    again = "flawmap calibrate runs/a GOOD_IMAGES"
    assert [line.strip() for line in lines[start + 1 : start + 3]] == [again, f"{again} --camera left"]
    assert " ".join(lines[0].split()) == "images 3 new, of 24 that the model has learned from"
    assert [line.split()[-3:] for line in lines if "good images above" in line] == [["0", "of", "24"]]
    assert lines[-1].endswith("flawmap update runs/a --undo") and "update-0001 is current" in lines[-1]
    listed = cli("calibrate", "runs/a", "--versions").out.splitlines()
    assert [line.split("  ")[-1].split(":")[0] for line in listed] == [
        *("model of the training", "calibrate", "camera left", "model of update-0001")
    ]
    record = cli("calibrate", "runs/a", "--versions", "--json").json
    assert record["versions"] == []
    (earlier,) = record["earlier_models"]
    assert earlier["model"] == "the training" and [one["number"] for one in earlier["versions"]] == [1, 2]
    undone = cli("update", "runs/a", "--undo")
    assert " ".join(undone.out.split()) == "undone update-0001; the model is again that of the training"
    assert RunFolder(Path("runs/a")).version is None


def test_what_cannot_be_updated_is_refused_with_what_to_do(cli, run_copy, trained):
    refused = cli("update", run_copy, trained.data)
    assert refused.code == 2 and "method 'paper' keeps no tokens" in refused.err
    assert "train again with the old and the new images" in refused.err
    for words, remedy in (
        ((), "flawmap update RUN GOOD_IMAGES, or --undo"),
        (("--reviews", "reviews.csv"), "flawmap update RUN FOLDER --reviews reviews.csv"),
        (("new", "--undo"), "leave one of them out"),
        (("--undo", "--head"), "leave one of them out"),
        (("--undo", "new"), "leave one of them out"),  # a folder may follow an option
    ):
        refused = cli("update", run_copy, *words)
        assert refused.code == 2 and remedy in refused.err
    Path("model.onnx").write_bytes(b"")
    refused = cli("update", "model.onnx", "new")
    assert refused.code == 2 and "this is a file; only a run keeps what an update needs" in refused.err

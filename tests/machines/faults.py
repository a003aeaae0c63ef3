"""Faults of the machine under every verb: SIGKILL at random moments, a full disk, torn files, two processes at once.

    OMP_NUM_THREADS=1 python tests/machines/faults.py --kills 50 --folder .faults

After each fault, what was finished before is whole, and the command that a user gives next brings the undisturbed
result. The folder keeps the counts; another call goes on where this one was stopped.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from faulty_machine import (
    COMMANDS,
    PROBLEM_WORDS,
    Done,
    Expected,
    again,
    check_after_repeating,
    check_finished_work,
    copy_of,
    make_world,
    run,
    undisturbed,
)

KINDS = ("kill", "full", "torn", "twice", "forbidden")
TORN_PLACES = ("runs/first/model", "runs/first", "runs/first/evaluation", "out")


class Campaign:
    """Faults in copies of one world.

    Args:
        place: where the world and its copies lie.
        verbs: to be disturbed.
    """

    def __init__(self, place: Path, verbs: tuple[str, ...] = tuple(COMMANDS)) -> None:
        self.place, self.verbs = place, verbs
        self.world = make_world(place / "world")
        self.expected: Expected = undisturbed(self.world, verbs)

    def kill(self, verb: str, dice: random.Random) -> None:
        """SIGKILL at a random moment; then the command again."""
        world = copy_of(self.world, self.place / "killed")
        moment = dice.uniform(0, 1.05 * self.expected.seconds[verb])
        run(COMMANDS[verb], world, kill_after_s=moment)
        check_finished_work(world, self.expected)
        self._again(verb, world)

    def full(self, verb: str, dice: random.Random) -> None:
        """A disk that becomes full at a random point of the command's writes; then with space again."""
        with small_disk(self.place / "disk", megabytes=600) as disk:
            world = copy_of(self.world, disk / "world")
            free_kb = int(10 ** dice.uniform(0, 3.6))
            leave_free(disk, free_kb)
            done = run(COMMANDS[verb], world)
            refuse_bad_words(done, verb, allowed=(0, 2))
            (disk / "ballast").unlink(missing_ok=True)
            check_finished_work(world, self.expected)
            self._again(verb, world)

    def torn(self, verb: str, dice: random.Random) -> None:
        """A file that a crash of the machine has cut off: the command says so, or its result is the undisturbed one."""
        world = copy_of(self.world, self.place / "torn")
        files = [path for place in TORN_PLACES for path in sorted((world / place).glob("*")) if path.is_file()]
        victim = dice.choice(files)
        content = victim.read_bytes()
        kept = dice.randrange(len(content) + 1)
        victim.write_bytes(content[:kept] + bytes(dice.choice((0, len(content) - kept))))
        done = run(COMMANDS[verb], world)
        refuse_bad_words(done, f"{verb} with a torn {victim.relative_to(world)}", allowed=(0, 2))
        if verb == "detect" and done.code == 0:
            result = json.loads((world / "out" / "result.json").read_text())
            assert {image["image"]: image["score"] for image in result["images"]} == self.expected.scores

    def twice(self, verb: str, dice: random.Random) -> None:
        """The same command in two processes at once."""
        world = copy_of(self.world, self.place / "twice")
        other = os.fork()
        if other == 0:
            os._exit(run(COMMANDS[verb], world).code)
        done = run(COMMANDS[verb], world)
        _, status = os.waitpid(other, 0)
        codes = {done.code, os.waitstatus_to_exitcode(status)}
        assert codes <= {0, 2} and 0 in codes, codes
        check_finished_work(world, self.expected)

    def forbidden(self, verb: str, dice: random.Random) -> None:
        """As a user who may read everything and write nothing."""
        world = copy_of(self.world, self.place / "forbidden")
        if os.getuid() == 0:
            subprocess.run(["chmod", "-R", "a+rX,go-w", str(world)], check=True)
            before: Callable[[], None] | None = lambda: os.setuid(65534)  # noqa: E731
        else:
            subprocess.run(["chmod", "-R", "a-w", str(world)], check=True)
            before = None
        done = run(COMMANDS[verb], world, before=before)
        subprocess.run(["chmod", "-R", "u+w", str(world)], check=True)
        refuse_bad_words(done, verb, allowed=(0, 2))
        check_finished_work(world, self.expected)

    def _again(self, verb: str, world: Path) -> None:
        words = again(verb, world)
        done = run(words, world)
        if done.code == 2 and verb in ("export", "check") and "exist" in done.words:
            return  # it was finished, and finished work is not overwritten
        assert done.code == 0, f"{words}: {done.code} {done.words}"
        check_after_repeating(verb, world, self.expected)


def refuse_bad_words(done: Done, what: str, allowed: tuple[int, ...]) -> None:
    """A fault is said in one or two lines; it is no bug, and no traceback."""
    assert done.code in allowed and not any(word in done.words for word in PROBLEM_WORDS), (
        f"{what}: {done.code} {done.words[-800:]}"
    )


@contextmanager
def small_disk(place: Path, megabytes: int) -> Any:
    """A file system of its own, in memory; needs root."""
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def leave_free(disk: Path, free_kb: int) -> None:
    """Fill a disk up to some kilobytes."""
    space = os.statvfs(disk)
    fill = space.f_bavail * space.f_frsize - free_kb * 1024
    with (disk / "ballast").open("wb") as file:
        for _ in range(max(0, fill) // 65536):
            file.write(bytes(65536))
        file.write(bytes(max(0, fill) % 65536))


def can_mount() -> bool:
    """Whether this process may make a small disk."""
    try:
        with tempfile.TemporaryDirectory() as name, small_disk(Path(name) / "try", 1):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def main() -> int:
    """Run what is missing of each kind of fault and verb."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="of each verb; other faults a fifth as often")
    parser.add_argument("--folder", type=Path, default=Path(".faults"))
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--verbs", default=",".join(COMMANDS))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    log = arguments.folder / "faults.jsonl"
    done = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    kinds = [kind for kind in arguments.kinds.split(",") if kind != "full" or can_mount()]
    with tempfile.TemporaryDirectory() as name, log.open("a") as file:
        campaign = Campaign(Path(name), tuple(arguments.verbs.split(",")))
        for kind in kinds:
            for verb in campaign.verbs:
                wanted = arguments.kills if kind == "kill" else max(1, arguments.kills // 5)
                before = sum(entry["kind"] == kind and entry["verb"] == verb for entry in done)
                for number in range(before, wanted):
                    entry = {"kind": kind, "verb": verb, "number": number, "problem": ""}
                    try:
                        getattr(campaign, kind)(verb, random.Random(f"{kind}/{verb}/{number}"))
                    except Exception as error:
                        entry["problem"] = f"{type(error).__name__}: {error}"[:1500]
                    file.write(json.dumps(entry) + "\n")
                    file.flush()
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    for kind in KINDS:
        mine = [entry for entry in entries if entry["kind"] == kind]
        print(f"{kind:<10} {len(mine)} faults, {sum(bool(entry['problem']) for entry in mine)} with a problem")
    return int(any(entry["problem"] for entry in entries))


if __name__ == "__main__":
    sys.exit(main())

"""The one kind of error that a user can cause and fix.

A :class:`UserError` states what is wrong, where, and what to do about it. The command line prints these three parts
without a traceback and exits with 2; any other exception is a bug in flawmap.
"""


class UserError(Exception):
    """Something that the user can fix.

    Args:
        problem: what is wrong, in one sentence, with the values in question.
        place: the file, folder, line or setting in question ("" if the problem names it already).
        remedy: what to do about it, as a command or a setting where possible.
    """

    def __init__(self, problem: str, place: str = "", remedy: str = "") -> None:
        super().__init__(problem, place, remedy)
        self.problem = problem
        self.place = place
        self.remedy = remedy

    def __str__(self) -> str:
        place = f"\n  at: {self.place}" if self.place else ""
        remedy = f"\nremedy: {self.remedy}" if self.remedy else ""
        return f"{self.problem}{place}{remedy}"

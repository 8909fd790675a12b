"""The one base of every error that a person is meant to read."""

from __future__ import annotations

from typing import ClassVar


class Problem(Exception):
    """The message is one sentence: what is wrong, where, what to do.

    `exit_code` is what the command line ends with: 1 the job failed, 2 wrong usage, 3 not found,
    4 store or worker not available.
    """

    exit_code: ClassVar[int] = 1

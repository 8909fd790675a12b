"""What the store refuses, each as one sentence."""

from __future__ import annotations

from obstui.errors import Problem


class StoreError(Problem):
    """The store cannot be used."""

    exit_code = 4


class NotFound(StoreError):
    """There is no such job."""

    exit_code = 3


class Refused(StoreError):
    """The job's state does not allow the change."""

    exit_code = 2


class BadFilter(Problem):
    """What was typed is no filter."""

    exit_code = 2

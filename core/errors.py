"""What a run of the engine raises on purpose."""


class EngineError(Exception):
    """The run cannot go on; the message is one sentence: what, where, what to do."""


class BadInput(EngineError):
    """The request or a file named in it is at fault: trying again unchanged cannot help."""


class Cancelled(EngineError):
    """The cancel flag was seen at a boundary; everything finished so far is on disk."""

"""Going back and forth through what a job recorded."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace

from obstui.tui.facts import JobFacts


@dataclass(frozen=True, slots=True)
class Replay:
    """A job's whole story, looked at as it stood at the time `at`."""

    story: JobFacts
    moments: tuple[float, ...]
    at: float

    @classmethod
    def of(cls, story: JobFacts) -> Replay | None:
        """At the story's end; None where too little happened to go through."""
        moments = story.moments()
        return cls(story, moments, moments[-1]) if len(moments) > 1 else None

    @property
    def began(self) -> float:
        return self.moments[0]

    @property
    def ended(self) -> float:
        return self.moments[-1]

    @property
    def over(self) -> bool:
        return self.at >= self.ended

    @property
    def then(self) -> JobFacts:
        """The story up to the moment."""
        return self.story.until(self.at)

    def step(self, count: int) -> Replay:
        """So many moments on, or back."""
        place = bisect_left(self.moments, self.at) + count
        return self._to(self.moments[max(0, min(len(self.moments) - 1, place))])

    def jump(self, direction: int) -> Replay:
        """To the beginning of the next phase (1) or of this or the one before (-1)."""
        starts = [self.began, *(phase.at for phase in self.story.phases), self.ended]
        if direction > 0:
            return self._to(starts[min(bisect_right(starts, self.at), len(starts) - 1)])
        return self._to(starts[max(bisect_left(starts, self.at) - 1, 0)])

    def _to(self, at: float) -> Replay:
        return replace(self, at=at)

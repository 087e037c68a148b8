"""A question that only AWS can answer, and what may become of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from account import Account

ROOT = Path(__file__).resolve().parents[2]


class Verdict(Enum):
    """How an answer stands to what the code believes."""

    AS_BELIEVED = "as believed"
    OTHER = "other"
    NOT_HERE = "not to be had here"


@dataclass(frozen=True)
class Answer:
    """What was answered, in a sentence, and the parts of AWS's own answers that show it."""

    verdict: Verdict
    text: str
    facts: dict[str, Any] = field(default_factory=dict)
    kinder: bool = False  # it let pass what AWS refuses


def believed(text: str, **facts: Any) -> Answer:
    """It is as the code believes."""
    return Answer(Verdict.AS_BELIEVED, text, facts)


def other(text: str, *, kinder: bool = False, **facts: Any) -> Answer:
    """It is not. `kinder`: what AWS is believed to refuse, or not to do, was let pass, or done."""
    return Answer(Verdict.OTHER, text, facts, kinder)


class NotHere(Exception):
    """Why there is no answer to be had in this place."""

    def __init__(self, text: str, **facts: Any) -> None:
        super().__init__(text)
        self.facts = facts


@dataclass(frozen=True)
class Place:
    """Where something is believed: a file of the repository, and a text that stands in it."""

    file: str
    text: str

    def is_there(self) -> bool:
        """Whether it still is: line ends and indentation do not count."""
        path = ROOT / self.file
        return path.exists() and " ".join(self.text.split()) in " ".join(path.read_text().split())


@dataclass(frozen=True)
class Question:
    """What is asked, why, and how."""

    name: str
    asked: str
    matters: str
    believes: str
    places: tuple[Place, ...]
    how: str
    minutes: float  # how long it takes in AWS, at the most
    cents: float  # what it costs there, in cents of a dollar
    ask: Callable[[Account], Answer]


QUESTIONS: dict[str, Question] = {}


def question(
    name: str,
    *,
    asked: str,
    matters: str,
    believes: str,
    places: tuple[Place, ...],
    how: str,
    minutes: float = 1,
    cents: float = 0,
) -> Callable[[Callable[[Account], Answer]], Callable[[Account], Answer]]:
    """Makes a question of the function that asks it."""

    def keep(ask: Callable[[Account], Answer]) -> Callable[[Account], Answer]:
        assert name not in QUESTIONS, name
        QUESTIONS[name] = Question(name, asked, matters, believes, places, how, minutes, cents, ask)
        return ask

    return keep

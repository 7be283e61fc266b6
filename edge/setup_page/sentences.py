"""The agent's own sentences in the visitor's language.

The agent says what is wrong in one English sentence, as the log and the command line show it.
locale/sentences.json holds each of them as a pattern with {places}, and its translations. What
stands in a place is translated too where it is such a sentence, and left as it is where it is a
name or what somebody else said. A test finds every sentence in edge/ that the page can show.
"""

import json
import re
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

FILE = Path(__file__).parent / "locale" / "sentences.json"
_PLACE = re.compile(r"{(\w+)}")
_DEPTH_MAX = 3  # a sentence in a sentence in a sentence
_JOINT = "; "


@dataclass
class Sentence:
    """`pattern` is the English sentence; its regular expression is made when first needed."""

    pattern: str
    by_language: dict[str, str]

    @cached_property
    def beginning(self) -> str:
        return self.pattern.partition("{")[0]

    @cached_property
    def fixed(self) -> int:
        """How many characters are not places: of two that fit, the more exact one counts."""
        return len(_PLACE.sub("", self.pattern))

    @cached_property
    def expression(self) -> re.Pattern[str]:
        parts = _PLACE.split(self.pattern)
        text = "".join(
            f"(?P<{part}>.+?)" if at % 2 else re.escape(part) for at, part in enumerate(parts)
        )
        return re.compile(text, re.DOTALL)


def translated(text: str, language: str, depth: int = 0) -> str:
    """The sentence in that language, or several joined by semicolons; empty where none is ours."""
    parts = text.split(_JOINT)
    each = [_one(part, language, depth) for part in parts]
    whole = "" if len(parts) > 1 and all(each) else _one(text, language, depth)
    if whole or not any(each):
        return whole
    return _JOINT.join(known or part for known, part in zip(each, parts, strict=True))


def _one(text: str, language: str, depth: int) -> str:
    found = _matching(text)
    if found is None:
        return ""
    sentence, places = found
    if language not in sentence.by_language:
        return text
    if depth < _DEPTH_MAX:
        places = {
            name: translated(value, language, depth + 1) or value for name, value in places.items()
        }
    return sentence.by_language[language].format(**places)


def _matching(text: str) -> tuple[Sentence, dict[str, str]] | None:
    for sentence in _sentences():
        if text.startswith(sentence.beginning) and (m := sentence.expression.fullmatch(text)):
            return sentence, m.groupdict()
    return None


@cache
def _sentences() -> tuple[Sentence, ...]:
    """The most exact first."""
    held: dict[str, dict[str, str]] = json.loads(FILE.read_text(encoding="utf-8"))
    found = [Sentence(pattern, languages) for pattern, languages in held.items()]
    return tuple(sorted(found, key=lambda sentence: -sentence.fixed))

"""What an answer of FlexMeasures means for the slots that were offered. Pure.

Three ends: every slot is accepted, the only slot is rejected, or nothing is settled and the answer
says what to do instead (a job to ask about, a batch to halve, a sensor or server to leave alone).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum

REASON_LETTERS_MAX = 300
_STORED = {"PROCESSED", "ALREADY_RECEIVED_AND_SUCCESSFULLY_PROCESSED"}
_UNDER_WAY = {"QUEUED", "STARTED", "DEFERRED", "SCHEDULED"}  # with 202; 0.33 says it with 200
_JOB_WAITS = ("waiting to be processed", "to be processed.", "in progress", "at a later time")
_AWAY = {408, 425, 429, 500, 502, 503, 504, 507, 520, 521, 522, 523, 524}
_ABOUT_THE_SENSOR = {"_schema", "unit", "sensor", "start", "duration", "horizon", "prior"}
# What rq and PostgreSQL say when a value is at fault; anything else is the server's own trouble.
_GUILTY_JOB = ("UniqueViolation", "IntegrityError", "DataError", "ValidationError", "OutOfRange")


class Meaning(StrEnum):
    """What an answer to posted slots says."""

    ACCEPTED = "accepted"  # every slot is stored
    IN_JOB = "in_job"  # taken, not yet stored: ask the job
    SPLIT = "split"  # one of several slots is refused: offer the halves
    REJECTED = "rejected"  # the one slot offered will never be taken
    SENSOR_REFUSED = "sensor_refused"  # this sensor takes nothing until a person acts
    LOGGED_OUT = "logged_out"  # the token is not valid (any more)
    AWAY = "away"  # nothing is settled; try again later
    UNREADABLE = "unreadable"  # not an answer of FlexMeasures; nothing is settled


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer: `content` is its JSON object or list, None where it was something else."""

    status: int
    content: object = None
    text: str = ""
    headers: Mapping[str, str] | None = None

    @property
    def code(self) -> str:
        """FlexMeasures' own word for it, e.g. INVALID_REPLACEMENT."""
        return str(self.field("status") or "")

    @property
    def job(self) -> str:
        """The job that does what was asked; 0.33 calls it job_id, triggers of old schedule."""
        return str(self.field("job") or self.field("job_id") or self.field("schedule") or "")

    @property
    def message(self) -> str:
        """What it says to a person, on one line."""
        said = self.field("message") or self.field("errors") or self.code or self.text
        return " ".join(_flat(said).split())[:REASON_LETTERS_MAX]

    def field(self, name: str) -> object:
        return self.content.get(name) if isinstance(self.content, dict) else None


def meaning_of(answer: Answer, slots: int) -> Meaning:
    """What the answer to a post of so many slots of one sensor means for them."""
    if answer.status == 401 and answer.content is not None:
        return Meaning.LOGGED_OUT
    if answer.status in _AWAY:
        return Meaning.AWAY
    if answer.status == 413:  # the server's own, or a proxy's in HTML
        return Meaning.SPLIT if slots > 1 else Meaning.AWAY
    if not isinstance(answer.content, dict):
        return Meaning.UNREADABLE
    if answer.status == 202:
        return Meaning.IN_JOB if answer.job else Meaning.UNREADABLE
    if answer.status == 200:
        return Meaning.ACCEPTED if answer.code in _STORED else Meaning.UNREADABLE
    refused = answer.status in (400, 422) and not _is_about_the_sensor(answer)
    if refused or answer.code == "INVALID_REPLACEMENT":
        return Meaning.SPLIT if slots > 1 else Meaning.REJECTED
    if 400 <= answer.status < 500:
        return Meaning.SENSOR_REFUSED
    return Meaning.UNREADABLE


def is_under_way(answer: Answer) -> bool:
    """Whether a schedule is still being computed. Before 1.0, and on assets kept as they were
    then, that is said with 400: by a status of its own, or in words only."""
    if answer.status == 202:
        return True
    waiting = any(words in answer.message for words in _JOB_WAITS)
    return answer.status == 400 and (answer.code in _UNDER_WAY or waiting)


def retry_after(answer: Answer) -> timedelta | None:
    """How long the server wants to be left alone; it says so on every answer, and means it only
    where it is 429 or 503."""
    said = (answer.headers or {}).get("Retry-After", "").strip()
    if answer.status not in (429, 503) or not said:
        return None
    if said.isdigit():
        return timedelta(seconds=min(int(said), 24 * 3600))
    try:
        when = parsedate_to_datetime(said)
        sent = parsedate_to_datetime((answer.headers or {}).get("Date", ""))
    except ValueError:
        return None
    return max(when - sent, timedelta(0))


class JobEnd(StrEnum):
    """How far a job of the server has come."""

    OPEN = "open"
    FINISHED = "finished"  # stored
    GUILTY = "guilty"  # failed because of a value: as a refused batch
    FAILED = "failed"  # failed for reasons of the server's own: offer again later
    LOST = "lost"  # the server has forgotten it: offer again


@dataclass(frozen=True, slots=True)
class JobState:
    """What the server says about a job; `reason` only where it failed."""

    end: JobEnd
    reason: str = ""


def job_state(answer: Answer) -> JobState | None:
    """What the answer about a job says; None where it is no answer to that."""
    if not isinstance(answer.content, dict):
        return None
    if answer.status == 202 or answer.code in _UNDER_WAY:
        return JobState(JobEnd.OPEN)
    if answer.status == 200 and answer.code == "FINISHED":
        result = str(answer.field("result") or "")
        if result.startswith("success"):
            return JobState(JobEnd.FINISHED)
        return JobState(JobEnd.GUILTY, f"FlexMeasures says: {result[:REASON_LETTERS_MAX]}")
    if answer.status in (400, 404):
        return JobState(JobEnd.LOST)
    if answer.status in (200, 422):  # FAILED, STOPPED, CANCELED
        trace = str(answer.field("exc-info") or answer.field("exc_info") or "")
        last = next((line for line in reversed(trace.splitlines()) if line.strip()), answer.message)
        if "UniqueViolation" in trace:
            return JobState(JobEnd.GUILTY, "FlexMeasures holds another value for this moment")
        guilty = any(word in trace for word in _GUILTY_JOB)
        return JobState(JobEnd.GUILTY if guilty else JobEnd.FAILED, last[:REASON_LETTERS_MAX])
    return None


def reason_for(answer: Answer) -> str:
    """Why a slot was rejected, in a sentence for a person."""
    if answer.code == "INVALID_REPLACEMENT":
        return "FlexMeasures holds another value for this moment"
    return f"FlexMeasures says: {answer.message}"


def _is_about_the_sensor(answer: Answer) -> bool:
    """Whether FlexMeasures blames unit, resolution or times, with which no value would pass."""
    blamed = answer.field("message")
    while isinstance(blamed, dict) and len(blamed) == 1 and not blamed.keys() & _ABOUT_THE_SENSOR:
        blamed = next(iter(blamed.values()))
    return isinstance(blamed, dict) and bool(blamed.keys() & _ABOUT_THE_SENSOR)


def _flat(said: object) -> str:
    if isinstance(said, dict):
        return "; ".join(f"{key}: {_flat(value)}" for key, value in said.items())
    if isinstance(said, list):
        return ", ".join(_flat(each) for each in said)
    return str(said)

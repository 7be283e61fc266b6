from datetime import timedelta

import pytest

from edge.uplink.verdict import (
    Answer,
    JobEnd,
    Meaning,
    is_under_way,
    job_state,
    meaning_of,
    reason_for,
    retry_after,
)

REPLACEMENT = {"status": "INVALID_REPLACEMENT", "message": "Some of the data …"}


def blames(field: str, said: object) -> dict[str, object]:
    return {
        "status": "UNPROCESSABLE_ENTITY",
        "message": {"combined_sensor_data_description": {field: said}},
    }


# status, content (None: not JSON), what it means for one slot, and for several
LINES = [
    (200, {"status": "PROCESSED"}, Meaning.ACCEPTED, Meaning.ACCEPTED),
    (
        200,
        {"status": "ALREADY_RECEIVED_AND_SUCCESSFULLY_PROCESSED"},
        Meaning.ACCEPTED,
        Meaning.ACCEPTED,
    ),
    (200, {"hello": "I am a router"}, Meaning.UNREADABLE, Meaning.UNREADABLE),
    (200, None, Meaning.UNREADABLE, Meaning.UNREADABLE),
    (202, {"status": "ACCEPTED", "job": "x"}, Meaning.IN_JOB, Meaning.IN_JOB),
    (202, {"status": "ACCEPTED", "job_id": "x"}, Meaning.IN_JOB, Meaning.IN_JOB),  # 0.33
    (202, {"status": "ACCEPTED"}, Meaning.UNREADABLE, Meaning.UNREADABLE),
    (400, {"message": "no"}, Meaning.REJECTED, Meaning.SPLIT),
    (400, None, Meaning.UNREADABLE, Meaning.UNREADABLE),
    (401, {"status": "UNAUTHORIZED"}, Meaning.LOGGED_OUT, Meaning.LOGGED_OUT),
    (401, None, Meaning.UNREADABLE, Meaning.UNREADABLE),
    (403, REPLACEMENT, Meaning.REJECTED, Meaning.SPLIT),
    (403, {"status": "INVALID_SENDER"}, Meaning.SENSOR_REFUSED, Meaning.SENSOR_REFUSED),
    (403, None, Meaning.UNREADABLE, Meaning.UNREADABLE),
    (404, {"message": "Sensor 9 not found"}, Meaning.SENSOR_REFUSED, Meaning.SENSOR_REFUSED),
    (404, None, Meaning.UNREADABLE, Meaning.UNREADABLE),
    (408, None, Meaning.AWAY, Meaning.AWAY),
    (410, {"message": "sunset"}, Meaning.SENSOR_REFUSED, Meaning.SENSOR_REFUSED),
    (413, {"status": "PAYLOAD_TOO_LARGE"}, Meaning.AWAY, Meaning.SPLIT),
    (413, None, Meaning.AWAY, Meaning.SPLIT),
    (422, blames("values", {"0": ["Not a valid number."]}), Meaning.REJECTED, Meaning.SPLIT),
    (422, {"message": "no"}, Meaning.REJECTED, Meaning.SPLIT),
    (
        422,
        blames("_schema", ["Required unit for this sensor is kW"]),
        Meaning.SENSOR_REFUSED,
        Meaning.SENSOR_REFUSED,
    ),
    (422, blames("start", ["no"]), Meaning.SENSOR_REFUSED, Meaning.SENSOR_REFUSED),
    (429, {"status": "TOO_MANY_REQUESTS"}, Meaning.AWAY, Meaning.AWAY),
    (500, {"message": "(psycopg2.errors…)"}, Meaning.AWAY, Meaning.AWAY),
    (500, None, Meaning.AWAY, Meaning.AWAY),
    (502, None, Meaning.AWAY, Meaning.AWAY),
    (503, {"message": "no queue"}, Meaning.AWAY, Meaning.AWAY),
    (504, None, Meaning.AWAY, Meaning.AWAY),
    (501, None, Meaning.UNREADABLE, Meaning.UNREADABLE),
]


@pytest.mark.parametrize(("status", "content", "one", "several"), LINES)
def test_each_answer_has_its_meaning(
    status: int, content: object, one: Meaning, several: Meaning
) -> None:
    assert meaning_of(Answer(status, content), 1) is one
    assert meaning_of(Answer(status, content), 200) is several


@pytest.mark.parametrize("content", [None, {}, [], {"status": "x"}, {"message": ["y"]}])
def test_answers_nobody_expected_accept_nothing(content: object) -> None:
    for status in range(200, 600):
        meaning = meaning_of(Answer(status, content, "<html>"), 1)
        assert meaning is not Meaning.ACCEPTED
        assert meaning is not Meaning.REJECTED or status in (400, 422)


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (429, {"Retry-After": "41"}, timedelta(seconds=41)),
        (503, {"Retry-After": "0"}, timedelta(0)),
        (429, {"Retry-After": "999999999"}, timedelta(days=1)),
        (200, {"Retry-After": "60"}, None),  # FlexMeasures says it on every answer
        (500, {"Retry-After": "60"}, None),
        (429, {}, None),
        (429, {"Retry-After": "soon"}, None),
        (
            503,
            {
                "Retry-After": "Sun, 01 Mar 2026 12:02:00 GMT",
                "Date": "Sun, 01 Mar 2026 12:00:00 GMT",
            },
            timedelta(minutes=2),
        ),
        (503, {"Retry-After": "Sun, 01 Mar 2026 12:02:00 GMT"}, None),
    ],
)
def test_wait_is_obeyed_where_it_is_meant(
    status: int, headers: dict[str, str], expected: timedelta | None
) -> None:
    assert retry_after(Answer(status, headers=headers)) == expected


@pytest.mark.parametrize(
    ("status", "content", "end"),
    [
        (202, {"status": "QUEUED"}, JobEnd.OPEN),
        (202, {"status": "STARTED"}, JobEnd.OPEN),
        (200, {"status": "QUEUED"}, JobEnd.OPEN),  # FlexMeasures 0.33
        (200, {"status": "FAILED", "exc_info": "UniqueViolation"}, JobEnd.GUILTY),
        (200, {"status": "FINISHED", "result": "success"}, JobEnd.FINISHED),
        (200, {"status": "FINISHED", "result": "success_but_nothing_new"}, JobEnd.FINISHED),
        (200, {"status": "FINISHED", "result": "failed"}, JobEnd.GUILTY),
        (422, {"status": "FAILED", "exc-info": "x\npsycopg2.UniqueViolation: y"}, JobEnd.GUILTY),
        (422, {"status": "FAILED", "exc_info": "x\nOperationalError: y"}, JobEnd.FAILED),
        (422, {"status": "FAILED", "message": "worker died"}, JobEnd.FAILED),
        (404, {"status": "ERROR"}, JobEnd.LOST),
        (400, {"status": "UNRECOGNIZED"}, JobEnd.LOST),
    ],
)
def test_each_end_of_a_job_is_told_apart(status: int, content: object, end: JobEnd) -> None:
    state = job_state(Answer(status, content))
    assert state is not None
    assert state.end is end


def test_answer_that_is_not_about_a_job_is_none() -> None:
    assert job_state(Answer(200, None, "<html>")) is None
    assert job_state(Answer(418, {})) is None


def test_reasons_are_one_short_line_for_a_person() -> None:
    assert reason_for(Answer(403, REPLACEMENT)) == (
        "FlexMeasures holds another value for this moment"
    )
    said = reason_for(Answer(422, blames("values", {"0": ["Not\na  number", "x" * 999]})))
    assert said.startswith("FlexMeasures says: combined_sensor_data_description: values: 0: Not a")
    assert "\n" not in said
    assert len(said) < 350


@pytest.mark.parametrize(
    ("status", "content", "waits"),
    [
        (202, {"status": "QUEUED"}, True),
        (400, {"status": "STARTED", "message": "Scheduling job in progress."}, True),
        (
            400,
            {
                "status": "UNKNOWN_SCHEDULE",
                "message": "Scheduling job waiting to be processed. X was used.",
            },
            True,
        ),
        (400, {"status": "UNKNOWN_SCHEDULE", "message": "Scheduling job failed with X."}, False),
        (400, {"status": "UNRECOGNIZED_UDI_EVENT", "message": "No such job"}, False),
        (422, {"status": "UNPROCESSABLE_ENTITY", "message": "in progress"}, False),
        (200, {"values": []}, False),
    ],
)
def test_schedule_that_is_being_computed_is_waited_for(
    status: int, content: dict[str, object], *, waits: bool
) -> None:
    assert is_under_way(Answer(status, content)) is waits

"""What an answer is called in the log, what a restart's and a sent message's say; see also the fault matrix."""

from __future__ import annotations

import json

import pytest

from shared.core.delivery import SendAnswer, SendResult
from shared.core.look import RestartAnswer
from shared.core.model import Observation
from shared.providers.answer import HttpAnswer
from shared.providers.wapi.answers import DeviceView, join_device, read_device, read_restart, read_sent, read_status
from shared.providers.wapi.names import is_told, read_own_phone

JSON = "application/json"
PAGE = "text/html"


def answer(status: int, content: object, content_type: str = JSON) -> HttpAnswer:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return HttpAnswer(status, content_type, body)


@pytest.mark.parametrize(
    ("given", "observation", "cause"),
    [
        pytest.param(answer(404, {"error": True}), Observation.NOT_FOUND, "http_404", id="not found"),
        pytest.param(answer(401, {"error": True}), Observation.REFUSED, "http_401", id="a refused token"),
        pytest.param(answer(403, {"error": True}), Observation.REFUSED, "http_403", id="a forbidden one"),
        pytest.param(
            answer(404, b"<pre>Cannot GET /v1/x</pre>", PAGE),
            Observation.UNKNOWN,
            "cannot_get",
            id="a route that is not there",
        ),
        pytest.param(answer(500, {}), Observation.UNKNOWN, "http_500", id="an error of theirs"),
        pytest.param(
            answer(200, {"error": True, "connected": False}), Observation.UNKNOWN, "error_true", id="an error in a 200"
        ),
        pytest.param(answer(200, {"connected": False}), Observation.DISCONNECTED, "not_connected", id="disconnected"),
        pytest.param(
            answer(200, {"connected": "yes"}), Observation.UNKNOWN, "connected_is_no_boolean", id="no boolean"
        ),
    ],
)
def test_a_status_has_its_observation_and_the_word_for_the_log(
    given: HttpAnswer, observation: Observation, cause: str
) -> None:
    look = read_status(given)

    assert (look.observation, look.cause) == (observation, cause)


def test_a_device_that_did_not_answer_cannot_say() -> None:
    status = read_status(answer(200, {"connected": True}))

    assert join_device(status, None).cause == f"{status.cause}_{DeviceView.CANNOT_SAY}"


@pytest.mark.parametrize("status", [202, 404, 500])
def test_only_a_200_shows_a_phone(status: int) -> None:
    shows = answer(status, {"connectedPhone": "5511900000001"})
    assert read_device(shows) is DeviceView.CANNOT_SAY
    assert join_device(read_status(answer(200, {"connected": True})), shows).phone is None


@pytest.mark.parametrize(
    ("told", "phone"),
    [
        ("5511900000001", "5511900000001"), (5511900000001, "5511900000001"), ("+5511900000001", "5511900000001"),
        ("5511900000001@s.whatsapp.net", "5511900000001"), (" 5511900000001:12@s.whatsapp.net\n", "5511900000001"),
        ("1234567890", "1234567890"), ("1" * 15, "1" * 15), ("123456789", None), ("1" * 16, None), (5511900000001.0, None),
        ("5511900000001+", None), ("Ana", None), ("", None), (True, None), (None, None), (["5511900000001"], None),
    ],
)  # fmt: skip
def test_a_lines_own_number_is_read_without_device_and_address(told: object, phone: str | None) -> None:
    assert read_own_phone(told) == phone


def test_a_word_for_nothing_says_nothing() -> None:
    assert not any(map(is_told, ("", " ", "null", "undefined", "none", "None", "false", " False\n")))
    assert all(map(is_told, ("0", "5511900000001", "nobody")))


@pytest.mark.parametrize(
    ("given", "means"),
    [
        pytest.param(answer(200, {"error": False}), RestartAnswer.ACCEPTED, id="accepted"),
        pytest.param(answer(200, {"error": True}), RestartAnswer.REFUSED, id="an error"),
        pytest.param(answer(200, {"success": False}), RestartAnswer.REFUSED, id="no success"),
        pytest.param(answer(200, {"success": True}), RestartAnswer.ACCEPTED, id="success"),
        pytest.param(answer(400, b"", PAGE), RestartAnswer.REFUSED, id="400"),
        pytest.param(answer(404, {"message": "x"}), RestartAnswer.REFUSED, id="404 with JSON"),
        pytest.param(answer(404, b"<pre>Cannot GET</pre>", PAGE), RestartAnswer.UNCLEAR, id="404 with a page"),
        pytest.param(answer(500, {"error": True}), RestartAnswer.UNCLEAR, id="500, whatever it says"),
        pytest.param(answer(200, b""), RestartAnswer.UNCLEAR, id="nothing"),
    ],
)
def test_a_restarts_answer_is_accepted_refused_or_unclear(given: HttpAnswer, means: RestartAnswer) -> None:
    assert read_restart(given) is means


@pytest.mark.parametrize(
    "beside",
    [
        pytest.param({"error": "session not loaded"}, id="an error in words"),
        pytest.param({"error": {"code": 7}}, id="an error as an object"),
        pytest.param({"error": 1}, id="an error as a number"),
        pytest.param({"success": False}, id="no success"),
        pytest.param({"statusCode": 503}, id="a failing status"),
        pytest.param({"statusCode": 400}, id="the first of them"),
        pytest.param({"statusCode": "503"}, id="a failing status in a text"),
        pytest.param({"statusCode": 503.0}, id="a failing status with a point"),
        pytest.param({"status": 500}, id="a failing status by its other name"),
        pytest.param({"code": "ECONNABORTED"}, id="a system's name of an error"),
        pytest.param({"success": "false"}, id="no success in a text"),
        pytest.param({"success": 0}, id="no success as a number"),
        pytest.param({"errors": ["timeout"]}, id="several errors"),
        pytest.param({"stack": "Error: timeout"}, id="a stack"),
        pytest.param({"connectedPhone": "5511900000001"}, id="a phone"),
        pytest.param({"instanceId": "LITE-ANOTHER-000000"}, id="another line's id"),
    ],
)
def test_a_negative_that_contradicts_itself_is_no_negative(beside: dict[str, object]) -> None:
    look = read_status(answer(200, {"connected": False} | beside), external_id="LITE-AB12CD-EF34GH")
    assert (look.observation, look.cause) == (Observation.UNKNOWN, "not_connected_but_contradicted")


@pytest.mark.parametrize(
    "beside",
    [
        {},
        {"error": False},
        {"error": None, "success": True, "statusCode": 200},
        {"error": "false", "success": "true", "status": "close", "code": "OK", "message": "Instância desconectada"},
        {"code": "EXPIRED", "connectedPhone": "-"},
        {"code": 515},
        {"statusCode": 399, "instanceId": " "},
        {"instanceId": "LITE-AB12CD-EF34GH"},
        {"instanceId": " LITE-AB12CD-EF34GH "},
        {"instanceId": None, "connectedPhone": None},
        {"connectedPhone": "null"},
    ],
    ids=str,
)
def test_a_well_formed_negative_is_a_disconnection(beside: dict[str, object]) -> None:
    said = answer(200, {"connected": False} | beside)
    assert read_status(said, external_id="LITE-AB12CD-EF34GH").observation is Observation.DISCONNECTED


SENT, NOT_SENT, UNCLEAR = SendResult.SENT, SendResult.REFUSED, SendResult.UNCLEAR


@pytest.mark.parametrize(
    ("given", "means"),
    [
        pytest.param(answer(200, {"messageId": "3EB0A1"}), SendAnswer(SENT, message_id="3EB0A1"), id="queued"),
        pytest.param(answer(201, {"messageId": 42}), SendAnswer(SENT, message_id="42"), id="another success"),
        pytest.param(
            answer(200, {"error": False, "success": True, "messageId": "1"}), SendAnswer(SENT, message_id="1"), id="yes"
        ),
        pytest.param(answer(200, {"error": True, "messageId": "1"}), SendAnswer(NOT_SENT, "refused"), id="an error"),
        pytest.param(answer(200, {"error": "no session"}), SendAnswer(NOT_SENT, "refused"), id="an error in words"),
        pytest.param(
            answer(200, {"success": False, "messageId": "1"}), SendAnswer(NOT_SENT, "refused"), id="no success"
        ),
        pytest.param(answer(400, {"messageId": "1"}), SendAnswer(NOT_SENT, "http_400"), id="400"),
        pytest.param(answer(401, b"", PAGE), SendAnswer(NOT_SENT, "http_401"), id="401"),
        pytest.param(answer(429, {}), SendAnswer(NOT_SENT, "http_429"), id="429"),
        pytest.param(answer(408, {"error": True}), SendAnswer(UNCLEAR, "http_408"), id="a time-out of theirs"),
        pytest.param(answer(500, {"error": True}), SendAnswer(UNCLEAR, "http_500"), id="500, whatever it says"),
        pytest.param(answer(502, b"<h1>", PAGE), SendAnswer(UNCLEAR, "http_502"), id="a gateway's page"),
        pytest.param(answer(200, {}), SendAnswer(UNCLEAR, "unreadable"), id="no id"),
        pytest.param(answer(200, {"messageId": ""}), SendAnswer(UNCLEAR, "unreadable"), id="an empty id"),
        pytest.param(answer(200, ["3EB0A1"]), SendAnswer(UNCLEAR, "unreadable"), id="no object"),
        pytest.param(answer(200, b""), SendAnswer(UNCLEAR, "unreadable"), id="nothing"),
    ],
)
def test_a_message_is_sent_refused_or_unclear(given: HttpAnswer, means: SendAnswer) -> None:
    """Unclear: somebody may have it, so that it is not sent again at once."""
    assert read_sent(given) == means

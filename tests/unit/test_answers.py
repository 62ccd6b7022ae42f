"""What an answer of the provider is called in the log, and what a restart's answer says; see also the fault matrix."""

from __future__ import annotations

import json

import pytest

from shared.core.look import RestartAnswer
from shared.core.model import Observation
from shared.providers.answer import HttpAnswer
from shared.providers.wapi.answers import DeviceView, join_device, read_device, read_restart, read_status

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
    assert read_device(answer(status, {"connectedPhone": "5511900000001"})) is DeviceView.CANNOT_SAY


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
        pytest.param({"connectedPhone": "5511900000001"}, id="a phone"),
        pytest.param({"instanceId": "LITE-ANOTHER-000000"}, id="another line's id"),
    ],
)
def test_a_negative_that_contradicts_itself_is_no_negative(beside: dict[str, object]) -> None:
    said = answer(200, {"connected": False} | beside)
    assert read_status(said, external_id="LITE-AB12CD-EF34GH").observation is Observation.UNKNOWN


@pytest.mark.parametrize(
    "beside",
    [
        {},
        {"error": False},
        {"error": None, "success": True, "statusCode": 200},
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

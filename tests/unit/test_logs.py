"""What Cloud Logging gets: one JSON object a line, its trace, its errors, and no word that is not ours."""

import contextlib
import contextvars
import io
import json
import logging
import logging.config
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from shared import logs
from shared.errors import SettingsError, StoreRefused, StoreUnavailable

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"
FULL_TRACE = f"projects/a-project/traces/{TRACE}"
SECRET = "token-abc"

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def fresh_logging() -> Iterator[None]:
    """A process that has not logged yet; afterwards everybody's loggers are as they were."""
    loggers = [each for each in logging.root.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    before = [(each, each.level, each.propagate, each.disabled) for each in loggers]
    logging.getLogger("line_recovery").handlers.clear()
    logging.getLogger("httpx").setLevel(logging.NOTSET)
    yield
    for logger, level, propagate, disabled in before:
        logger.setLevel(level)
        logger.propagate, logger.disabled = propagate, disabled
    logging.getLogger("line_recovery").handlers.clear()


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    """Every line on stdout so far, each a JSON object; nothing may have gone to stderr."""
    logs.configure()

    def read() -> list[dict[str, Any]]:
        captured = capsys.readouterr()
        assert captured.err == ""
        found = [json.loads(line) for line in captured.out.split("\n")[:-1]]
        assert all(isinstance(line, dict) for line in found)
        return found

    return read


def one(lines: Lines) -> dict[str, Any]:
    (line,) = lines()
    return line


# A terminal.


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, **environment: str) -> Terminal:
    logs.configure()
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    shown = Terminal()
    monkeypatch.setattr("sys.stdout", shown)
    return shown


def test_on_a_terminal_a_fact_is_one_short_line_with_unit_and_external_id(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    logs.name_line(UUID(int=7), unit="São João \x1b[2J\n", external_id="LITE-AB12CD-EF34G1")
    logs.warning("restart.failed", instance=UUID(int=7), answer="refused", told=None, run=UUID(int=9), took_ms=812)
    logs.info("sweep.finished", checked=6, dead=0, braked=False, instance=UUID(int=8), text="x" * 500)
    failed, finished = terminal.getvalue().splitlines()

    assert re.fullmatch(r"\d\d:\d\d:\d\d \x1b\[33mWARNING\x1b\[0m \x1b\[1mrestart\.failed\x1b\[0m .*", failed)
    assert failed.endswith(" São João \ufffd[2J\ufffd LITE-AB12CD-EF34G1 answer=refused took_ms=812")
    assert "\x1b[32mINFO   \x1b[0m" in finished
    assert finished.endswith(f" checked=6 instance={UUID(int=8)} text={'x' * 59}…")


def test_a_terminal_without_colours_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch, NO_COLOR="1")
    logs.error("sweep.failed", cause=ValueError("token-abc"))
    line, *trace = terminal.getvalue().splitlines()
    assert line[9:] == "ERROR   sweep.failed"
    assert trace == ["    Traceback (most recent call last):", "    ValueError"]


def test_an_event_keeps_the_unit_that_a_sweep_told(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    logs.name_line(UUID(int=5), unit="Moema", external_id="LITE-5")
    logs.name_line(UUID(int=5), unit=None, external_id="LITE-5")
    logs.name_line(None, unit=None, external_id="LITE-6")
    logs.info("event.taken", instance=UUID(int=5))
    logs.info("event.taken", instance=None)
    first, second = terminal.getvalue().splitlines()
    assert first.endswith("event.taken\x1b[0m Moema LITE-5")
    assert second.endswith("event.taken\x1b[0m")


# Lines.


@pytest.mark.parametrize(("log", "severity"), [(logs.info, "INFO"), (logs.warning, "WARNING"), (logs.error, "ERROR")])
def test_a_fact_is_one_json_line_with_severity_message_and_time(
    lines: Lines, log: Callable[..., None], severity: str
) -> None:
    log("sweep.finished", checked=500)
    line = one(lines)
    assert line["severity"] == severity
    assert line["message"] == "sweep.finished"
    assert line["checked"] == 500
    logged_at = datetime.fromisoformat(line["time"])
    assert logged_at.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - logged_at) < timedelta(minutes=1)


def test_each_fact_has_a_line_of_its_own(lines: Lines) -> None:
    logs.info("first.logged")
    logs.info("second.logged", text="two\nlines\r\n\u2028and more")
    logs.info("third.logged")
    assert [line["message"] for line in lines()] == ["first.logged", "second.logged", "third.logged"]


def test_fields_keep_what_json_knows_and_print_the_rest(lines: Lines) -> None:
    logs.info(
        "line.logged",
        unit="São João",
        count=3,
        told=None,
        braked=False,
        instance=UUID(int=1),
        age=timedelta(minutes=2),
    )
    line = one(lines)
    assert line["unit"] == "São João"
    assert (line["count"], line["told"], line["braked"]) == (3, None, False)
    assert line["instance"] == "00000000-0000-0000-0000-000000000001"
    assert line["age"] == "0:02:00"


def test_a_percent_sign_in_a_fact_is_just_that(lines: Lines) -> None:
    logs.info("line.logged 100 %s", share="%d")
    line = one(lines)
    assert (line["message"], line["share"]) == ("line.logged 100 %s", "%d")


def test_a_line_goes_to_the_stdout_of_the_moment(lines: Lines) -> None:
    """Servers replace it after we were configured."""
    replaced = io.StringIO()
    with contextlib.redirect_stdout(replaced):
        logs.info("line.logged")
    assert json.loads(replaced.getvalue())["message"] == "line.logged"
    assert lines() == []


def test_configuring_again_and_again_writes_each_line_once(lines: Lines) -> None:
    for _ in range(3):
        logs.configure()
    logs.info("line.logged")
    assert len(lines()) == 1


def test_no_handler_of_the_root_writes_our_lines_again(lines: Lines) -> None:
    text = io.StringIO()
    root = logging.StreamHandler(text)
    logging.getLogger().addHandler(root)
    try:
        logs.error("line.logged")
    finally:
        logging.getLogger().removeHandler(root)
    assert len(lines()) == 1
    assert text.getvalue() == ""


# Traces.


def trace_of(headers: dict[str, str], project: str | None, lines: Lines) -> dict[str, Any]:
    def request() -> None:
        logs.follow_trace(httpx.Headers(headers), project)
        logs.info("line.logged")

    contextvars.copy_context().run(request)
    return {name: value for name, value in one(lines).items() if name.startswith("logging.googleapis.com/")}


@pytest.mark.parametrize(
    ("headers", "trace", "span"),
    [
        pytest.param({"traceparent": TRACEPARENT}, FULL_TRACE, SPAN, id="traceparent"),
        pytest.param(
            {"X-Cloud-Trace-Context": f"{TRACE}/123456;o=1"}, FULL_TRACE, "123456", id="X-Cloud-Trace-Context"
        ),
        pytest.param({"X-Cloud-Trace-Context": TRACE}, FULL_TRACE, None, id="X-Cloud-Trace-Context without a span"),
        pytest.param({"X-Cloud-Trace-Context": TRACE.upper()}, FULL_TRACE, None, id="a trace in capitals"),
        pytest.param(
            {"traceparent": TRACEPARENT, "X-Cloud-Trace-Context": f"{'f' * 32}/1"},
            FULL_TRACE,
            SPAN,
            id="traceparent goes before the other",
        ),
        pytest.param(
            {"traceparent": "made-up", "X-Cloud-Trace-Context": f"{TRACE}/1"},
            FULL_TRACE,
            "1",
            id="the other stands in for a broken traceparent",
        ),
    ],
)
def test_lines_join_the_trace_of_their_request(
    lines: Lines, headers: dict[str, str], trace: str, span: str | None
) -> None:
    expected = {"logging.googleapis.com/trace": trace} | ({"logging.googleapis.com/spanId": span} if span else {})
    assert trace_of(headers, "a-project", lines) == expected


@pytest.mark.parametrize(
    ("headers", "project"),
    [
        pytest.param({"traceparent": TRACEPARENT}, None, id="without a project"),
        pytest.param({"traceparent": TRACEPARENT}, "", id="with an empty project"),
        pytest.param({}, "a-project", id="without a header"),
        pytest.param({"traceparent": f"00-{TRACE}"}, "a-project", id="with half a traceparent"),
        pytest.param({"X-Cloud-Trace-Context": "made-up/1"}, "a-project", id="with a header of somebody else"),
    ],
)
def test_without_a_project_or_a_good_header_there_is_no_trace(
    lines: Lines, headers: dict[str, str], project: str | None
) -> None:
    assert trace_of(headers, project, lines) == {}


def test_a_request_without_a_trace_does_not_inherit_the_one_before(lines: Lines) -> None:
    def two_requests() -> None:
        logs.follow_trace({"traceparent": TRACEPARENT}, "a-project")
        logs.follow_trace({}, "a-project")
        logs.info("line.logged")

    contextvars.copy_context().run(two_requests)
    assert "logging.googleapis.com/trace" not in one(lines)


# Errors.


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    """The error as it is caught: with its frames, and with the cause it was raised from."""
    try:
        raise error from cause  # noqa: TRY301 - to have frames
    except BaseException as caught:  # noqa: BLE001 - groups of anything
        return caught


def test_an_error_names_its_service_and_shows_its_stack(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K_SERVICE", "follow-up-check")
    monkeypatch.setenv("K_REVISION", "follow-up-check-00042")
    logs.error("sweep.failed", cause=raised(StoreRefused("claim_instances", "42883")), operation="claim_instances")
    line = one(lines)
    assert line["serviceContext"] == {"service": "follow-up-check", "version": "follow-up-check-00042"}
    assert line["operation"] == "claim_instances"
    stack = line["stack_trace"].splitlines()
    assert stack[0] == "Traceback (most recent call last):"
    assert stack[1].startswith(f'  File "{__file__}", line ')
    assert stack[1].endswith(", in raised")
    assert stack[-1] == "StoreRefused: claim_instances: 42883"


def test_an_error_without_a_cause_has_its_service_and_no_stack(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("K_SERVICE", raising=False)
    monkeypatch.delenv("K_REVISION", raising=False)
    logs.error("brake.engaged")
    line = one(lines)
    assert line["serviceContext"] == {"service": "local", "version": "local"}
    assert "stack_trace" not in line


@pytest.mark.parametrize("log", [logs.info, logs.warning])
def test_what_is_no_error_has_no_service_and_no_stack(lines: Lines, log: Callable[..., None]) -> None:
    log("restart.failed")
    assert not {"serviceContext", "stack_trace"} & one(lines).keys()


def test_words_that_are_not_ours_are_not_logged(lines: Lines) -> None:
    """A transport's or a database's words may quote a token, a row or a phone number."""
    logs.error("look.failed", cause=raised(ValueError(SECRET)))
    line = one(lines)
    assert SECRET not in json.dumps(line)
    assert line["stack_trace"].splitlines()[-1] == "ValueError"


def test_the_cause_of_an_error_of_ours_shows_its_kind_and_not_its_words(lines: Lines) -> None:
    cause = raised(ValueError(SECRET))
    logs.error("sweep.failed", cause=raised(StoreUnavailable("begin_sweep", "ConnectError"), cause))
    line = one(lines)
    assert SECRET not in json.dumps(line)
    stack = line["stack_trace"].splitlines()
    assert "StoreUnavailable: begin_sweep: ConnectError" in stack
    assert stack[-1] == "ValueError"
    assert stack.count("Traceback (most recent call last):") == 2


def test_the_cause_of_an_error_of_others_shows_our_words(lines: Lines) -> None:
    ours = raised(SettingsError("settings: SUPABASE_URL is missing"))
    logs.error("sweep.failed", cause=raised(RuntimeError(SECRET), ours))
    stack = one(lines)["stack_trace"]
    assert SECRET not in stack
    assert stack.endswith("SettingsError: settings: SUPABASE_URL is missing")


def test_every_error_of_a_group_is_described_with_its_causes(lines: Lines) -> None:
    group = ExceptionGroup(
        f"group of {SECRET}",
        [
            raised(StoreUnavailable("record_looks", "503"), raised(OSError(SECRET))),
            ExceptionGroup(SECRET, [raised(KeyError(SECRET))]),
        ],
    )
    logs.error("sweep.failed", cause=raised(group))
    line = one(lines)
    assert SECRET not in json.dumps(line)
    stack = line["stack_trace"].splitlines()
    for expected in ("ExceptionGroup", "StoreUnavailable: record_looks: 503", "OSError", "KeyError"):
        assert expected in stack


def test_an_error_that_was_raised_from_its_own_group_is_described_once(lines: Lines) -> None:
    """A sweep raises the first error of its tasks' group, from the group: a chain that leads back to its beginning."""
    first = StoreRefused("apply_verdict", "42883")
    group = raised(ExceptionGroup("unhandled errors in a TaskGroup", [first, raised(ValueError(SECRET))]))
    logs.error("store.refused", cause=raised(first, group))
    stack = one(lines)["stack_trace"].splitlines()
    assert stack.count("StoreRefused: apply_verdict: 42883") == 1
    assert "ValueError" in stack


# Other people's loggers.


def test_the_lines_come_back_after_the_framework_has_disabled_every_logger(lines: Lines) -> None:
    """It does so after our import when it is asked for execution ids."""
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": True})
    logs.info("line.lost")
    assert lines() == []
    logs.configure()
    logs.info("line.logged")
    logs.error("error.logged")
    assert [line["message"] for line in lines()] == ["line.logged", "error.logged"]


def test_httpx_does_not_log_the_addresses_that_it_asks(lines: Lines, caplog: pytest.LogCaptureFixture) -> None:
    """They hold instance ids and keys."""
    caplog.set_level(logging.INFO)
    with httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200))) as client:
        client.get(f"https://provider.example/?key={SECRET}")
    assert caplog.records == []
    assert lines() == []


@pytest.mark.parametrize("end", ["\n", "\r", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029"])
def test_whatever_a_reader_takes_for_the_end_of_a_line_a_fact_is_one(
    capsys: pytest.CaptureFixture[str], end: str
) -> None:
    logs.configure()
    logs.info("event.taken", event=f"a{end}b")
    [line] = capsys.readouterr().out.splitlines()
    assert json.loads(line)["event"] == f"a{end}b"

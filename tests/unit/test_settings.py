"""The environment, read once: what it may hold, what it means, and that an error names variables and quotes none."""

import traceback
from collections.abc import Callable
from datetime import timedelta

import pytest

from shared.clients import Clients
from shared.core.policy import Limits, Policy
from shared.errors import SettingsError
from shared.settings import Settings, SweepSettings, WebhookSettings, load_sweep_settings, load_webhook_settings

URL = "https://abcdefgh.supabase.co"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoic2VydmljZV9yb2xlIn0.made-up_Signature"
SECRET_KEY = "sb_secret_made-up_0123456789"
WEBHOOK_SECRET = "0123456789abcdef"
REQUIRED = {
    "SUPABASE_URL": URL,
    "SUPABASE_SERVICE_ROLE_KEY": SECRET_KEY,
    "WAPI_WEBHOOK_SECRETS": WEBHOOK_SECRET,
}
MARKER = "zq31415"
"""Stands in every bad value; an error that shows it would show a secret."""

Load = Callable[[], Settings]
FOR_SWEEP = pytest.param(load_sweep_settings, id="follow_up_check")
FOR_WEBHOOK = pytest.param(load_webhook_settings, id="wapi_webhook")
FOR_BOTH = [FOR_SWEEP, FOR_WEBHOOK]


class Environment:
    """The process's environment, with our names under a test's hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        for name in SweepSettings.model_fields | WebhookSettings.model_fields:
            monkeypatch.delenv(name.upper(), raising=False)
        self.set(**REQUIRED)

    def set(self, **variables: str) -> None:
        for name, value in variables.items():
            self._monkeypatch.setenv(name, value)

    def remove(self, *names: str) -> None:
        for name in names:
            self._monkeypatch.delenv(name)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Environment:
    return Environment(monkeypatch)


def refusal(load: Load) -> str:
    """What an operator reads when the function does not start, with everything a log could show of it."""
    with pytest.raises(SettingsError) as raised:
        load()
    everything = "".join(traceback.format_exception(raised.value)) + repr(raised.value)
    assert MARKER not in everything
    assert MARKER not in str(raised.value.__context__)
    return str(raised.value)


def test_the_sweep_runs_on_three_variables_and_the_designs_defaults(environment: Environment) -> None:
    environment.remove("WAPI_WEBHOOK_SECRETS")
    found = load_sweep_settings()
    assert found.supabase_url == URL
    assert found.supabase_service_role_key.get_secret_value() == SECRET_KEY
    assert found.wapi_base_url == "https://api.w-api.app/v1"
    assert found.wapi_send_url is None
    assert found.google_cloud_project is None
    assert found.policy == Policy()
    assert found.limits == Limits()


def test_the_defaults_are_the_designs() -> None:
    assert Limits() == Limits(
        check_interval=timedelta(seconds=150),
        budget=timedelta(seconds=240),
        look_timeout=timedelta(seconds=10),
        ghost_confirm=timedelta(seconds=5),
        restart_verify=timedelta(seconds=30),
        look_concurrency=128,
        restart_concurrency=8,
        batch_size=500,
    )
    assert Policy().restart_cooldown == timedelta(minutes=30)
    assert Policy().degraded_grace == timedelta(minutes=10)
    assert Policy().outage_restart_waits == tuple(timedelta(minutes=minutes) for minutes in (0, 30, 60, 120, 1440))


def test_the_webhooks_defaults_are_the_designs(environment: Environment) -> None:
    found = load_webhook_settings()
    assert [each.get_secret_value() for each in found.wapi_webhook_secrets] == [WEBHOOK_SECRET]
    assert found.confirm_disconnect_events is True
    assert found.look_timeout == timedelta(seconds=10)
    assert found.policy.restart_quiet == timedelta(seconds=60)


def test_every_variable_of_the_sweep_is_read(environment: Environment) -> None:
    environment.set(
        WAPI_BASE_URL="https://provider.example/v2",
        WAPI_SEND_URL="https://abcdefgh.supabase.co/functions/v1/wapi-send",
        WAPI_SEND_LOOKS="false",
        GOOGLE_CLOUD_PROJECT="a-project",
        LOOK_TIMEOUT_SECONDS="7",
        RESTART_VERIFY_SECONDS="31",
        CHECK_INTERVAL_SECONDS="151",
        RECOVERY_COOLDOWN_SECONDS="1801",
        LOOK_CONCURRENCY="64",
        RESTART_CONCURRENCY="4",
        SWEEP_BUDGET_SECONDS="200",
        DEGRADED_GRACE_SECONDS="601",
        GHOST_CONFIRM_SECONDS="6",
    )
    found = load_sweep_settings()
    assert found.wapi_base_url == "https://provider.example/v2"
    assert found.wapi_send_url == "https://abcdefgh.supabase.co/functions/v1/wapi-send"
    assert found.wapi_send_looks is False
    assert found.google_cloud_project == "a-project"
    assert found.policy == Policy(
        restart_cooldown=timedelta(seconds=1801),
        degraded_grace=timedelta(seconds=601),
        restart_quiet=timedelta(seconds=61),
    )
    assert found.limits == Limits(
        check_interval=timedelta(seconds=151),
        budget=timedelta(seconds=200),
        look_timeout=timedelta(seconds=7),
        ghost_confirm=timedelta(seconds=6),
        restart_verify=timedelta(seconds=31),
        look_concurrency=64,
        restart_concurrency=4,
    )


def test_every_variable_of_the_webhook_is_read(environment: Environment) -> None:
    environment.set(CONFIRM_DISCONNECT_EVENTS="false", RESTART_VERIFY_SECONDS="12.5", LOOK_TIMEOUT_SECONDS="1.5")
    found = load_webhook_settings()
    assert found.confirm_disconnect_events is False
    assert found.policy.restart_quiet == timedelta(seconds=42.5)
    assert found.look_timeout == timedelta(seconds=1.5)


def test_settings_show_no_secret_when_they_are_printed(environment: Environment) -> None:
    for found in (load_sweep_settings(), load_webhook_settings()):
        assert SECRET_KEY not in f"{found} {found!r}"
        assert WEBHOOK_SECRET not in f"{found} {found!r}"


@pytest.mark.parametrize("load", FOR_BOTH)
@pytest.mark.parametrize("name", ["SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY"])
def test_a_missing_variable_is_named(environment: Environment, name: str, load: Load) -> None:
    environment.remove(name)
    assert f"{name} is missing" in refusal(load)


@pytest.mark.parametrize("load", FOR_BOTH)
@pytest.mark.parametrize("name", ["SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY"])
def test_an_empty_variable_is_a_missing_one(environment: Environment, name: str, load: Load) -> None:
    environment.set(**{name: ""})
    assert f"{name} is missing" in refusal(load)


def test_an_empty_variable_that_may_be_missing_is_none(environment: Environment) -> None:
    environment.set(WAPI_SEND_URL="", CHECK_INTERVAL_SECONDS="")
    found = load_sweep_settings()
    assert found.wapi_send_url is None
    assert found.check_interval_seconds == 150


SWEEP_NUMBERS = [
    "CHECK_INTERVAL_SECONDS",
    "RECOVERY_COOLDOWN_SECONDS",
    "SWEEP_BUDGET_SECONDS",
    "DEGRADED_GRACE_SECONDS",
    "GHOST_CONFIRM_SECONDS",
    "LOOK_TIMEOUT_SECONDS",
    "RESTART_VERIFY_SECONDS",
    "LOOK_CONCURRENCY",
    "RESTART_CONCURRENCY",
]
BOTH_READ = ["SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY", "WAPI_BASE_URL", "WAPI_SEND_URL", "LOOK_TIMEOUT_SECONDS"]


@pytest.mark.parametrize(
    ("name", "load"),
    [
        *((name, load_sweep_settings) for name in [*SWEEP_NUMBERS, *BOTH_READ]),
        *((name, load_webhook_settings) for name in [*BOTH_READ, "CONFIRM_DISCONNECT_EVENTS", "WAPI_WEBHOOK_SECRETS"]),
    ],
)
def test_a_wrong_variable_is_named_and_its_value_is_not_shown(environment: Environment, name: str, load: Load) -> None:
    environment.set(**{name: MARKER})
    text = refusal(load)
    assert name in text
    assert not [other for other in [*SWEEP_NUMBERS, *BOTH_READ] if other in text and other != name]


@pytest.mark.parametrize("load", FOR_BOTH)
def test_every_wrong_variable_is_named_at_once(environment: Environment, load: Load) -> None:
    """An operator corrects them all, and does not meet the next one at the next start."""
    environment.remove("SUPABASE_URL")
    environment.set(SUPABASE_SERVICE_ROLE_KEY=MARKER, WAPI_BASE_URL=f"ftp://{MARKER}", LOOK_TIMEOUT_SECONDS=MARKER)
    text = refusal(load)
    for name in ("SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY", "WAPI_BASE_URL", "LOOK_TIMEOUT_SECONDS"):
        assert name in text


def test_a_function_asks_for_nothing_that_only_the_other_needs(environment: Environment) -> None:
    environment.set(WAPI_WEBHOOK_SECRETS=MARKER, CONFIRM_DISCONNECT_EVENTS=MARKER)
    load_sweep_settings()
    environment.set(WAPI_WEBHOOK_SECRETS=WEBHOOK_SECRET, CONFIRM_DISCONNECT_EVENTS="1")
    environment.set(**dict.fromkeys(set(SWEEP_NUMBERS) - {"LOOK_TIMEOUT_SECONDS", "RESTART_VERIFY_SECONDS"}, MARKER))
    load_webhook_settings()


def test_a_sweep_asks_nobody_for_help_unless_told(environment: Environment) -> None:
    found = load_sweep_settings()
    assert (found.sweep_fanout, found.sweep_fanout_url) == (0, None)


def test_a_sweep_that_asks_for_help_must_know_its_own_address(environment: Environment) -> None:
    environment.set(SWEEP_FANOUT="3")
    assert "SWEEP_FANOUT_URL: is the function's own address, which SWEEP_FANOUT needs" in refusal(load_sweep_settings)
    environment.set(SWEEP_FANOUT_URL="https://follow-up-check-abc.a.run.app/")
    found = load_sweep_settings()
    assert (found.sweep_fanout, found.sweep_fanout_url) == (3, "https://follow-up-check-abc.a.run.app")


@pytest.mark.parametrize("value", ["-1", "51", "1.5", MARKER])
def test_the_number_of_helpers_is_bounded(environment: Environment, value: str) -> None:
    environment.set(SWEEP_FANOUT=value, SWEEP_FANOUT_URL=URL)
    assert "SWEEP_FANOUT:" in refusal(load_sweep_settings)


def test_a_sweep_without_an_address_sets_nothing_and_ignores_the_secrets(environment: Environment) -> None:
    environment.set(WAPI_WEBHOOK_SECRETS="short")
    found = load_sweep_settings()
    assert (found.target, found.webhook_take_over, found.tell_venues_subscription) == (None, False, False)


@pytest.mark.parametrize("secrets", [None, "", ",", f"{MARKER},{WEBHOOK_SECRET}"])
def test_an_address_needs_the_webhooks_secrets(environment: Environment, secrets: str | None) -> None:
    environment.set(WEBHOOK_URL="https://hook.example.com/")
    environment.remove("WAPI_WEBHOOK_SECRETS")
    if secrets is not None:
        environment.set(WAPI_WEBHOOK_SECRETS=secrets)
    assert "WAPI_WEBHOOK_SECRETS, which WEBHOOK_URL needs: " in refusal(load_sweep_settings)


def test_an_address_and_its_secrets_are_where_webhooks_belong(environment: Environment) -> None:
    environment.set(
        WEBHOOK_URL="https://hook.example.com/", WAPI_WEBHOOK_SECRETS=f" {WEBHOOK_SECRET} ,an-older-secret-1"
    )
    found = load_sweep_settings()
    assert found.target is not None
    assert found.target.url == "https://hook.example.com"
    assert [each.get_secret_value() for each in found.target.secrets] == [WEBHOOK_SECRET, "an-older-secret-1"]
    assert WEBHOOK_SECRET not in repr(found) + repr(found.target)


@pytest.mark.parametrize(
    ("variables", "asks", "sets"),
    [
        pytest.param({}, True, False, id="nothing is said"),
        pytest.param({"WEBHOOK_URL": "https://hook.example.com"}, True, True, id="an address"),
        pytest.param({"WAPI_SEND_URL": f"{URL}/functions/v1/wapi-send"}, False, False, id="rows without tokens"),
        pytest.param({"WAPI_SEND_URL": f"{URL}/functions/v1/wapi-send", "WAPI_SEND_LOOKS": "false"}, True, False, id="rows with tokens"),
        pytest.param({"WAPI_SEND_URL": f"{URL}/functions/v1/wapi-send", "WEBHOOK_URL": "https://hook.example.com"}, True, True, id="an address says that they hold some"),
    ],
)  # fmt: skip
async def test_whom_the_housekeeping_asks_about_lines(
    environment: Environment, variables: dict[str, str], asks: bool, sets: bool
) -> None:
    environment.set(**variables)
    settings = load_sweep_settings()
    clients = Clients(settings)
    found = clients.registrations(settings)
    await clients.aclose()
    assert (found is not None, found is not None and found.own is not None) == (asks, sets)


# Addresses.

URLS = ["SUPABASE_URL", "WAPI_BASE_URL", "WAPI_SEND_URL", "WEBHOOK_URL"]


@pytest.mark.parametrize("name", URLS)
@pytest.mark.parametrize(
    ("value", "read_as"),
    [
        pytest.param("https://provider.example", "https://provider.example", id="https"),
        pytest.param("https://provider.example/v1/", "https://provider.example/v1", id="a slash at the end is dropped"),
        pytest.param("https://provider.example:8443/v1", "https://provider.example:8443/v1", id="https with a port"),
        pytest.param("http://localhost:54321", "http://localhost:54321", id="http to localhost"),
        pytest.param("http://127.0.0.1:54321", "http://127.0.0.1:54321", id="http to 127.0.0.1"),
        pytest.param("http://127.8.9.10", "http://127.8.9.10", id="http to any loopback address"),
        pytest.param("http://[::1]:54321", "http://[::1]:54321", id="http to the loopback address of IPv6"),
    ],
)
def test_an_address_may_be_https_or_loopback(environment: Environment, name: str, value: str, read_as: str) -> None:
    environment.set(**{"WAPI_BASE_URL": "https://wapi.example/v1", name: value})
    assert getattr(load_sweep_settings(), name.lower()) == read_as


@pytest.mark.parametrize("load", FOR_BOTH)
@pytest.mark.parametrize("url", ["http://127.0.0.1:54321", "http://localhost:54321", "http://[::1]:54321"])
def test_a_local_stack_says_who_plays_the_provider(environment: Environment, load: Load, url: str) -> None:
    """Regression: a function beside a local stack asked the real W-API about made-up lines."""
    environment.set(SUPABASE_URL=url, WAPI_BASE_URL="")
    assert refusal(load).startswith("settings: WAPI_BASE_URL is missing: SUPABASE_URL is this machine's")
    environment.set(WAPI_BASE_URL="http://127.0.0.1:8080/v1")
    assert load().wapi_base_url == "http://127.0.0.1:8080/v1"


@pytest.mark.parametrize("name", URLS)
@pytest.mark.parametrize(
    "value",
    [
        pytest.param(f"http://{MARKER}.example", id="http to the world"),
        pytest.param(f"http://10.0.0.1/{MARKER}", id="http to a private network"),
        pytest.param(f"http://0.0.0.0/{MARKER}", id="http to any address"),
        pytest.param(f"http://localhost.{MARKER}.example", id="http to a name that begins like localhost"),
        pytest.param(f"http://127.0.0.1@{MARKER}.example", id="http with a loopback address as user"),
        pytest.param(f"http://127.0.0.1.{MARKER}.example", id="http to a name that begins like a loopback address"),
        pytest.param(f"{MARKER}.example", id="no scheme"),
        pytest.param(f"ftp://{MARKER}.example", id="another scheme"),
        pytest.param(f"file:///{MARKER}", id="a file"),
        pytest.param(f"https:///{MARKER}", id="no host"),
        pytest.param(f"https://user:{MARKER}@provider.example", id="a user and a password"),
        pytest.param(f"https://provider.example/?key={MARKER}", id="a query"),
        pytest.param(f"https://provider.example/#{MARKER}", id="a fragment"),
        pytest.param(f"http://[::1/{MARKER}", id="half an address"),
        pytest.param(f"https://provider.example:{MARKER}", id="a port that is no number"),
        pytest.param(f"https://provider.example/{MARKER} {MARKER}", id="a space within"),
    ],
)
def test_any_other_address_is_refused_and_not_shown(environment: Environment, name: str, value: str) -> None:
    environment.set(**{name: value})
    assert name in refusal(load_sweep_settings)


@pytest.mark.parametrize("name", URLS)
def test_a_line_break_after_an_address_is_no_part_of_it(environment: Environment, name: str) -> None:
    """It comes with `echo … | gcloud secrets`, and no request to such an address ever leaves."""
    environment.set(**{name: "https://provider.example\n"})
    try:
        found = getattr(load_sweep_settings(), name.lower())
    except SettingsError:
        return
    assert found == "https://provider.example"


# Keys and secrets.


@pytest.mark.parametrize("load", FOR_BOTH)
@pytest.mark.parametrize("key", [pytest.param(JWT, id="a JWT"), pytest.param(SECRET_KEY, id="an sb_secret_ key")])
def test_both_shapes_of_the_service_key_are_known(environment: Environment, key: str, load: Load) -> None:
    environment.set(SUPABASE_SERVICE_ROLE_KEY=key)
    assert load().supabase_service_role_key.get_secret_value() == key


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(MARKER, id="a word"),
        pytest.param(f"sb_publishable_{MARKER}_0123456789", id="the publishable key"),
        pytest.param("sb_secret_short", id="the beginning of a secret key"),
        pytest.param(f"{MARKER}.part", id="two parts"),
        pytest.param(f"{MARKER}.b.c.d", id="four parts"),
        pytest.param(f"{MARKER}..c", id="an empty part"),
        pytest.param(f"Bearer {MARKER}.b.c", id="the whole header"),
        pytest.param(f'"{MARKER}.b.c"', id="quotes around it"),
        pytest.param(f"{MARKER}.b.c d", id="a space within"),
        pytest.param(f"{MARKER}.é.c", id="a letter that no header can carry"),
    ],
)
def test_any_other_service_key_is_refused_and_not_shown(environment: Environment, key: str) -> None:
    environment.set(SUPABASE_SERVICE_ROLE_KEY=key)
    assert "SUPABASE_SERVICE_ROLE_KEY" in refusal(load_sweep_settings)


@pytest.mark.parametrize("key", [pytest.param(JWT, id="a JWT"), pytest.param(SECRET_KEY, id="an sb_secret_ key")])
def test_a_line_break_after_the_service_key_is_no_part_of_it(environment: Environment, key: str) -> None:
    """It comes with `echo … | gcloud secrets`, and no header can carry it."""
    environment.set(SUPABASE_SERVICE_ROLE_KEY=f"{key}\n")
    try:
        found = load_sweep_settings().supabase_service_role_key
    except SettingsError:
        return
    assert found.get_secret_value() == key


@pytest.mark.parametrize(
    ("value", "secrets"),
    [
        pytest.param("0123456789abcdef", ["0123456789abcdef"], id="one"),
        pytest.param(
            "0123456789abcdef,fedcba9876543210",
            ["0123456789abcdef", "fedcba9876543210"],
            id="two, while one is rotated",
        ),
        pytest.param(
            " 0123456789abcdef , fedcba9876543210\n",
            ["0123456789abcdef", "fedcba9876543210"],
            id="spaces and a line break around them",
        ),
        pytest.param("0123456789abcdef,", ["0123456789abcdef"], id="a comma at the end"),
        pytest.param('["0123456789abcdef"]', ['["0123456789abcdef"]'], id="what looks like JSON is a secret"),
    ],
)
def test_webhook_secrets_stand_between_commas(environment: Environment, value: str, secrets: list[str]) -> None:
    environment.set(WAPI_WEBHOOK_SECRETS=value)
    assert [each.get_secret_value() for each in load_webhook_settings().wapi_webhook_secrets] == secrets


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("", id="nothing"),
        pytest.param(" , ,", id="commas and spaces: an empty secret would let everybody in"),
        pytest.param(f"{MARKER}89abcdef"[:15], id="fifteen characters"),
        pytest.param(f"0123456789abcdef,{MARKER}", id="a short one beside a good one"),
        pytest.param(f"{MARKER}         ,", id="spaces do not make it longer"),
    ],
)
def test_missing_and_short_webhook_secrets_are_refused_and_not_shown(environment: Environment, value: str) -> None:
    environment.set(WAPI_WEBHOOK_SECRETS=value)
    assert "WAPI_WEBHOOK_SECRETS" in refusal(load_webhook_settings)


def test_the_plain_secret_opens_until_an_operator_says_that_it_shall_not(environment: Environment) -> None:
    assert load_webhook_settings().wapi_webhook_line_keys_only is False
    environment.set(WAPI_WEBHOOK_LINE_KEYS_ONLY="true")
    assert load_webhook_settings().wapi_webhook_line_keys_only is True
    environment.set(WAPI_WEBHOOK_LINE_KEYS_ONLY=MARKER)
    assert "WAPI_WEBHOOK_LINE_KEYS_ONLY" in refusal(load_webhook_settings)


# Numbers.

MAY_BE_ZERO = ["CHECK_INTERVAL_SECONDS", "RECOVERY_COOLDOWN_SECONDS", "DEGRADED_GRACE_SECONDS", "GHOST_CONFIRM_SECONDS"]
MORE_THAN_ZERO = ["SWEEP_BUDGET_SECONDS", "LOOK_TIMEOUT_SECONDS", "RESTART_VERIFY_SECONDS"]
COUNTS = ["LOOK_CONCURRENCY", "RESTART_CONCURRENCY"]


@pytest.mark.parametrize("name", MAY_BE_ZERO)
def test_zero_is_a_valid_wait(environment: Environment, name: str) -> None:
    """An interval of zero makes every line due at every sweep."""
    environment.set(**{name: "0"})
    assert getattr(load_sweep_settings(), name.lower()) == 0


def test_an_interval_of_zero_reaches_the_sweep(environment: Environment) -> None:
    environment.set(CHECK_INTERVAL_SECONDS="0")
    assert load_sweep_settings().limits.check_interval == timedelta(0)


@pytest.mark.parametrize("name", MAY_BE_ZERO + MORE_THAN_ZERO)
def test_seconds_may_be_fractions(environment: Environment, name: str) -> None:
    environment.set(**{name: "0.25"})
    assert getattr(load_sweep_settings(), name.lower()) == 0.25


def test_fractions_of_seconds_reach_the_sweep(environment: Environment) -> None:
    environment.set(**dict.fromkeys(MAY_BE_ZERO + MORE_THAN_ZERO, "0.25"))
    found = load_sweep_settings()
    quarter = timedelta(milliseconds=250)
    quiet = timedelta(seconds=30.25)
    assert found.policy == Policy(restart_cooldown=quarter, degraded_grace=quarter, restart_quiet=quiet)
    assert found.limits == Limits(
        check_interval=quarter,
        budget=quarter,
        look_timeout=quarter,
        ghost_confirm=quarter,
        restart_verify=quarter,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in SWEEP_NUMBERS for value in ("nan", "inf", "-inf", "1e999", "-1", "-0.001", " ")),
        *((name, "86400.1") for name in MAY_BE_ZERO + MORE_THAN_ZERO),
        *((name, value) for name in MORE_THAN_ZERO + COUNTS for value in ("0", "-0")),
        *((name, value) for name in COUNTS for value in ("1.5", "1001", "two")),
        ("RESTART_CONCURRENCY", "101"),
    ],
)
def test_a_number_out_of_bounds_is_refused(environment: Environment, name: str, value: str) -> None:
    environment.set(**{name: value})
    assert name in refusal(load_sweep_settings)


# Events that could not be kept, and where they go on to.

FERNET_KEY = "q83vEjRWeJASNFZ4kBI0VniQEjRWeJASNFZ4kBI0Vng="


@pytest.mark.parametrize("key", [FERNET_KEY, f"{FERNET_KEY}\n"], ids=["a key", "with a line break behind it"])
def test_a_fernet_key_seals_undelivered_events(environment: Environment, key: str) -> None:
    environment.set(EVENT_LOG_KEY=key)
    found = load_webhook_settings().event_log_key
    assert found is not None
    assert found.get_secret_value() == FERNET_KEY


@pytest.mark.parametrize("key", [MARKER, FERNET_KEY[:-4], f"{MARKER}é", f"{MARKER}{FERNET_KEY}"])
def test_what_is_no_fernet_key_is_refused_and_not_shown(environment: Environment, key: str) -> None:
    environment.set(EVENT_LOG_KEY=key)
    assert "EVENT_LOG_KEY: must be a Fernet key" in refusal(load_webhook_settings)


@pytest.mark.parametrize("load", FOR_BOTH)
def test_the_relays_address_may_hold_a_key_in_its_query(environment: Environment, load: Load) -> None:
    environment.set(EVENT_RELAY_URL="https://platform.example/hook?key=k\n", EVENT_RELAY_CONNECTIONS="true")
    found = load()
    assert found.event_relay_url is not None
    assert found.event_relay_url.get_secret_value() == "https://platform.example/hook?key=k"
    assert found.event_relay_connections is True
    assert "key=k" not in repr(found)


@pytest.mark.parametrize("url", [f"http://platform.example/{MARKER}", MARKER, f"ftp://platform.example/{MARKER}"])
def test_another_relay_address_is_refused_and_not_shown(environment: Environment, url: str) -> None:
    environment.set(EVENT_RELAY_URL=url)
    assert "EVENT_RELAY_URL" in refusal(load_sweep_settings)


# Further channels


def test_addresses_of_channels_are_read_and_never_shown(environment: Environment) -> None:
    environment.set(
        ALERT_EMAIL_URL=" mailtos://user:pass@smtp.example?from=a@b.example&name=a://b\n",
        OPERATOR_ALERT_URLS="tgram://1:t/2,3, https://ops.example/alerts?key=k&to=a://b\nmailto://h?to=a@b.example,c@d.example",
        OPERATOR_WEBHOOK_SECRET="0123456789abcdef",
        ALERT_INSTANCE_ID="LITE-1",
    )
    found = load_sweep_settings()
    assert [url.get_secret_value() for url in found.operator_alert_urls] == [
        "tgram://1:t/2,3", "https://ops.example/alerts?key=k&to=a://b", "mailto://h?to=a@b.example,c@d.example",
    ]  # fmt: skip
    assert found.alert_email_url is not None
    assert found.alert_email_url.get_secret_value() == "mailtos://user:pass@smtp.example?from=a@b.example&name=a://b"
    assert "pass" not in repr(found)
    assert "key=k" not in repr(found)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        pytest.param(
            "ALERT_EMAIL_URL", "https://smtp.example", "must be a mail server's URL", id="mail through something else"
        ),
        pytest.param("ALERT_EMAIL_URL", "user@smtp.example", "must be a mail server's URL", id="a mail address"),
        pytest.param("ALERT_EMAIL_URL", "mailto\n://smtp.example", "must be a mail server's URL", id="a line break"),
        pytest.param("OPERATOR_ALERT_URLS", "ops@example.com", "must hold URLs", id="an operator's mail address"),
        pytest.param("OPERATOR_ALERT_URLS", "://ops.example://x", "must hold URLs", id="no scheme"),
        pytest.param(
            "OPERATOR_ALERT_URLS", "https://ops.example/alerts?to=a://b", "", id="a webhook that nobody signs"
        ),
        pytest.param("OPERATOR_ALERT_URLS", "http://ops.example/alerts", "", id="a webhook without TLS"),
    ],
)
def test_an_address_that_could_not_work_is_refused_without_quoting_it(
    environment: Environment, name: str, value: str, why: str
) -> None:
    environment.set(**{name: value})
    said = refusal(load_sweep_settings)
    assert f"{name}:" in said
    assert f" {why}" in said
    assert value not in said

"""Who may import whom, who may read what, and what the root gives to a deployment."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PURE = (
    *sorted(f"shared.core.{path.stem}" for path in (ROOT / "shared" / "core").glob("[a-z]*.py")),
    "shared.providers.answer",
    "shared.providers.pace",
    "shared.providers.wapi.addresses",
    "shared.providers.wapi.answers",
    "shared.providers.wapi.buttons",
    "shared.providers.wapi.changes",
    "shared.providers.wapi.commerce",
    "shared.providers.wapi.contents",
    "shared.providers.wapi.contexts",
    "shared.providers.wapi.envelopes",
    "shared.providers.wapi.events",
    "shared.providers.wapi.fields",
    "shared.providers.wapi.messages",
    "shared.providers.wapi.names",
    "shared.providers.wapi.payments",
    "shared.providers.wapi.stubs",
    "shared.providers.wapi.values",
    "shared.providers.wapi.webhooks",
    "shared.sweep.report",
)
"""They know no clock, no environment, no logging, no network: values in, values out."""

MAY_BE_IMPORTED_BY_PURE = (*PURE, "shared.errors")
IMPURE_LIBRARIES = {
    "aiohttp",
    "asyncio",
    "ctypes",
    "functions_framework",
    "getpass",
    "httpx",
    "httpx_aiohttp",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "platform",
    "postgrest",
    "pydantic_settings",
    "random",
    "requests",
    "sched",
    "select",
    "shutil",
    "signal",
    "socket",
    "ssl",
    "starlette",
    "subprocess",
    "supabase",
    "sys",
    "tempfile",
    "threading",
    "time",
    "urllib.request",
    "warnings",
}
CLOCK_CALLS = {"now", "today", "utcnow"}
GUARDS = {
    "shared.channels.mail",
    "shared.database.batching",
    "shared.deliveries",
    "shared.housekeeping",
    "shared.providers.wapi.events",
    "shared.sweep.actions",
    "shared.sweep.looking",
    "shared.web",
    "shared.webhook.intake",
}
"""Around one line of a sweep, one chore, one message, the reading of one, a thread, a call for several events, and a whole request: nowhere else is an error caught
without knowing it."""

ROOMS = (
    "core",
    "providers",
    "channels",
    "database",
    "sweep",
    "webhook",
    "relay",
    "receiving",
    "deliveries",
    "housekeeping",
)
MAY_IMPORT = {
    "core": {"core"},
    "providers": {"core", "providers"},
    "channels": {"core", "channels"},
    "database": {"core", "database"},
    "deliveries": {"core", "channels", "database", "deliveries"},
    "relay": {"core", "providers", "database", "relay"},
    "receiving": {"core", "providers", "database", "receiving"},
    "sweep": {"core", "providers", "database", "sweep"},
    "webhook": {"core", "providers", "database", "relay", "webhook"},
    "housekeeping": {"core", "providers", "database", "relay", "receiving", "deliveries", "housekeeping"},
}
"""One direction: use cases -> database, providers, channels -> core; never between siblings."""
FOR_ALL = {"settings", "errors", "logs", "clients", "web"}
VENDOR_WORDS = re.compile(r"w-?api", re.IGNORECASE)
PLATFORM_TABLES = re.compile(
    r"wapi_(instances|conversations|messages|webhook_events|contact_lids)|wapi_webhook\b|wapi-webhook", re.IGNORECASE
)
"""The platform has named its tables after the vendor, and the function is named after who calls it."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


DEPLOYED = {
    module_name(path): path
    for path in sorted([*(ROOT / "shared").rglob("*.py"), *(ROOT / "functions").rglob("*.py"), ROOT / "main.py"])
}
SHARED = [name for name in DEPLOYED if name.split(".")[0] == "shared"]


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(DEPLOYED[module].read_text(), filename=str(DEPLOYED[module]))


@cache
def nodes_of(module: str) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree_of(module)))


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def nodes_at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """Every node but those that only a type checker sees."""
    yield node
    if isinstance(node, ast.If) and is_type_checking(node):
        children: list[ast.AST] = list(node.orelse)
    else:
        children = list(ast.iter_child_nodes(node))
    for child in children:
        yield from nodes_at_run_time(child)


def imports_of(nodes: Iterable[ast.AST], module: str) -> set[str]:
    """Full names: of modules, and of what is taken from them, which may be a module as well."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively, which this test does not follow"
            assert node.module is not None
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


@cache
def run_time_imports(module: str) -> frozenset[str]:
    return frozenset(imports_of(nodes_at_run_time(tree_of(module)), module))


@cache
def all_imports(module: str) -> frozenset[str]:
    return frozenset(imports_of(nodes_of(module), module))


def module_within(name: str) -> str | None:
    """The module of ours that an imported name is, or is taken from."""
    while name:
        if name in DEPLOYED:
            return name
        name = name.rpartition(".")[0]
    return None


def begins_with(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


@cache
def calls_of(module: str) -> tuple[ast.Call, ...]:
    return tuple(node for node in nodes_of(module) if isinstance(node, ast.Call))


def of_each(modules: Iterable[str]) -> Callable[[Callable[[str], None]], Callable[[], None]]:
    """One test for a rule and all its modules: hundreds of small ones cost more than they say."""

    def made(rule: Callable[[str], None]) -> Callable[[], None]:
        def test() -> None:
            broken: dict[str, str] = {}
            for module in modules:
                try:
                    rule(module)
                except AssertionError as error:
                    broken[module] = str(error)
            assert broken == {}

        test.__name__, test.__doc__ = rule.__name__, rule.__doc__
        return test

    return made


# The core.


@of_each(PURE)
def test_a_pure_module_knows_no_clock_no_network_no_environment_and_no_log(module: str) -> None:
    assert [
        name for name in run_time_imports(module) for library in IMPURE_LIBRARIES if begins_with(name, library)
    ] == []


@of_each(PURE)
def test_a_pure_module_imports_pure_modules_only(module: str) -> None:
    ours = {module_within(name) for name in run_time_imports(module) if begins_with(name, "shared")}
    assert ours <= set(MAY_BE_IMPORTED_BY_PURE)


@of_each(MAY_BE_IMPORTED_BY_PURE)
def test_a_pure_module_is_told_the_time_and_never_asks(module: str) -> None:
    """Types of ``datetime`` are values; asking one for the present is a clock."""
    asked = [
        ast.unparse(call)
        for call in calls_of(module)
        if isinstance(call.func, ast.Attribute) and call.func.attr in CLOCK_CALLS
    ]
    assert asked == []


@of_each(PURE)
def test_a_pure_module_opens_prints_and_awaits_nothing(module: str) -> None:
    named = {ast.unparse(call.func) for call in calls_of(module)}
    assert not named & {"open", "print", "input", "__import__", "exec", "eval"}
    assert not [node for node in nodes_of(module) if isinstance(node, ast.AsyncFunctionDef | ast.Await)]


# The shell.


@of_each(SHARED)
def test_shared_imports_no_function_no_tool_and_no_test(module: str) -> None:
    for name in all_imports(module):
        assert not any(begins_with(name, package) for package in ("functions", "dev", "tests", "bench", "ops", "main"))


@of_each([name for name in DEPLOYED if begins_with(name, "functions")])
def test_a_function_imports_no_other_function_and_no_tool(module: str) -> None:
    own = ".".join(module.split(".")[:2])
    for name in all_imports(module):
        assert not any(begins_with(name, package) for package in ("dev", "tests", "bench", "ops", "main"))
        assert not begins_with(name, "functions") or begins_with(name, own)


def test_no_module_of_shared_imports_itself_by_a_detour() -> None:
    graph = {
        module: {within for name in run_time_imports(module) if (within := module_within(name)) and within != module}
        for module in SHARED
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@of_each([name for name in SHARED if name.split(".")[1:2] and name.split(".")[1] in ROOMS])
def test_a_room_imports_only_what_lies_before_it(module: str) -> None:
    room = module.split(".")[1]
    ours = {within.split(".")[1] for name in all_imports(module) if (within := module_within(name)) and "." in within}
    ours -= {"follow_up_check", "wapi_webhook"}
    assert ours <= MAY_IMPORT[room] | FOR_ALL - {"clients", "web"}


def test_every_module_of_shared_is_in_a_room() -> None:
    assert {name.split(".")[1] for name in SHARED if "." in name} == {*ROOMS, *FOR_ALL}


@of_each(SHARED)
def test_no_vendor_word_stands_outside_its_folder(module: str) -> None:
    if module.startswith("shared.providers.wapi") or module in ("shared.settings", "shared.clients"):
        return
    text = PLATFORM_TABLES.sub("", DEPLOYED[module].read_text())
    assert [line for line in text.splitlines() if VENDOR_WORDS.search(line)] == []


def test_decisions_are_told_apart_in_one_place() -> None:
    """Who carries them out matches them; nobody else asks of what kind one is."""
    asking = [
        module
        for module in SHARED
        for call in calls_of(module)
        if ast.unparse(call.func) == "isinstance"
        and re.search(r"Healthy|Restore|NoChange|Skip|Restart\b|Disconnect|Held", ast.unparse(call))
    ]
    assert len(asking) <= 1


@of_each(SHARED)
def test_a_module_is_what_one_can_hold_in_the_head(module: str) -> None:
    lines = DEPLOYED[module].read_text().count("\n")
    assert lines <= (500 if module == "shared.database.store" else 310)


def environment_readers(module: str) -> list[str]:
    """What a module imports that reads the environment, or could."""
    return [
        name
        for name in all_imports(module)
        if any(begins_with(name, library) for library in ("os", "posix", "pydantic_settings", "dotenv"))
    ]


@of_each([name for name in DEPLOYED if name not in ("shared.settings", "shared.logs")])
def test_no_other_module_than_the_settings_reads_the_environment(module: str) -> None:
    assert environment_readers(module) == []


def test_the_log_reads_of_the_environment_only_what_cloud_run_calls_itself_and_whether_there_are_colours() -> None:
    assert environment_readers("shared.logs") == ["os"]
    uses = [node for node in nodes_of("shared.logs") if isinstance(node, ast.Name) and node.id == "os"]
    readings = [ast.unparse(call) for call in calls_of("shared.logs") if ast.unparse(call.func) == "os.environ.get"]
    assert sorted(readings) == [
        "os.environ.get('K_REVISION', 'local')",
        "os.environ.get('K_SERVICE', 'local')",
        "os.environ.get('NO_COLOR')",
    ]
    assert len(uses) == len(readings)


def test_the_settings_do_read_the_environment() -> None:
    """Else this test has lost sight of what it looks for."""
    assert environment_readers("shared.settings")


def catches_anything(node: ast.AST) -> bool:
    if not isinstance(node, ast.ExceptHandler):
        return False
    caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    return any(each is None or ast.unparse(each) in ("Exception", "BaseException") for each in caught)


@of_each(DEPLOYED)
def test_errors_are_caught_without_knowing_them_in_the_guards_only(module: str) -> None:
    guards = any(catches_anything(node) for node in nodes_of(module))
    assert guards is (module in GUARDS)


@of_each(DEPLOYED)
def test_nothing_is_suppressed_without_knowing_it(module: str) -> None:
    suppressed = [
        ast.unparse(argument)
        for call in calls_of(module)
        if ast.unparse(call.func) in ("suppress", "contextlib.suppress")
        for argument in call.args
    ]
    assert not {"Exception", "BaseException"} & set(suppressed)


# The root.

ENVIRONMENT = {
    "SUPABASE_URL": "http://127.0.0.1:1",
    "WAPI_BASE_URL": "http://127.0.0.1:1/v1",
    "SUPABASE_SERVICE_ROLE_KEY": "sb_secret_0123456789",
    "WAPI_WEBHOOK_SECRETS": "0123456789abcdef",
}


def at_the_root(script: str, environment: dict[str, str]) -> str:
    """What a fresh process at the root prints."""
    ran = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_root_loads_nothing_before_a_function_is_asked_for_and_then_only_that_one() -> None:
    """A deployment has the settings of its own function, and pays at a cold start for that alone."""
    script = """
import sys, main
ours = lambda: list(name for name in sys.modules if name.split(".")[0] in ("functions", "shared"))
assert ours() == [] and "supabase" not in sys.modules, ours()
function = main.follow_up_check
assert callable(function) and function.__name__ == "follow_up_check", function
assert "functions.follow_up_check.main" in ours() and not [name for name in ours() if "wapi_webhook" in name], ours()
assert main.follow_up_check is function
assert not {"apprise", "requests", "markdown"} & set(sys.modules), "channels are imported when something is due"
"""
    without_the_webhooks = {name: value for name, value in ENVIRONMENT.items() if name != "WAPI_WEBHOOK_SECRETS"}
    channels = {"ALERT_EMAIL_URL": "mailtos://u:p@h", "OPERATOR_ALERT_URLS": "tgram://123:x/1"}
    at_the_root(script, without_the_webhooks | channels)


def test_the_root_finds_the_webhook_too() -> None:
    script = """
import inspect, main
assert callable(main.wapi_webhook) and main.wapi_webhook.__name__ == "wapi_webhook"
assert inspect.iscoroutinefunction(inspect.unwrap(main.wapi_webhook))
"""
    at_the_root(script, ENVIRONMENT)


def test_a_function_starts_without_what_only_sessions_of_users_and_sealed_events_need() -> None:
    script = """
import gc, sys, main
main.wapi_webhook
assert "supabase" in sys.modules and "cryptography" not in sys.modules, "a fifteenth of a cold start"
assert gc.isenabled() and gc.get_freeze_count() > 10_000, "what was imported is not walked, what comes is"
from pydantic import SecretStr
from shared.providers.wapi.events import parse_event
from shared.webhook.dead_letters import log_undelivered
log_undelivered(parse_event(b'{"event": "webhookConnected", "instanceId": "L"}'), SecretStr("0" * 43 + "="))
assert "cryptography" in sys.modules, "an event was sealed after all"
"""
    at_the_root(script, ENVIRONMENT)


def test_the_root_names_what_exists_when_it_is_asked_for_something_else() -> None:
    script = """
import main
for name in ("follow_up_chek", "functions", "os"):
    try:
        getattr(main, name)
    except AttributeError as error:
        print(error)
assert not hasattr(main, "anything")
"""
    said = at_the_root(script, {}).splitlines()
    assert len(said) == 3
    for line, wrong in zip(said, ("follow_up_chek", "functions", "os"), strict=True):
        assert wrong in line
        assert "follow_up_check" in line
        assert "wapi_webhook" in line


def test_the_root_offers_every_function_that_there_is() -> None:
    folders = {path.parent.name for path in (ROOT / "functions").glob("*/main.py")}
    said = at_the_root("import main\ntry: main.x\nexcept AttributeError as error: print(error)", {})
    assert all(folder in said for folder in folders)

"""The report in a real Chromium: it asks nobody for anything, fits a phone, and says what it must, in light and in dark."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import sync_playwright
from report_history import NOW, ago, company, line, made_up_month, outage, uuid
from report_history import day_of_history as history
from test_report_page import HOSTILE

from ops.report.figures import figure
from ops.report.page import render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, BrowserContext, Page

    from ops.report.history import History

INSTALL_SECONDS = 240


def browser() -> str | None:
    return shutil.which("chromium")


def install_chromium() -> str | None:
    """Install Debian's package; answer what went wrong. One test process at a time: apt has one lock."""
    with (Path(tempfile.gettempdir()) / "chromium-for-tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if browser():
            return None
        commands = (["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", "chromium"])
        for command in commands:
            try:
                ran = subprocess.run(
                    command,
                    env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=INSTALL_SECONDS,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return f"`{' '.join(command)}` took longer than {INSTALL_SECONDS} s"
            if ran.returncode:
                return f"`{' '.join(command)}` failed: {ran.stderr.strip()[-300:]}"
    return None if browser() else "the package brought no `chromium`"


@pytest.fixture(scope="session")
def chromium() -> str:
    """Debian's Chromium; as root (CI) it is installed when absent."""
    if not browser():
        how = "install it with `apt-get install chromium`"
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            pytest.skip(f"no `chromium` on PATH: {how}")
        wrong = install_chromium()
        if wrong:
            pytest.skip(f"no `chromium`, and it cannot be installed ({wrong}): {how}")
    found = browser()
    assert found
    return found


FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PHONE = {"width": 360, "height": 780}
DESKTOP = {"width": 1280, "height": 900}
ZONE = ZoneInfo("America/Sao_Paulo")

CONTRASTS = """
() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const parse = (color) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b]
    .map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color[3] === 255) return color;
    }
    return [255, 255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
    const pair = [light(parse(getComputedStyle(element).color)), light(ground(element))].sort((a, b) => b - a);
    found.push([(pair[0] + 0.05) / (pair[1] + 0.05), walker.currentNode.data.trim()]);
  }
  return found;
}
"""


@pytest.fixture(scope="module")
def engine(chromium: str) -> Iterator[Browser]:
    """Not for the session: Playwright's loop would be in the way of asynchronous tests."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield running
        running.close()


class Shown:
    """A page of the report, opened as a file; ``asked`` and ``complained`` must stay empty."""

    def __init__(self, context: BrowserContext, file: Path) -> None:
        self.page: Page = context.new_page()
        self.asked: list[str] = []
        self.complained: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.complained.append(message.text))
        self.page.on("pageerror", lambda error: self.complained.append(str(error)))
        self.page.goto(file.as_uri())
        assert self.asked.pop(0) == file.as_uri()

    @property
    def overflow(self) -> int:
        """By how many pixels the page is wider than its window."""
        return self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")

    def unfold(self) -> None:
        self.page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")

    def top_of(self, selector: str) -> float:
        box = self.page.locator(selector).first.bounding_box()
        assert box, f"{selector} is not shown"
        return box["y"]


@pytest.fixture
def show(engine: Browser, tmp_path: Path) -> Iterator[Callable[..., Shown]]:
    contexts: list[BrowserContext] = []

    def open_page(
        known: History, *, scheme: str = "light", size: dict[str, int] = PHONE, scripts: bool = True
    ) -> Shown:
        file = tmp_path / "report.html"
        file.write_text(render(figure(known, now=NOW, zone=ZONE), zone=ZONE), "utf-8")
        contexts.append(
            engine.new_context(
                viewport=size,
                color_scheme=scheme,
                device_scale_factor=2 if size is PHONE else 1,
                java_script_enabled=scripts,
            )
        )
        return Shown(contexts[-1], file)

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize(("size", "scheme"), [(PHONE, "light"), (DESKTOP, "dark")], ids=["phone-light", "desktop-dark"])
def test_the_page_asks_nobody_complains_of_nothing_and_fits(
    show: Callable[..., Shown], size: dict[str, int], scheme: str
) -> None:
    """With REPORT_SHOTS, a folder, it also leaves screenshots for people to look at."""
    shown = show(made_up_month(), scheme=scheme, size=size)
    shown.unfold()
    assert shown.overflow == 0
    assert (shown.asked, shown.complained) == ([], [])
    if folder := os.environ.get("REPORT_SHOTS"):
        shown.page.reload()
        name = f"{'phone' if size is PHONE else 'desktop'}-{scheme}"
        shown.page.screenshot(path=f"{folder}/{name}.png")
        shown.page.screenshot(path=f"{folder}/{name}-whole.png", full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(show: Callable[..., Shown], scheme: str) -> None:
    """WCAG AA: 4.5 to 1, also for large texts."""
    known = made_up_month()
    stopped = replace(
        known, runs=[*known.runs[:-9], *(each.model_copy(update={"braked": True}) for each in known.runs[-9:-5])]
    )
    shown = show(stopped, scheme=scheme)
    assert shown.page.locator(".banner").count() == 2
    shown.unfold()
    contrasts = shown.page.evaluate(CONTRASTS)
    assert len(contrasts) > 300
    assert [(text, round(contrast, 2)) for contrast, text in contrasts if contrast < 4.5] == []


def test_dark_is_dark_and_light_is_light(show: Callable[..., Shown]) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    known = history()
    assert [show(known, scheme=scheme).page.evaluate(ground) for scheme in ("light", "dark")] == [
        "rgb(244, 245, 247)",
        "rgb(13, 16, 20)",
    ]


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_open_outages_stand_before_the_numbers_and_those_before_the_lines(
    show: Callable[..., Shown], size: dict[str, int]
) -> None:
    shown = show(made_up_month(), size=size)
    order = ["h1", ".verdict", "#quedas", ".outage", "#resumo", ".tile", "#linhas", ".line .b", "#reinicios", "#tempos", "#verificacoes", "#freio", "#como"]  # fmt: skip
    tops = [shown.top_of(selector) for selector in order]
    assert tops == sorted(tops)
    assert shown.page.locator(".outage").count() == 4
    assert shown.page.locator(".verdict").inner_text() == "3 linhas fora do ar"
    for text in (
        "ninguém é avisado",
        "há 2 h 13 min",
        "sim, 12:29 (3 pessoas)",
        "Últimas verificações",
        "Horário de Brasília",
    ):
        assert shown.page.get_by_text(
            text.replace(" h ", "\u00a0h\u00a0") if "há 2" in text else text
        ).first.is_visible(), text


def test_an_outage_is_seen_without_scrolling_on_a_phone(show: Callable[..., Shown]) -> None:
    assert show(made_up_month()).top_of(".outage .long") < PHONE["height"]


def test_the_colours_of_a_bar_are_those_of_its_legend(show: Callable[..., Shown]) -> None:
    shown = show(made_up_month())
    fills = shown.page.evaluate(
        "[...document.querySelectorAll('svg path:not(.t)')].map(each => [each.classList[0], getComputedStyle(each).fill])"
    )
    by_state = {(state, fill) for state, fill in fills}
    assert {state for state, _ in by_state} == set("updn")
    assert len(by_state) == len({fill for _, fill in by_state}) == 4
    assert shown.page.evaluate("document.querySelector('.line .b').getBoundingClientRect().width") > 100


def test_hostile_names_neither_run_nor_widen_nor_turn_the_page(show: Callable[..., Shown]) -> None:
    names = [*HOSTILE, "<img src=x onerror=alert(1)>", "<a href='https://example.com'>x</a>"]
    lines = [line(place, unit=name, external_id=name, company_id=uuid(place)) for place, name in enumerate(names, 1)]
    shown = show(
        history(
            companies={uuid(place): company(place, name) for place, name in enumerate(names, 1)},
            lines=lines,
            outages=[outage(ago(hours=1), number=place, id=place, unit=name) for place, name in enumerate(names, 1)],
        )
    )
    assert shown.overflow == 0
    assert (shown.asked, shown.complained) == ([], [])
    assert shown.page.locator("main script, img, main a:not([href^='#'])").count() == 0
    tallest = shown.page.evaluate(
        "Math.max(...[...document.querySelectorAll('bdi')].map(each => each.getBoundingClientRect().height))"
    )
    assert tallest < 100
    names_left = shown.page.evaluate(
        "[...document.querySelectorAll('.outage h3 bdi')].map(each => each.getBoundingClientRect().left)"
    )
    assert min(names_left) >= 0


def test_a_folded_company_opens_with_the_keyboard(show: Callable[..., Shown]) -> None:
    lines = [line(number, unit=f"Unidade {number:03}") for number in range(1, 101)]
    shown = show(history(lines=lines))
    first = shown.page.get_by_text("Unidade 001", exact=True)
    assert not first.is_visible()
    shown.page.locator(".company > summary").focus()
    shown.page.keyboard.press("Enter")
    assert first.is_visible()
    assert shown.overflow == 0


def test_two_thousand_lines_stay_a_page_of_folded_companies(show: Callable[..., Shown], tmp_path: Path) -> None:
    companies = {uuid(each): company(each, f"Empresa {each}") for each in range(1, 41)}
    lines = [line(number, company_id=uuid(number % 40 + 1)) for number in range(1, 2001)]
    broken = [
        outage(ago(days=each % 29, hours=2), ago(days=each % 29), number=each, id=each) for each in range(1, 2001)
    ]
    shown = show(history(companies=companies, lines=lines, outages=broken))
    assert shown.page.locator(".line").count() == 2000
    assert shown.page.evaluate("document.documentElement.scrollHeight") < 20_000
    assert shown.overflow == 0
    assert (tmp_path / "report.html").stat().st_size < 5_000_000


def test_it_prints_on_white_with_its_bars(show: Callable[..., Shown]) -> None:
    shown = show(made_up_month(), scheme="dark", size=DESKTOP)
    shown.page.emulate_media(media="print")
    assert shown.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not shown.page.locator("nav").is_visible()
    contrasts = shown.page.evaluate(CONTRASTS)
    assert [(text, round(contrast, 2)) for contrast, text in contrasts if contrast < 4.5] == []
    assert shown.page.pdf(format="A4", print_background=False).startswith(b"%PDF")


def sixty_lines() -> History:
    """Of twelve companies, ten lines down in ten of them."""
    down = range(5, 51, 5)
    return history(
        companies={uuid(each): company(each, f"Empresa {each}") for each in range(1, 13)},
        lines=[
            line(each, company_id=uuid(each % 12 + 1), status="disconnected" if each in down else "connected")
            for each in range(1, 61)
        ],
        outages=[outage(ago(hours=each), number=each, id=each, restarts=4) for each in down],
    )


def test_sixty_lines_are_at_most_twelve_phone_screens(show: Callable[..., Shown]) -> None:
    size = {"width": 390, "height": 844}
    shown = show(sixty_lines(), size=size)
    assert shown.page.evaluate("document.documentElement.scrollHeight") <= 12 * size["height"]


def test_the_filter_shows_what_fits_and_a_link_unfolds_what_it_leads_to(show: Callable[..., Shown]) -> None:
    shown = show(sixty_lines(), size=DESKTOP)
    lines = shown.page.locator(".line:visible")
    before = lines.count()
    shown.page.fill("#filter", "EMPRESA 7, fora")
    assert (lines.count(), shown.page.locator("#found").inner_text()) == (1, "1 linha")
    shown.page.fill("#filter", "unidade 60")
    assert lines.count() == 1, "of a company that was folded"
    shown.page.fill("#filter", "")
    assert lines.count() == before
    shown.page.evaluate(f"location.hash = 'l{uuid(60).hex}'")
    shown.page.locator(f"#l{uuid(60).hex}").wait_for(state="visible")
    assert (shown.asked, shown.complained) == ([], [])


def test_an_hour_of_a_bar_says_what_it_was(show: Callable[..., Shown]) -> None:
    shown = show(
        history(
            outages=[
                outage(ago(hours=3), ago(hours=2)),
                *[outage(ago(days=n), ago(days=n, minutes=-1), id=n) for n in (2, 3)],
            ],
            lines=[line(status="degraded")],
        ),
        size=DESKTOP,
    )
    bar = shown.page.locator("svg.b").first
    box = bar.bounding_box()
    assert box
    bar.hover(position={"x": box["width"] * 21.5 / 24, "y": 3})
    assert shown.page.locator("#tip").inner_text() == "26/11, 11:42 a 12:42: fora do ar"
    shown.page.mouse.move(1, 1)
    assert not shown.page.locator("#tip").is_visible()


def test_without_scripts_the_page_is_whole(show: Callable[..., Shown]) -> None:
    shown = show(made_up_month(), scripts=False)
    assert shown.page.locator(".line").count() == 12
    assert shown.page.get_by_text("Escaneie o QR Code").first.is_visible()
    assert not shown.page.locator("#filter").is_visible()

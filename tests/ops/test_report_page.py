"""The report's page as HTML: everything it must say is there, and nothing in a name can do it harm."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import timedelta
from html.parser import HTMLParser
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from report_history import NOW, ago, company, event, line, made_up_month, mute, outage, run, runs, uuid
from report_history import day_of_history as history

from ops.report import words
from ops.report.figures import figure
from ops.report.page import FIRST_OUTAGES, render
from ops.report.timeline import Uptime, Window

if TYPE_CHECKING:
    from ops.report.history import History

ZONE = ZoneInfo("America/Sao_Paulo")
VOID = {"meta", "link", "br", "path", "use", "input"}


class Page(HTMLParser):
    """The text of a page, its elements by name with their attributes, and whether it is well nested."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.source = page
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style", "title"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).replace("\u00a0", " ").split()).replace(" ,", ",")

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(known: History, **how: Any) -> Page:
    return Page(render(figure(known, now=NOW, zone=ZONE), zone=ZONE, **how))


def plain(text: str) -> str:
    return text.replace("\u00a0", " ")


def test_the_page_needs_nothing_from_anywhere_and_runs_its_own_script_alone() -> None:
    page = page_of(made_up_month())
    names = {name for name, _ in page.elements}
    assert page.all("script") == [{}]
    assert not names & {"img", "iframe", "form", "object", "embed", "base", "audio", "video"}
    assert [each["href"] for each in page.all("link")] == ["data:,"]
    for _, attributes in page.elements:
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "srcset")]
        assert str(attributes.get("href") or "#").startswith(("#", "data:,"))
    assert "url(" not in page.source
    assert "@import" not in page.source


def test_the_policy_allows_the_pages_own_style_and_script_and_nothing_else() -> None:
    page = page_of(history())
    [policy] = [each["content"] for each in page.all("meta") if each.get("http-equiv") == "Content-Security-Policy"]
    [style] = re.findall(r"<style>(.*?)</style>", page.source, re.DOTALL)
    [script] = re.findall(r"<script>(.*?)</script>", page.source, re.DOTALL)
    of_style, of_script = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)
    )
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{of_style}'; script-src 'sha256-{of_script}'; img-src data:;"
        " base-uri 'none'; form-action 'none'"
    )


def test_the_headings_of_the_page_leave_no_level_out() -> None:
    levels = [int(name[1]) for name, _ in page_of(made_up_month()).elements if re.fullmatch(r"h[1-6]", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_every_bar_says_in_words_what_it_shows_and_every_column_has_a_header() -> None:
    page = page_of(made_up_month())
    shown = [each for each in page.all("svg") if each.get("role") == "img"]
    assert len(shown) == 3 * 12
    assert all(re.match(r"Últim[ao]s (24 h|7 dias|30 dias): \d", plain(each["aria-label"] or "")) for each in shown)
    assert all(each.get("scope") == "col" for each in page.all("th") if each.get("role") == "columnheader")
    assert len(page.all("caption")) == len(page.all("table"))
    targets = [each["id"] for _, each in page.elements if "id" in each]
    assert len(targets) == len(set(targets))
    links = [str(each["href"])[1:] for tag in ("a", "use") for each in page.all(tag)]
    assert set(links) <= set(targets)


def test_open_outages_come_before_everything_else_with_what_was_tried_and_who_was_told() -> None:
    still = outage(ago(hours=2, minutes=13), restarts=2, told_at=ago(hours=2, minutes=12), reason="ghost", unit="Moema")
    told = [
        event(ago(hours=2), "restart_requested", id=1, outage_id=uuid(100)),
        event(ago(hours=2), "restart_failed", id=2, outage_id=uuid(100)),
        event(ago(hours=1), "restart_requested", id=3, outage_id=uuid(100)),
        event(ago(hours=1), "restart_unverified", id=4, outage_id=uuid(100)),
        event(ago(hours=2), "status_changed", id=5, outage_id=uuid(100), to_status="disconnected", told=3),
    ]
    down = line(unit="Moema", status="disconnected", last_alive_at=ago(hours=3))
    text = page_of(history(lines=[down], outages=[still], events=told)).text
    begin, end = text.index("Quedas abertas (1)"), text.index("No ar, 24 h")
    card = text[begin:end]
    assert begin < end < text.index("Linhas (1)")
    for said in (
        "Moema fora do ar Buffet Alegria há 2 h 13 min desde 12:29",
        "o provedor diz que está conectada, mas não há celular pareado",
        "2 reinícios pedidos 12:42 : não resolveu 13:42 : sem resposta conclusiva",
        "sim, 12:30 (3 pessoas)",
        "LITE-AB12CD-000001 · tel. final 0001",
    ):
        assert said in card, card


@pytest.mark.parametrize(
    ("columns", "told", "said"),
    [
        pytest.param({}, None, "Aviso ainda não", id="not yet"),
        pytest.param({"told_at": ago(minutes=9)}, 1, "Aviso sim, 14:33 (1 pessoa)", id="one"),
        pytest.param({"told_at": ago(minutes=9), "told_as": "unstable"}, 2, "sim, como instável, 14:33 (2 pessoas)", id="unstable"),
        pytest.param({"told_at": ago(minutes=9), "told_as": "damped"}, 0, "ninguém: a linha está instável, e todos já sabem", id="damped"),
        pytest.param({"told_at": ago(minutes=9)}, 0, "ninguém: a empresa não tem usuários", id="nobody is there"),
        pytest.param({"told_at": ago(days=50)}, None, "Aviso sim, 07/10 14:42 Linha", id="the audit is gone"),
        pytest.param({"opened_by": "adoption"}, None, "não: a queda é anterior à adoção", id="adopted"),
        pytest.param({"opened_by": "adoption"}, None, "há mais de 10 min já estava fora na primeira", id="since when is not known"),
        pytest.param({"reason": "refused"}, None, "nenhum reinício: não resolveria", id="refused"),
        pytest.param({"restarts": 4}, None, "4 reinícios pedidos Aviso", id="restarts too old to be read are counted"),
        pytest.param({"reason": "something new"}, None, "Sinal outro motivo", id="a word of another version"),
    ],
)  # fmt: skip
def test_an_outage_says_what_is_known_of_it_and_no_more(columns: dict[str, Any], told: int | None, said: str) -> None:
    rang = event(ago(minutes=9), "status_changed", id=1, outage_id=uuid(100), to_status="disconnected", told=told)
    assert said in page_of(history(outages=[outage(ago(minutes=10), **columns)], events=[rang])).text


@pytest.mark.parametrize(
    ("columns", "of_the_line", "said"),
    [
        pytest.param({"reason": "refused"}, {}, "Fale com o suporte: o token da instância precisa ser conferido.", id="refused"),
        pytest.param({"reason": "not_found"}, {}, "Fale com o suporte: a instância não existe mais no provedor.", id="not found"),
        pytest.param({"restarts": 4}, {"last_restart_at": ago(hours=1)}, "Escaneie o QR Code em Configurações. Os 4 reinícios seguidos se esgotaram; o próximo vem a partir de", id="used up"),
        pytest.param({"restarts": 1}, {"last_restart_at": ago(minutes=10)}, "O próximo reinício automático vem a partir de 15:02.", id="the next one has its time"),
        pytest.param({}, {}, "O próximo reinício automático vem na próxima verificação.", id="none yet"),
        pytest.param({}, {"status": "degraded"}, "Aguarde alguns minutos: o próximo reinício vem na próxima verificação.", id="not given up"),
    ],
)  # fmt: skip
def test_every_open_outage_says_what_to_do(columns: dict[str, Any], of_the_line: dict[str, Any], said: str) -> None:
    down = line(**{"status": "disconnected"} | of_the_line)
    assert said in page_of(history(lines=[down], outages=[outage(ago(hours=2), **columns)])).text


def test_a_line_that_falls_and_comes_back_stands_on_top_with_a_chip_and_links_lead_to_it() -> None:
    falls = [outage(ago(hours=each), ago(hours=each - 1), number=2, id=each) for each in (2, 5, 9)]
    once = outage(ago(hours=2), ago(hours=1), number=3, id=50)
    page = page_of(history(lines=[line(1), line(2), line(3)], outages=[*falls, once]))
    assert "1 caindo e voltando" in page.text
    assert page.text.index("Caindo e voltando Unidade 2 Buffet Alegria 3 quedas em 24 h") < page.text.index(
        "Resumo No ar"
    )
    assert page.text.index("Unidade 2 no ar 3 quedas em 24 h") < page.text.index("Unidade 1 no ar")
    assert page.text.count("3 quedas em 24 h") == 2
    assert [each["id"] for each in page.all("li") if each.get("class") == "line"] == [
        f"l{uuid(n).hex}" for n in (2, 1, 3)
    ]
    assert {"href": f"#l{uuid(2).hex}"} in page.all("a")


def test_all_outages_of_a_line_are_listed() -> None:
    many = [outage(ago(days=each, hours=1), ago(days=each), id=each) for each in range(1, 26)]
    text = page_of(history(outages=many)).text
    assert text.count("1 h: vista funcionando numa verificação") == 25


def test_what_is_well_begins_folded_and_what_is_not_does_not() -> None:
    lines = [line(each, company_id=uuid(1 + each % 2)) for each in range(1, 13)]
    lines[0] = line(1, company_id=uuid(2), status="disconnected")
    both = {uuid(1): company(1, "Tudo bem"), uuid(2): company(2, "Nem tanto")}
    page = page_of(history(companies=both, lines=lines))
    folds = [each for each in page.all("details") if each.get("class") == "card company"]
    assert ["open" in each for each in folds] == [True, False]
    assert page.text.index("Nem tanto") < page.text.index("5 outras linhas, sem problema") < page.text.index("Tudo bem")


def test_a_page_that_is_written_again_reloads_itself() -> None:
    page = page_of(history(), reload_seconds=60)
    assert {"http-equiv": "refresh", "content": "60"} in page.all("meta")
    assert "que se atualiza a cada 60 s" in page.text
    assert not [each for each in page_of(history()).all("meta") if each.get("http-equiv") == "refresh"]


def test_the_pages_portuguese_is_that_of_people() -> None:
    text = page_of(made_up_month()).text
    headings = re.findall(
        r"<h\d[^>]*>(.*?)</h\d>|<caption[^>]*>(.*?)</caption>|<dt>(.*?)</dt>", page_of(made_up_month()).source
    )
    for word in ("«", "»", "prova de vida", "viva", "morta", "morte", "fantasma"):
        assert word not in text, word
    assert not [each for each in headings if "MTT" in "".join(each)]


def test_an_outage_of_a_line_that_was_not_read_keeps_its_copy_of_the_name() -> None:
    assert "Moema fora do ar" in page_of(history(lines=[], outages=[outage(ago(hours=1), unit="Moema")])).text


def test_many_open_outages_are_folded_and_none_is_missing() -> None:
    lines = [line(number) for number in range(1, 31)]
    page = page_of(history(lines=lines, outages=[outage(ago(hours=1), number=each, id=each) for each in range(1, 31)]))
    assert f"Mais {30 - FIRST_OUTAGES} quedas abertas" in page.text
    assert page.source.count('<li class="card outage') == 30


@pytest.mark.parametrize(
    ("known", "said"),
    [
        pytest.param(history(), "Todas as linhas no ar", id="all up"),
        pytest.param(history(lines=[line(status="disconnected"), line(2)]), "1 linha fora do ar", id="one down"),
        pytest.param(history(lines=[line(status="degraded")]), "1 linha instável", id="unstable"),
        pytest.param(history(lines=[line(last_alive_at=ago(hours=1))]), "1 linha sem confirmação", id="nobody saw it"),
        pytest.param(history(lines=[line(is_active=False)]), "Nenhuma linha em vigilância", id="all paused"),
        pytest.param(history(lines=[]), "Nenhuma linha cadastrada", id="none"),
        pytest.param(history(), "Nenhuma queda aberta", id="no outage"),
        pytest.param(history(), "O freio não entrou em 30 dias", id="no brake"),
        pytest.param(history(runs=[]), "Ninguém está olhando as linhas: nenhuma verificação terminou em 30 dias", id="no sweep ever"),
        pytest.param(history(runs=runs(ago(days=1), ago(hours=3))), "começou em 26/11/2026 11:42, há 3 h", id="sweeps stopped"),
        pytest.param(history(runs=[*runs(ago(days=1), ago(minutes=5)), run(NOW, braked=True)]), "O freio está ligado desde 26/11/2026 14:42", id="the brake is on"),
        pytest.param(history(runs=[run(ago(hours=1), finished_at=None)]), "13:42 interrompida", id="a sweep that was cut off"),
        pytest.param(history(runs=[run(NOW, finished_at=None)]), "14:42 em andamento", id="a sweep that runs"),
        pytest.param(history(runs=[run(NOW, left_due=7)]), "3,0 s 7", id="what a sweep left"),
        pytest.param(history(runs=[run(NOW, outcomes={"restarted": 2, "recovered": 1, "notified": 3, "new": 1})]), "2 reinícios, 1 resolveu, 3 notificações, 1 new", id="what a sweep did"),
        pytest.param(history(runs=[run(NOW, observations={"ALIVE": 7, "GHOST": 1, "UNKNOWN": 2})]), "7 funcionando, 1 conectada só no painel, 2 sem resposta", id="what a sweep saw"),
        pytest.param(history(lines=[line(last_alive_at=None)]), "24 h sem dados", id="nothing is known of a line"),
        pytest.param(history(), "Dados de 26/11/2026 14:42 . Horário de Brasília (America/Sao_Paulo)", id="whose clock"),
        pytest.param(history(lines_left=True), "Há mais linhas; 1 foi lida.", id="lines were not read"),
        pytest.param(history(outages_since=ago(days=3)), "Quedas encerradas só desde 23/11/2026 14:42; o tempo antes é “sem dados”", id="outages were not read"),
        pytest.param(history(events_since=ago(days=3)), "Reinícios só desde 23/11/2026 14:42", id="restarts were not read"),
        pytest.param(history(runs_since=ago(days=3)), "Verificações só desde 23/11/2026 14:42", id="sweeps were not read"),
    ],
)  # fmt: skip
def test_the_page_says_it(known: History, said: str) -> None:
    assert said in page_of(known).text


def test_a_page_that_was_read_in_full_does_not_speak_of_bounds() -> None:
    assert "Nem tudo foi lido" not in page_of(history()).text


def test_a_page_of_one_company_says_so_and_whose_sweeps_it_shows() -> None:
    text = page_of(history(), scope="Buffet Alegria").text
    assert "Linhas de WhatsApp · Buffet Alegria" in text
    assert "os números são de toda a plataforma" in text


HOSTILE = (
    "<script>alert(1)</script>",
    "\"' onmouseover=alert(1) x='",
    "</bdi></details></style><h1>",
    "{{ 7*7 }} {% raw %}",
    "Moema \u202e\u2066exe.gpj",
    "مطعم الشاطئ שלום",
    "👩\u200d👩\u200d👧\u200d👦 Festa 🎉",
    "a\x00b\x07c\x1b[31m\u2028d\ufeff",
    "W" * 5000,
    "Z\u0301" * 3000,
    "&lt;b&gt; &amp; &#x3c;",
    "javascript:alert(1)",
    "]]> <!-- --> <![CDATA[",
)


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_no_name_can_become_markup_reach_beyond_itself_or_fill_the_page(name: str) -> None:
    tame = page_of(history(outages=[outage(ago(hours=1)), outage(ago(days=1), ago(hours=20), id=2)]), scope="x")
    known = history(
        companies={uuid(1): company(name=name)},
        lines=[line(unit=name, external_id=name)],
        outages=[outage(ago(hours=1), unit=name, external_id=name), outage(ago(days=1), ago(hours=20), id=2)],
    )
    page = page_of(known, scope=name)
    assert [tag for tag, _ in page.elements if tag not in ("path", "br")] == [
        tag for tag, _ in tame.elements if tag not in ("path", "br")
    ]
    assert {key for _, attributes in page.elements for key in attributes} == {
        key for _, attributes in tame.elements for key in attributes
    }
    assert not re.search(r"[\u202a-\u202e\u2066-\u2069\u2028\x00-\x08\x0e-\x1f\ufeff]", page.source)
    assert len(page.source) < len(tame.source) + 20 * 6 * 121
    assert words.name(name) in page.text or " ".join(words.name(name).split()) in page.text


@pytest.mark.parametrize(
    ("candidates", "shown"),
    [
        pytest.param(("Moema", "LITE-1"), "Moema", id="the unit"),
        pytest.param((None, "LITE-1"), "LITE-1", id="without one the external id"),
        pytest.param(("  \u200b\u202e ", "LITE-1"), "LITE-1", id="a unit that shows nothing is none"),
        pytest.param(("\u0301", "LITE-1"), "LITE-1", id="a mark without a letter is none"),
        pytest.param((None, ""), "(sem nome)", id="neither"),
        pytest.param(("Bar  do\n Zé",), "Bar do Zé", id="one line"),
        pytest.param(("x" * 121,), "x" * 119 + "…", id="at most 120 characters"),
        pytest.param(("x" * 120,), "x" * 120, id="120 are not cut"),
        pytest.param(("👩\u200d🍳",), "👩\u200d🍳", id="an emoji stays whole"),
    ],
)
def test_a_name_is_one_line_that_shows_something(candidates: tuple[str | None, ...], shown: str) -> None:
    assert words.name(*candidates) == shown


@pytest.mark.parametrize(
    "phone", ["5511987654321", "+55 (11) 98765-4321", "5511987654321@s.whatsapp.net", 5511987654321]
)
def test_of_a_phone_only_the_last_four_digits_are_read(phone: object) -> None:
    read = line(phone_number=phone)
    assert read.phone_number == "4321"
    assert "98765" not in repr(read)
    assert "tel. final 4321" in page_of(history(lines=[read])).text


@pytest.mark.parametrize("phone", [None, "", "@s.whatsapp.net"])
def test_without_a_phone_none_is_shown(phone: str | None) -> None:
    assert "tel. final" not in page_of(history(lines=[line(phone_number=phone)])).text


@pytest.mark.parametrize(
    ("length", "said"),
    [
        (timedelta(0), "menos de 1 s"),
        (timedelta(seconds=-5), "menos de 1 s"),
        (timedelta(seconds=59.9), "59 s"),
        (timedelta(seconds=60), "1 min"),
        (timedelta(seconds=61), "1 min 1 s"),
        (timedelta(minutes=10, seconds=5), "10 min"),
        (timedelta(minutes=59, seconds=59), "59 min"),
        (timedelta(hours=2, minutes=5), "2 h 5 min"),
        (timedelta(hours=3), "3 h"),
        (timedelta(hours=47), "1 dia 23 h"),
        (timedelta(days=2, minutes=59), "2 dias"),
        (timedelta(days=400, hours=3), "400 dias 3 h"),
    ],
)
def test_durations_read_like_a_person_says_them(length: timedelta, said: str) -> None:
    assert plain(words.duration(length)) == said


@pytest.mark.parametrize(
    ("share", "said"),
    [(1.0, "100 %"), (0.99999, "99,99 %"), (0.999, "99,9 %"), (0.5, "50 %"), (0.00001, "0 %"), (0.0, "0 %"), (None, "sem dados"), (0.1, "10 %")],
)  # fmt: skip
def test_a_share_is_rounded_down_so_that_100_percent_means_all(share: float | None, said: str) -> None:
    assert plain(words.percent(share)) == said


@pytest.mark.parametrize(
    ("share", "said"), [(0, "0 %"), (0.001, "1 %"), (0.999, "99 %"), (1, "100 %"), (0.505, "50 %")]
)
def test_a_whole_percentage_says_none_and_all_of_nothing_else(share: float, said: str) -> None:
    assert plain(words.rounded(share)) == said


def test_a_bar_tells_who_does_not_see_it_how_long_the_line_was_up_down_and_out_of_sight() -> None:
    time = Uptime(timedelta(hours=20), timedelta(hours=3, minutes=30), timedelta(minutes=30))
    assert plain(words.bar(Window.DAY, time)) == "Últimas 24 h: 20 h no ar, 3 h 30 min fora do ar, 30 min sem dados"


def test_a_line_that_does_not_receive_is_said_in_the_verdict_with_the_line_and_in_the_summary() -> None:
    page = Page(render(figure(history(mutes=[mute(ago(hours=3))]), now=NOW, zone=ZONE), zone=ZONE))
    assert "1 linha sem receber mensagens" in page.text
    assert "sem receber desde" in page.text
    assert "Sem receber: 3 h em 30 dias (1 vez)" in page.text
    assert "Sem receber, 30 dias 3 h 1 linha" in page.text
    well = Page(render(figure(history(), now=NOW, zone=ZONE), zone=ZONE))
    assert "Sem receber:" not in well.text

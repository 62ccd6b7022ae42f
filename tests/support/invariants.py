"""The invariants of the design (section 4), checked from the tables and the simulator's own counts.

``check_invariants(world, history)`` judges what has happened since the last check. Each check is named after what must
hold and cites its invariant; none asks what our code reports about itself.
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

from history import OPEN, UP, as_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from history import History, Row
    from world import World

COOLDOWN = timedelta(minutes=30)
CLAIM_TO_REQUEST = timedelta(seconds=30)
"""A restart is claimed on the database's clock and reaches the provider a moment later."""
WAITS_IN_AN_OUTAGE = (
    timedelta(0), timedelta(minutes=30), timedelta(hours=1), timedelta(hours=2), timedelta(hours=24)
)  # fmt: skip
SCANNING = timedelta(minutes=10)
"""In an outage that an event or a screen opened, nobody is restarted before."""
LIFE_IS_FRESH = timedelta(seconds=4)
"""An event's moment is a whole second of another clock; looks begun within five seconds may not overrule it."""
BODIES_ARE_KEPT = timedelta(hours=47)
DOWN, BACK, UNVERIFIED = "instance_disconnected", "instance_reconnected", "instance_unverified"
STILL_DOWN = "instance_still_disconnected"
FALLS = ("down", "unstable", "down_lasting")
DAY = timedelta(hours=24)
STABLE = timedelta(minutes=60)
MOST = 7
A_SWEEP = timedelta(minutes=2)
"""What is due at the step's end may have become so after its sweep."""


def check_invariants(world: World, history: History) -> None:
    """Judge the step that ends here, and begin the next.

    Raises:
        AssertionError: Naming the invariant, the line and what is wrong.
    """
    history.look()
    for check in CHECKS:
        check(history)
    history.close_step()


def _must(holds: object, invariant: str, line: object, what: str) -> None:
    assert holds, f"invariant {invariant}: line {line}: {what}"


# 1


def a_line_is_restarted_at_most_once_in_thirty_minutes(history: History) -> None:
    """Invariant 1, from the requests that reached the provider."""
    for line, times in history.requests.items():
        for earlier, later in zip(sorted(times), sorted(times)[1:], strict=False):
            gap = later - earlier
            _must(gap >= COOLDOWN - CLAIM_TO_REQUEST, "1", line, f"two restarts within {gap}")


def no_restart_is_sent_without_its_claim(history: History) -> None:
    """Invariant 1: the claim is committed before the request is sent."""
    claimed = Counter(row["instance_id"] for row in history.after.audit if row["kind"] == "restart_requested")
    for line, times in history.restarts.items():
        _must(len(times) <= claimed[line], "1", line, f"{len(times)} requests, {claimed[line]} claims")


def restarts_in_an_outage_are_spaced_whatever_word_the_row_holds(history: History) -> None:
    """Section 3.1: at once, then 30, 60 and 120 min after the last, then one a day; not while somebody scans."""
    last: dict[str, Row] = {}
    new = {row["id"] for row in history.new_audit()}
    for row in history.after.audit:
        if row["kind"] != "restart_requested":
            continue
        line, number = row["instance_id"], row["details"]["restarts_in_outage"]
        before, last[line] = last.get(line), row
        outage = history.after.outages[row["outage_id"]]
        if row["id"] not in new or outage["started_at"] is None or line in history.step.disturbed:
            continue
        if before is not None and number > 1:
            waited, wait = row["at"] - before["at"], WAITS_IN_AN_OUTAGE[min(number, len(WAITS_IN_AN_OUTAGE)) - 1]
            _must(waited >= wait, "3.1", line, f"restart {number} after {waited}")
        if number == 1 and outage["opened_by"] in ("webhook", "screen") and outage["id"] in history.before.outages:
            age = row["at"] - outage["opened_at"]
            _must(age >= SCANNING, "3.1", line, f"restarted {age} after {outage['opened_by']} opened its outage")


# 2


def every_change_of_status_has_one_audit_row(history: History) -> None:
    """Invariant 2: the rows of the audit lead from the old status to the new one, without a gap."""
    for line, after in history.after.lines.items():
        before = history.before.lines.get(line)
        if before is None or line in history.step.disturbed:
            continue
        status = before["status"]
        for row in history.new_audit(line):
            if row["kind"] == "status_changed":
                _must(row["from_status"] == status, "2", line, f"{status} became {row['from_status']} unseen")
                _must(row["to_status"] != status, "2", line, f"a change from {status} to {status}")
                status = row["to_status"]
            elif row["to_status"] != row["from_status"]:
                told = any(
                    (each["kind"], each["at"], each["from_status"], each["to_status"])
                    == ("status_changed", row["at"], row["from_status"], row["to_status"])
                    for each in history.new_audit(line)
                )
                _must(told, "2", line, f"{row['kind']} says {row['from_status']} -> {row['to_status']}, which was not")
        _must(after["status"] == status, "2", line, f"became {after['status']}, the audit says {status}")


def no_line_is_marked_without_its_bell(history: History) -> None:
    """Invariant 2: a line that our code marks has an outage that was told by then, unless adoption found it so."""
    for row in history.new_audit():
        if row["kind"] != "status_changed" or row["to_status"] == "connected":
            continue
        if row["reason"] == "unverified":
            _must(row["to_status"] == "degraded", "4", row["instance_id"], "marked for its silence")
            continue
        outage = history.after.outages.get(row["outage_id"])
        _must(outage, "2", row["instance_id"], f"became {row['to_status']} without an outage")
        if row["to_status"] == "disconnected":
            settled = outage["told_at"] is not None and outage["told_at"] <= row["at"]
            # A damped one is told by a later sweep, when it has lasted.
            told = settled or outage["told_as"] == "down_lasting"
            adopted = outage["opened_by"] == "adoption"
            nobody = not any(company == outage["company_id"] for company, _ in history.before.members)
            _must(told or adopted or nobody, "2", row["instance_id"], "marked without a bell")


def a_fall_is_told_to_each_member_of_that_moment(history: History) -> None:
    """Invariants 2, 3 and 5: what a fall is told as is told to everybody who belongs and has a place."""
    for outage in history.after.outages.values():
        line, kind, company = outage["instance_id"], outage["told_as"], outage["company_id"]
        before = history.before.outages.get(outage["id"])
        known = before is not None and (before["told_as"], before["company_id"]) == (kind, company)
        notices = [each for each in _notices(history) if each["occasion"] == f"outage:{outage['id']}"]
        if kind is None:
            _must(not notices, "2", line, "notices of an outage that says nobody was told")
            continue
        if kind == "damped":
            said = [each["kind"] for each in notices if each["company_id"] == company and each["kind"] in FALLS]
            moved = before is not None and before["company_id"] != company
            _must(not said or moved, "3.4", line, f"{said} of a fall that is said to be silent")
        if known or kind == "damped":
            continue
        heard = {each["user_id"] for each in notices if each["kind"] == kind}
        for user in _members(history, company) - heard:
            full = _lately(history, line, user, history.after.at(outage["told_at"])) >= MOST
            full = full or _lately(history, line, user, history.after.at(history.after.now)) >= MOST
            _must(full, "2", line, f"a member who did not hear {kind}")


def every_new_notice_reaches_a_member_in_one_transaction_with_its_audit(history: History) -> None:
    """Invariants 2 and 5: for the line's company of that moment and nobody else; the audit counts it."""
    known = {row["id"] for row in history.before.tables["notices"]}
    groups: dict[tuple[str, int], list[Row]] = {}
    for notice in _notices(history):
        if notice["id"] not in known:
            groups.setdefault((notice["instance_id"], notice["event_id"]), []).append(notice)
    members = history.before.members | history.after.members
    audit = {row["id"]: row for row in history.after.audit}
    for (line, event), notices in groups.items():
        companies = {each["company_id"] for each in notices}
        _must(len(companies) == 1, "5", line, "one telling for two companies")
        owners = {
            snapshot.lines[line]["company_id"] for snapshot in (history.before, history.after) if line in snapshot.lines
        }
        _must(companies <= owners or line in history.step.disturbed, "5", line, "told to a company that it is not of")
        for notice in notices:
            _must((notice["company_id"], notice["user_id"]) in members, "5", line, "a bell for somebody outside")
        told = audit.get(event, {}).get("details", {}).get("told")
        _must(told == len(notices), "2", line, f"{len(notices)} notices, the audit says {told}")
        _must({each["told_at"] for each in notices} == {audit[event]["at"]}, "2", line, "not in one transaction")


def nobody_hears_more_than_seven_notices_of_a_line_in_a_day(history: History) -> None:
    """Section 3.4 and invariant 13; the seventh is bad news."""
    heard: dict[tuple[str, str], list[Row]] = {}
    for notice in _notices(history):
        if notice["kind"] != "subscription":
            heard.setdefault((notice["instance_id"], notice["user_id"]), []).append(notice)
    for (line, _), notices in heard.items():
        notices.sort(key=lambda each: (each["told_at"], each["id"]))
        for number, notice in enumerate(notices):
            lately = sum(each["told_at"] > notice["told_at"] - DAY for each in notices[: number + 1])
            _must(
                lately <= MOST - (notice["kind"] == "back"), "13", line, f"{notice['kind']} is number {lately} of a day"
            )


def nobodys_last_word_is_wrong_for_longer_than_the_bound_forces(history: History) -> None:
    """Section 3.4: after a whole sweep who belongs knows what is so, but for what damping and the bound keep back."""
    if history.step.sweeps != 1 or history.step.cut:
        return
    now = history.after.at(history.after.now)
    for line, row in history.after.lines.items():
        if row["is_active"] is False or line in history.step.disturbed | history.step.spoken | history.after.asleep:
            continue
        outage = history.after.open_outages.get(line)
        ended = [
            each["closed_at"]
            for each in history.after.outages.values()
            if each["instance_id"] == line and each["closed_at"]
        ]
        for user in _members(history, row["company_id"]):
            since = history.member_since.get((row["company_id"], user), now)
            last = _last_word(history, line, user)
            lately = _lately(history, line, user, now)
            if (
                outage is not None
                and outage["company_id"] == row["company_id"]
                and outage["told_as"] in ("down", "down_lasting")
            ):
                told = history.after.at(outage["told_at"])
                owed = since < told or now - max(since, told) > DAY + A_SWEEP
                bad = last is not None and last["kind"] != "back"
                _must(bad or not owed or lately >= MOST, "13", line, "is down, and somebody who belongs does not know")
            elif line in history.ever_paused or len(history.owners[line]) > 1:
                continue  # a pause and a move answer what was told before them
            elif outage is None and row["status"] == "connected" and last is not None and last["kind"] != "back":
                held = all(history.after.now - each > STABLE + A_SWEEP for each in ended)
                well = row["bad_since"] is None and row["unknown_since"] is None and held
                _must(
                    not well or since > history.after.at(last["told_at"]) or lately >= MOST - 1,
                    "3.4", line, f"has held for an hour, and somebody still believes {last['kind']}",
                )  # fmt: skip


def _notices(history: History) -> list[Row]:
    return [row for row in history.after.tables["notices"] if row["state"] == "sent"]


def _members(history: History, company: str) -> set[str]:
    """Who belonged all the time."""
    return {user for each, user in history.before.members & history.after.members if each == company}


def _lately(history: History, line: str, user: str, at: datetime | None) -> int:
    assert at is not None
    told = [
        history.after.at(row["told_at"]) for row in _notices(history)
        if (row["instance_id"], row["user_id"]) == (line, user) and row["kind"] != "subscription"
    ]  # fmt: skip
    return sum(each is not None and at - DAY < each <= at for each in told)


def _last_word(history: History, line: str, user: str) -> Row | None:
    """The last notice about whether the line lives; a pause answers what was told before it."""
    told = [
        row for row in _notices(history)
        if (row["instance_id"], row["user_id"]) == (line, user) and row["kind"] not in ("mute", "subscription")
    ]  # fmt: skip
    if not told:
        return None
    last = max(told, key=lambda row: (row["told_at"], row["id"]))
    outage = history.after.outages.get(last["outage_id"])
    is_answered = outage is not None and outage["closed_as"] in ("paused", "deleted")
    return None if is_answered else last


def every_bell_of_ours_has_its_outage(history: History) -> None:
    """Invariant 2: no bell without its status."""
    for row in history.after.tables["notifications"]:
        if row["type"] in (DOWN, BACK, STILL_DOWN) and "unverified_since" not in row["data"]:
            outage = row["data"].get("outage_id")
            _must(outage in history.after.outages, "2", row["data"].get("instance_id"), "a bell of no outage")


def every_bell_has_its_notice_and_every_notice_its_bell(history: History) -> None:
    """Invariants 2 and 3: what may not be told twice is kept by us, in the transaction that tells."""
    ours = (DOWN, STILL_DOWN, BACK, UNVERIFIED)
    rung = {row["id"]: row for row in history.after.tables["notifications"] if row["type"] in ours}
    told = {row["notification_id"]: row for row in history.after.tables["notices"] if row["state"] == "sent"}
    _must(rung.keys() == told.keys(), "2", "-", "bells and notices do not match")
    for bell, notice in told.items():
        occasion = re.sub(r"^reminder:(.*):\d+$", r"outage:\1", notice["occasion"])
        kept = (occasion, notice["user_id"], notice["company_id"], notice["instance_id"], notice["told_at"])
        row = rung[bell]
        outage = row["data"].get("outage_id")
        said = (
            f"outage:{outage}" if outage else notice["occasion"], row["user_id"], row["company_id"], row["data"]["instance_id"],
            row["created_at"],
        )  # fmt: skip
        _must(kept == said, "2", notice["instance_id"], f"the notice {kept} is not the bell {said}")


def from_every_new_notice_one_query_finds_why(history: History) -> None:
    """Invariant 12: the audit row that a notice names tells the look or the event behind it."""
    audit = {row["id"]: row for row in history.after.audit}
    known = {row["id"] for row in history.before.tables["notices"]}
    for notice in history.after.tables["notices"]:
        if notice["id"] in known:
            continue
        line, why = notice["instance_id"], audit.get(notice["event_id"])
        _must(why, "12", line, "a notice of no finding")
        _must(why["instance_id"] == line, "12", line, "a notice of another line's finding")
        details = why["details"]
        if why["source"] == "sweep":
            _must(why["run_id"], "12", line, "a sweep's notice without its run")
            _must(details.get("observation") and details.get("cause"), "12", line, f"no answer behind {details}")
        else:
            _must(details.get("event_id"), "12", line, f"no event behind {details}")


def outages_open_and_close_with_an_audit_row(history: History) -> None:
    """Invariant 2: of the same transaction. Only a silent cure may be taken back."""
    audit = history.new_audit()
    for outage in history.after.outages.values():
        line, before = outage["instance_id"], history.before.outages.get(outage["id"])
        said = {(row["kind"], row["at"]) for row in audit if row["outage_id"] == outage["id"]}
        if before is None:
            _must(("outage_opened", outage["opened_at"]) in said, "2", line, "an outage opened without an audit row")
        elif before["closed_at"] is not OPEN and history.after.at(outage["closed_at"]) != history.before.at(
            before["closed_at"]
        ):
            silent = before["told_at"] is None and before["closed_as"] in ("recovered", "event")
            reopened = any(kind == "outage_reopened" for kind, _ in said)
            _must(silent and reopened, "2", line, "an outage that was over opened again")
        if outage["closed_as"] not in (None, "paused", "deleted") and (before is None or before["closed_at"] is OPEN):
            closed = any(at == outage["closed_at"] and kind in ("status_changed", "outage_closed") for kind, at in said)
            _must(closed, "2", line, "an outage closed without an audit row")


# 3


def a_line_has_at_most_one_open_outage(history: History) -> None:
    """Invariant 3."""
    lines = Counter(row["instance_id"] for row in history.after.outages.values() if row["closed_at"] is OPEN)
    for line, count in lines.items():
        _must(count == 1, "3", line, f"{count} open outages")


def a_user_hears_once_of_each_kind_in_an_outage(history: History) -> None:
    """Invariant 3."""
    heard = Counter((row["occasion"], row["user_id"], row["kind"]) for row in history.after.tables["notices"])
    for (occasion, _, kind), count in heard.items():
        _must(count == 1, "3", occasion, f"{count} notices {kind} for one user")


# 4


def who_could_not_find_out_concludes_nothing(history: History) -> None:
    """Invariant 4: no mark, no restart, no bell, no word in the audit."""
    step = history.step
    for line in step.blind - step.spoken - step.maybe_silent - step.disturbed:
        _must_be_untouched(history, line, "4", "the provider said nothing usable")


def who_only_claims_to_be_connected_proves_nothing(history: History) -> None:
    """Section 3.1: no return, no recovery, no death, unless no line's device has answered for an hour."""
    step = history.step
    gone = any(row["device_silent_since"] is not None for row in history.before.tables["provider_state"])
    for line in step.claimed - step.spoken - step.maybe_silent - step.disturbed:
        if not gone:
            _must_be_untouched(history, line, "4", "it only claimed to be connected")


def who_is_silent_for_long_is_told_so_and_nothing_else(history: History) -> None:
    """Section 3.1: degraded and told as unverified; never restarted, never marked, no outage."""
    step = history.step
    for line in (step.blind & step.maybe_silent) - step.spoken - step.disturbed:
        for row in history.new_audit(line):
            is_later = _is_told_later(row)
            _must(row["reason"] == "unverified" or is_later, "4", line, f"nobody could find out, and yet {row['kind']}")
        for row in history.new_bells():
            if (
                row["data"]["instance_id"] == line
                and row["type"] != STILL_DOWN
                and row["id"] not in _bells_told_later(history)
            ):
                _must(row["type"] == UNVERIFIED, "4", line, f"nobody could find out, and yet {row['type']}")


def a_line_that_answers_with_life_is_left_in_peace(history: History) -> None:
    """Section 3.1: healthy, or restored: never marked, restarted, told."""
    step = history.step
    for line in step.alive - step.spoken - step.disturbed:
        for row in history.new_audit(line):
            bad = row["kind"] == "restart_requested" or row["to_status"] not in ("connected", row["from_status"])
            _must(not bad, "4", line, f"answered with life, and then {row['kind']} -> {row['to_status']}")


def _must_be_untouched(history: History, line: str, invariant: str, why: str) -> None:
    before, after = history.before.lines.get(line), history.after.lines.get(line)
    if before is None or after is None:
        return
    said = [
        row["kind"] for row in history.new_audit(line)
        if row["kind"] != "disconnection_ignored" and not _is_told_later(row)
    ]  # fmt: skip
    _must(not said, invariant, line, f"{why}, and yet {said}")
    _must(after["status"] == before["status"], invariant, line, f"{why}, and yet it is {after['status']}")
    later = _bells_told_later(history)
    rung = [row for row in history.new_bells() if row["data"]["instance_id"] == line and row["id"] not in later]
    _must(not rung, invariant, line, f"{why}, and yet {len(rung)} bells rang")


def _is_told_later(row: Row) -> bool:
    """Whether what an older look or event had found is told: no look of this step has a part in it."""
    return row["kind"] == "users_told" and "later" in row["details"]


def _bells_told_later(history: History) -> set[str]:
    events = {row["id"] for row in history.new_audit() if _is_told_later(row)}
    return {row["notification_id"] for row in _notices(history) if row["event_id"] in events}


# 6


def an_answered_event_is_kept_once_and_done(history: History) -> None:
    """Invariant 6: answered 2xx is committed; a body is one row however often it comes."""
    kept: dict[str, list[Row]] = {}
    for row in history.after.tables["wapi_webhook_events"]:
        kept.setdefault(row["body"], []).append(row)
    now = history.after.at(history.after.now)
    for event in history.posted:
        if now - event.at >= BODIES_ARE_KEPT:
            continue
        rows = kept.get(event.body, [])
        if event.is_one:
            _must(len(rows) <= 1, "6", "-", f"{len(rows)} rows of one event")
        _must(
            len(rows) >= (1 if event.is_one and event.answered else event.answered),
            "6",
            "-",
            "an answered event is gone",
        )
        done = sum(row["processed_at"] is not None for row in rows)
        _must(done >= (min(1, event.answered) if event.is_one else event.answered), "6", "-", "answered and not done")


def an_event_that_came_before_changes_nothing(history: History) -> None:
    """Invariant 6: no table but the inbox."""
    if not history.step.is_duplicate:
        return
    for table, rows in history.after.tables.items():
        if table not in ("wapi_webhook_events", "relay_turns"):
            before = sorted(map(str, history.before.tables[table]))
            _must(sorted(map(str, rows)) == before, "6", "-", f"a duplicate changed {table}")


def an_event_older_than_what_the_row_knows_undoes_nothing(history: History) -> None:
    """Invariant 6."""
    for line in history.step.stale - history.step.disturbed:
        _must_be_untouched(history, line, "6", "only an old event came")
        for column in ("connected_at", "last_alive_at", "last_event_at", "bad_since", "phone_number"):
            same = history.after.lines[line][column] == history.before.lines[line][column]
            _must(same, "6", line, f"an old event moved {column}")


# 7


def a_known_phone_is_never_forgotten(history: History) -> None:
    """Invariant 7."""
    for line, after in history.after.lines.items():
        before = history.before.lines.get(line)
        if before is not None and before["phone_number"]:
            _must(after["phone_number"], "7", line, "its phone number is gone")


def connected_at_moves_only_on_a_transition_to_connected(history: History) -> None:
    """Invariant 7."""
    for line, after in history.after.lines.items():
        before = history.before.lines.get(line)
        if before is None or line in history.step.disturbed:
            continue
        came = any(
            row["kind"] == "status_changed" and row["to_status"] == "connected" for row in history.new_audit(line)
        )
        was, now = history.before.at(before["connected_at"]), history.after.at(after["connected_at"])
        _must(was == now or came, "7", line, "connected_at moved without a transition to connected")
        _must(now is not None or not came, "7", line, "came back without connected_at")
        _must(was is None or now >= was, "7", line, "connected_at moved back")


# 8


def no_secret_is_logged_or_stored_elsewhere(history: History) -> None:
    """Invariant 8: tokens and keys; phones are for the tables, not for the logs."""
    phones = {row["phone_number"] for row in history.after.lines.values() if row["phone_number"]}
    for secret in history.secrets | phones:
        _must(secret not in history.new_logs, "8", "-", f"a secret that ends in …{secret[-4:]} was logged")
    for table, rows in history.after.tables.items():
        text = as_text(rows, without="instance_token" if table == "wapi_instances" else None)
        for secret in history.secrets:
            _must(secret not in text, "8", "-", f"a secret that ends in …{secret[-4:]} is in {table}")


# 9


def a_whole_sweep_looks_at_every_line_that_was_due(history: History) -> None:
    """Invariant 9: whatever happened before, no line is forgotten; and it gives every lease back."""
    if not history.step.sweeps:
        return
    for line in _due(history):
        after = history.after.lines.get(line)
        if after is None or line in history.step.disturbed:
            continue
        _must(history.looked_at(after["instance_id"]), "9", line, "was due, and no look was made")
        _must(after["health_lease_until"] is None, "9", line, "is still leased after the sweep")
        # Another sweep's telling may hold a row for longer than a sweep waits: the line is free, and due as before.
        recorded = after["last_health_check"] >= history.before.now
        _must(recorded or history.step.sweeps > 1, "9", line, "its look was not recorded")


def a_sweep_begins_with_what_waited_longest(history: History) -> None:
    """Invariant 9: what a cut-off sweep has claimed are the lines that waited longest."""
    if not history.step.cut:
        return
    due = [line for line in _due(history) if line in history.after.lines and line not in history.step.disturbed]
    due.sort(key=lambda line: (_last_look(history.before.lines[line]), line))
    taken = [
        any(history.after.lines[line][column] != history.before.lines[line][column] for column in _TOUCHED)
        for line in due
    ]
    _must(taken == sorted(taken, reverse=True), "9", due, f"claimed out of turn: {taken}")


_TOUCHED = ("health_lease_until", "last_health_check")


def _due(history: History) -> list[str]:
    return [
        line
        for line, row in history.before.lines.items()
        if row["is_active"] is not False
        and line not in history.before.asleep
        and row["instance_id"]
        and row["instance_token"]
        and (row["health_lease_until"] is None or row["health_lease_until"] <= history.before.now)
    ]


def _last_look(row: Row) -> float:
    return row["last_health_check"].timestamp() if row["last_health_check"] else float("-inf")


# 10


def a_paused_line_is_left_alone(history: History) -> None:
    """Invariant 10: no looks, no restarts, no marks, no bells; its outage is closed as paused."""
    for line, after in history.after.lines.items():
        before = history.before.lines.get(line)
        if after["is_active"] is not False or before is None:
            continue
        _must(line not in history.after.open_outages, "10", line, "is paused and its outage open")
        was_open = history.before.open_outages.get(line)
        if was_open is not None:
            closed_as = history.after.outages[was_open["id"]]["closed_as"]
            _must(closed_as is not None, "10", line, "its outage was not closed when it was paused")
        since = history.step.paused.get(line)
        if before["is_active"] is False and line not in history.step.disturbed:
            _must_be_untouched(history, line, "10", "it is paused")
            for call in ("status-instance", "device", "restart"):
                asked = history.after.calls(after["instance_id"], call) - history.before.calls(
                    before["instance_id"], call
                )
                _must(asked <= 0, "10", line, f"it is paused, and {call} was called")
        elif since is not None:
            later = [row["kind"] for row in history.new_audit(line) if row["at"] > since]
            _must(not later, "10", line, f"{later} after it was paused")
            rung = [
                row for row in history.new_bells() if row["data"]["instance_id"] == line and row["created_at"] > since
            ]
            _must(not rung, "10", line, "bells after it was paused")


def a_line_of_a_company_that_is_not_active_is_left_alone(history: History) -> None:
    """Section 3.1: as if it were paused; a whole sweep closes its outage. Only a sign of life that comes by itself counts."""
    for line in history.before.asleep & history.after.asleep - history.step.disturbed:
        before, after = history.before.lines[line], history.after.lines[line]
        for call in ("status-instance", "device", "restart"):
            asked = history.after.calls(after["instance_id"], call) - history.before.calls(before["instance_id"], call)
            _must(asked <= 0, "3.1", line, f"its company is not active, and {call} was called")
        marked = after["status"] != before["status"] and after["status"] != "connected"
        _must(not marked, "3.1", line, f"its company is not active, and it became {after['status']}")
        bad = [
            row for row in history.new_bells() if row["data"]["instance_id"] == line and row["type"] != BACK
        ]  # fmt: skip
        _must(not bad, "3.1", line, "its company is not active, and bells rang")
        if history.step.sweeps and not history.step.cut:
            _must(line not in history.after.open_outages, "3.1", line, "its company is not active, its outage open")


def outages_and_notices_outlive_their_line(history: History) -> None:
    """Invariant 10: deleting a line takes nothing else away; the next whole sweep closes its outage."""
    for outage, before in history.before.outages.items():
        after = history.after.outages.get(outage)
        _must(after, "10", before["instance_id"], "an outage is gone")
        if before["told_at"] is not None and after["company_id"] == before["company_id"]:
            for column in ("unit", "company_id", "external_id", "instance_id"):
                _must(after[column] == before[column], "10", before["instance_id"], f"its outage lost its {column}")
    for line in history.after.open_outages:
        was_there = line in history.before.lines or line in history.after.lines
        _must(was_there or not history.step.sweeps, "10", line, "is deleted, a sweep has run, and its outage is open")
    gone = {row["id"] for row in history.before.tables["notifications"]} - {
        row["id"] for row in history.after.tables["notifications"]
    }
    _must(not gone, "10", "-", f"{len(gone)} notices are gone")


# 11


def no_sweep_overrules_a_newer_sign_of_life(history: History) -> None:
    """Invariant 11: once the row knows of life, no look that began before may mark, restart or ring."""
    for line, since in history.step.known_alive.items():
        for row in _by_sweeps(history, line):
            if since < row["at"] < since + LIFE_IS_FRESH:
                what = f"{row['kind']} -> {row['to_status']} {row['at'] - since} after a sign of life"
                _must(row["kind"] != "restart_requested", "11", line, what)
                _must(row["to_status"] in ("connected", row["from_status"]), "11", line, what)
                _must(row["kind"] != "users_told", "11", line, what)


def no_sweep_overrules_a_status_that_changed_under_it(history: History) -> None:
    """Invariant 11: the status that a decision stands on must still hold when it is applied."""
    for line, since in history.step.overruled.items():
        for row in _by_sweeps(history, line):
            applied = row["kind"] in ("status_changed", "users_told", "restart_requested", "outage_opened")
            _must(not (applied and row["at"] > since), "11", line, f"{row['kind']} on a status that held no longer")


def _by_sweeps(history: History, line: str) -> list[Row]:
    return [row for row in history.new_audit(line) if row["source"] == "sweep" and not _is_told_later(row)]


# The brake


def the_brake_holds_what_looks_like_the_providers_fault(history: History) -> None:
    """Section 3.1: of many lines bad at once, one is restarted, and nobody is marked or told before 30 minutes."""
    step = history.step
    if step.sweeps != 1 or step.cut or step.disturbed or step.spoken:
        return
    due = [line for line in _due(history) if line in history.after.lines]
    bad = [line for line in due if line in step.not_alive and history.before.lines[line]["status"] == "connected"]
    # One that an event degraded since its last look counts as connected.
    most = [line for line in due if history.before.lines[line]["status"] in UP]
    if len(bad) < 5 or len(bad) < len(most) / 2:
        return
    audit = [row for row in history.new_audit() if not _is_told_later(row)]
    _must(
        max(history.after.tables["health_check_runs"], key=lambda run: run["started_at"])["braked"], "brake", "-", "off"
    )
    if any(row["kind"] == "restart_recovered" for row in audit):
        return  # the canary lives: the sweep went on for all
    held = {line for line in due if _is_held(history, line)}
    sent = [row["instance_id"] for row in audit if row["kind"] == "restart_requested" and row["instance_id"] in held]
    _must(len(sent) <= 1, "brake", sent, "more than one canary")
    for row in audit:
        marked = row["kind"] == "users_told" or row["to_status"] not in ("connected", row["from_status"])
        adopted = history.before.lines[row["instance_id"]]["last_health_check"] is None
        _must(not (marked and row["instance_id"] in held) or adopted, "brake", row["instance_id"], row["kind"])


def _is_held(history: History, line: str) -> bool:
    since = history.before.lines[line]["bad_since"]
    return since is None or history.after.now - since < COOLDOWN


CHECKS: tuple[Callable[[History], None], ...] = (
    a_line_is_restarted_at_most_once_in_thirty_minutes,
    no_restart_is_sent_without_its_claim,
    restarts_in_an_outage_are_spaced_whatever_word_the_row_holds,
    every_change_of_status_has_one_audit_row,
    no_line_is_marked_without_its_bell,
    a_fall_is_told_to_each_member_of_that_moment,
    every_new_notice_reaches_a_member_in_one_transaction_with_its_audit,
    nobody_hears_more_than_seven_notices_of_a_line_in_a_day,
    nobodys_last_word_is_wrong_for_longer_than_the_bound_forces,
    every_bell_of_ours_has_its_outage,
    every_bell_has_its_notice_and_every_notice_its_bell,
    from_every_new_notice_one_query_finds_why,
    outages_open_and_close_with_an_audit_row,
    a_line_has_at_most_one_open_outage,
    a_user_hears_once_of_each_kind_in_an_outage,
    who_could_not_find_out_concludes_nothing,
    who_only_claims_to_be_connected_proves_nothing,
    who_is_silent_for_long_is_told_so_and_nothing_else,
    a_line_that_answers_with_life_is_left_in_peace,
    an_answered_event_is_kept_once_and_done,
    an_event_that_came_before_changes_nothing,
    an_event_older_than_what_the_row_knows_undoes_nothing,
    a_known_phone_is_never_forgotten,
    connected_at_moves_only_on_a_transition_to_connected,
    no_secret_is_logged_or_stored_elsewhere,
    a_whole_sweep_looks_at_every_line_that_was_due,
    a_sweep_begins_with_what_waited_longest,
    a_paused_line_is_left_alone,
    a_line_of_a_company_that_is_not_active_is_left_alone,
    outages_and_notices_outlive_their_line,
    no_sweep_overrules_a_newer_sign_of_life,
    no_sweep_overrules_a_status_that_changed_under_it,
    the_brake_holds_what_looks_like_the_providers_fault,
)

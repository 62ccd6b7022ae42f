"""All checks of what the tables and the provider told. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ops.doctor.checks.channels import check_channels
from ops.doctor.checks.conversations import check_pairs
from ops.doctor.checks.events import check_inbox
from ops.doctor.checks.lines import check_companies, check_outages, check_rows, check_tokens
from ops.doctor.checks.mutes import check_mutes
from ops.doctor.checks.registrations import check_registrations
from ops.doctor.checks.rivals import check_bells, check_restarts, check_statuses
from ops.doctor.checks.sweeps import check_sweeps
from ops.doctor.checks.telling import check_waiting
from ops.doctor.checks.webhooks import check_subscriptions, check_webhooks

if TYPE_CHECKING:
    from ops.doctor.facts import Fleet
    from ops.doctor.findings import Finding
    from ops.doctor.gathering import Tables
    from shared.core.registration import Target


def judge(tables: Tables, fleet: Fleet, target: Target | None) -> list[Finding]:
    """What it means, table by table; what could not be read is passed over, whoever read it has said so."""
    now = tables.read_at
    findings = check_rows(fleet, now=now)
    if tables.runs is not None:
        findings += check_sweeps(tables.runs, now=now)
    findings += check_tokens(fleet)
    if target is not None:
        findings += check_webhooks(fleet, target)
    findings += check_subscriptions(fleet, tables.registrations or {}, now=now)
    findings += check_registrations(fleet.active, tables.registrations, tables.runs, now=now)
    if tables.outages is not None:
        findings += check_outages(fleet, tables.outages, now=now, with_users=tables.with_users)
    if tables.falls is not None and tables.overdue is not None:
        findings += check_waiting(fleet, tables.falls, tables.overdue, down=tables.outages or {}, now=now)
    if tables.with_users is not None:
        findings += check_companies(fleet, tables.companies, tables.with_users)
    if tables.mutes is not None:
        findings += check_mutes(fleet, tables.mutes, now=now)
    if tables.inbox is not None:
        findings += check_inbox(tables.inbox)
    if tables.pairs is not None:
        findings += check_pairs(fleet, tables.pairs)
    findings += _rivals(tables, fleet)
    findings += check_channels(fleet, tables.channels, now=now)
    return [finding.of(tables.names) for finding in findings]


def _rivals(tables: Tables, fleet: Fleet) -> list[Finding]:
    findings: list[Finding] = []
    if tables.audit is not None:
        findings += check_statuses(fleet, tables.audit, read_at=tables.read_at)
        if tables.connections is not None:
            findings += check_restarts(fleet, tables.connections, tables.audit)
    if tables.notices is not None:
        findings += check_bells(tables.notices)
    return findings

"""What stands around a message: the message that it answers, the ad that it comes from. Pure."""

from __future__ import annotations

from typing import Any, Final

from shared.providers.wapi.values import Json, enum_of, fold, id_of, is_true, name_of, text_of, url_of

_OF_AN_AD: Final = ("sourceid", "ctwaclid")


def quoted_id(context: Json, beside: Json) -> str | None:
    """The id of the message that this one answers: in the kind's own ``contextInfo``, or beside it."""
    return id_of(context.get("stanzaid")) or id_of(beside.get("stanzaid"))


def facts_of(context: Json) -> dict[str, Any]:
    """What else a ``contextInfo`` says that a venue can use."""
    if not context:
        return {}
    facts = {
        "forwarded": is_true(context.get("isforwarded")) or None,
        "answers_story": context.get("remotejid") == "status@broadcast" or None,
        "ad": ad_of(context),
    }
    return {name: fact for name, fact in facts.items() if fact is not None}


def ad_of(context: Json) -> dict[str, Any] | None:
    """The ad whose button a customer clicked; None when there is none.

    Link cards use the same field: an ad says so (``sourceType``), or has an id or a click id.
    """
    reply, old = fold(context.get("externaladreply")), fold(context.get("quotedad"))
    is_ad = enum_of(reply.get("sourcetype")) == "AD" or any(reply.get(name) for name in _OF_AN_AD)
    if not is_ad and not old:
        return None
    utm = fold(context.get("utm"))
    ad = {
        "title": name_of(reply.get("title")) or name_of(old.get("advertisername")),
        "body": text_of(reply.get("body"), 4_096) or text_of(old.get("caption"), 4_096),
        "source_id": id_of(reply.get("sourceid")),
        "source_type": name_of(reply.get("sourcetype")),
        "source_url": url_of(reply.get("sourceurl")),
        "source_app": name_of(reply.get("sourceapp")),
        "ctwa_clid": name_of(reply.get("ctwaclid")),
        "ref": name_of(reply.get("ref")),
        "media_url": url_of(reply.get("mediaurl")),
        "thumbnail_url": url_of(reply.get("thumbnailurl")) or url_of(reply.get("originalimageurl")),
        "greeting": text_of(reply.get("greetingmessagebody"), 4_096),
        "entry_point": name_of(context.get("entrypointconversionsource")),
        "conversion_source": name_of(context.get("conversionsource")),
        "utm_source": name_of(utm.get("utmsource")),
        "utm_campaign": name_of(utm.get("utmcampaign")),
    }
    return {name: fact for name, fact in ad.items() if fact is not None}

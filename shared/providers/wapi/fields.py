"""Every field of WhatsApp's message object, in one table: content, envelope, control or noise. Pure.

The noise is named, everything else is a row: a name that stands nowhere here is a kind that nobody knows yet, and is
stored as ``unsupported``. ``python -m dev.message_schema`` writes the names of the newest schema that a package brings
into ``tests/unit/message_schema.json``; a test holds this table against it, so that a new kind shows there first.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Field(StrEnum):
    """What a field of the message object is."""

    CONTENT = "content"
    """A row of its own."""
    TRACE = "trace"
    """A row that says where to read it: this device cannot."""
    ENVELOPE = "envelope"
    """It holds another message, which is read instead."""
    EDIT = "edit"
    """An envelope around a new text for an older message."""
    ACT = "act"
    """Control: it acts on another message, or makes a line about a call."""
    SILENT = "silent"
    """Control that leaves nothing to see: signals, sealed votes and comments, the marker of an album."""
    PART = "part"
    """An envelope around a picture of another message (of an event, of an option in a poll)."""
    STORY = "story"
    """An envelope around a story, also where the chat is a group."""
    CHANNEL = "channel"
    """An envelope around news about a channel or a bot."""
    NOISE = "noise"
    """Never a row, and never a reason to ignore what stands beside it."""


_NAMES: Final[dict[Field, str]] = {
    Field.CONTENT: """
        conversation extendedTextMessage imageMessage videoMessage ptvMessage audioMessage documentMessage
        stickerMessage stickerPackMessage locationMessage liveLocationMessage contactMessage contactsArrayMessage
        pollCreationMessage pollCreationMessageV2 pollCreationMessageV3 pollCreationMessageV5 pollCreationMessageV6
        pollResultSnapshotMessage pollResultSnapshotMessageV3
        buttonsResponseMessage listResponseMessage templateButtonReplyMessage interactiveResponseMessage
        templateMessage highlyStructuredMessage buttonsMessage interactiveMessage listMessage
        orderMessage productMessage requestPaymentMessage sendPaymentMessage invoiceMessage
        paymentInviteMessage paymentReminderMessage splitPaymentMessage
        eventMessage eventInviteMessage scheduledCallCreationMessage bcallMessage
        groupInviteMessage newsletterAdminInviteMessage newsletterFollowerInviteMessageV2
        richResponseMessage musicMessage statusQuestionAnswerMessage questionResponseMessage statusQuotedMessage
    """,
    Field.TRACE: "placeholderMessage conditionalRevealMessage",
    Field.ENVELOPE: """
        deviceSentMessage ephemeralMessage viewOnceMessage viewOnceMessageV2 viewOnceMessageV2Extension
        documentWithCaptionMessage groupMentionedMessage botInvokeMessage lottieStickerMessage pollCreationMessageV4
        associatedChildMessage botForwardedMessage botTaskMessage questionMessage questionReplyMessage spoilerMessage
        commentMessage
    """,
    Field.EDIT: "editedMessage",
    Field.ACT: """
        protocolMessage reactionMessage pinInChatMessage keepInChatMessage secretEncryptedMessage callLogMesssage
    """,
    Field.SILENT: """
        albumMessage call scheduledCallEditMessage encReactionMessage encCommentMessage encEventResponseMessage
        pollUpdateMessage pollAddOptionMessage declinePaymentRequestMessage cancelPaymentRequestMessage
        splitPaymentUpdateMessage requestPhoneNumberMessage messageHistoryNotice statusStickerInteractionMessage
        statusNotificationMessage statusMentionMessage groupStatusMentionMessage limitSharingMessage
    """,
    Field.PART: "eventCoverImage pollCreationOptionImageMessage",
    Field.STORY: "groupStatusMessage groupStatusMessageV2 statusAddYours",
    Field.CHANNEL: """
        newsletterAdminProfileMessage newsletterAdminProfileStatusMessage botPlatformRegistrationSuccessMessage
    """,
    Field.NOISE: """
        senderKeyDistributionMessage fastRatchetKeySenderKeyDistributionMessage messageContextInfo chat
        stickerSyncRmrMessage messageHistoryBundle groupRootKeyShare rootSecretDistributeMessage
        statusLinkPreviewMetadata
    """,
}
_OF_GATEWAYS: Final = """
    messageStubType messageStubParameters base64 mediaUrl messageTimestamp messageType mediaType mimetype fileName
"""
"""What gateways write beside the kinds: their own words, never a message."""

FIELDS: Final[dict[str, Field]] = {
    name.lower(): field for field, names in (*_NAMES.items(), (Field.NOISE, _OF_GATEWAYS)) for name in names.split()
}
"""By folded names, contents in the order in which they are preferred where several stand side by side."""

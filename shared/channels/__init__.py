"""The channels beside the bell: mail, WhatsApp, and whatever an operator reads.

Each sends one message and says what came of it.

port        what a channel is; configured: which there are
mail        a company's mailbox, and any address that apprise knows, through apprise
signed      a POST that its receiver can verify
whatsapp    a text from the platform's own line
"""

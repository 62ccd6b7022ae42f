"""What both functions import, one package a chapter.

core        pure: values in, values out; what things are, and what they mean
providers   the gateways behind the lines: the port, and one folder for each vendor
channels    how people are told beside the bell: mail, WhatsApp, whatever an operator reads
database    the tables, through the Supabase client
sweep       the use case of follow_up_check
webhook     the use case of wapi_webhook
receiving   part of the housekeeping: that the events of lines reach us
relay, deliveries, housekeeping    what is also due
settings, errors, logs, clients, web    what any of them may use

Imports go one way: functions -> sweep, webhook, housekeeping -> database, providers, channels -> core; never between
siblings.
"""

"""``--contract LINE``: whether the provider's answers have the shape that we believe in, for one real line.

``beliefs`` is the table of what is believed, with its sources. ``shape`` reduces an answer to names, kinds and
numbers: no value leaves it. ``deliveries`` reads the provider's own log of webhook deliveries, whatever its form;
``compare`` says what differs. These are pure. ``walk`` asks, ``sending`` sends a message and proves its way,
``report`` says it, and ``command`` puts them together.
"""

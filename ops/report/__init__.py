"""The report: one page about every line, from the database. Gather (history) -> figure -> render (page)."""

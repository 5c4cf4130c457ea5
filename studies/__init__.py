"""Questions answered with the toolkit, as a user would: one study, one file, one page."""

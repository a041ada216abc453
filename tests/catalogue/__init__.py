"""The bad-input catalogue: one test per entry, through the public faces."""

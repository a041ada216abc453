"""Who keeps runs moving: engines carry wake-ups only; the journal stays the truth."""

"""The facts every journal must show, grouped by who asks: see `testing.journal_contract`."""

"""Attempts: the only code that calls out, and what surrounds one call."""

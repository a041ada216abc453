"""Hooks: where users' code is asked, what it may answer, and what becomes of the answer. Pure."""

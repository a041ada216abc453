"""Hooks at work: whose turn it is, calling them, and what they do."""

"""Stored journals of each version, and the states they fold to."""

"""Deliberately broken builds, and the tests that must notice."""

"""Tests of the project itself: its files, its sources, its wheel and its guard."""

"""Answers that are being written: fragments put in order, secrets held back, pieces kept. Pure."""

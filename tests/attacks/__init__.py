"""Attacks: each must end in a denial or a clear error, or find nothing to take."""

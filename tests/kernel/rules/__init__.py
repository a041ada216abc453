"""The policy language: reading, conditions, verdicts, checks."""

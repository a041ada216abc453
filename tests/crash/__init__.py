"""Real processes, killed and frozen, and what they leave behind."""

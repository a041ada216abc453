"""Approvals, grants and deferrals: what is asked of people, and what their answers mean. Pure."""

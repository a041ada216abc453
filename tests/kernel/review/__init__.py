"""Looking over a policy: first drafts, differences, recorded decisions taken again."""

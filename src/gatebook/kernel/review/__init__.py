"""Looking over a policy before and after it decides: a first draft, what changed, what would be.

Built on `kernel.rules` and decides nothing itself; reads events and writes none.
"""

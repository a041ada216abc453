"""What is true, what is allowed, what is next: pure functions and frozen facts.

Nothing here does I/O, reads a clock, draws a random number or knows asyncio.
"""

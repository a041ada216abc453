"""What every provider adapter must do when things fail; `cases` numbers the facts.

Each test names its case with `@case(n)` and in its docstring; `test_table` proves none is left out.
"""

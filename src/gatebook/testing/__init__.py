"""How we, and the authors of other journals, prove that the promises hold.

Nothing that ships imports this. `journal_contract` needs pytest; `failpoints` does not.
"""

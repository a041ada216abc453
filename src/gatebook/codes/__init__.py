"""The stable error codes and their texts: code -> (what happened, what to do).

`{name}` is replaced by the error's field of that name, quoted and cut to 80 characters.
A code is never reused for another meaning; texts may improve.
"""

from gatebook.codes import approvals, declarations, running, stores, values

TEXTS: dict[str, tuple[str, str]] = {
    **declarations.TEXTS,
    **values.TEXTS,
    **running.TEXTS,
    **stores.TEXTS,
    **approvals.TEXTS,
}

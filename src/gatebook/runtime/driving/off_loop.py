"""Stepping a program where no event loop is in sight."""

from asyncio import AbstractEventLoop, _set_running_loop


class off_the_loop:  # noqa: N801 - read as `with off_the_loop():`
    """Hides the event loop, which is given: a workflow that calls asyncio raises, not escapes.

    The loop is given because asking for it costs a system call before Python 3.12.
    """

    __slots__ = ("_loop",)

    def __init__(self, loop: AbstractEventLoop | None) -> None:
        self._loop = loop

    def __enter__(self) -> None:
        _set_running_loop(None)

    def __exit__(self, *_: object) -> None:
        _set_running_loop(self._loop)

"""Which weights a piece of work opens."""

import sys
from functools import cache


class _Watch:
    """Hears of every file that the interpreter opens, for the life of the process: a hook cannot be taken back."""

    def __init__(self):
        self.opened = None
        sys.addaudithook(self)

    def __call__(self, event, arguments):
        if self.opened is None or event != "open":
            return
        if str(arguments[0]).endswith(".safetensors"):
            self.opened.append(str(arguments[0]))


_watch = cache(_Watch)
"""Only for those who ask: each hook is called at every step that Python audits."""


def opened_weights(work):
    """The weights' files that the interpreter opens while ``work`` runs."""
    watch = _watch()
    watch.opened = opened = []
    try:
        work()
    finally:
        watch.opened = None
    return opened

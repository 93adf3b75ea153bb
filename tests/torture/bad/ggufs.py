"""GGUF: the table of its own test, through the real command."""

from hostile.test_gguf import REFUSED
from torture.bad_input import Bad, weights

KIND = "GGUF headers"

CASES = [
    Bad(KIND, what, error.__name__, weights(raw, "model.gguf"))
    for what, (raw, error, _) in REFUSED.items()
]

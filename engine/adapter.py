"""(being written by its owner; this part only holds the interface)"""


def wear(base, adapter):
    raise NotImplementedError

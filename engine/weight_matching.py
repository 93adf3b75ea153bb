"""(being written by its owner; this part only holds the interface)"""


def weight_matching(reader, anchor, other, **options):
    raise NotImplementedError

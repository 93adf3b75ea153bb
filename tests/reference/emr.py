"""Elect, mask, rescale."""

import numpy as np


def emr(models, *, task=0):
    signs = np.where(sum(models) > 0, 1.0, -1.0)
    unified = signs * np.maximum(0, np.max([m * signs for m in models], axis=0))
    if task == 0:
        return unified
    own = models[min(task, len(models)) - 1]
    masked = np.where(own * signs > 0, unified, 0.0)
    size = abs(masked).sum()
    return masked * (abs(own).sum() / size if size else 1.0)


EXEMPT = {"order": "the task is a place in the order of the models"}

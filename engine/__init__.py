"""Arithmetic on tensors: delta statistics, merge methods, plans and runs. The only room that imports torch."""

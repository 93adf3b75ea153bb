"""Descent: what the weights alone say of who comes from whom."""

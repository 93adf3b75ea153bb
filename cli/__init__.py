"""Talks to people: the command `reg`. The only room that imports click and rich."""

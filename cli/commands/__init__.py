"""The commands: one file each, named as the command; it defines ``command``."""

"""`python -m cli` is `reg`."""

from cli.main import main

main()

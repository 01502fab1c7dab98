"""`python -m drumline_cli` is `drumline`."""

from drumline_cli.cli import main

main()

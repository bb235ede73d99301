"""``python -m recqueue`` is the command line."""

from recqueue.cli import main

main()

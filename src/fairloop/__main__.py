"""`python -m fairloop` is the command `fairloop`."""

from fairloop.app import main

main()

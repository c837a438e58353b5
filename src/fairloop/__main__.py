"""`python -m fairloop` is the command `fairloop`."""

import sys

from fairloop.app import command

sys.exit(command())

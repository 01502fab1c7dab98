"""One file for each peer.

It defines:

NAME            as its project writes it
PACKAGES        the distributions whose versions are printed
KEEPS           where a task is until it ends
BACK            what makes it take back what a dead worker held, and its own default
SAFE            the settings that make it safe, in words, and the page of its documentation that says so
workers()       the commands of workers that run so many tasks of a queue at a time
BESIDE          the commands of what else must run
enqueue()       its call for one task
enqueue_many()  its call for many, or the loop that its documentation leaves

A peer whose default in BACK is longer gets a minute, so that the probe need not wait for hours.
"""

import sys
from pathlib import Path

BIN = Path(sys.executable).parent
PYTHON = sys.executable
MANAGE = [PYTHON, "manage.py"]

# -*- test-case-name: tests.story.test_workers -*-
"""
A worker of C{twist revproxy --workers}: C{python -m twistproxy.workers} with the options of the command.
"""

from __future__ import annotations

import sys

from twistproxy.options import Options
from twistproxy.tap import serviceParts
from twistproxy.workers.child import run

if __name__ == "__main__":
    options = Options()
    options.parseOptions(sys.argv[1:])
    run(lambda reactor: serviceParts(options, reactor))

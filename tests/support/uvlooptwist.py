"""
C{twist} on uvloop: C{python -m tests.support.uvlooptwist [twist's options] revproxy ...}.
"""

from __future__ import annotations

import sys

import uvloop
from twisted.application.twist._twist import Twist
from twisted.internet import asyncioreactor

if __name__ == "__main__":
    asyncioreactor.install(uvloop.new_event_loop())
    Twist.main(sys.argv)

"""
For Twisted's own command: twist web --class=twistweb.Application
"""

from twistproxy import ReverseProxyResource
from twistproxy.directors import TargetDirector


class Application(ReverseProxyResource):
    def __init__(self):
        super().__init__(TargetDirector("http://localhost:8081"))

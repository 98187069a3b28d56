"""
Tells C{twist} (and C{twistd}) that the command C{revproxy} exists.

There is no C{__init__.py} beside this file: C{twisted.plugins} collects such files from every folder of that
name on the path.  Everything that can be late is late, because this is imported for C{twist --help} too.
"""

from twisted.application.service import ServiceMaker

revproxy = ServiceMaker("twistproxy", "twistproxy.tap", "A reverse HTTP proxy.", "revproxy")

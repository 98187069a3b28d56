# -*- test-case-name: tests.test_demo -*-
"""
The demo origin: a page that says what the proxy forwarded, so that a newcomer's first C{curl} shows a proxied page
without a server to set up first.
"""

from __future__ import annotations

from html import escape

from twisted.web.resource import Resource
from twisted.web.server import Request, Site

_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>twistproxy works</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 3rem auto; padding: 0 1rem; color: #1b1f24;
  background: #fbfbf8 }} h1 {{ font-size: 1.6rem; margin-bottom: .2rem }}
  p {{ margin-top: 0; color: #57606a }}
  table {{ border-collapse: collapse; width: 100%; font: 14px/1.5 ui-monospace, monospace }}
  td {{ padding: .25rem .6rem; border-top: 1px solid #e2e2dc; vertical-align: top; overflow-wrap: anywhere }}
  td:first-child {{ white-space: nowrap; color: #57606a }}
</style>
<h1>twistproxy works</h1>
<p>This page comes from the demo origin, through the proxy. Here is the request as it was forwarded.</p>
<table>
<tr><td>request</td><td>{line}</td></tr>
{rows}
</table>
</html>
"""


class DemoOrigin(Resource):
    """
    Answers every request with what it received.
    """

    isLeaf = True

    def render(self, request: Request) -> bytes:
        """
        See L{Resource.render<twisted.web.resource.IResource>}.
        """
        line = b"%b %b %b" % (request.method, request.uri, request.clientproto)
        fields = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, values in request.requestHeaders.getAllRawHeaders()
            for value in values
        ]
        if b"text/html" in (request.getHeader(b"accept") or b""):
            rows = "\n".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in fields)
            page = _PAGE.format(line=escape(line.decode("latin-1")), rows=rows)
            request.setHeader(b"content-type", b"text/html; charset=utf-8")
        else:
            rows = "\n".join(f"  {name}: {value}" for name, value in fields)
            first = line.decode("latin-1")
            page = f"twistproxy works. The demo origin was asked, through the proxy:\n\n  {first}\n{rows}\n"
            request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        return page.encode("utf-8")


def demoSite() -> Site:
    """
    @return: a site that serves L{DemoOrigin}, and writes no log of its own.
    """
    site = Site(DemoOrigin())
    site.displayTracebacks = False
    site.noisy = False
    site.log = lambda request: None  # type: ignore[method-assign]
    return site

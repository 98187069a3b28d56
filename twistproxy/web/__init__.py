"""
At home in existing Twisted sites: a resource for any tree, and a request class that streams uploads to it.
"""

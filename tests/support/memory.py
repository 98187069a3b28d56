"""
The network in memory, which is public: L{twistproxy.testing}.
"""

from twistproxy.testing import MemoryNetwork, MemoryTransport

__all__ = ["MemoryNetwork", "MemoryTransport"]

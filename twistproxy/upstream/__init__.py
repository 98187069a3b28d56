"""
Upstream connections: kept, limited, and waited for.
"""

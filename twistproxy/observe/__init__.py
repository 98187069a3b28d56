"""
What is told of exchanges that have ended: the access log and the counters.
"""

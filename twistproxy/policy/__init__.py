"""
How requests are delivered: which upstream gets one, whether it is tried again, and who is left alone for a while.

Each policy is a transport around a transport (L{twistproxy.policy.layer}), usable alone and in any order:
L{twistproxy.policy.balance}, L{twistproxy.policy.retrytransport}, L{twistproxy.policy.breakertransport}.  The rules
that the last two go by are beside them, in L{twistproxy.policy.retry} and L{twistproxy.policy.breaker}.
"""

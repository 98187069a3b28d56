"""
Measurements of twistproxy beside other reverse proxies, on one machine in one run. See C{README.md}.
"""

"""`usernet demo`: the embedded default.  Both ends of a tunnel in one process, and a proxy for curl or a browser.

world.py builds the two ends, website.py and nameserver.py are the far side, client.py is a client as curl is one,
script.py says what happens in which order, show.py how it looks.
"""

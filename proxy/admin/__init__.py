"""The way to talk to a running daemon: the admin socket, HTTP on it, and WireGuard's own (UAPI) for `wg`.

protocol.py is what is said, in bytes; paths.py and binding.py are where; session.py is one client; server.py puts them
together and knows the handlers; client.py is the other end.
"""

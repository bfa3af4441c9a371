"""The order gateway as a program: its doors (gRPC, HTTP), its process and its client. Deciding about
orders is in trading/.

`service.py` is what both doors call; a new call is added there first.
"""

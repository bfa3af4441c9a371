"""The gateway's gRPC interface: pipeline/gateway/v1/gateway.proto, and the code that `make generate` makes
of it. `released.json` describes the released interface, which a change must not break.
"""

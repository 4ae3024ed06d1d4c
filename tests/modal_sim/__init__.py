"""A simulator of Modal: see README.md in this folder."""

import os

# gRPC's core otherwise reports each connection that a fault breaks.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

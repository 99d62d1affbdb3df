"""Servers, clients and helpers of the flow tests. See tests/README.md."""

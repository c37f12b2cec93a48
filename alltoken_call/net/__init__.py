"""Bytes in and out: one connection, one answer, what is repeated."""

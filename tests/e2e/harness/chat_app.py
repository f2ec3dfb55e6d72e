"""Placeholder until written below."""
ChatApp = None

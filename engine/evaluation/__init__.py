"""Measurements: quality at cursors of the reserved packages, latency."""

"""Learns what is shown of a model: its gate, from typing packages. No part of what is installed."""

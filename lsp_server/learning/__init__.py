"""Learns what is shown of a model: its decision, from typing packages. No part of what is installed."""

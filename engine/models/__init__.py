"""Transformers in torch: the embedded model's training form, and in time the public families."""

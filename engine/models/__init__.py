"""Transformers in torch: the embedded model's training form, and the public families."""

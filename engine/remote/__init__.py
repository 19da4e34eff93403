"""An engine behind HTTP: ours, llama.cpp's, or another with an API that fills gaps.

address   what a URL says         ──▶  client    connections, time-outs, cancelling
keys      which key goes where         kinds     bodies and answers of each API
model     asks, and lets the embedded model answer while the server is away
"""

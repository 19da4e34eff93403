"""An engine behind HTTP: ours, llama.cpp's, or another with an API that fills gaps.

address   what a URL says         ──▶  client    connections, time-outs, cancelling
http2_resets  tells a server of HTTP/2 of what is given up
keys      which key goes where         apis      bodies and answers of each API
model     asks, and lets the embedded model answer while the server is away
"""

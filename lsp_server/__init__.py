"""The language server: from an editor's `didChange` and `inlineCompletion` to ghost text.

A keystroke's way, file by file: server (protocol) → buffers (text) → cursor (the gap) → completer (one request's
life) → cache → engine, on its own thread → filters (worth showing?) → server. settings, feedback, status and terminal
stand beside it.
"""

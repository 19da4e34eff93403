"""The language server: from an editor's `didChange` and `inlineCompletion` to ghost text.

A keystroke's way, file by file: server (protocol) → buffers (text) → cursor (the gap) → completer (one request's
life) → cache → engine, on its own thread → postprocess and gate (worth showing?) → server. settings, feedback, status
and try_cli stand beside it.
"""

import os
import sys

if sys.argv[0] == "-m" and sys.path[0] == os.getcwd():
    # `python -m` imports from the current folder first: a project's, whose files may be called like a library
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

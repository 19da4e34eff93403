"""The next edit: a substitution that was made twice is offered where the text is alike, and else nothing.

substitution: what a changed line says was put in whose place, and where else that stands. replay: which place is due.
It knows no model, no editor and no protocol.
"""

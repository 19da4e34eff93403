"""How a gap is filled by passes that others run.

runner          what is asked of a model      draft_verify    left to right: copies and drafts, verified
limits          when a fill ends              denoise         a canvas of masks, pass by pass
sampling        tokens at a temperature       unmasking, length, presets    which masks, how many, in how many passes
"""

"""What the user's own files say: an index of the workspace, and what followed the same text elsewhere."""

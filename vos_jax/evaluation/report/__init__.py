"""Pages that show an evaluation or a comparison; they open from disk and need no network."""

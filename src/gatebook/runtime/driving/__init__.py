"""One claimed run, driven: what its next append says, and how it ends."""

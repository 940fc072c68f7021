"""What lies in a store: GGUF headers, the files of a directory, their digests."""

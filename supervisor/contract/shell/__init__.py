"""What both programs do in one way with their own streams, signals and tasks: the contract's only deeds."""

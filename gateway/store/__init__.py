"""What is done to model stores: who does it, how the progress of several is told as one. Pure."""
